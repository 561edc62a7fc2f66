import { execFile } from 'node:child_process';
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import mysql from 'mysql2/promise';
import type { Logger } from 'pino';
import type { DatabaseAddress } from '../../src/config.ts';
import { bootstrap, versionFile } from './bootstrap.ts';
import { type DataFolder, openDataFolder } from './data-folder.ts';
import { EngineError } from './engine-error.ts';
import { compareSeries, type EngineProgram, findEngine } from './find-engine.ts';
import type { Account } from './server-process.ts';
import { superviseServer } from './supervised-server.ts';

const run = promisify(execFile);

/** A private database server that belongs to this process. */
export interface EmbeddedEngine {
  /** Its address: a Unix socket that only this user may open. It stays the same when the server is restarted. */
  readonly address: DatabaseAddress;
  /** The process id of the server, or of the last one while it restarts. */
  readonly pid: number;
  /** The folder that holds its data, an absolute path. */
  readonly dataDir: string;
  /** Such as `10.11.19-MariaDB`. */
  readonly version: string;
  /** Shuts the server down and unlocks the folder. Takes 2 s at most. */
  stop(): Promise<void>;
}

/** Options of {@link startEngine}. */
export interface EngineOptions {
  /** The folder of the data; created if it does not exist. */
  readonly dataDir: string;
  /** The folder of a downloaded server program, if none is installed. */
  readonly cacheDir: string;
  readonly log: Pick<Logger, 'info' | 'warn' | 'error'>;
  /** The name of the database, which is created. */
  readonly database?: string;
  /** The folders to look for an installed server in, by default those of PATH and the usual ones. */
  readonly programFolders?: readonly string[];
}

/** The size of the redo log, which the bootstrap and the server must both be given. */
const redoLog = '--innodb-log-file-size=48M';

/**
 * Starts a MariaDB server as a child of this process, without TCP; its data directory, socket and temporary files are in
 * `dataDir`. The first start creates the database. The server is restarted when it dies, and ends with this process, however that
 * ends.
 *
 * When this process is root, the server runs as nobody, or as the owner of the data.
 *
 * @throws {EngineError} when no server can be found or downloaded, the folder is in use or unusable, or the server does not start.
 */
export async function startEngine({
  dataDir,
  cacheDir,
  log,
  database = 'tasks',
  programFolders,
}: EngineOptions): Promise<EmbeddedEngine> {
  const folder = await openDataFolder(resolve(dataDir));
  try {
    const program = await findEngine({ cacheDir, log, ...(programFolders === undefined ? {} : { folders: programFolders }) });
    const account = await chooseAccount(folder, program);
    const socketPath = await folder.prepare(account);
    const asRoot = account === undefined && process.getuid?.() === 0 ? ['--user=root'] : [];
    if (existsSync(folder.database)) checkVersion(folder, program);
    else {
      log.info('making a new database');
      await bootstrap({
        program,
        dataDir: folder.database,
        options: [redoLog, ...asRoot],
        ...(account === undefined ? {} : { account }),
      });
    }
    const server = await superviseServer({
      socketPath,
      log,
      beginLog: folder.beginLog,
      noteServer: folder.noteServer,
      command: {
        command: [...program.command, ...serverOptions(program, folder, socketPath), ...asRoot],
        env: program.env,
        logFile: folder.logFile,
        ...(account === undefined ? {} : { account }),
      },
    });
    try {
      await createDatabase(socketPath, database);
    } catch (error) {
      await server.stop();
      throw error;
    }
    let stopped: Promise<void> | undefined;
    return {
      address: { socketPath, user: 'root', database },
      get pid() {
        return server.pid;
      },
      dataDir: folder.path,
      version: program.version,
      stop() {
        stopped ??= server.stop().then(() => folder.close());
        return stopped;
      },
    };
  } catch (error) {
    await folder.close();
    if (error instanceof Error && 'syscall' in error && error.syscall !== 'connect') {
      throw new EngineError(`the data folder ${folder.path} cannot be used: ${error.message}`, { cause: error });
    }
    throw error;
  }
}

