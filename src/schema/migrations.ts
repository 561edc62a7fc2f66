import { createHash } from 'node:crypto';
import { readdir } from 'node:fs/promises';
import type { Knex } from 'knex';
import type { Connection, RowDataPacket } from 'mysql2';
import { addressOf, closeDatabase, type Database, openDatabase } from '../db/connection.ts';
import { MigrationError } from './migration-error.ts';
import { enqueueAllWorkspaces } from './outbox.ts';
import { dropTriggers, ensureTriggers, triggerNames } from './triggers.ts';

/** Both `src/db` and `dist/db` are two levels below the root, where the migrations are. */
const folder = new URL('../../migrations/', import.meta.url);

/** How long a process waits for another one that migrates the same database, in seconds: a large table takes its time. */
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
 * Applies the migrations that are missing, in order, then makes the triggers match `triggers.ts`, and returns the names of the
 * migrations. Where anything was missing or another version's, every workspace is noted, so that the projector looks at what
 * changed in the meantime; also on a database that had source rows before the read model.
 *
 * Without `triggers` none is made, and none dropped: for servers that do not allow them, where the writers note their changes in
 * `workspace_changes` themselves. A later run with `triggers` makes them.
 *
 * Several processes may call it at once: one works, the others wait, and then find nothing to do. A process that dies in the
 * middle leaves nothing that blocks the next one, which starts again with the migration that was not finished: each statement of
 * a migration must therefore be one that can be repeated.
 *
 * There is nothing to do on a database that a newer program has migrated, if this one can serve it.
 *
 * @throws {MigrationError} when the database is too far ahead of this program, or refuses the triggers.
 */
export async function migrateUp(database: Database, options: { readonly triggers: boolean }): Promise<string[]> {
  return whileLocked(database, async (connection) => {
    if ((await unknownMigrations(connection)).length > 0) {
      await refuseIncompatibleSchema(connection);
      return [];
    }
    const [, names] = (await connection.migrate.latest()) as [number, string[]];
    await noteCompatible(connection);
    const changed = options.triggers && (await ensureTriggers(connection));
    await noteOnce(connection, [...(await migrationNames()), ...(options.triggers ? triggerNames : [])], changed);
    return names;
  });
}

/**
 * Drops the triggers and takes back the last migration, or all of them; returns the names of the migrations.
 *
 * The triggers write to tables that an older schema does not have. `migrateUp`, of this version or of the older one, makes those
 * that it needs.
 *
 * @throws {MigrationError} when the database is ahead of this program, which then does not know how.
 */
