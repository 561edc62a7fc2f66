import type { WriteStream } from 'node:tty';

/** Shows how far a long piece of work is. */
export interface ProgressBar {
  show(this: void, done: number, total: number): void;
  end(): void;
}

const width = 40;

/** Draws a bar in one line of a terminal. Where the output is no terminal it stays silent, so that logs hold no half lines. */
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
