import { spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import mysql from 'mysql2/promise';

/** How a database server is run as a child process. */
export interface ServerCommand {
  /** The program and its arguments. */
  readonly command: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  /** Takes what the server prints, appended. */
  readonly logFile: string;
  /** Whom it runs as; absent means as this process's own user. */
  readonly account?: Account;
}

/** A user and a group of the system, by number. */
export interface Account {
  readonly uid: number;
  readonly gid: number;
}

/** A database server that runs as a child of this process, and ends with it. */
export interface ServerProcess {
  readonly pid: number;
  /** Resolves once it has ended, with how: `code 1` or `signal SIGKILL`. */
  readonly ended: Promise<string>;
  /** Asks it to shut down, and kills it when it has not after `graceMs` milliseconds. */
  stop(graceMs: number): Promise<void>;
}

/**
 * Becomes the server, and leaves a watcher behind at the other end of a pipe of ours, its file 3. However this process ends, also
 * by kill -9, the pipe closes, and the watcher asks the server to shut down, and kills it when it has not after a second: a
 * MariaDB that is asked while it is still starting may hang for ever. A line on the pipe sends the watcher away.
 * (Linux can send a child a signal when its parent dies, but other systems cannot, and it would be that first one alone.)
 */
const wrapper = '(read -r _ <&3 || { kill -TERM $$; sleep 1; kill -KILL $$; }) 2>/dev/null & exec 3<&-; exec "$@"';

/**
 * Starts a server in a process group of its own, so that Ctrl-C in a terminal reaches this process alone, which then stops the
 * server when it no longer needs it. When this process dies without that, the server is shut down as well.
 *
 * @throws {Error} when there is no process to be had.
 */
export function startServerProcess({ command, env, logFile, account }: ServerCommand): ServerProcess {
  const log = openSync(logFile, 'a', 0o600);
  const child = spawn('/bin/sh', ['-c', wrapper, 'sh', ...command], {
    cwd: '/',
    env: { PATH: process.env['PATH'] ?? '/usr/bin:/bin', ...env }, // nothing else: the environment may hold secrets
    stdio: ['ignore', log, log, 'pipe'],
    detached: true,
    ...account,
  });
  closeSync(log);
  const pipe = child.stdio[3] as Socket | null | undefined;
  pipe?.on('error', () => {}); // the watcher may be gone before us
  const ended = new Promise<string>((resolve) => {
    child.once('error', (error) => resolve(error.message));
    child.once('exit', (code, signal) => {
      pipe?.end('ended\n');
      resolve(signal === null ? `code ${code}` : `signal ${signal}`);
    });
  });
  const { pid } = child;
  if (pid === undefined) throw new Error('no process could be started for the database server');
  return {
    pid,
    ended,
    async stop(graceMs) {
      child.kill('SIGTERM');
      const timer = setTimeout(() => child.kill('SIGKILL'), graceMs);
      await ended;
      clearTimeout(timer);
    },
  };
}

/**
 * Waits until a server answers at its socket, be it with a refusal. Resolves with false when it ended, or `limitMs` milliseconds
 * passed, before that.
 */
export async function waitUntilAnswering(server: ServerProcess, socketPath: string, limitMs: number): Promise<boolean> {
  const deadline = performance.now() + limitMs;
  let ended = false;
  void server.ended.then(() => {
    ended = true;
  });
  while (!ended && performance.now() < deadline) {
    try {
      const connection = await mysql.createConnection({ socketPath, user: 'root', connectTimeout: 1000 });
      await connection.end();
      return true;
    } catch (error) {
      if (error instanceof Error && 'sqlState' in error) return true;
      await sleep(10);
    }
  }
  return false;
}

/**
 * Why a server gave up, from what it printed: its first errors, which later ones follow from, else its last lines. One line of at
 * most 600 characters, without time stamps.
 */
export function whyItEnded(printed: string): string {
  const lines = printed
    .trim()
    .split('\n')
    .map((line) => line.replace(/^[\d-]+[ T]+[\d:.]+Z? +\d+ */, ''));
  const errors = lines.filter((line) => line.includes('[ERROR]')).slice(0, 4);
  return (errors.length > 0 ? errors : lines.slice(-4)).join(' | ').slice(0, 600);
}
