import type { Database } from '../db/connection.ts';
import { newestMigration } from '../schema/migrations.ts';
import { enqueueAll } from '../schema/outbox.ts';
import { recordVersion } from './feed.ts';

/**
 * Writes everything that may be a task to the outbox, and then records that this is complete: before that, the next projector
 * repeats it.
 */
export async function noteAllTasks(database: Database, epoch: number): Promise<void> {
  await enqueueAll(database);
  await recordVersion(database, epoch, await newestMigration());
}
