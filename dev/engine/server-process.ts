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
  /** The file that the server's output is appended to. */
  readonly logFile: string;
  /** The user who runs it; by default that of this process. */
  readonly account?: Account;
}

/** The ids of a user and a group. */
export interface Account {
  readonly uid: number;
  readonly gid: number;
}

/** A database server that runs as a child of this process, and ends with it. */
export interface ServerProcess {
  readonly pid: number;
  /** Resolves when it has ended, with `code 1` or `signal SIGKILL` for example. */
  readonly ended: Promise<string>;
  /** Asks it to shut down, and kills it after `graceMs` milliseconds. */
  stop(graceMs: number): Promise<void>;
}

/**
 * A shell script that starts a watchdog in the background and then replaces itself with the server. The watchdog reads from a
 * pipe of this process (its file descriptor 3). However this process ends, even by kill -9, the pipe closes; then the watchdog
 * sends SIGTERM to the server, and SIGKILL a second later, since a MariaDB that is still starting may hang for ever on SIGTERM. A
 * line on the pipe ends the watchdog. (Linux can signal a child when its parent dies, but only with one signal, and other systems
 * cannot.)
 */
const wrapper = '(read -r _ <&3 || { kill -TERM $$; sleep 1; kill -KILL $$; }) 2>/dev/null & exec 3<&-; exec "$@"';

/**
 * Starts a server in a process group of its own, so that Ctrl-C in a terminal reaches only this process, which stops the server
 * last. When this process dies, the server is shut down as well.
 *
 * @throws {Error} when no process can be started.
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
  pipe?.on('error', () => {}); // the watchdog may have ended already
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
 * Waits until a server answers at its socket, even with an error. Resolves to false when it ends first, or after `limitMs`
 * milliseconds.
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
 * The reason why a server ended, from its output: the first errors, which cause the later ones, else the last lines. It is one
 * line of at most 600 characters, without time stamps.
 */
export function whyItEnded(printed: string): string {
  const lines = printed
    .trim()
    .split('\n')
    .map((line) => line.replace(/^[\d-]+[ T]+[\d:.]+Z? +\d+ */, ''));
  const errors = lines.filter((line) => line.includes('[ERROR]')).slice(0, 4);
  return (errors.length > 0 ? errors : lines.slice(-4)).join(' | ').slice(0, 600);
}
