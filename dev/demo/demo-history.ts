import type { Database } from '../../src/db/connection.ts';
import { recordVersion, takeOver } from '../../src/projection/feed.ts';
import { newestMigration } from '../../src/schema/migrations.ts';
import { activities, activityOf } from '../../src/tasks/store/task-activity.ts';

/** How far the history of the demo goes back, in hours: further than the day that is asked for. */
const hours = 25;

/** The columns of a task that decide what its history is. The times are DATETIME(6), as text. */
interface Row {
  readonly id: Buffer;
  readonly owner_id: Buffer;
  readonly organization_id: Buffer;
  readonly list_status: number;
  readonly phase: number;
  readonly state: number;
  readonly created_at: string;
  readonly state_at: string;
}

/**
 * Gives the demo's tasks, which have just been projected, a past: each that has reported worked from its creation until its present
 * report. Without it `task_transitions` says that all of them began now.
 *
 *     delete from task_transitions
 *     insert into task_transitions (changed_at, seq, …) values …
 *     update projector_state set transitions_since = utc_timestamp(6) - interval 25 hour
 */
export async function writeDemoHistory(database: Database): Promise<void> {
  const version = await newestMigration();
  // So that the projector of the service goes on with this history, and does not begin one.
  await recordVersion(database, (await takeOver(database, version)).epoch, version);
  const tasks: Row[] = await database('workspace_tasks')
    .where('workspace_tasks.live', 1)
    .whereNotNull('workspace_tasks.state_at')
    .orderBy('workspace_tasks.id')
    .select('id', 'owner_id', 'organization_id', 'list_status', 'phase', 'state', 'created_at', 'state_at');
  const rows = tasks.flatMap((task) => {
    const { id, owner_id, organization_id, created_at } = task;
    const reported = task.state_at < created_at ? created_at : task.state_at;
    const becomes = (changed_at: string, was: number, became: number) => ({
      ...{ changed_at, task_id: id, owner_id, organization_id, was, became },
    });
    const now = activityOf(task);
    if (now === activities.working) return [becomes(created_at, 0, now)];
    return [becomes(created_at, 0, activities.working), becomes(reported, activities.working, now)];
  });
  await database.transaction(async (transaction) => {
    await transaction('task_transitions').delete();
    await transaction.batchInsert(
      'task_transitions',
      rows.map((row, seq) => ({ ...row, seq })),
    );
    await transaction('projector_state')
      .where('projector_state.id', 1)
      .update('transitions_since', transaction.raw('utc_timestamp(6) - interval ? hour', [hours]));
  });
}
