import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { chown, mkdir, mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { EngineError } from './engine-error.ts';
import { removeFoldersLike } from './fetch-packages.ts';
import type { EngineProgram } from './find-engine.ts';
import { type Account, whyItEnded } from './server-process.ts';

/** How a new data directory is created. */
interface Bootstrap {
  readonly program: EngineProgram;
  /** The directory to create, atomically. Its parent must exist. */
  readonly dataDir: string;
  /** The user who runs the server and owns the files; by default that of this process. */
  readonly account?: Account;
  /** Further options for the server. */
  readonly options?: readonly string[];
}

/** The file in a data directory that holds the version of the newest server that opened it. */
export const versionFile = 'engine-version';

/** How long the creation of a data directory may take, in milliseconds; it takes some 300. */
const bootstrapLimitMs = 60_000;

/**
 * Creates the data directory of a new database server, with the system tables and one account, `root` without a password: access
 * is controlled by the permissions of the socket. Leftovers of an interrupted attempt are removed.
 *
 * It does not use the server's script `mariadb-install-db`, which takes three times as long and needs programs that are not in
 * the server's package.
 *
 * @throws {EngineError} with the last lines that the server printed.
 */
export async function bootstrap({ program, dataDir, account, options = [] }: Bootstrap): Promise<void> {
  await removeFoldersLike(`${dataDir}.partial-`);
  const partial = await mkdtemp(`${dataDir}.partial-`);
  const folders = [partial, join(partial, 'data'), join(partial, 'data/mysql'), join(partial, 'tmp')];
  for (const folder of folders) {
    await mkdir(folder, { recursive: true, mode: 0o700 });
    if (account !== undefined) await chown(folder, account.uid, account.gid);
  }
  try {
    await fill(join(partial, 'data'), join(partial, 'tmp'), program, account, options);
    await writeFile(join(partial, 'data', versionFile), program.version);
    await rename(join(partial, 'data'), dataDir);
  } finally {
    await rm(partial, { recursive: true, force: true });
  }
}

/** Runs the server to fill an empty data directory, with a `tmpdir` of its own, since servers remove each other's files there. */
async function fill(
  dataDir: string,
  tmpDir: string,
  { command: [file = '', ...first], env, baseDir }: EngineProgram,
  account: Account | undefined,
  options: readonly string[],
): Promise<void> {
  const server = spawn(
    file,
    [
      ...first,
      '--no-defaults',
      '--bootstrap',
      `--basedir=${baseDir}`,
      `--datadir=${dataDir}`,
      `--tmpdir=${tmpDir}`,
      '--skip-log-bin',
      '--log-warnings=1',
      '--max-allowed-packet=8M', // the scripts have long statements
      '--enforce-storage-engine=',
      ...options,
    ],
    {
      cwd: '/',
      env: { ...env },
      stdio: ['pipe', 'ignore', 'pipe'],
      timeout: bootstrapLimitMs,
      killSignal: 'SIGKILL',
      ...account,
    },
  );
  server.stdin.on('error', () => {}); // it ended early, which its exit code shows
  server.stdin.end(systemTables(baseDir));
  const [printed, end] = await Promise.all([text(server.stderr), once(server, 'exit')]);
  const [code, signal] = end as [number | null, NodeJS.Signals | null];
  if (code !== 0) throw new EngineError(`a new database could not be made (${signal ?? `code ${code}`}): ${whyItEnded(printed)}`);
}

/** The SQL that fills an empty data directory: scripts that come with the server. */
function systemTables(baseDir: string): string {
  const scripts = ['system_tables.sql', 'performance_tables.sql', 'system_tables_data.sql'].map((name) => {
    // Their folder and the start of their names changed with MariaDB 11.
    const file = ['share/mysql', 'share/mariadb', 'share']
      .flatMap((folder) => [join(baseDir, folder, `mysql_${name}`), join(baseDir, folder, `mariadb_${name}`)])
      .find((path) => existsSync(path));
    if (file === undefined) throw new EngineError(`the MariaDB server in ${baseDir} comes without its script ${name}`);
    return readFileSync(file, 'utf8');
  });
  // In a bootstrap each statement begins on a line of its own.
  const before = ['create database if not exists mysql;', 'use mysql;', 'set @auth_root_socket = null;'];
  const after = ["delete from global_priv where Host <> 'localhost';"]; // accounts for TCP, which is off
  return [...before, ...scripts, ...after]
    .join('\n')
    .split('\n')
    .filter((line) => !line.includes('@current_hostname')) // more of them, by the name of this machine
    .join('\n');
}
