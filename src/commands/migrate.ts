import type { Config } from '../config.ts';
import { migrateDown, migrateUp, migrationStatus } from '../db/migrations.ts';
import { withDatabase } from './with-database.ts';

/** Migrates the database: `up` to the newest version, `down` by one step, `down all` to nothing. */
export function migrate(config: Config, direction: 'up' | 'down' | 'down all'): Promise<void> {
  return withDatabase(config, async (database) => {
    if (direction === 'up') await migrateUp(database, { triggers: config.MIGRATE_TRIGGERS });
    else await migrateDown(database, { all: direction === 'down all' });
    await report(database);
  });
}

/** Prints each migration and when it was applied, in their order. */
export function printMigrations(config: Config): Promise<void> {
  return withDatabase(config, report);
}

async function report(database: Parameters<typeof migrationStatus>[0]): Promise<void> {
  for (const { name, appliedAt } of await migrationStatus(database)) {
    console.log(`${name}\t${appliedAt === undefined ? 'pending' : `applied ${appliedAt}`}`);
  }
}
