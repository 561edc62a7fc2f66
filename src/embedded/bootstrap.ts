import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { chown, mkdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import type { EngineProgram } from './find-engine.ts';

/** Where and as whom a data directory is made. */
export interface Bootstrap {
  readonly program: EngineProgram;
  /** The directory to make; it appears complete or not at all. */
  readonly dataDir: string;
  /** A directory for temporary files that no other server uses: servers remove each other's. */
  readonly tmpDir: string;
  /** The user and group to run as; absent means this process's own. */
  readonly userId?: number;
  /** Further options for the server. */
  readonly options?: readonly string[];
}

/**
 * Makes the data directory of a new database server, with the system tables and one account, `root` without a password: who
 * can reach the server's socket is let in.
 *
 * The server's own script for this, `mariadb-install-db`, is not used: it takes three times as long and needs programs that the
 * packages of the server alone do not bring.
 *
 * @throws {Error} with the last lines that the server printed.
 */
export async function bootstrap({ program, dataDir, tmpDir, userId, options = [] }: Bootstrap): Promise<void> {
  const partial = `${dataDir}.partial`;
  await rm(partial, { recursive: true, force: true });
  await mkdir(join(partial, 'mysql'), { recursive: true, mode: 0o700 });
  if (userId !== undefined) for (const folder of [partial, join(partial, 'mysql')]) await chown(folder, userId, userId);
  const [file = '', ...prefix] = program.command;
  const server = spawn(
    file,
    [
      ...prefix,
      '--no-defaults',
      '--bootstrap',
      `--basedir=${program.baseDir}`,
      `--datadir=${partial}`,
      `--tmpdir=${tmpDir}`,
      '--innodb-log-file-size=16M',
      '--skip-log-bin',
      '--log-warnings=1',
      '--max-allowed-packet=8M', // the scripts have statements longer than the net buffer
      '--enforce-storage-engine=',
      ...options,
    ],
    {
      cwd: '/',
      env: { ...program.env },
      stdio: ['pipe', 'ignore', 'pipe'],
      timeout: bootstrapLimitMs,
      ...(userId === undefined ? {} : { uid: userId, gid: userId }),
    },
  );
  const printed = text(server.stderr);
  server.stdin.on('error', () => {}); // it ended before it read everything, and its exit code says so
  server.stdin.end(systemTables(program.baseDir));
  const [code, signal] = (await once(server, 'exit')) as [number | null, string | null];
  if (code !== 0)
    throw new Error(`the new database could not be made (${signal ?? `code ${code}`}): ${lastLines(await printed)}`);
  await rename(partial, dataDir);
}

/** How long the making of a data directory may take, in milliseconds; it takes 300 on an ordinary disk. */
const bootstrapLimitMs = 60_000;

/** The end of what a server printed, as one line of at most 600 characters, without its time stamps. */
export function lastLines(printed: string): string {
  const lines = printed.trim().split('\n').slice(-5);
  return lines
    .map((line) => line.replace(/^[\d-]+[ T]+[\d:.]+Z? +\d+ */, ''))
    .join(' | ')
    .slice(-600);
}

/** The SQL that fills an empty data directory. */
function systemTables(baseDir: string): string {
  const scripts = ['system_tables.sql', 'performance_tables.sql', 'system_tables_data.sql'].map((name) => {
    // The name and the folder changed with MariaDB 11, and some packages have neither.
    const file = ['share/mysql', 'share/mariadb', 'share']
      .flatMap((folder) => [join(baseDir, folder, `mysql_${name}`), join(baseDir, folder, `mariadb_${name}`)])
      .find(existsSync);
    if (file === undefined) throw new Error(`the MariaDB server in ${baseDir} comes without ${name}`);
    return readFileSync(file, 'utf8');
  });
  // In a bootstrap each statement begins on a line of its own. The lines with the host's name make accounts for TCP.
  const preamble = ['create database if not exists mysql;', 'use mysql;', 'set @auth_root_socket = null;'];
  const noTcp = "delete from global_priv where Host <> 'localhost';\n";
  return [...preamble, ...scripts, noTcp]
    .join('\n')
    .split('\n')
    .filter((line) => !line.includes('@current_hostname'))
    .join('\n');
}
