import { type Config, requireDatabaseUrl } from '../config.ts';
import { closeDatabase, openDatabase, requireDatabase } from '../db/connection.ts';
import type { DatabaseWork, Development } from '../development.ts';

/**
 * Runs a command on the database that the settings name: `DATABASE_URL`, else the private database of a checkout.
 *
 * @throws {ConfigError} when there is neither.
 */
export async function withDatabase(config: Config, development: Development | undefined, work: DatabaseWork): Promise<void> {
  await using opened = config.DATABASE_URL === undefined ? await development?.openDatabase(config) : undefined;
  const address = opened?.address ?? requireDatabaseUrl(config);
  // No time limit: rebuilding and generating have long statements.
  const database = openDatabase(address, { size: 4, statementTimeoutMs: 0, acquireTimeoutMs: 30_000 });
  try {
    await requireDatabase(database);
    await work(database, config, address);
  } finally {
    await closeDatabase(database);
  }
}
