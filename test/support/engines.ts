import { execFile } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { cp, mkdir, rename, rm } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { bootstrap } from '../../dev/engine/bootstrap.ts';
import { fetchedProgram, fetchPackages } from '../../dev/engine/fetch-packages.ts';
import { takeFileLock } from '../../dev/engine/file-lock.ts';
import { describeEngine, type EngineProgram, findEngine } from '../../dev/engine/find-engine.ts';
import { type ServerProcess, startServerProcess, waitUntilAnswering, whyItEnded } from '../../dev/engine/server-process.ts';
import type { DatabaseAddress } from '../../src/config.ts';
import { areAllHostile, hostileOptions, makeOrdinaryAccount } from './hostile-settings.ts';

const run = promisify(execFile);

/** The engines that the database tests run on: MariaDB 10.11 and 11, and the newest MySQL. */
export const engines = ['mariadb', 'mariadb11', 'mysql'] as const;

/** One of {@link engines}. */
export type Engine = (typeof engines)[number];

/** A database server of the tests. */
export interface TestServer {
  /** Such as `10.11.19-MariaDB`. */
  readonly version: string;
  /** How to reach it, but for the database. */
  readonly address: Omit<DatabaseAddress, 'database'>;
  stop(): Promise<void>;
}

/** A server of one test, which may do to it what it likes. */
export interface PrivateServer extends TestServer {
  /** The present process, or the last one. */
  readonly pid: number;
  /** Kills it, as a machine that loses its power would. */
  crash(): Promise<void>;
  /** Starts it again, at the same socket, with its data. */
  restart(): Promise<void>;
}

/** Where engines are fetched to, and kept between runs. */
export const cacheDir = resolve(import.meta.dirname, '../..', process.env['CACHE_DIR'] ?? '.cache');

/** As root the servers want to be told to run as such. */
const asRoot = process.getuid?.() === 0 ? ['--user=root'] : [];

/** What both engines are told: nothing of a test's data must outlive a power cut, and no run may be short of connections. */
const common = [
  '--skip-networking',
  '--skip-name-resolve',
  '--max-connections=400',
  '--character-set-server=utf8mb4',
  '--collation-server=utf8mb4_bin',
  '--transaction-isolation=READ-COMMITTED',
  '--default-time-zone=+00:00',
  '--performance-schema=OFF',
  '--innodb-flush-log-at-trx-commit=0',
  '--innodb-flush-method=nosync',
  '--innodb-doublewrite=OFF',
  '--innodb-buffer-pool-size=128M',
  ...asRoot,
];

/** Starts a server of an engine with its data in `folder`, which it makes; a hostile one if it is said, or all of the run are. */
export async function startEngineServer(
  engine: Engine,
  folder: string,
  options: readonly string[] = [],
  hostile: boolean = areAllHostile,
): Promise<PrivateServer> {
  const all = hostile ? [...hostileOptions(engine === 'mysql' ? 'mysql' : 'mariadb'), ...options] : options;
  const server = await start(await prepareServer(engine, folder, all));
  return hostile ? Object.assign(server, { address: await makeOrdinaryAccount(server) }) : server;
}

/** A server that has its data and has not been started. */
export interface PreparedServer {
  /** Such as `10.11.19-MariaDB`. */
  readonly version: string;
  /** Its program with its options. */
  readonly command: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly dataDir: string;
  readonly socketPath: string;
  readonly logFile: string;
}

/** Makes the data of a server of an engine in `folder`. */
export function prepareServer(engine: Engine, folder: string, options: readonly string[]): Promise<PreparedServer> {
  return engine === 'mysql' ? prepareMysql(folder, options) : prepareMariadb(mariadbs[engine], folder, options);
}

/** Starts a server, with further options if there are any, and waits until it answers at its socket. */
export async function launchServer(prepared: PreparedServer, options: readonly string[] = []): Promise<ServerProcess> {
  const { command, env, logFile, socketPath } = prepared;
  const server = startServerProcess({ command: [...command, ...options], env, logFile });
  if (await waitUntilAnswering(server, socketPath, 60_000)) return server;
  await server.stop(0);
  throw new Error(`the server did not start: ${whyItEnded(readFileSync(logFile, 'utf8'))}`);
}

/** The series of MariaDB, and which release of Debian has it. */
export const mariadbs = {
  mariadb: { series: '10.11', suite: 'bookworm' },
  mariadb11: { series: '11.', suite: 'trixie' },
} as const;

