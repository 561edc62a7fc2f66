import { createHash } from 'node:crypto';
import { readdir } from 'node:fs/promises';
import type { Knex } from 'knex';
import type { Connection } from 'mysql2';
import { ActiveLease } from '../db/active-process.ts';
import { addressOf, closeDatabase, type Database, openDatabase } from '../db/connection.ts';
import { errnoOf } from '../db/database-errors.ts';
import { runOn } from '../db/session.ts';
import { MigrationError } from './migration-error.ts';
import { enqueueAll } from './outbox.ts';
import { dropTriggers, ensureTriggers, hasExactTriggers, triggerNames } from './triggers.ts';

/** Both `src/schema` and `dist/schema` are two levels below the root, where the migrations are. */
const folder = new URL('../../migrations/', import.meta.url);

/** How long a process waits for another one that migrates the same database, in seconds: a large table takes long. */
const lockWaitSeconds = 3600;

/**
 * How long a schema change waits for the transactions that use its table, in seconds. Everyone else queues behind it meanwhile.
 */
const tableWaitSeconds = 30;

/** A migration of this program or of the database. */
interface MigrationStatus {
  /** The name of its file without the extension, such as `20261123000001_create_source_tables`. */
  readonly name: string;
  /** When it was applied, such as `2026-11-23T21:26:00Z`. Absent while it is not. */
  readonly appliedAt?: string;
}

/**
 * Applies the pending migrations in order, then makes the triggers match `triggers.ts`, and returns the names of the migrations.
 * When anything was missing or of another version, it writes every workspace to the outbox, so that the projector finds what
 * changed in the meantime.
 *
 * With `triggers: false` it neither creates nor drops triggers: for servers that do not allow them, where the writers insert into
 * `workspace_changes` themselves. A later run with `triggers: true` creates them.
 *
 * Several processes may call it at once, also on several servers of a cluster: one migrates while the others wait. After a crash the
 * next call starts again with the migration that was not completed, so each statement of a migration must be repeatable.
 *
 * It writes nothing when nothing is to be done, nor to a database that a newer program has migrated, if this one can serve it.
 *
 * @throws {MigrationError} when the database is too far ahead of this program, refuses the triggers, or takes no writes.
 */
export async function migrateUp(database: Database, options: { readonly triggers: boolean }): Promise<string[]> {
  if (await isMigrated(database, options)) return [];
  return whileLocked(database, async (connection) => {
    if ((await unknownMigrations(connection)).length > 0) {
      await refuseIncompatibleSchema(connection);
      return [];
    }
    const [, names] = (await connection.migrate.latest()) as [number, string[]];
    await recordCompatible(connection);
    const changed = options.triggers && (await ensureTriggers(connection));
    await enqueueAllOnce(connection, await enqueueDigest(options), changed);
    return names;
  });
}

/** Whether {@link migrateUp} would find everything as it leaves it. It changes nothing. */
async function isMigrated(database: Database, options: { readonly triggers: boolean }): Promise<boolean> {
  const applied = await appliedMigrations(database);
  const names = await migrationNames();
  if (!names.every((name) => applied.has(name))) return false;
  if (applied.size > names.length) {
    await refuseIncompatibleSchema(database);
    return true;
  }
  if (options.triggers && !(await hasExactTriggers(database))) return false;
  return (
    (await readSetting(database, compatibleWith)) === (await compatibleMigrations()) &&
    (await readSetting(database, enqueuedFor)) === (await enqueueDigest(options))
  );
}

/**
 * Drops the triggers and reverts the last migration, or all of them; returns the names of the migrations.
 *
 * The triggers write to tables that an older schema does not have. `migrateUp` of either version creates those that it needs.
 *
 * @throws {MigrationError} when the database has migrations that this program does not know.
 */
export async function migrateDown(database: Database, { all = false } = {}): Promise<string[]> {
  return whileLocked(database, async (connection) => {
    const unknown = await unknownMigrations(connection);
    if (unknown.length > 0) throw newerSchema(unknown);
    await dropTriggers(connection);
    // After the next migration every workspace must be projected again.
    if (await connection.schema.hasTable('service_settings')) {
      await connection.raw('delete from `service_settings` where `service_settings`.`name` = ?', [enqueuedFor]);
    }
    const [, names] = (await (all ? connection.migrate.rollback(undefined, true) : connection.migrate.down())) as [
      number,
      string[],
    ];
    return names;
  });
}

/** Lists the migrations of this program and of the database, in order; it changes nothing. */
export async function migrationStatus(database: Database): Promise<MigrationStatus[]> {
  const applied = await appliedMigrations(database);
  const names = new Set([...(await migrationNames()), ...applied.keys()]);
  return [...names].sort().map((name) => {
    const appliedAt = applied.get(name);
    return appliedAt === undefined ? { name } : { name, appliedAt };
  });
}

