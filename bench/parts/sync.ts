import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Client } from 'pg';
import { type EmbeddedEngine, startEngine } from '../../dev/engine/engine.ts';
import { createApiKeyRepository } from '../../src/auth/api-key-repository.ts';
import { closeDatabase, type Database, openDatabase } from '../../src/db/connection.ts';
import { createLog } from '../../src/platform/log.ts';
import { migrateUp } from '../../src/schema/migrations.ts';
import { outboxLagMs } from '../../src/schema/outbox.ts';
import { grantStatements, replicationNames } from '../../src/sync/publication.ts';
import { type PostgresServer, startPostgres } from '../../test/support/postgres.ts';
import type { Bench, Table } from '../bench.ts';
import { openClient, type TasksClient } from '../client.ts';
import { coderChanges, makeCoder, siteOwner, taskId } from '../coder-data.ts';
import { cacheDir, dataDir, tokenSeconds } from '../data.ts';
import { familyProcessorMs, type Program, processorMs, startOurs } from '../program.ts';
import { median, quantile } from '../statistics.ts';

/** The rate of the target. */
const perSecond = 200;

const role = { user: 'tasks_reader', password: 'tasks-secret' } as const;

/** What a real PostgreSQL has, and those of the tests have not. */
const settings = ['shared_buffers=512MB', 'max_wal_size=4GB', 'autovacuum=on'];

/**
 * Measures a service that copies from Coder's PostgreSQL and follows it: the first copy until all is listed, idleness, the time from
 * a commit there to a list here, and how fast it catches up.
 */
export async function sync(bench: Bench): Promise<readonly Table[]> {
  const workspaces = bench.quick ? 2000 : 100_000;
  await using parts = new AsyncDisposableStack();
  const postgres = parts.adopt(await startPostgres({ settings }), (server) => server.stop());
  const client = await postgres.connect();
  console.error(`making a Coder with ${workspaces} workspaces`);
  await makeCoder(client, workspaces);
  await prepareReplication(client);

  const folder = join(dataDir, 'sync');
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  const engine = parts.adopt(await startEngine({ dataDir: folder, cacheDir, log: createLog('warn') }), (one) => one.stop());
  const database = parts.adopt(openDatabase(engine.address, { size: 2, statementTimeoutMs: 0 }), closeDatabase);
  await migrateUp(database, { triggers: true });
  const world: World = { bench, workspaces, postgres, engine, database };

  const began = performance.now();
  const first = await start(world);
  await listed(world);
  const copySeconds = (performance.now() - began) / 1000;
  const { peakRssMiB } = first.usage();

  const idle = await measureIdle(world, first);
  const lags = await measureLag(world, first);
  await first.stop();
  const catchingUp = await measureCatchingUp(world);

  const title = `A service that follows Coder's PostgreSQL, ${workspaces.toLocaleString('en')} workspaces`;
  return [
    {
      title,
      rows: [
        { figure: 'from the start until all workspaces are listed, s', value: round(copySeconds) },
        { figure: 'resident memory of the service meanwhile, at most, MiB', value: Math.round(peakRssMiB) },
        { figure: 'idle: service, % of a core', value: round(idle.service) },
        { figure: 'idle: its database, % of a core', value: round(idle.database) },
        { figure: 'idle: PostgreSQL, % of a core', value: round(idle.postgres) },
        { figure: `commit in PostgreSQL to ListTasks at ${perSecond} changes/s, p50 ms`, value: round(median(lags)) },
        { figure: 'p99 ms', value: round(quantile(lags, 0.99)) },
        { figure: 'max ms', value: round(Math.max(...lags)) },
        { figure: 'the first change after a minute of idleness, ms', value: round(idle.firstLag) },
        { figure: 'catching up, changes/s, until all are listed', value: Math.round(catchingUp) },
      ],
      checks: [
        { what: 'first copy until all is listed, s', value: copySeconds, most: 60 },
        { what: 'idle service and database, % of a core', value: idle.service + idle.database, most: 1 },
        { what: `commit in PostgreSQL to ListTasks p99 in ms at ${perSecond} changes/s`, value: quantile(lags, 0.99), most: 500 },
        { what: 'catching up, changes/s', value: catchingUp, least: 2000 },
      ],
    },
  ];
}

interface World {
  readonly bench: Bench;
  readonly workspaces: number;
  readonly postgres: PostgresServer;
  readonly engine: EmbeddedEngine;
  readonly database: Database;
}

/** Makes what `sync grants` prints. */
async function prepareReplication(client: Client): Promise<void> {
  const names = replicationNames('tasks_service');
  for (const statement of grantStatements({ role: role.user, database: 'coder', names })) await client.query(statement);
  await client.query(`alter role ${role.user} password '${role.password}'`);
}

function start({ postgres, engine }: World): Promise<Program> {
  return startOurs(engine, { CODER_DATABASE_URL: postgres.url('coder', role) });
}

