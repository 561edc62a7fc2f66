import { expect } from 'vitest';
import type { Database } from '../../src/db/connection.ts';
import { describeInconsistency, verify } from '../../src/projection/verify.ts';
import { outboxLagMs } from '../../src/schema/outbox.ts';
import { projectedTables } from '../../src/schema/projected-tables.ts';

const readModel = [
  'workspace_tasks',
  'workspace_task_acl',
  'workspace_task_trigrams',
  'task_events',
  'task_transitions',
  'workspace_changes_failed',
];

/** Waits until a projector has projected all changes. */
export async function outboxIsEmpty(database: Database): Promise<void> {
  await expect.poll(() => outboxLagMs(database), { timeout: 30_000, interval: 5 }).toBeUndefined();
}

/** What differs between the read model and the source tables, a line each. */
export async function readModelDifferences(database: Database): Promise<string[]> {
  const lines: string[] = [];
  await verify(database, (difference) => lines.push(describeInconsistency(difference)));
  return lines;
}

/** Empties the source tables, the read model, the feed and the outbox, and resets the state of the projector. */
export async function emptyProjectedTables(database: Database): Promise<void> {
  // The outbox last: emptying the sources fills it.
  for (const table of [...Object.keys(projectedTables), ...readModel, 'workspace_changes']) await database(table).delete();
  await database('projector_state').update({ epoch: 0, version_epoch: 0, seq: 0, floor_seq: 0 });
}
