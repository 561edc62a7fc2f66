import { deletedStatus } from './branches.ts';
import { type TaskRow, waitingOffset } from './tables.ts';

/** Columns of `workspace_tasks`. */
interface Kind extends Pick<TaskRow, 'phase' | 'state'> {
  readonly list_status: number;
}

/** What a task can be that is counted over time, with the numbers of `task_transitions`; 0 is none of these. */
export const activities = { waiting: 1, working: 2, failed: 3 } as const;

/**
 * What a task is: it waits, as `waiting:true` finds it; it works, in the phase active; or its agent has reported a failure, in any
 * phase. A task that is deleted, or whose workspace is, is none of these. 0 is none.
 */
export function activityOf({ phase, state, list_status }: Kind): number {
  if (list_status >= waitingOffset) return activities.waiting;
  if (list_status === deletedStatus) return 0;
  if (state === 1 && phase === 3) return activities.working;
  return state === 4 ? activities.failed : 0;
}