/**
 * Checks that all migrations of this program have been applied, and no others but those that a newer program has recorded as
 * compatible. A running process continues while a newer version migrates; one that starts must not guess what newer tables mean.
 *
 * @throws {MigrationError} that names what is pending or unknown, and what to do.
 */
export async function requireNewestSchema(database: Database): Promise<void> {
  await refuseIncompatibleSchema(database);
  const pending = (await migrationStatus(database)).filter(({ appliedAt }) => appliedAt === undefined);
  if (pending.length === 0) return;
  throw new MigrationError(
    `the database is behind this program by ${pending.length} migration(s): run "migrate up", or set MIGRATE_ON_START=true`,
  );
}

/** The migrations for knex. Their names have no extension, so that a file may change its type. */
const migrationSource: Knex.MigrationSource<string> = {
  getMigrations: migrationNames,
  getMigrationName: (name) => name,
  getMigration: async (name) => (await import(new URL(`${name}.js`, folder).href)) as Knex.Migration,
};

async function migrationNames(): Promise<string[]> {
  const files = await readdir(folder);
  return files
    .filter((file) => file.endsWith('.js'))
    .map((file) => file.slice(0, -'.js'.length))
    .sort();
}

/** The name of the newest migration of this program, which identifies its version. */
export async function newestMigration(): Promise<string> {
  return (await migrationNames()).at(-1) ?? '';
}

async function appliedMigrations(database: Knex): Promise<Map<string, string>> {
  const [tables] = (await database.raw(
    "select `t`.`table_name` as `name` from `information_schema`.`tables` as `t` where `t`.`table_schema` = database() and `t`.`table_name` = 'knex_migrations'",
  )) as [unknown[]];
  if (tables.length === 0) return new Map();
  const rows = await database<{ name: string; migration_time: string }>('knex_migrations').select('name', 'migration_time');
  return new Map(rows.map((row) => [row.name, `${row.migration_time.replace(' ', 'T')}Z`]));
}

/** The row of `service_settings` with the set of migrations and triggers for which every workspace was written to the outbox. */
const enqueuedFor = 'workspaces_noted_for';

/**
 * Writes every workspace to the outbox, once for a set of migrations and triggers: another version may project other rows from
 * the same sources, and without triggers changes were missed. It is recorded when it is complete, since a process may die before
 * that.
 */
async function enqueueAllOnce(connection: Knex, digest: string, anyway: boolean): Promise<void> {
  if (!anyway && (await readSetting(connection, enqueuedFor)) === digest) return;
  // A projector of the previous version may still run. It is fenced off first: if it takes over again and empties the outbox, the
  // next projector of this version finds that out, and writes all workspaces to the outbox again.
  await connection.raw(
    'update `projector_state` set `version` = ?, `version_epoch` = `epoch` + 1, `epoch` = `epoch` + 1 where `id` = 1',
    [await newestMigration()],
  );
  await enqueueAll(connection);
  await connection.raw('replace into `service_settings` (`name`, `value`) values (?, ?)', [enqueuedFor, digest]);
}

async function enqueueDigest({ triggers }: { readonly triggers: boolean }): Promise<string> {
  const names = [...(await migrationNames()), ...(triggers ? triggerNames : [])];
  return createHash('sha256').update(names.join()).digest('hex');
}

async function readSetting(connection: Knex, name: string): Promise<string | undefined> {
  const [[setting]] = (await connection.raw('select `s`.`value` from `service_settings` as `s` where `s`.`name` = ?', [
    name,
  ])) as [{ value: Buffer }[]];
  return setting?.value.toString();
}

/**
 * The row of `service_settings` with a JSON list of the newest migrations that export `compatible = true`: a program that does not
 * know them can still serve. It is written by `migrateUp` and read by older programs.
 */
const compatibleWith = 'compatible_migrations';

/** The length of the list, since the column has 1024 bytes. A program that lacks more migrations than that is too old. */
const mostCompatible = 10;

async function compatibleMigrations(): Promise<string> {
  const compatible: string[] = [];
  for (const name of await migrationNames()) {
    const migration = (await migrationSource.getMigration(name)) as Knex.Migration & { readonly compatible?: boolean };
    if (migration.compatible === true) compatible.push(name);
  }
  return JSON.stringify(compatible.slice(-mostCompatible));
}

async function recordCompatible(connection: Knex): Promise<void> {
  await connection.raw('replace into `service_settings` (`name`, `value`) values (?, ?)', [
    compatibleWith,
    await compatibleMigrations(),
  ]);
}

/** The migrations of the database that this program does not know. */
async function unknownMigrations(connection: Knex): Promise<string[]> {
  const known = new Set(await migrationNames());
  return [...(await appliedMigrations(connection)).keys()].filter((name) => !known.has(name)).sort();
}

