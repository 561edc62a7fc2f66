import path from 'node:path';
import type { Config, DatabaseAddress } from '../config.ts';
import { closeDatabase, type Database, openDatabase, requireDatabase } from '../db/connection.ts';
import { demoDatabase } from '../demo/demo-file.ts';
import { startEngine } from '../embedded/engine.ts';
import { createLog } from '../platform/log.ts';
import { requireNewestSchema } from '../schema/migrations.ts';

/**
 * Runs a command on the database that the settings mean: `DATABASE_URL`, else the private database of a service that is running,
 * else that database started for the duration of the command.
 */
export async function withDatabase<Result>(
  config: Config,
  work: (database: Database, address: DatabaseAddress) => Promise<Result>,
): Promise<Result> {
  const running = config.DATABASE_URL ?? demoDatabase(config.DATA_DIR);
  if (running !== undefined) return onDatabase(running, work);
  const engine = await startEngine({
    dataDir: path.resolve(config.DATA_DIR),
    cacheDir: path.resolve(config.CACHE_DIR),
    log: createLog('warn'),
  });
  try {
    return await onDatabase(engine.address, work);
  } finally {
    await engine.stop();
  }
}

/** The same for commands that need the tables. @throws {MigrationError} when they are not those of this program. */
export function withTables<Result>(
  config: Config,
  work: (database: Database, address: DatabaseAddress) => Promise<Result>,
): Promise<Result> {
  return withDatabase(config, async (database, address) => {
    await requireNewestSchema(database);
    return work(database, address);
  });
}

async function onDatabase<Result>(
  address: DatabaseAddress,
  work: (database: Database, address: DatabaseAddress) => Promise<Result>,
): Promise<Result> {
  // A command is allowed to take its time: rebuilding and generating read and write much in one statement.
  const database = openDatabase(address, { size: 4, statementTimeoutMs: 0, acquireTimeoutMs: 30_000 });
  try {
    await requireDatabase(database);
    return await work(database, address);
  } finally {
    await closeDatabase(database);
  }
}
