import type { Config } from '../config.ts';
import type { Database } from '../db/connection.ts';
import { type AccountKind, accounts, grantForMembership, grantsFor } from '../schema/grants.ts';
import { migrateDown, migrateUp, migrationStatus } from '../schema/migrations.ts';

/** Migrates a database to the newest version. */
export async function migrateToNewest(database: Database, config: Config): Promise<void> {
  await migrateUp(database, { triggers: config.MIGRATE_TRIGGERS });
  await printMigrations(database);
}

/** Undoes the last migration, or `all` of them. */
export async function undoMigrations(database: Database, options: { readonly all: boolean }): Promise<void> {
  await migrateDown(database, options);
  await printMigrations(database);
}

/** Prints each migration and when it was applied, in their order. */
export async function printMigrations(database: Database): Promise<void> {
  for (const { name, appliedAt } of await migrationStatus(database)) {
    console.log(`${name}\t${appliedAt === undefined ? 'pending' : `applied ${appliedAt}`}`);
  }
}

/** Prints the GRANT statements for the account of each part of the service, for an administrator to run. */
export function printGrants(config: Config): void {
  const database = config.DATABASE_URL?.database ?? 'tasks';
  for (const [kind, use] of Object.entries(accounts) as [AccountKind, string][]) {
    const account = `'tasks_${kind}'@'%'`;
    console.log(`-- ${use}.\n-- create user ${account} identified by '…' require ssl;`);
    console.log(`${grantsFor(kind, database, account).join(';\n')};\n`);
    if (kind === 'serve' || kind === 'project') {
      console.log(`-- In a group of MySQL's Group Replication also: ${grantForMembership(account)};\n`);
    }
  }
}
