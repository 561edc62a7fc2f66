import type { DatabaseAddress } from '../../../src/config.ts';
import { closeDatabase, openDatabase } from '../../../src/db/connection.ts';
import { migrateUp } from '../../../src/schema/migrations.ts';
import { isDistributed } from '../distributed-settings.ts';

/** Migrates a database, and prints which migrations it applied. */
const address = JSON.parse(process.argv[2] ?? '') as DatabaseAddress;
const database = openDatabase(address, { size: 1, statementTimeoutMs: 2000 });
console.log('begin');
console.log(`applied ${(await migrateUp(database, { triggers: !isDistributed })).join(' ')}`);
await closeDatabase(database);