async function prepareMariadb(
  wanted: (typeof mariadbs)[keyof typeof mariadbs],
  folder: string,
  options: readonly string[],
): Promise<PreparedServer> {
  const program = await findMariadb(wanted);
  await mkdir(join(folder, 'tmp'), { recursive: true });
  await bootstrap({
    program,
    dataDir: join(folder, 'data'),
    options: ['--innodb-log-file-size=64M', '--innodb-flush-method=nosync', ...asRoot],
  });
  return preparedIn(folder, program.version, program.env, [
    ...program.command,
    '--no-defaults',
    `--basedir=${program.baseDir}`,
    '--innodb-log-file-size=64M',
    '--key-buffer-size=64K',
    '--aria-pagecache-buffer-size=1M',
    '--skip-log-bin',
    ...common,
    ...options,
  ]);
}

/** What `npm start` would run here if that is of the series, else one from Debian. */
async function findMariadb({ series, suite }: (typeof mariadbs)[keyof typeof mariadbs]): Promise<EngineProgram> {
  const own = await findEngine({ cacheDir, log: { info: (line: unknown) => console.log(String(line)) } });
  if (own.version.startsWith(series)) return own;
  const root = join(cacheDir, `mariadb-${suite}-${process.arch}`);
  if (!existsSync(root)) {
    console.log(`fetching MariaDB from the packages of Debian ${suite}`);
    await fetchPackages({ packages: ['mariadb-server-core'], suite, into: root, skip: scriptsOnly });
  }
  const fetched = await describeEngine(fetchedProgram(root, 'usr/sbin/mariadbd'), join(root, 'usr'));
  if (fetched?.version.startsWith(series) === true) return fetched;
  throw new Error(
    `the MariaDB that was fetched into ${root} ${fetched === undefined ? 'does not run' : `is ${fetched.version}`}`,
  );
}

/** Perl and the databases it links are for scripts of the packages that nobody runs here. */
const scriptsOnly = /^(perl|libperl|gcc-|libgdbm|libdb5)/;

async function prepareMysql(folder: string, options: readonly string[]): Promise<PreparedServer> {
  const root = join(cacheDir, `mysql-${process.arch}`);
  if (!existsSync(root)) {
    console.log('fetching MySQL from the packages of Debian unstable');
    await fetchPackages({ packages: ['mysql-server-core'], suite: 'sid', into: root, skip: scriptsOnly });
  }
  const { command, env } = fetchedProgram(root, 'usr/sbin/mysqld');
  const server = [
    ...command,
    '--no-defaults',
    `--basedir=${join(root, 'usr')}`,
    `--lc-messages-dir=${join(root, 'usr/share/mysql')}`,
    `--character-sets-dir=${join(root, 'usr/share/mysql/charsets')}`,
    `--plugin-dir=${join(root, 'usr/lib/mysql/plugin')}`,
    '--secure-file-priv=NULL',
    '--innodb-redo-log-capacity=64M',
    ...asRoot,
  ];
  const [file = '', ...args] = server;
  const { stdout } = await run(file, [...args, '--version'], { env });
  const version = /Ver (\d+\.\d+\.\d+)/.exec(stdout)?.[1] ?? 'unknown';
  const seed = join(cacheDir, `mysql-seed-${version}`);
  const lock = await takeFileLock(`${seed}.lock`, 60_000);
  try {
    if (!existsSync(seed)) {
      await rm(`${seed}.partial`, { recursive: true, force: true });
      await run(file, [...args, '--initialize-insecure', `--datadir=${seed}.partial`], { env });
      await rm(`${seed}.partial/auto.cnf`); // each copy shall be a server of its own
      await rename(`${seed}.partial`, seed);
    }
  } finally {
    lock.release();
  }
  await mkdir(join(folder, 'tmp'), { recursive: true });
  await cp(seed, join(folder, 'data'), { recursive: true });
  return preparedIn(folder, version, env, [
    ...server,
    '--mysqlx=OFF',
    '--disable-log-bin',
    '--log-bin-trust-function-creators=ON',
    ...common,
    ...options,
  ]);
}

/** Says where the files of a server in this folder are. */
function preparedIn(
  folder: string,
  version: string,
  env: Readonly<Record<string, string>>,
  command: readonly string[],
): PreparedServer {
  const [dataDir, socketPath] = [join(folder, 'data'), join(folder, 'db.sock')];
  const places = [
    `--datadir=${dataDir}`,
    `--tmpdir=${join(folder, 'tmp')}`,
    `--socket=${socketPath}`,
    `--pid-file=${join(folder, 'pid')}`,
  ];
  return { version, command: [...command, ...places], env, dataDir, socketPath, logFile: join(folder, 'server.log') };
}

async function start(prepared: PreparedServer): Promise<PrivateServer> {
  let server = await launchServer(prepared);
  return {
    version: prepared.version,
    address: { socketPath: prepared.socketPath, user: 'root' },
    get pid() {
      return server.pid;
    },
    stop: () => server.stop(0), // at once: its data are thrown away
    crash: () => server.stop(0),
    async restart() {
      server = await launchServer(prepared);
    },
  };
}
