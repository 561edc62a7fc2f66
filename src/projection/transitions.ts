import type { Database } from '../db/connection.ts';
import type { ModelChange } from './read-model.ts';

/**
 * The migration from which on projectors write `task_transitions`: an older one leaves changes out. Their names sort by time.
 */
export const firstVersionWithTransitions = '20261207000001';

/** How long transitions are kept, in hours: one more than are asked for. */
const keptHours = 25;

/** Rows in one statement, of less than 250 bytes each: they fit into the smallest `max_allowed_packet`. */
const rowsPerStatement = 200;

/**
 * Writes a row for each task that began or ceased to wait, to work or to be failed; most changes are no such thing. A task that has
 * another owner or organization begins anew, as if it had been nothing before. It runs in the transaction of the changes.
 *
 *     delete from task_transitions where task_id in (…)
 *     insert into task_transitions (changed_at, seq, …) values (utc_timestamp(6), ?, …), (…)
 *
 * @param seq the number of the first change in the feed.
 */
export async function writeTransitions(database: Database, changes: readonly ModelChange[], seq: number): Promise<void> {
  const moved = changes.filter(isMoved);
  if (moved.length > 0) {
    await database('task_transitions')
      .whereIn(
        'task_transitions.task_id',
        moved.map(({ id }) => id),
      )
      .delete();
  }
  const changed_at = database.raw('utc_timestamp(6)');
  const rows = changes.flatMap((change, index) => {
    const place = change.now ?? change.old;
    const was = isMoved(change) ? 0 : (change.old?.activity ?? 0);
    const became = change.now?.activity ?? 0;
    if (place === undefined || was === became) return [];
    const { owner_id, organization_id } = place;
    return [{ changed_at, seq: seq + index, task_id: change.id, owner_id, organization_id, was, became }];
  });
  for (let from = 0; from < rows.length; from += rowsPerStatement) {
    await database('task_transitions').insert(rows.slice(from, from + rowsPerStatement));
  }
}

function isMoved({ old, now }: ModelChange): boolean {
  if (old === undefined || now === undefined) return false;
  return !old.owner_id.equals(now.owner_id) || !old.organization_id.equals(now.organization_id);
}

/** Rows that are deleted by one statement. */
const prunedAtOnce = 1000;

/** Deletes the thousand oldest transitions that are not kept any more. Returns whether there may be more. */
export async function pruneTransitions(database: Database): Promise<boolean> {
  const [{ affectedRows }] = (await database.raw(
    'delete from `task_transitions` where `changed_at` < utc_timestamp(6) - interval ? hour order by `changed_at` limit ?',
    [keptHours, prunedAtOnce],
  )) as [{ affectedRows: number }];
  return affectedRows === prunedAtOnce;
}
