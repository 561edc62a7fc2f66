import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import mysql from 'mysql2/promise';

/** How a database server is run as a child process. */
export interface ServerCommand {
  readonly command: readonly [string, ...string[]];
  readonly env: Readonly<Record<string, string>>;
  /** Takes what the server prints, appended. */
  readonly logFile: string;
  /** The user and group it runs as; absent means this process's own. */
  readonly userId?: number;
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
 * Becomes the server, and leaves a watcher behind that holds the other end of a pipe of ours. However this process ends, also by
 * kill -9, the pipe closes, and the watcher asks the server to shut down. A line on the pipe sends the watcher away.
 * (Linux could tie a child's life to its parent's by itself, other systems cannot, and not every Linux has the tool for it.)
 */
const wrapper = 'exec 3<&0; (read -r _ <&3 || kill -TERM $$) & exec 3<&-; exec "$@" </dev/null';

/**
 * Starts a server in a process group of its own, so that Ctrl-C in a terminal reaches this process alone, which then stops the
 * server when it no longer needs it. When this process dies without that, the server is shut down as well.
 */
export async function startServerProcess({ command, env, logFile, userId }: ServerCommand): Promise<ServerProcess> {
  const log = openSync(logFile, 'a', 0o600);
  let child: ChildProcess;
  try {
    child = spawn('/bin/sh', ['-c', wrapper, 'sh', ...command], {
      cwd: '/',
      env: { PATH: process.env['PATH'] ?? '/usr/bin:/bin', ...env }, // nothing else: the environment may hold secrets
      stdio: ['pipe', log, log],
      detached: true,
      ...(userId === undefined ? {} : { uid: userId, gid: userId }),
    });
  } finally {
    closeSync(log);
  }
  const pipe = child.stdin;
  pipe?.on('error', () => {}); // the watcher may be gone before us
  const ended = new Promise<string>((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (code, signal) => {
      pipe?.end('ended\n');
      resolve(signal === null ? `code ${code}` : `signal ${signal}`);
    });
  });
  if (child.pid === undefined) {
    await ended;
    throw new Error('the server could not be started');
  }
  return {
    pid: child.pid,
    ended,
    async stop(graceMs) {
      child.kill('SIGTERM');
      const timer = setTimeout(() => child.kill('SIGKILL'), graceMs);
      await ended;
      clearTimeout(timer);
    },
  };
}

/** Waits until a server answers at its socket. Resolves with false when it ended, or `limitMs` milliseconds passed, before that. */
export async function waitUntilAnswering(
  server: ServerProcess,
  address: { readonly socketPath: string; readonly user: string },
  limitMs: number,
): Promise<boolean> {
  const deadline = performance.now() + limitMs;
  let ended = false;
  void server.ended.then(() => {
    ended = true;
  });
  while (!ended && performance.now() < deadline) {
    try {
      const connection = await mysql.createConnection({
        socketPath: address.socketPath,
        user: address.user,
        connectTimeout: 1000,
      });
      await connection.end();
      return true;
    } catch {
      await sleep(10);
    }
  }
  return false;
}
