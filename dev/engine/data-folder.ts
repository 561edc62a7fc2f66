import { existsSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { appendFile, chmod, chown, mkdir, mkdtemp, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { EngineError } from './engine-error.ts';
import { type FileLock, LockHeldError, processStart, takeFileLock } from './file-lock.ts';
import type { Account } from './server-process.ts';

/** The path of a Unix socket may have 107 bytes on Linux, and 103 on other systems. */
const socketPathLimit = 103;

/** The server's log is rotated at a start when it is larger than this, in bytes. */
const logLimit = 5 * 1024 * 1024;

/** How long to wait for the lock of the folder, in milliseconds: a process that was just killed may still hold it. */
const dyingMs = 300;

/** How long the server of a dead service may take to shut down before it is killed, and to end after that, in milliseconds. */
const orphanGraceMs = 3000;

/** The folder of one embedded engine, locked by this process until it is closed. */
export interface DataFolder {
  readonly path: string;
  /** The server's data directory. */
  readonly database: string;
  /** Temporary files, emptied at each start. */
  readonly tmp: string;
  /** The only folder that SQL may read and write files in; it stays empty. */
  readonly files: string;
  /** Has the pid file, and the socket if its path is not too long. Accessible only to the server's account. */
  readonly run: string;
  /** The server's log; `engine.log.1` beside it is the rotated one. */
  readonly logFile: string;
  /** Creates the other folders of the server, for its account, and returns the path of its socket. */
  prepare(account: Account | undefined): Promise<string>;
  /** Records the server's process, so that a later start can check whether it still runs. */
  noteServer(pid: number): void;
  /** Starts a new section of the log, and returns a function that reads it. */
  beginLog(): () => string;
  /** Unlocks the folder; its server must have ended. */
  close(): Promise<void>;
}

/** The content of the file `engine.json`. */
interface NotedServer {
  readonly pid?: number;
  readonly startedAt?: string | undefined;
  /** The folder of the socket, if that is outside. */
  readonly socketDir?: string | undefined;
}

/**
 * Opens the folder of an engine, and creates it if it does not exist. The server of a service that was killed may still be
 * shutting down: this waits until it has ended.
 *
 * @throws {EngineError} when another process holds the folder, or it cannot be written.
 */
export async function openDataFolder(path: string): Promise<DataFolder> {
  let lock: FileLock;
  try {
    await makeFolder(path);
    lock = await takeFileLock(join(path, 'engine.lock'), dyingMs);
  } catch (error) {
    if (!(error instanceof LockHeldError)) throw new EngineError(`the data folder ${path} cannot be used: ${message(error)}`);
    throw new EngineError(
      `the data folder ${path} is held by process ${error.pid}; stop that one first, or set DATA_DIR to another folder`,
    );
  }
  const run = join(path, 'run');
  // Not in a folder that the server's account can write: the process and the folder that it names are killed and removed.
  const note = join(path, 'engine.json');
  const tmp = join(path, 'tmp');
  const files = join(path, 'files');
  const logFile = join(path, 'engine.log');
  let socketDir: string | undefined;

  const forgetServer = async (): Promise<void> => {
    if (socketDir !== undefined) await rm(socketDir, { recursive: true, force: true });
    await rm(note, { force: true });
  };
  try {
    const noted = await readNote(note);
    if (noted.pid !== undefined) await awaitEnd(noted.pid, noted.startedAt);
    socketDir = noted.socketDir;
    await forgetServer();
    socketDir = undefined;
  } catch (error) {
    lock.release();
    throw new EngineError(`the data folder ${path} cannot be used: ${message(error)}`);
  }

  return {
    path,
    database: join(path, 'db'),
    tmp,
    files,
    run,
    logFile,
    async prepare(account) {
      await rm(tmp, { recursive: true, force: true });
      for (const folder of [run, tmp, files]) await makePrivate(folder, account);
      await appendFile(logFile, '', { mode: 0o600 });
      if (account !== undefined) await chown(logFile, account.uid, account.gid);
      const socketPath = join(run, 'db.sock');
      if (Buffer.byteLength(socketPath) <= socketPathLimit) return socketPath;
      socketDir = await mkdtemp(join(tmpdir().length < 60 ? tmpdir() : '/tmp', 'tasks-db-'));
      await makePrivate(socketDir, account);
      return join(socketDir, 'db.sock');
    },
    noteServer(pid) {
      writeFileSync(note, JSON.stringify({ pid, startedAt: processStart(pid), socketDir } satisfies NotedServer));
    },
    beginLog() {
      const size = statSync(logFile, { throwIfNoEntry: false })?.size ?? 0;
      if (size > logLimit) renameSync(logFile, `${logFile}.1`);
      const begin = size > logLimit ? 0 : size;
      return () => readFileSync(logFile).subarray(begin).toString();
    },
    async close() {
      await forgetServer();
      lock.release();
    },
  };
}

/**
 * Creates a folder and its missing parents. Node's `recursive` option loops for ever in a file system such as /proc, which
 * refuses new folders with ENOENT.
 */
async function makeFolder(path: string): Promise<void> {
  try {
    await mkdir(path);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' && !existsSync(dirname(path))) {
      await makeFolder(dirname(path));
      await makeFolder(path);
    } else if (code !== 'EEXIST' || !(await stat(path)).isDirectory()) throw error;
  }
}

/** Creates a folder that only the account may access, or changes its owner to the account. */
async function makePrivate(folder: string, account: Account | undefined): Promise<void> {
  await mkdir(folder, { recursive: true });
  await chmod(folder, 0o700);
  if (account !== undefined) await chown(folder, account.uid, account.gid);
}

async function readNote(file: string): Promise<NotedServer> {
  try {
    return (JSON.parse(await readFile(file, 'utf8')) as NotedServer | null) ?? {};
  } catch {
    return {};
  }
}

/** Asks a process to shut down and waits until it has ended; kills it after a while. */
async function awaitEnd(pid: number, startedAt: string | undefined): Promise<void> {
  const killAt = performance.now() + orphanGraceMs;
  for (let round = 0; processStart(pid) !== undefined && processStart(pid) === startedAt; round += 1) {
    if (performance.now() > killAt + orphanGraceMs) throw new Error(`process ${pid}, a server of before, does not end`);
    if (performance.now() > killAt) signal(pid, 'SIGKILL');
    else if (round === 0) signal(pid, 'SIGTERM');
    await sleep(10);
  }
}

function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

function message(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