/** The server's options; every path is absolute. An idle server takes some 60 MB of memory with them. */
function serverOptions(program: EngineProgram, folder: DataFolder, socketPath: string): string[] {
  return [
    '--no-defaults', // ignores the machine's configuration; the server accepts it only as the first option
    `--basedir=${program.baseDir}`,
    `--datadir=${folder.database}`,
    `--tmpdir=${folder.tmp}`,
    `--secure-file-priv=${folder.files}`,
    `--socket=${socketPath}`,
    `--pid-file=${join(folder.run, 'pid')}`,
    '--skip-networking',
    '--skip-name-resolve',
    '--skip-log-bin',
    '--local-infile=OFF',
    '--character-set-server=utf8mb4', // the built-in default is latin1
    '--collation-server=utf8mb4_bin',
    '--transaction-isolation=READ-COMMITTED',
    '--default-time-zone=+00:00',
    '--sql-mode=STRICT_TRANS_TABLES,ONLY_FULL_GROUP_BY,NO_ZERO_IN_DATE,NO_ZERO_DATE,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION',
    '--max-connections=200', // the service's pools, the projector, and people's own clients
    '--max-allowed-packet=64M', // a prompt may have 16 MB, and a statement several
    '--performance-schema=OFF',
    '--table-open-cache-instances=1', // more would need more open files than many systems allow
    redoLog,
    '--innodb-buffer-pool-size=256M', // allocated as needed
    '--innodb-log-buffer-size=4M',
    '--key-buffer-size=64K',
    '--aria-pagecache-buffer-size=1M',
    '--log-warnings=1',
  ];
}

/**
 * The user who runs the server when this process is root: the owner of the data or of their folder, or nobody when that is root.
 * Undefined means the user of this process: it is not root, or that other user cannot access the folder or the program.
 */
async function chooseAccount(folder: DataFolder, program: EngineProgram): Promise<Account | undefined> {
  if (process.getuid?.() !== 0) return undefined;
  const data = statSync(folder.database, { throwIfNoEntry: false });
  if (data?.uid === 0) return undefined; // root's data, created where nobody else has access
  const { uid, gid } = data ?? statSync(folder.path);
  const account = uid === 0 ? nobody : { uid, gid };
  try {
    const check = 'cd "$1" && shift && exec "$@"';
    await run('/bin/sh', ['-c', check, 'sh', folder.path, ...program.command, '--no-defaults', '--version'], {
      ...account,
      cwd: '/',
      env: { ...program.env },
    });
    return account;
  } catch {
    return undefined;
  }
}

/** The user and group `nobody`, which have this number on all systems but macOS. */
const nobody: Account = process.platform === 'darwin' ? { uid: 4294967294, gid: 4294967294 } : { uid: 65534, gid: 65534 };

/**
 * Checks that the program may open the data: a server can read the data of the same or an earlier series, and may damage that of
 * a later one.
 */
function checkVersion({ database }: DataFolder, { version }: EngineProgram): void {
  const file = join(database, versionFile);
  if (!existsSync(file)) return;
  const made = readFileSync(file, 'utf8').trim();
  const order = compareSeries(version, made);
  if (order < 0) {
    throw new EngineError(
      `the data in ${database} were written by MariaDB ${made}, and this is ${version}, which is older: install the newer one, or set DATA_DIR to another folder`,
    );
  }
  if (order > 0) writeFileSync(file, version);
}

async function createDatabase(socketPath: string, database: string): Promise<void> {
  const connection = await mysql.createConnection({ socketPath, user: 'root', charset: 'utf8mb4_bin' });
  try {
    await connection.query('create database if not exists ?? character set utf8mb4 collate utf8mb4_bin', [database]);
  } finally {
    await connection.end();
  }
}
