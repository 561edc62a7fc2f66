import { execFile, spawnSync } from 'node:child_process';
import { chmodSync, chownSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { cp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import pg from 'pg';
import { describe } from 'vitest';
import { type Account, type ServerProcess, startServerProcess } from '../../dev/engine/server-process.ts';
import { findPostgres, type PostgresPrograms, type PostgresVersion } from './find-postgres.ts';
import { freePort } from './free-port.ts';

const run = promisify(execFile);

/** A PostgreSQL of one test file, which may do to it what it likes. */
export interface PostgresServer {
  /** Such as `15.19`. */
  readonly version: string;
  readonly port: number;
  /** The folder of its Unix socket. */
  readonly socketFolder: string;
  /** The folder of `postgres` and `initdb`; with version 15 also of `pg_basebackup`. */
  readonly bin: string;
  /** The present process, or the last one. */
  readonly pid: number;
  /** What it has printed. */
  log(): string;
  /** The address of a database over TCP, as an operator would write it; of the superuser if nobody else is named. */
  url(database?: string, account?: { readonly user: string; readonly password: string }): string;
  /** Connects as the superuser. Whoever connects ends the connection; `stop` ends what is left. */
  connect(database?: string): Promise<pg.Client>;
  /** Kills it, as a machine that loses its power would; what was committed is there when it starts again. */
  crash(): Promise<void>;
  /** Shuts it down in order, which a connection that is used cannot delay. */
  shutDown(): Promise<void>;
  /** Starts it again at the same port with its data, with other settings if there are any. */
  restart(settings?: readonly string[]): Promise<void>;
  /** Ends it and throws its data away. */
  stop(): Promise<void>;
}

/** How a PostgreSQL of a test is started. */
export interface PostgresOptions {
  /** 15 if nothing is said. */
  readonly version?: PostgresVersion;
  /** Settings in the form `name=value`, over those that all have. */
  readonly settings?: readonly string[];
}

/** The superuser of all servers here. Over TCP the password is asked for. */
export const superuser = { user: 'postgres', password: 'postgres-secret' } as const;

/**
 * What all servers are told: to begin soon, to need little, to be able to replicate, and to write dates, times, bytes and numbers in
 * a way that nobody expects, since a database of strangers may.
 */
const common = [
  'listen_addresses=127.0.0.1',
  'wal_level=logical',
  'fsync=off',
  'full_page_writes=off',
  'autovacuum=off',
  'jit=off',
  'shared_buffers=32MB',
  'max_connections=100',
  'min_wal_size=2MB',
  'max_wal_size=64MB',
  'timezone=Asia/Kathmandu',
  'datestyle=SQL,DMY',
  'intervalstyle=sql_standard',
  'bytea_output=escape',
  'extra_float_digits=-5',
  'lc_messages=C',
];

/** What a test reads and writes itself has the usual forms. */
const plainSession = '-c timezone=UTC -c datestyle=ISO -c bytea_output=hex -c extra_float_digits=1';

/**
 * Starts a PostgreSQL with an empty database `coder`.
 *
 * @throws {Error} that says why it cannot be had.
 */
export async function startPostgres({ version = '15', settings = [] }: PostgresOptions = {}): Promise<PostgresServer> {
  const account = accountOfServers();
  const folder = mkdtempSync(join(tmpdir(), 'pg-')); // short: the path of a socket may have 107 bytes
  if (account !== undefined) chownSync(folder, account.uid, account.gid);
  try {
    const programs = await runnable(await findPostgres(version), account, folder);
    const { bin, env } = programs;
    const data = join(folder, 'data');
    const passwordFile = join(folder, 'password');
    writeFileSync(passwordFile, superuser.password);
    const access = [
      '--auth-local=trust',
      '--auth-host=scram-sha-256',
      `--username=${superuser.user}`,
      `--pwfile=${passwordFile}`,
    ];
    const shape = ['--no-sync', '--no-instructions', '--encoding=UTF8', '--locale=C', '--wal-segsize=1'];
    await run(join(bin, 'initdb'), [`--pgdata=${data}`, ...access, ...shape], {
      ...account,
      cwd: '/',
      env: { ...process.env, ...env },
    });
    const port = await freePort();
    const server = await startIn({ ...programs, folder, data, port, account }, settings);
    const client = await server.connect('postgres');
    await client.query('create database coder');
    await client.end();
    return server;
  } catch (error) {
    await rm(folder, { recursive: true, force: true, maxRetries: 10 });
    throw error;
  }
}

/** Starts a read replica of a server of version 15, which it follows by physical replication. */
export async function startPostgresReplica(primary: PostgresServer, settings: readonly string[] = []): Promise<PostgresServer> {
  const account = accountOfServers();
  const folder = mkdtempSync(join(tmpdir(), 'pg-'));
  if (account !== undefined) chownSync(folder, account.uid, account.gid);
  try {
    const programs = await runnable(await findPostgres('15'), account, folder);
    const data = join(folder, 'data');
    const from = [`--host=${primary.socketFolder}`, `--port=${primary.port}`, `--username=${superuser.user}`];
    const how = ['--write-recovery-conf', '--checkpoint=fast', '--no-sync'];
    await run(join(programs.bin, 'pg_basebackup'), [`--pgdata=${data}`, ...from, ...how], {
      ...account,
      cwd: '/',
      env: { ...process.env, ...programs.env },
    });
    return await startIn({ ...programs, folder, data, port: await freePort(), account }, settings);
  } catch (error) {
    await rm(folder, { recursive: true, force: true, maxRetries: 10 });
    throw error;
  }
}

/** Programs that run as the account of the servers. */
interface RunningPrograms extends PostgresPrograms {
  readonly version: string;
}

interface Place extends RunningPrograms {
  readonly folder: string;
  readonly data: string;
  readonly port: number;
  readonly account: Account | undefined;
}

async function startIn(
  { version, bin, env, folder, data, port, account }: Place,
  settings: readonly string[],
): Promise<PostgresServer> {
  const logFile = join(folder, 'server.log');
  const log = (): string => readFileSync(logFile, 'utf8');
  const clients = new Set<pg.Client>();
  const connect = async (database: string): Promise<pg.Client> => {
    const client = new pg.Client({ host: folder, port, user: superuser.user, database, options: plainSession });
    client.on('error', () => {}); // the test has ended the server
    await client.connect();
    return client;
  };
  const launch = async (wanted: readonly string[]): Promise<ServerProcess> => {
    const all = [...common, `port=${port}`, `unix_socket_directories=${folder}`, ...wanted];
    const command = [join(bin, 'postgres'), '-D', data, ...all.flatMap((setting) => ['-c', setting])];
    const deadline = performance.now() + 60_000;
    for (;;) {
      const process = startServerProcess({ command, env, logFile, ...(account === undefined ? {} : { account }) });
      let ended = false;
      void process.ended.then(() => {
        ended = true;
      });
      while (!ended && performance.now() < deadline) {
        try {
          await (await connect('postgres')).end();
          return process;
        } catch {
          await sleep(20);
        }
      }
      if (!ended) await process.stop(0);
      const why = log().trim().split('\n').slice(-4).join(' | ');
      // The children of a server that was killed are ending still.
      if (!/shared memory|lock file/.test(why) || performance.now() > deadline) {
        throw new Error(`PostgreSQL did not start: ${why.slice(0, 600)}`);
      }
      await sleep(50);
    }
  };
  let server = await launch(settings);
  const end = async (signal: NodeJS.Signals): Promise<void> => {
    try {
      process.kill(server.pid, signal);
    } catch {
      return; // it has ended
    }
    await server.ended;
  };
  return {
    version,
    port,
    socketFolder: folder,
    bin,
    get pid() {
      return server.pid;
    },
    log,
    url: (database = 'coder', { user, password } = superuser) =>
      `postgres://${encodeURIComponent(user)}:${encodeURIComponent(password)}@127.0.0.1:${port}/${encodeURIComponent(database)}`,
    async connect(database = 'coder') {
      const client = await connect(database);
      clients.add(client);
      client.once('end', () => clients.delete(client));
      return client;
    },
    crash: () => end('SIGKILL'),
    shutDown: () => end('SIGINT'),
    async restart(wanted = settings) {
      server = await launch(wanted);
    },
    async stop() {
      await Promise.all([...clients].map((client) => client.end().catch(() => {})));
      await end('SIGQUIT');
      await rm(folder, { recursive: true, force: true, maxRetries: 10 });
    },
  };
}

/** Who runs the servers: PostgreSQL refuses to run as root, and its user must have a name. */
function accountOfServers(): Account | undefined {
  if (process.getuid?.() !== 0) return undefined;
  const [, uid, gid] = /^nobody:[^:]*:(\d+):(\d+):/m.exec(readFileSync('/etc/passwd', 'utf8')) ?? [];
  if (uid === undefined || gid === undefined) throw new Error('this machine has no user "nobody" to run PostgreSQL as');
  return { uid: Number(uid), gid: Number(gid) };
}

/** The programs where the account can run them: they may be in a folder that only root can enter, and are copied then. */
async function runnable(programs: PostgresPrograms, account: Account | undefined, folder: string): Promise<RunningPrograms> {
  const { root, bin } = programs;
  const env = { ...process.env, ...programs.env };
  const tried = spawnSync(join(bin, 'postgres'), ['--version'], { ...account, cwd: '/', env, encoding: 'utf8' });
  if (tried.status === 0) return { ...programs, version: /\d+\.\d+/.exec(tried.stdout)?.[0] ?? 'unknown' };
  if (account === undefined || root === undefined) {
    throw new Error(`PostgreSQL does not run: ${tried.error?.message ?? tried.stderr.trim()}`);
  }
  const copy = join(folder, 'programs');
  await cp(root, copy, { recursive: true, verbatimSymlinks: true });
  chmodSync(copy, 0o755);
  const there = (path: string): string => path.replaceAll(root, copy);
  const moved = Object.entries(programs.env).map(([name, value]) => [name, there(value)] as const);
  return runnable({ bin: there(bin), env: Object.fromEntries(moved) }, account, folder);
}

/** What {@link describeOnPostgres} found, by version, so that one file asks but once. */
const found = new Map<PostgresVersion, Promise<string | undefined>>();

/**
 * Defines tests that need a version of PostgreSQL. Where it cannot be had they are skipped, with a line that says why.
 *
 * It is awaited at the top of a file: what cannot be had is found out before the tests are defined.
 */
export async function describeOnPostgres(name: string, version: PostgresVersion, define: () => void): Promise<void> {
  let looked = found.get(version);
  if (looked === undefined) {
    looked = findPostgres(version).then(
      () => undefined,
      (error: unknown) => (error instanceof Error ? error.message : String(error)),
    );
    found.set(version, looked);
  }
  const notRun = await looked;
  if (notRun !== undefined) console.log(`NOT RUN: ${name}, PostgreSQL ${version}: ${notRun}`);
  describe.skipIf(notRun !== undefined)(`${name}, PostgreSQL ${version}`, define);
}
