import { mkdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import path from 'node:path';
import { CommandError } from '../../../src/commands/command-error.ts';

/** A service and who calls it. */
export interface Login {
  readonly address: string;
  readonly token: string;
}

/** The file of the login: under XDG_CONFIG_HOME, else under `~/.config`, and on Windows under APPDATA. */
export function loginFile(env: NodeJS.ProcessEnv): string {
  const { XDG_CONFIG_HOME: xdg = '', APPDATA: appData = '' } = env;
  const windows = process.platform === 'win32' && appData !== '' ? appData : undefined;
  // A relative path in XDG_CONFIG_HOME is to be ignored, says its specification.
  const folder = path.isAbsolute(xdg) ? xdg : (windows ?? path.join(env['HOME'] ?? homedir(), '.config'));
  return path.join(folder, 'tasks', 'login.json');
}

/** The login that was kept, if there is one. It warns of a file that others may read. @throws {CommandError} when its file cannot be read. */
export function readLogin(env: NodeJS.ProcessEnv): Login | undefined {
  const file = loginFile(env);
  try {
    const { address, token } = JSON.parse(readFileSync(file, 'utf8')) as Partial<Login>;
    if (typeof address !== 'string' || typeof token !== 'string') throw new Error('has no address or no token');
    const isOpen = process.platform !== 'win32' && (statSync(file).mode & 0o077) !== 0;
    if (isOpen) console.error(`warning: others on this machine may read the token in ${file}: \`chmod 600\` it`);
    return { address, token };
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
    throw new CommandError(`${file}: ${message}: use \`tasks logout\`, and sign in again`);
  }
}

/** Keeps a login, in a file that nobody else can read, and which is never there in part. */
export function keepLogin(login: Login, env: NodeJS.ProcessEnv): void {
  const file = loginFile(env);
  const partial = `${file}.${process.pid}`;
  mkdirSync(path.dirname(file), { recursive: true, mode: 0o700 });
  rmSync(partial, { force: true });
  try {
    writeFileSync(partial, `${JSON.stringify(login, undefined, 2)}\n`, { mode: 0o600, flag: 'wx' });
    renameSync(partial, file);
  } catch (error) {
    rmSync(partial, { force: true });
    throw error;
  }
}

/** Forgets the login, if there is one. @returns whether there was one. */
export function forgetLogin(env: NodeJS.ProcessEnv): boolean {
  try {
    rmSync(loginFile(env));
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
    throw error;
  }
}
