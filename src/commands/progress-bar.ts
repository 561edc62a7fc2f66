import type { WriteStream } from 'node:tty';

/** The progress of a long operation. */
interface ProgressBar {
  show(this: void, done: number, total: number): void;
  end(): void;
}

const width = 40;

/** Draws a bar in one line of a terminal; prints nothing to other outputs. */
export function progressBar(output: Pick<WriteStream, 'isTTY' | 'write'>): ProgressBar {
  return {
    show(done, total) {
      if (!output.isTTY) return;
      const filled = Math.round((width * done) / Math.max(1, total));
      output.write(`\r[${'='.repeat(filled)}${' '.repeat(width - filled)}] ${done}/${total}`);
    },
    end() {
      if (output.isTTY) output.write('\n');
    },
  };
}
