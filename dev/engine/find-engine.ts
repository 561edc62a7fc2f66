import { execFile } from 'node:child_process';
import { accessSync, constants, existsSync, realpathSync } from 'node:fs';
import { delimiter, dirname, join, resolve } from 'node:path';
import { promisify } from 'node:util';
import type { Logger } from 'pino';
import { EngineError } from './engine-error.ts';
import { type FetchedProgram, fetchedProgram, fetchPackages } from './fetch-packages.ts';

const run = promisify(execFile);

/** A MariaDB server program that can run on this machine. */
export interface EngineProgram {
  /** The program, preceded by a loader if it needs its own. */
  readonly command: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  /** Its installation folder: `share/` in it has the messages, the character sets and the SQL of the system tables. */
  readonly baseDir: string;
  /** Such as `10.11.19-MariaDB`. */
  readonly version: string;
}

/** Folders of package managers that are often not on the PATH. */
const usualFolders = ['/usr/sbin', '/usr/local/sbin', '/usr/libexec', '/usr/local/bin', '/usr/local/mariadb/bin'];
const usualFoldersMac = [
  '/opt/homebrew/bin',
  '/opt/homebrew/opt/mariadb/bin',
  '/usr/local/opt/mariadb/bin',
  '/opt/local/lib/mariadb/bin',
];

/** Options of {@link findEngine}. */
interface EngineSearch {
  /** The folder of downloaded engines. */
  readonly cacheDir: string;
  readonly log: Pick<Logger, 'info'>;
  /** The folders to look in, by default those of PATH and the usual ones. */
  readonly folders?: readonly string[];
}

/** The oldest series of MariaDB that the service is tested on. */
const oldestSeries = '10.11';

/**
 * Finds a MariaDB server: one that is installed, or was downloaded to the cache folder, or is downloaded now from the packages of
 * the machine's distribution. A server that is older than 10.11 or does not run is skipped.
 *
 * @throws {EngineError} when there is none.
 */
export async function findEngine({ cacheDir, log, folders = engineFolders() }: EngineSearch): Promise<EngineProgram> {
  for (const folder of folders) {
    const file = join(folder, 'mariadbd');
    if (!isExecutable(file)) continue;
    const found = await describeEngine({ command: [file], env: {} }, dirname(dirname(realpathSync(file))));
    if (found !== undefined && compareSeries(found.version, oldestSeries) >= 0) return found;
    log.info(
      { file, version: found?.version },
      `this MariaDB server does not run, or is older than ${oldestSeries}; it is not used`,
    );
  }
  const root = resolve(cacheDir, `mariadb-${process.arch}`);
  if (!existsSync(root)) {
    log.info('no MariaDB server on this machine; fetching one from the packages of its distribution');
    try {
      await fetchPackages({ packages: ['mariadb-server-core'], into: root });
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      throw new EngineError(`no database: ${remedy} (fetching MariaDB failed: ${reason})`);
    }
  }
  const fetched = await describeEngine(fetchedProgram(root, 'usr/sbin/mariadbd'), join(root, 'usr'));
  if (fetched !== undefined && compareSeries(fetched.version, oldestSeries) >= 0) return fetched;
  throw new EngineError(
    `no database: the MariaDB server that was fetched into ${root} ${
      fetched === undefined ? 'does not run here' : `is ${fetched.version}`
    }; remove that folder, and ${remedy}`,
  );
}

const remedy = `install MariaDB ${oldestSeries} or newer (mariadb-server-core), or set DATABASE_URL, or start one by docker compose -f deploy/compose.yaml up -d database`;

/** Compares two versions by their first two numbers; negative when the first is of an older series. */
export function compareSeries(one: string, other: string): number {
  const [a = [], b = []] = [one, other].map((version) => version.split('.').map(Number));
  return (a[0] ?? 0) - (b[0] ?? 0) || (a[1] ?? 0) - (b[1] ?? 0);
}

function engineFolders(): readonly string[] {
  const path = (process.env['PATH'] ?? '').split(delimiter).filter((folder) => folder.startsWith('/'));
  return [...new Set([...path, ...usualFolders, ...(process.platform === 'darwin' ? usualFoldersMac : [])])];
}

/** Runs the program to get its version; undefined when it does not run, for example because a library is missing. */
export async function describeEngine({ command, env }: FetchedProgram, baseDir: string): Promise<EngineProgram | undefined> {
  const [file = '', ...args] = command;
  try {
    const { stdout } = await run(file, [...args, '--no-defaults', '--version'], {
      env: { ...process.env, ...env },
      timeout: 10_000,
    });
    const version = /Ver (\d+\.\d+\.\d+-MariaDB)/.exec(stdout)?.[1];
    return version === undefined ? undefined : { command, env, baseDir, version };
  } catch {
    return undefined;
  }
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
