import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import mysql from 'mysql2/promise';
import pino from 'pino';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { type EmbeddedEngine, type EngineOptions, startEngine } from '../../dev/engine/engine.ts';
import { processStart } from '../../dev/engine/file-lock.ts';
import { compareSeries, findEngine } from '../../dev/engine/find-engine.ts';
import type { Account } from '../../dev/engine/server-process.ts';
import { closeDatabase, openDatabase } from '../../src/db/connection.ts';
import { commandLineOf } from '../support/command-line.ts';
import { cacheDir } from '../support/engines.ts';
import { hasOrdinaryUser, ordinaryUser } from '../support/ordinary-user.ts';

const log = pino({ level: 'silent' });

/** What a test opened, closed after it whatever happened. */
let closers: (() => unknown)[] = [];
let home: string;

beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'engine-test-'));
  chmodSync(home, 0o755);
});
afterEach(async () => {
  for (const close of closers.reverse()) await close();
  closers = [];
  // The server of an owner that was killed may still write for a second.
  await rm(home, { recursive: true, force: true, maxRetries: 10 });
});

async function start(options: Partial<EngineOptions> = {}): Promise<EmbeddedEngine> {
  const engine = await startEngine({ dataDir: join(home, 'data'), cacheDir, log, ...options });
  closers.push(() => engine.stop());
  return engine;
}

async function query(
  engine: { readonly address: { readonly socketPath?: string } },
  sql: string,
): Promise<Record<string, unknown>[]> {
  const { socketPath = '' } = engine.address;
  const connection = await mysql.createConnection({ socketPath, user: 'root', dateStrings: true });
  try {
    const [rows] = await connection.query(sql);
    return rows as Record<string, unknown>[];
  } finally {
    await connection.end();
  }
}

/** Another process that owns an engine, and its first line. */
interface Owner {
  readonly process: ChildProcess;
  readonly lines: AsyncIterableIterator<string>;
  readonly first: { readonly pid?: number; readonly socketPath?: string; readonly error?: string };
}

async function startOwner(dataDir = join(home, 'data'), account: Partial<Account> = {}): Promise<Owner> {
  const child = spawnOwner(dataDir, account);
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const { value } = (await lines.next()) as { value: string | undefined };
  if (value === undefined) throw new Error('the owner ended without a word');
  return { process: child, lines, first: JSON.parse(value) as Owner['first'] };
}

function spawnOwner(dataDir: string, account: Partial<Account> = {}) {
  const script = join(import.meta.dirname, '../support/engine-owner.ts');
  const child = spawn(process.execPath, [script, dataDir, cacheDir], {
    stdio: ['ignore', 'pipe', 'inherit'],
    detached: true, // a process group of its own, as a terminal gives it
    env: { PATH: process.env['PATH'], HOME: home },
    ...account,
  });
  closers.push(async () => {
    if (child.exitCode === null && child.signalCode === null) {
      child.kill('SIGKILL');
      await once(child, 'exit');
    }
  });
  return child;
}

async function until(what: () => boolean | Promise<boolean>, limitMs: number): Promise<number> {
  const begin = performance.now();
  while (!(await what())) {
    if (performance.now() - begin > limitMs) throw new Error(`not within ${limitMs} ms`);
    await sleep(5);
  }
  return performance.now() - begin;
}

function uidOf(pid: number): number {
  return Number(/^Uid:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]);
}

function childrenOf(pid: number): number[] {
  return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ').map(Number);
}

