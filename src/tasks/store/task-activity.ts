import { deletedStatus } from './branches.ts';
import { type TaskRow, waitingOffset } from './tables.ts';
import { isWaiting } from './task-row.ts';

/** What a task can be that is counted over time, with the numbers of `task_transitions`; 0 is none of these. */
export const activities = { waiting: 1, working: 2, failed: 3 } as const;

/**
 * What a task is: it waits, as `waiting:true` finds it; it works, in the phase active; or its agent has reported a failure, in any
 * phase. A task that is deleted is none of these. 0 is none.
 */
export function activityOf(row: Pick<TaskRow, 'phase' | 'state'> & { readonly list_status: number }): number {
  const { phase, state, list_status } = row;
  if (list_status % waitingOffset === deletedStatus) return 0;
  if (isWaiting(row)) return activities.waiting;
  if (state === 1 && phase === 3) return activities.working;
  return state === 4 ? activities.failed : 0;
}
