import type { Config } from '../config.ts';
import { type AccountKind, accounts, grantsFor } from '../schema/grants.ts';
import { migrateDown, migrateUp, migrationStatus } from '../schema/migrations.ts';
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

/** Prints the statements that give each part of the service its own account's rights, for an administrator to run. */
export function printGrants(config: Config): void {
  const database = config.DATABASE_URL?.database ?? 'tasks';
  for (const [kind, use] of Object.entries(accounts) as [AccountKind, string][]) {
    const account = `'tasks_${kind}'@'%'`;
    console.log(`-- ${use}.\n-- create user ${account} identified by '…' require ssl;`);
    console.log(`${grantsFor(kind, database, account).join(';\n')};\n`);
  }
}

async function report(database: Parameters<typeof migrationStatus>[0]): Promise<void> {
  for (const { name, appliedAt } of await migrationStatus(database)) {
    console.log(`${name}\t${appliedAt === undefined ? 'pending' : `applied ${appliedAt}`}`);
  }
}
