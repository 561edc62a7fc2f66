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

/** The server's log is put aside at a start that finds it larger than this, in bytes. */
const logLimit = 5 * 1024 * 1024;

/** How long to wait for the holder of the folder, in milliseconds: one that was killed just now takes a moment to end. */
const dyingMs = 300;

/** How long a server that outlived its service may take to shut down before it is killed, and to end after that, in milliseconds. */
const orphanGraceMs = 3000;

/** The folder of one embedded engine, held by this process until it is closed. */
export interface DataFolder {
  readonly path: string;
  /** The server's data directory. */
  readonly database: string;
  /** Temporary files, emptied at each start. */
  readonly tmp: string;
  /** The only folder that SQL may read and write files in; it stays empty. */
  readonly files: string;
  /** Holds the pid file, and the socket where its path is not too long. Nobody else may enter it. */
  readonly run: string;
  /** What the server prints; `engine.log.1` beside it is the part before, when it grew too large. */
  readonly logFile: string;
  /** Makes what the server needs besides its data directory, for its account, and returns the path for its socket. */
  prepare(account: Account | undefined): Promise<string>;
  /** Remembers the server's process, so that a later start can tell whether it still runs. */
  noteServer(pid: number): void;
  /** Begins a new part of the log, and returns a function that reads what has been printed since. */
  beginLog(): () => string;
  /** Lets go of the folder; its server must have ended. */
  close(): Promise<void>;
}

/** What the file `engine.json` says. */
interface NotedServer {
  readonly pid?: number;
  readonly startedAt?: string | undefined;
  /** The folder of the socket, where it had to be outside. */
  readonly socketDir?: string | undefined;
}

/**
 * Opens the folder of an engine, and makes it where it is not there. When an earlier service was killed its server may still be
 * shutting down; this waits until it has ended.
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
  // Not in a folder of the server's account, which as root is another's: what it says is killed and removed.
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
 * Makes a folder and those above it, where they are missing. Node's own way tries for ever in a file system that lets nobody make a
 * folder and says that there is none, such as /proc.
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

/** Makes a folder that only the account may enter, or gives it to the account. */
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

/** Waits for the end of a process that is shutting down, or should be: asks it to, and in the end kills it. */
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
