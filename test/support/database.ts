import { randomBytes } from 'node:crypto';
import { describe, inject } from 'vitest';
import type { DatabaseAddress } from '../../src/config.ts';
import { closeDatabase, type Database, openDatabase, type SentStatement } from '../../src/db/connection.ts';
import { migrateUp } from '../../src/schema/migrations.ts';
import { addStandIns, asWriter, isDistributed } from './distributed-settings.ts';
import { type Engine, engines } from './engines.ts';

/** A statement of a test may take this long, in milliseconds: the machine may be busy, and a hang must still end. */
const statementTimeoutMs = 30_000;

/**
 * Defines the same tests once for each engine of this run; on an engine that could not be had they are skipped.
 *
 * @param on the engines on which they may go differently; all if not said.
 */
export function describeOnEngines(name: string, define: (engine: Engine) => void, on: readonly Engine[] = engines): void {
  const found = inject('engines');
  for (const engine of on) {
    const server = found[engine];
    if (server === undefined) continue;
    const title = 'notRun' in server ? `${name}, ${engine}` : `${name}, ${engine} ${server.version}`;
    describe.skipIf('notRun' in server)(title, () => define(engine));
  }
}

/** Defines tests of what differs between MariaDB and MySQL, and not between two versions of one: on MariaDB 10.11 and MySQL. */
export function describeOnServerKinds(name: string, define: (engine: Engine) => void): void {
  describeOnEngines(name, define, ['mariadb', 'mysql']);
}

/** Defines tests of what only passes rows on, which no engine decides: they run on MariaDB 10.11 alone. */
export function describeOnOneEngine(name: string, define: (engine: Engine) => void): void {
  describeOnEngines(name, define, ['mariadb']);
}

/** A database of one test file, on a server that other files use at the same time. */
export interface TestDatabase {
  /** How to open it, for a program or a second pool. */
  readonly address: DatabaseAddress;
  /** A pool of its own, without the time limit of the service. */
  readonly database: Database;
  /** Closes the pool and drops the database. */
  drop(): Promise<void>;
}

/** How a database of a test is made. */
export interface TestDatabaseOptions {
  /** Whether it is migrated, as the service would; if not, it is empty. */
  readonly migrate?: boolean;
  /** Is told of each statement of the pool, before it is sent. */
  onStatement?(statement: SentStatement): void;
}

/** Creates a database on the engine, and by default migrates it as the service would. */
export async function createTestDatabase(
  engine: Engine,
  { migrate = true, ...options }: TestDatabaseOptions = {},
): Promise<TestDatabase> {
  const server = inject('engines')[engine];
  if (server === undefined || 'notRun' in server) throw new Error(`${engine} is not part of this run`);
  const address: DatabaseAddress = { ...server.address, database: `test_${randomBytes(8).toString('hex')}` };
  await onServer(server.address, `create database \`${address.database}\` character set utf8mb4 collate utf8mb4_bin`);
  const database = openDatabase(asWriter(address), { size: 10, statementTimeoutMs, acquireTimeoutMs: 30_000, ...options });
  const drop = async (): Promise<void> => {
    await closeDatabase(database);
    await onServer(server.address, `drop database \`${address.database}\``);
  };
  try {
    if (migrate) await migrateUp(database, { triggers: !isDistributed });
    if (migrate && isDistributed) await addStandIns(address);
  } catch (error) {
    await drop();
    throw error;
  }
  return { address, database, drop };
}

async function onServer(server: Omit<DatabaseAddress, 'database'>, statement: string): Promise<void> {
  const pool = openDatabase({ ...server, database: '' }, { size: 1, statementTimeoutMs });
  try {
    await pool.raw(statement);
  } finally {
    await closeDatabase(pool);
  }
}