async function refuseIncompatibleSchema(connection: Knex): Promise<void> {
  const unknown = await unknownMigrations(connection);
  if (unknown.length === 0) return;
  const compatible = new Set(JSON.parse((await readSetting(connection, compatibleWith)) ?? '[]') as string[]);
  const refused = unknown.filter((name) => !compatible.has(name));
  if (refused.length > 0) throw newerSchema(refused);
}

function newerSchema(unknown: readonly string[]): MigrationError {
  return new MigrationError(
    `the database's schema is newer than this program, which does not know ${unknown.join(', ')}: use the version that made it`,
  );
}

/**
 * The tables that exist before the first migration, and after the last was reverted. Two are knex's own: it would create them with
 * the wrong character set. The third has the leases, one of which keeps two processes from migrating at once.
 */
const ledger = [
  `create table if not exists \`knex_migrations\` (
    \`id\` int unsigned not null auto_increment,
    \`name\` varchar(255) not null,
    \`batch\` int not null,
    \`migration_time\` datetime not null,
    primary key (\`id\`),
    unique key \`name\` (\`name\`)
  ) engine = InnoDB default character set utf8mb4 collate utf8mb4_bin comment 'which migrations have been applied'`,
  `create table if not exists \`knex_migrations_lock\` (
    \`index\` int unsigned not null auto_increment,
    \`is_locked\` int not null,
    primary key (\`index\`)
  ) engine = InnoDB default character set utf8mb4 collate utf8mb4_bin comment 'unused: the real lock is a row of leases'`,
  `create table if not exists \`leases\` (
    \`name\` varchar(16) not null comment 'what one process does at a time: project, sync or migrate',
    \`holder\` varchar(255) null comment 'host and identity of the process that does it; NULL when it has ended',
    \`renewals\` bigint unsigned not null default 0 comment 'raised by each takeover and each second: when it stops, another process takes over',
    \`renewed_at\` datetime(6) not null default (utc_timestamp(6)) comment 'for people: by the clock of the server',
    primary key (\`name\`)
  ) engine = InnoDB default character set utf8mb4 collate utf8mb4_bin comment 'which process is the active one'`,
  "insert ignore into `leases` (`name`) values ('project'), ('sync'), ('migrate')",
];

/**
 * Runs `work` while this process holds the migrations' lease, on one connection, which has no statement limit.
 *
 * The connection also takes a lock of the server when it is opened: what a process has begun goes on in the server when the process
 * dies, and the lock is free when it has ended. knex's own lock is a row that a process leaves behind when it dies: the holder of
 * the lease deletes it.
 */
async function whileLocked<T>(database: Database, work: (connection: Knex) => Promise<T>): Promise<T> {
  const connection = openDatabase(addressOf(database), {
    size: 1,
    statementTimeoutMs: 0,
    acquireTimeoutMs: (lockWaitSeconds + 60) * 1000,
    session: { lock_wait_timeout: tableWaitSeconds },
    prepare: takeLock,
    migrations: { migrationSource, disableTransactions: true }, // a schema change commits by itself
  });
  const lease = new ActiveLease(addressOf(database), 'migrate');
  try {
    for (const statement of ledger) await connection.raw(statement);
    await takeLease(lease, connection);
    await connection.migrate.forceFreeMigrationsLock();
    return await work(connection);
  } catch (error) {
    if (!takesNoWrites.has(errnoOf(error))) throw error;
    throw new MigrationError(
      'this server takes no writes, being read-only or a secondary of a cluster, and something is to be migrated: run "migrate up" on the server that takes them',
      { cause: error },
    );
  } finally {
    await lease.release();
    await closeDatabase(connection);
  }
}

/** The errors of a server that is read-only, and of one that is not part of its cluster. */
const takesNoWrites: ReadonlySet<unknown> = new Set([1047, 1290, 1792, 1836, 3906]);

async function takeLease(lease: ActiveLease, connection: Database): Promise<void> {
  const until = performance.now() + lockWaitSeconds * 1000;
  while (!(await lease.take(connection))) {
    if (performance.now() > until) throw new MigrationError(beingMigrated);
  }
}

const beingMigrated = 'another process has been migrating this database for an hour: look after it';

async function takeLock(connection: Connection): Promise<void> {
  // A name of 64 characters, the most MySQL takes; get_lock's names are the server's, not the database's.
  const statement = `select get_lock(concat('migrate-', sha2(database(), 224)), ${lockWaitSeconds}) as taken`;
  const [lock] = (await runOn(connection, statement).catch((error: unknown) => {
    if ((Object(error) as { fatal?: unknown }).fatal === true) throw error;
    return [{ taken: 1 }]; // where a server does not have it, or does not wait for it, the lease decides alone
  })) as [{ taken: number | null }];
  if (lock.taken !== 1) throw new MigrationError(beingMigrated);
}