/** Waits until the read model has all workspaces, and every change that was written. */
async function listed({ database, workspaces }: World): Promise<void> {
  for (;;) {
    const [[row]] = (await database.raw(
      'select count(*) as `count` from `workspace_tasks` where `workspace_tasks`.`live` = 1',
    )) as [[{ count: number }]];
    if (row.count === workspaces && (await outboxLagMs(database)) === undefined) return;
    await sleep(100);
  }
}

/**
 * How long idleness is measured, in seconds, and how long it has lasted by then: waits have grown to their greatest, and the database
 * has written down what the copy changed.
 */
const idleSeconds = { settle: 90, measured: 60 };

async function measureIdle(
  world: World,
  program: Program,
): Promise<{ readonly service: number; readonly database: number; readonly postgres: number; readonly firstLag: number }> {
  const { settle, measured } = idleSeconds;
  const { quick } = world.bench;
  await sleep((quick ? 5 : settle) * 1000);
  const times = () => ({
    at: performance.now(),
    service: processorMs(program.pid),
    database: processorMs(world.engine.pid),
    postgres: familyProcessorMs(world.postgres.pid),
  });
  const before = times();
  await sleep((quick ? 5 : measured) * 1000);
  const after = times();
  const share = (of: 'service' | 'database' | 'postgres'): number => (100 * (after[of] - before[of])) / (after.at - before.at);
  const [firstLag = Number.NaN] = await withClient(world, program, (client) => probe(world, client, () => false));
  return { service: share('service'), database: share('database'), postgres: share('postgres'), firstLag };
}

/** Renames a task in PostgreSQL again and again, and returns how long each name took to be listed, in milliseconds. */
async function probe({ postgres }: World, client: TasksClient, goesOn: () => boolean): Promise<number[]> {
  const writer = await postgres.connect();
  const lags: number[] = [];
  do {
    const name = `probe-${crypto.randomUUID().slice(0, 8)}`;
    await writer.query(coderChanges[2], [1, name]);
    const committed = performance.now();
    while ((await listedName(client)) !== name) await sleep(5);
    lags.push(performance.now() - committed);
  } while (goesOn());
  await writer.end();
  return lags;
}

/** The name under which the probe is listed. */
async function listedName(client: TasksClient): Promise<string | undefined> {
  const { tasks } = await client.listTasks({ query: `id:${taskId(1)}` });
  return tasks[0]?.name;
}

async function measureLag(world: World, program: Program): Promise<number[]> {
  const until = performance.now() + (world.bench.quick ? 4000 : 30_000);
  const goesOn = (): boolean => performance.now() < until;
  const writing = Promise.all(Array.from({ length: 4 }, (_, writer) => writeSteadily(world, writer, perSecond / 4, goesOn)));
  const lags = await withClient(world, program, (client) => probe(world, client, goesOn));
  await writing;
  return lags;
}

async function writeSteadily({ postgres, workspaces }: World, seed: number, rate: number, goesOn: () => boolean): Promise<void> {
  const client = await postgres.connect();
  const began = performance.now();
  for (let count = 0; goesOn(); count++) {
    const early = began + (1000 * count) / rate - performance.now();
    if (early > 0) await sleep(early);
    await change(client, 4 * count + seed, workspaces);
  }
  await client.end();
}

/** One transaction of Coder: each kind of change in turn, on a workspace other than the first, which is the probe. */
async function change(client: Client, number: number, workspaces: number): Promise<void> {
  const which = coderChanges[number % coderChanges.length] ?? '';
  await client.query(which, [2 + ((number * 7919) % (workspaces - 1)), `c${number}`]);
}

/** Lets changes gather while no service runs, and returns how many a second are listed once one does. */
async function measureCatchingUp(world: World): Promise<number> {
  const changes = world.bench.quick ? 2000 : 40_000;
  const writers = 4;
  await Promise.all(
    Array.from({ length: writers }, async (_, writer) => {
      const client = await world.postgres.connect();
      for (let i = 0; i < changes / writers; i++) await change(client, writers * i + writer, world.workspaces);
      await client.end();
    }),
  );
  const last = await world.postgres.connect();
  const name = 'the-last-change';
  await last.query(coderChanges[2], [1, name]);
  await last.end();
  const program = await start(world);
  const began = performance.now();
  await withClient(world, program, async (client) => {
    while ((await listedName(client)) !== name) await sleep(20);
  });
  await listed(world);
  const seconds = (performance.now() - began) / 1000;
  await program.stop();
  return changes / seconds;
}

async function withClient<T>({ database }: World, program: Program, work: (client: TasksClient) => Promise<T>): Promise<T> {
  const keys = createApiKeyRepository(database);
  const token = await keys.create(siteOwner, { lifetimeSeconds: tokenSeconds, name: 'bench' });
  const client = openClient(program.ports.grpc, token);
  try {
    return await work(client);
  } finally {
    client.close();
  }
}

function round(value: number): number {
  return Math.round(value * 100) / 100;
}
