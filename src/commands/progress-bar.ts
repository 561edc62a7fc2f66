import type { WriteStream } from 'node:tty';
import { takesEscapes } from './takes-escapes.ts';

/** The progress of a long operation. */
interface ProgressBar {
  show(this: void, done: number, total: number): void;
  end(): void;
}

const width = 40;

/** Draws a bar in one line of a terminal, again and again; prints nothing to one that takes no escapes, and to other outputs. */
export function progressBar(output: Pick<WriteStream, 'isTTY' | 'write'>, env: NodeJS.ProcessEnv = process.env): ProgressBar {
  const isShown = takesEscapes(output, env);
  return {
    show(done, total) {
      if (!isShown) return;
      const filled = Math.round((width * done) / Math.max(1, total));
      output.write(`\r[${'='.repeat(filled)}${' '.repeat(width - filled)}] ${done}/${total}`);
    },
    end() {
      if (isShown) output.write('\n');
    },
  };
}