/** The process group, the fifth field of the line. */
function groupOf(pid: number): number {
  return Number(readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ')[2]);
}

describe('a first start', () => {
  test('makes a database that answers, set up as the service needs it', async () => {
    const engine = await start();
    expect(engine.dataDir).toBe(join(home, 'data'));
    expect(engine.version).toMatch(/^\d+\.\d+\.\d+-MariaDB$/);
    expect(engine.address).toMatchObject({ user: 'root', database: 'tasks' });
    const [settings] = await query(
      engine,
      `select @@character_set_server, @@collation_server, @@tx_isolation, @@time_zone, @@skip_networking, @@log_bin, @@local_infile,
              @@max_connections >= 100 as enough, @@secure_file_priv, @@tmpdir, @@global.sql_mode`,
    );
    expect(settings).toEqual({
      '@@character_set_server': 'utf8mb4',
      '@@collation_server': 'utf8mb4_bin',
      '@@tx_isolation': 'READ-COMMITTED',
      '@@time_zone': '+00:00',
      '@@skip_networking': 1,
      '@@log_bin': 0,
      '@@local_infile': 0,
      enough: 1,
      '@@secure_file_priv': join(home, 'data/files/'),
      '@@tmpdir': join(home, 'data/tmp'),
      '@@global.sql_mode':
        'ONLY_FULL_GROUP_BY,STRICT_TRANS_TABLES,NO_ZERO_IN_DATE,NO_ZERO_DATE,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION',
    });
    expect(await query(engine, "select user, host from mysql.global_priv where user = 'root' or user = ''")).toEqual([
      { user: 'root', host: 'localhost' },
    ]);
    expect(await query(engine, 'show create database tasks')).toMatchObject([
      { 'Create Database': expect.stringContaining('utf8mb4_bin') as unknown },
    ]);
  });

  test('lets nobody else in: the folders of the socket and of the data are private', async () => {
    const engine = await start();
    for (const folder of ['run', 'db', 'tmp', 'files']) expect(statSync(join(engine.dataDir, folder)).mode & 0o777).toBe(0o700);
    expect(readdirSync(join(engine.dataDir, 'files'))).toEqual([]);
  });

  test('has no password, and shows none in the list of processes', async () => {
    const engine = await start();
    expect(engine.address).not.toHaveProperty('password');
    expect(commandLineOf(engine.pid)).toContain('--socket');
    expect(commandLineOf(engine.pid)).not.toMatch(/pass|pwd/i);
  });

  test.each([20, 150, 250, 350, 450])('is redone when its process was killed after %i ms', async (delayMs) => {
    const owner = spawnOwner(join(home, 'data'));
    await until(() => existsSync(join(home, 'data/engine.lock')), 10_000);
    await sleep(delayMs);
    owner.kill('SIGKILL');
    await once(owner, 'exit'); // on a busy machine it holds its lock a moment longer
    const engine = await start();
    expect(await query(engine, 'select count(*) as n from mysql.global_priv')).toMatchObject([{ n: 2 }]);
    expect(readdirSync(engine.dataDir).filter((name) => name.includes('partial'))).toEqual([]);
  });

  test('does without the leftovers of an interrupted one', async () => {
    const leftover = join(home, 'data/db.partial-abcdef/data/mysql');
    mkdirSync(leftover, { recursive: true });
    writeFileSync(join(leftover, 'db.frm'), 'half');
    const engine = await start();
    expect(await query(engine, 'select 1 as one')).toEqual([{ one: 1 }]);
    expect(existsSync(leftover)).toBe(false);
  });

  test('creates the database it was asked for, whatever its name', async () => {
    const engine = await start({ database: 'my `odd` name' });
    expect(await query(engine, "show databases like 'my %'")).toEqual([{ 'Database (my %)': 'my `odd` name' }]);
  });
});

describe('a later start', () => {
  test('is quick and finds the data', async () => {
    const first = await start();
    await query(first, 'create table tasks.kept (id int primary key)');
    await query(first, 'insert into tasks.kept values (7)');
    await first.stop();
    const begin = performance.now();
    const second = await start();
    const tookMs = performance.now() - begin;
    expect(await query(second, 'select id from tasks.kept')).toEqual([{ id: 7 }]);
    expect(tookMs).toBeLessThan(1500); // 150 on an idle machine; the rest is for a busy one
  });

  test('empties the folder for temporary files', async () => {
    await (await start()).stop();
    writeFileSync(join(home, 'data/tmp/left'), 'x');
    const engine = await start();
    expect(existsSync(join(engine.dataDir, 'tmp/left'))).toBe(false);
  });

  test('puts a log that grew too large aside, and keeps a small one', async () => {
    const logFile = join(home, 'data/engine.log');
    await (await start()).stop();
    const small = statSync(logFile).size;
    await (await start()).stop();
    expect(statSync(logFile).size).toBeGreaterThan(small);
    writeFileSync(logFile, Buffer.alloc(6 * 1024 * 1024, 'x'));
    await start();
    expect(statSync(logFile).size).toBeLessThan(1024 * 1024);
    expect(statSync(`${logFile}.1`).size).toBe(6 * 1024 * 1024);
  });

  test('refuses data that a newer series wrote, and takes those of an older one', async () => {
    const version = join(home, 'data/db/engine-version');
    const engine = await start();
    await engine.stop();
    writeFileSync(version, '99.1.2-MariaDB');
    await expect(start()).rejects.toThrow(
      /^the data in .*\/db were written by MariaDB 99\.1\.2-MariaDB, and this is .*older.*DATA_DIR/,
    );
    writeFileSync(version, '10.3.39-MariaDB');
    await (await start()).stop();
    expect(readFileSync(version, 'utf8')).toBe(engine.version);
  });
});

describe('the lock', () => {
  test('makes a second start fail at once, with the process that holds the folder', async () => {
    const owner = await startOwner();
    const begin = performance.now();
    await expect(start()).rejects.toThrow(
      `the data folder ${join(home, 'data')} is held by process ${owner.process.pid}; stop that one first, or set DATA_DIR to another folder`,
    );
    expect(performance.now() - begin).toBeLessThan(1000);
    expect(processStart(owner.first.pid ?? 0)).toBeDefined();
  });

  test('also within one process', async () => {
    await start();
    await expect(start()).rejects.toThrow(`is held by process ${process.pid}`);
  });

  test('is free again after a start that failed', async () => {
    mkdirSync(join(home, 'data/db'), { recursive: true });
    await expect(start()).rejects.toThrow('did not start');
    rmSync(join(home, 'data/db'), { recursive: true });
    expect(await query(await start(), 'select 1 as one')).toEqual([{ one: 1 }]);
  });
});

describe('when the server is killed', () => {
  test('it is started again at the same socket, and nothing committed is lost', async () => {
    const engine = await start();
    await query(engine, 'create table tasks.kept (id int primary key)');
    for (let round = 1; round <= 3; round += 1) {
      await query(engine, `insert into tasks.kept values (${round})`);
      const { pid } = engine;
      process.kill(pid, 'SIGKILL');
      await until(() => engine.pid !== pid, 5000);
      await until(
        () =>
          query(engine, 'select 1').then(
            () => true,
            () => false,
          ),
        5000,
      );
      expect(await query(engine, 'select count(*) as n from tasks.kept')).toEqual([{ n: round }]);
    }
  });

  test('a pool of connections goes on by itself', async () => {
    const engine = await start();
    const pool = openDatabase(engine.address, { size: 3, statementTimeoutMs: 2000 });
    closers.push(() => closeDatabase(pool));
    const works = (): Promise<boolean> =>
      pool.raw('select 1').then(
        () => true,
        () => false,
      );
    expect(await Promise.all([works(), works(), works()])).toEqual([true, true, true]);
    process.kill(engine.pid, 'SIGKILL');
    await until(async () => !(await works()), 5000);
    await until(works, 5000);
    expect(await Promise.all([works(), works(), works()])).toEqual([true, true, true]);
  });

  test('it is tried again and again until it starts', async () => {
    const error = vi.fn();
    const engine = await start({ log: { ...log, info() {}, warn() {}, error } });
    const { database, away } = { database: join(engine.dataDir, 'db'), away: join(engine.dataDir, 'db.away') };
    renameSync(database, away);
    process.kill(engine.pid, 'SIGKILL');
    const failed = (): number => error.mock.calls.filter(([, text]) => /could not be started again/.test(String(text))).length;
    await until(() => failed() >= 2, 20_000);
    renameSync(away, database);
    await until(
      () =>
        query(engine, 'select 1').then(
          () => true,
          () => false,
        ),
      20_000,
    );
  });

  test('stopping does not wait for it', async () => {
    const engine = await start();
    process.kill(engine.pid, 'SIGKILL');
    await engine.stop();
    await sleep(200);
    expect(processStart(engine.pid)).toBeUndefined();
    expect(existsSync(join(engine.dataDir, 'engine.lock'))).toBe(false);
  });
});

describe('when its owner is killed', () => {
  test('the server ends within 2 s, and a new start works at once', async () => {
    const owner = await startOwner();
    const pid = owner.first.pid ?? 0;
    await query({ address: owner.first }, 'create table tasks.kept (id int primary key)');
    owner.process.kill('SIGKILL');
    await once(owner.process, 'exit');
    const begin = performance.now();
    const engine = await start();
    expect(performance.now() - begin).toBeLessThan(3000);
    expect(processStart(pid)).toBeUndefined();
    expect(await query(engine, 'select count(*) as n from tasks.kept')).toEqual([{ n: 0 }]);
  });

  test('the server ends by itself, with nobody there to start another', async () => {
    const owner = await startOwner();
    const pid = owner.first.pid ?? 0;
    expect(processStart(pid)).toBeDefined();
    owner.process.kill('SIGKILL');
    await until(() => processStart(pid) === undefined, 2000);
  });

  test.each([20, 40, 60, 80, 100])('the server ends also when it began %i ms before', async (delayMs) => {
    await (await start()).stop();
    const owner = spawnOwner(join(home, 'data'));
    const note = join(home, 'data/engine.json');
    await until(() => existsSync(note) && readFileSync(note, 'utf8') !== '', 10_000);
    const { pid } = JSON.parse(readFileSync(note, 'utf8')) as { pid: number };
    await sleep(delayMs);
    owner.kill('SIGKILL');
    await until(() => processStart(pid) === undefined, 5000); // a second for the watcher; the rest is for a busy machine
  });

  test.each(['serves', 'hangs'])('a server that %s without service and watcher is ended by the next start', async (how) => {
    const owner = await startOwner();
    const pid = owner.first.pid ?? 0;
    const [watcher] = childrenOf(pid);
    process.kill(watcher ?? 0, 'SIGKILL');
    if (how === 'hangs') process.kill(pid, 'SIGSTOP');
    owner.process.kill('SIGKILL');
    const begin = performance.now();
    const engine = await start();
    expect(performance.now() - begin).toBeLessThan(10_000); // 3 s of patience at most; the server's own would be 30
    expect(processStart(pid)).toBeUndefined();
    expect(await query(engine, 'select 1 as one')).toEqual([{ one: 1 }]);
  });
});

describe('signals', () => {
  test('Ctrl-C reaches the owner alone, which can still use the database', async () => {
    const owner = await startOwner();
    expect(groupOf(owner.first.pid ?? 0)).toBe(owner.first.pid);
    process.kill(-(owner.process.pid ?? 0), 'SIGINT'); // as a terminal does: to the whole group
    const { value } = await owner.lines.next();
    expect(JSON.parse(value as string)).toEqual([{ answer: 42 }]);
    await once(owner.process, 'exit');
    expect(processStart(owner.first.pid ?? 0)).toBeUndefined();
  });

  test('stop takes less than 2 s and leaves no process, lock, note or socket', async () => {
    const engine = await start();
    await query(engine, 'select 1');
    const begin = performance.now();
    await Promise.all([engine.stop(), engine.stop()]);
    expect(performance.now() - begin).toBeLessThan(2500);
    expect(processStart(engine.pid)).toBeUndefined();
    expect(readdirSync(engine.dataDir).sort()).toEqual(['db', 'engine.log', 'files', 'run', 'tmp']);
    expect(readdirSync(join(engine.dataDir, 'run'))).toEqual([]);
  });

  test('stop ends a server that does not want to', async () => {
    const engine = await start();
    process.kill(engine.pid, 'SIGSTOP');
    const begin = performance.now();
    await engine.stop();
    expect(performance.now() - begin).toBeLessThan(3500);
    expect(processStart(engine.pid)).toBeUndefined();
  });
});

describe('paths', () => {
  test.each(['with blanks in it', "with 'quotes' and $signs", 'mit Ümläuten 任务'])('a folder %s', async (name) => {
    const engine = await start({ dataDir: join(home, name) });
    expect(await query(engine, 'select 1 as one')).toEqual([{ one: 1 }]);
  });

  test('a relative folder', async () => {
    const before = process.cwd();
    closers.push(() => process.chdir(before));
    process.chdir(home);
    const engine = await start({ dataDir: 'here' });
    expect(engine.dataDir).toBe(join(home, 'here'));
  });

  test('a folder too deep for a socket has it in a private one elsewhere, which goes away', async () => {
    const dataDir = join(home, 'deep'.repeat(20), 'deeper'.repeat(20));
    const owner = await startOwner(dataDir);
    const { socketPath = '' } = owner.first;
    expect(socketPath.startsWith(dataDir)).toBe(false);
    expect(statSync(dirname(socketPath)).mode & 0o777).toBe(0o700);
    owner.process.kill('SIGKILL');
    const engine = await start({ dataDir });
    expect(existsSync(dirname(socketPath))).toBe(false);
    const second = engine.address.socketPath ?? '';
    await engine.stop();
    expect(existsSync(dirname(second))).toBe(false);
  });

  test('a folder that cannot be made is a clear error', async () => {
    writeFileSync(join(home, 'file'), '');
    await expect(start({ dataDir: join(home, 'file/data') })).rejects.toThrow(
      /^the data folder .*file\/data cannot be used: ENOTDIR/,
    );
    await expect(start({ dataDir: join(home, 'file') })).rejects.toThrow(/^the data folder .*\/file cannot be used: EEXIST/);
  });

  test.runIf(existsSync('/proc/self'))('a folder where nobody can make one is a clear error, at once', async () => {
    await expect(start({ dataDir: '/proc/tasks/data' })).rejects.toThrow(
      /^the data folder \/proc\/tasks\/data cannot be used: ENOENT/,
    );
  });

  test('a folder is made with those above it', async () => {
    const dataDir = join(home, 'some/way/down');
    const engine = await start({ dataDir });
    expect(engine.dataDir).toBe(dataDir);
    await engine.stop();
  });

  test('data that the server cannot use are an error with what it printed', async () => {
    await (await start()).stop();
    writeFileSync(join(home, 'data/db/ibdata1'), 'no database');
    await expect(start()).rejects.toThrow(/^the database server did not start \(code 1\): .*InnoDB/);
  });
});

describe.runIf(hasOrdinaryUser)('as root', () => {
  test('the server runs as nobody', async () => {
    expect(uidOf((await start()).pid)).toBe(65534);
  });

  test('in a folder that nobody can enter it runs as root', async () => {
    chmodSync(home, 0o700);
    const engine = await start();
    expect(uidOf(engine.pid)).toBe(0);
    await engine.stop();
    chmodSync(home, 0o755); // its files stay root's
    expect(await query(await start(), 'select 1 as one')).toEqual([{ one: 1 }]);
  });

  test('a folder of another user keeps its owner', async () => {
    const owner = await startAsOrdinaryUser();
    owner.process.kill('SIGTERM');
    await once(owner.process, 'exit');
    const engine = await start();
    expect(uidOf(engine.pid)).toBe(ordinaryUser.uid);
    await engine.stop();
    expect((await startAsOrdinaryUser()).first.error).toBeUndefined();
  });

  test('a new one too, so that the user can go on without root', async () => {
    mkdirSync(join(home, 'data'));
    chownSync(join(home, 'data'), ordinaryUser.uid, ordinaryUser.gid);
    const engine = await start();
    expect(uidOf(engine.pid)).toBe(ordinaryUser.uid);
    await engine.stop();
    expect((await startAsOrdinaryUser()).first.error).toBeUndefined();
  });

  test('its lock holds for an ordinary user', async () => {
    mkdirSync(join(home, 'data'));
    chownSync(join(home, 'data'), ordinaryUser.uid, ordinaryUser.gid);
    await start();
    expect((await startAsOrdinaryUser()).first.error).toMatch(`is held by process ${process.pid}`);
  });
});

describe.runIf(hasOrdinaryUser)('as an ordinary user', () => {
  test('the server runs as that user, and ends with its owner', async () => {
    const owner = await startAsOrdinaryUser();
    expect(uidOf(owner.first.pid ?? 0)).toBe(ordinaryUser.uid);
    owner.process.kill('SIGKILL');
    await until(() => processStart(owner.first.pid ?? 0) === undefined, 2000);
  });

  test('a file of somebody else in the folder is a clear error', async () => {
    mkdirSync(join(home, 'data'));
    writeFileSync(join(home, 'data/engine.log'), '', { mode: 0o600 });
    expect((await startAsOrdinaryUser()).first.error).toMatch(
      /^EngineError: the data folder .*\/data cannot be used: EACCES.*engine\.log/,
    );
  });

  test('a folder of somebody else is a clear error', async () => {
    mkdirSync(join(home, 'data'));
    const owner = await startOwner(join(home, 'data'), ordinaryUser);
    expect(owner.first.error).toMatch(/^EngineError: the data folder .*\/data cannot be used: EACCES/);
  });
});

/** Starts an owner as the ordinary user, in a folder of that user. */
async function startAsOrdinaryUser(): Promise<Owner> {
  const dataDir = join(home, 'data');
  mkdirSync(dataDir, { recursive: true });
  chownSync(dataDir, ordinaryUser.uid, ordinaryUser.gid);
  return startOwner(dataDir, ordinaryUser);
}

describe('finding a server', () => {
  test('one that is too old, does not run or is no MariaDB is passed over', async () => {
    const info = vi.fn();
    const scripts = {
      old: "echo 'mariadbd  Ver 10.6.22-MariaDB for debian-linux-gnu'",
      broken: 'echo "error while loading shared libraries: liburing.so.2" >&2; exit 127',
      mysql: "echo 'mysqld  Ver 8.4.3 for Linux'",
      good: "echo 'mariadbd  Ver 10.11.2-MariaDB for Linux'",
    };
    const folders = Object.entries(scripts).map(([name, script]) => {
      mkdirSync(join(home, name));
      writeFileSync(join(home, name, 'mariadbd'), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
      return join(home, name);
    });
    writeFileSync(join(home, 'mariadbd'), 'not executable');
    const found = await findEngine({ cacheDir, log: { info }, folders: [home, ...folders] });
    expect(found.command).toEqual([join(home, 'good/mariadbd')]);
    expect(info.mock.calls.map(([fields]) => fields as unknown)).toEqual([
      { file: join(home, 'old/mariadbd'), version: '10.6.22-MariaDB' },
      { file: join(home, 'broken/mariadbd'), version: undefined },
      { file: join(home, 'mysql/mariadbd'), version: undefined },
    ]);
  });

  test('an installed one is used, with the files beside it', async () => {
    mkdirSync(join(home, 'inst/sbin'), { recursive: true });
    mkdirSync(join(home, 'bin'));
    writeFileSync(join(home, 'inst/sbin/mariadbd'), "#!/bin/sh\necho 'mariadbd  Ver 11.8.2-MariaDB-log for Linux'\n", {
      mode: 0o755,
    });
    symlinkSync('../inst/sbin/mariadbd', join(home, 'bin/mariadbd'));
    const found = await findEngine({ cacheDir, log, folders: [join(home, 'none'), join(home, 'bin')] });
    expect(found).toMatchObject({
      command: [join(home, 'bin/mariadbd')],
      baseDir: join(home, 'inst'),
      version: '11.8.2-MariaDB',
    });
  });

  test.each([
    ['10.11.19-MariaDB', '10.11', 0],
    ['10.6.22-MariaDB', '10.11', -1],
    ['11.4.2-MariaDB', '10.11.19-MariaDB', 1],
    ['10.11.2-MariaDB', '11.8.9-MariaDB', -1],
  ])('%s compared with %s', (one, other, order) => {
    expect(Math.sign(compareSeries(one, other))).toBe(order);
  });

  test('without one and without packages, one line says what to do', async () => {
    const path = process.env['PATH'];
    closers.push(() => {
      process.env['PATH'] = path;
    });
    process.env['PATH'] = join(home, 'empty');
    const error = await start({ cacheDir: join(home, 'cache'), programFolders: [] }).catch((reason: unknown) => reason as Error);
    expect(String(error)).toBe(
      'EngineError: no database: install MariaDB 10.11 or newer (mariadb-server-core), or set DATABASE_URL, or start one by docker compose -f deploy/compose.yaml up -d database (fetching MariaDB failed: this machine has no apt-get)',
    );
  });
});
