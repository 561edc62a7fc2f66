import { spawn } from 'node:child_process';
import path from 'node:path';

const root = path.resolve(import.meta.dirname, '../..');

/** A shell command at a terminal of its own. */
interface Terminal {
  /** What it has printed so far. */
  readonly out: string;
  /** Types text. */
  type(text: string): void;
  kill(): void;
  /** Resolves with the exit code. */
  readonly ended: Promise<number | null>;
}

/** Runs a shell command at a terminal of its own, which `script` gives it. */
export function openTerminal(command: string, env: NodeJS.ProcessEnv): Terminal {
  const shell = spawn('script', ['--quiet', '--return', '--command', command, '/dev/null'], {
    cwd: root,
    env: { PATH: process.env['PATH'] ?? '', ...env },
    stdio: ['pipe', 'pipe', 'ignore'], // it says so when it is ended
  });
  let out = '';
  shell.stdout.on('data', (chunk: Buffer) => {
    out += chunk.toString();
  });
  return {
    get out() {
      return out;
    },
    type: (text) => void shell.stdin.write(text),
    kill: () => void shell.kill(),
    ended: new Promise((resolve) => shell.once('close', resolve)),
  };
}

/** Runs a shell command at a terminal of its own until it ends, and gives its exit code and what it printed. */
export async function runAtTerminal(
  command: string,
  env: NodeJS.ProcessEnv,
): Promise<{ readonly code: number | null; readonly out: string }> {
  const terminal = openTerminal(command, env);
  const code = await terminal.ended;
  return { code, out: terminal.out };
}
