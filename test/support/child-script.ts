import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

/** A script of `test/support/scripts` that runs in a process of its own, so that it can be killed. */
export interface ChildScript {
  readonly process: ChildProcess;
  /** What it has printed so far, a line each. */
  readonly lines: readonly string[];
  /** Resolves with the first line that contains `text`; rejects when the process ends before. */
  line(text: string): Promise<string>;
  /** Resolves with its exit code, or null when a signal ended it. */
  readonly ended: Promise<number | null>;
  /** Kills it as `kill -9` does, and waits until it is gone. */
  kill(): Promise<void>;
}

/** Starts a script with one JSON argument. */
export function startScript(name: string, argument: unknown): ChildScript {
  const path = join(import.meta.dirname, 'scripts', `${name}.ts`);
  const child = spawn(process.execPath, [path, JSON.stringify(argument)], { stdio: ['ignore', 'pipe', 'inherit'] });
  const lines: string[] = [];
  const waiting = new Set<() => void>();
  const wake = () => {
    for (const check of waiting) check();
  };
  if (child.stdout === null) throw new Error('no output');
  createInterface(child.stdout).on('line', (line) => {
    lines.push(line);
    wake();
  });
  let isOver = false;
  const ended = once(child, 'close').then(([code]) => {
    isOver = true;
    wake();
    return code as number | null;
  });
  return {
    process: child,
    lines,
    line: (text) =>
      new Promise((resolve, reject) => {
        const check = () => {
          const found = lines.find((line) => line.includes(text));
          if (found === undefined && !isOver) return;
          waiting.delete(check);
          if (found === undefined) reject(new Error(`${name} ended without "${text}": ${lines.join('\n')}`));
          else resolve(found);
        };
        waiting.add(check);
        check();
      }),
    ended,
    async kill() {
      child.kill('SIGKILL');
      await ended;
    },
  };
}
