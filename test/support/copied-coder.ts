import { execFile } from 'node:child_process';
import path from 'node:path';
import { promisify } from 'node:util';
import type { DatabaseAddress } from '../../src/config.ts';
import { databaseUrl } from './service.ts';

const run = promisify(execFile);
const root = path.resolve(import.meta.dirname, '../..');

/** Runs a command of the program on a copy of Coder's database, and gives what it prints, its errors and warnings included. */
export async function runOnCopy(coderUrl: string, address: DatabaseAddress, ...args: readonly string[]): Promise<string> {
  const { stdout, stderr } = await run(process.execPath, ['src/main.ts', ...args], {
    cwd: root,
    env: { PATH: process.env['PATH'] ?? '', DATABASE_URL: databaseUrl(address), CODER_DATABASE_URL: coderUrl },
  });
  return stdout + stderr;
}
