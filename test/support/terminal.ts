import { spawn } from 'node:child_process';
import path from 'node:path';

const root = path.resolve(import.meta.dirname, '../..');

/** What a program printed at a terminal, and its exit code. */
interface AtTerminal {
  readonly code: number | null;
  readonly out: string;
}

/** Runs a shell command in a terminal of its own, which `script` gives it, and gathers what it prints. */
export async function runAtTerminal(command: string, env: Readonly<Record<string, string>>): Promise<AtTerminal> {
  const shell = spawn('script', ['--quiet', '--return', '--command', command, '/dev/null'], {
    cwd: root,
    env: { PATH: process.env['PATH'] ?? '', ...env },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let out = '';
  shell.stdout.on('data', (chunk: Buffer) => {
    out += chunk.toString();
  });
  const code = await new Promise<number | null>((resolve) => shell.once('close', resolve));
  return { code, out };
}