export async function migrateDown(database: Database, { all = false } = {}): Promise<string[]> {
  return whileLocked(database, async (connection) => {
    const unknown = await unknownMigrations(connection);
    if (unknown.length > 0) throw newerSchema(unknown);
    await dropTriggers(connection);
    // Rows that only this version makes go, and are to be made again after the next migration.
    if (await connection.schema.hasTable('service_settings')) {
      await connection.raw('delete from `service_settings` where `service_settings`.`name` = ?', [notedFor]);
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
 * Makes sure that the migrations of this program have been applied, all of them, and no others but those that a newer program has
 * noted as compatible. A process that runs already goes on while the version after it migrates; one that starts must not guess
 * what the newer tables mean.
 *
 * @throws {MigrationError} that says how many have not, or which are unknown, and what to do.
 */
export async function requireNewestSchema(database: Database): Promise<void> {
  await refuseIncompatibleSchema(database);
  const pending = (await migrationStatus(database)).filter(({ appliedAt }) => appliedAt === undefined);
  if (pending.length === 0) return;
  throw new MigrationError(
    `the database is behind this program by ${pending.length} migration(s): run "migrate up", or set MIGRATE_ON_START=true`,
  );
}

/** Where knex finds the migrations, and what it calls them: without the extension, so that a file may change its kind. */
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

/** The name of the newest migration that this program knows, by which it tells itself from other versions. */
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

/** The row of `service_settings` that says for which migrations and triggers every workspace has been noted. */
const notedFor = 'workspaces_noted_for';

/**
 * Notes every workspace, once for a set of migrations and triggers: another version may make other rows of the same sources, and
 * without its triggers changes went by. What was done is remembered, since a process may die between the triggers and the notes.
 */
async function noteOnce(connection: Knex, names: readonly string[], anyway: boolean): Promise<void> {
  const digest = createHash('sha256').update(names.join()).digest('hex');
  const [[setting]] = (await connection.raw('select `s`.`value` from `service_settings` as `s` where `s`.`name` = ?', [
    notedFor,
  ])) as [{ value: Buffer }[]];
  if (!anyway && setting?.value.toString() === digest) return;
  // A projector of the version before may run still. It is fenced off first: when it comes back and takes the notes from the
  // outbox,
  // the next one of this version sees that, and notes all again.
  await connection.raw(
    'update `projector_state` set `version` = ?, `version_epoch` = `epoch` + 1, `epoch` = `epoch` + 1 where `id` = 1',
    [await newestMigration()],
  );
  await enqueueAllWorkspaces(connection);
  await connection.raw('replace into `service_settings` (`name`, `value`) values (?, ?)', [notedFor, digest]);
}

/**
 * The row of `service_settings` that lists, in JSON, the newest migrations that a program without them can serve: those that say
 * so by `export const compatible = true`. Whoever migrates writes it, for programs that are older than the migrations.
 */
const compatibleWith = 'compatible_migrations';

/** How many are listed. A program that lacks more is older than it should be, and the row has room for 1024 bytes. */
const mostCompatible = 10;

async function noteCompatible(connection: Knex): Promise<void> {
  const compatible: string[] = [];
  for (const name of await migrationNames()) {
    const migration = (await migrationSource.getMigration(name)) as Knex.Migration & { readonly compatible?: boolean };
    if (migration.compatible === true) compatible.push(name);
  }
  const value = JSON.stringify(compatible.slice(-mostCompatible));
  await connection.raw('replace into `service_settings` (`name`, `value`) values (?, ?)', [compatibleWith, value]);
}

/** The migrations of the database that this program does not know. */
async function unknownMigrations(connection: Knex): Promise<string[]> {
  const known = new Set(await migrationNames());
  return [...(await appliedMigrations(connection)).keys()].filter((name) => !known.has(name)).sort();
}

async function refuseIncompatibleSchema(connection: Knex): Promise<void> {
  const unknown = await unknownMigrations(connection);
  if (unknown.length === 0) return;
  const [[setting]] = (await connection.raw('select `s`.`value` from `service_settings` as `s` where `s`.`name` = ?', [
    compatibleWith,
  ])) as [{ value: Buffer }[]];
  const compatible = new Set(JSON.parse(setting?.value.toString() ?? '[]') as string[]);
  const refused = unknown.filter((name) => !compatible.has(name));
  if (refused.length > 0) throw newerSchema(refused);
}

function newerSchema(unknown: readonly string[]): MigrationError {
  return new MigrationError(
    `the database's schema is newer than this program, which does not know ${unknown.join(', ')}: use the version that made it`,
  );
}

/** knex's own tables. It would make them itself, but takes the collation of the connection for a character set. */
const ledger = [
  `create table if not exists \`knex_migrations\` (
    \`id\` int unsigned not null auto_increment,
    \`name\` varchar(255) not null,
    \`batch\` int not null,
    \`migration_time\` datetime not null,
    primary key (\`id\`)
  ) engine = InnoDB default character set utf8mb4 collate utf8mb4_bin comment 'which migrations have been applied'`,
  `create table if not exists \`knex_migrations_lock\` (
    \`index\` int unsigned not null auto_increment,
    \`is_locked\` int not null,
    primary key (\`index\`)
  ) engine = InnoDB default character set utf8mb4 collate utf8mb4_bin comment 'unused: the real lock is get_lock'`,
];

/**
 * Runs `work` on one connection that holds the migrations' lock: `get_lock` on the server, which a dying connection frees.
 *
 * The pool it uses has room for one connection, and takes the lock when it makes it, so nothing ever runs without the lock. The
 * connection has no statement limit. knex's own lock is a row, which a process that dies leaves behind: whoever holds the real
 * lock frees it.
 */
async function whileLocked<T>(database: Database, work: (connection: Knex) => Promise<T>): Promise<T> {
  const connection = openDatabase(addressOf(database), {
    size: 1,
    statementTimeoutMs: 0,
    acquireTimeoutMs: (lockWaitSeconds + 60) * 1000,
    prepare: takeLock,
    migrations: { migrationSource, disableTransactions: true }, // a schema change commits by itself
  });
  try {
    for (const statement of ledger) await connection.raw(statement);
    await connection.migrate.forceFreeMigrationsLock();
    return await work(connection);
  } finally {
    await closeDatabase(connection);
  }
}

async function takeLock(connection: Connection): Promise<void> {
  const run = (sql: string) =>
    new Promise<unknown>((resolve, reject) => {
      connection.query<RowDataPacket[]>(sql, (error, rows) => (error ? reject(error) : resolve(rows)));
    });
  const [row] = (await run('select version() as version')) as [{ version: string }];
  const noLimit = /MariaDB/i.test(row.version) ? 'max_statement_time = 0' : 'max_execution_time = 0';
  await run(`set session ${noLimit}, lock_wait_timeout = ${tableWaitSeconds}`);
  // A name of 64 characters, the most MySQL takes; get_lock's names are the server's, not the database's.
  const [lock] = (await run(`select get_lock(concat('migrate-', sha2(database(), 224)), ${lockWaitSeconds}) as taken`)) as [
    { taken: number | null },
  ];
  if (lock.taken !== 1) throw new MigrationError('another process has been migrating this database for an hour: look after it');
}
