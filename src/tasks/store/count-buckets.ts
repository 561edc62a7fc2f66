import { allStatuses, deletedStatus } from './branches.ts';
import { canWait, waitingOffset } from './tables.ts';
import { activities } from './task-activity.ts';
import type { TaskFilter } from './task-filter.ts';

/** What a filter says of the kind of a task: its status, its phase, its state, and whether it waits. */
export type KindFilter = Pick<TaskFilter, 'status' | 'waiting' | 'phase' | 'state'>;

/** What tasks are counted by. */
export type CountedBy = 'waiting' | 'status' | 'phase' | 'state';

/** Tasks that are counted together. */
interface CountBucket {
  readonly by: CountedBy;
  /** The status, phase or state; 1 for what waits. */
  readonly value: number;
  readonly range: KindRange;
}

/** Equalities for the first columns of an index: all tasks of a list by status, or of a kind. Each has one of some values. */
export type KindRange =
  | { readonly index: 'st_sa'; readonly list_status: readonly number[]; readonly live: readonly number[] }
  | { readonly index: 'kind'; readonly live: readonly number[]; readonly kinds: readonly Kinds[] };

/** Kinds of tasks, of which those count that have one of the values of each column. */
type Kinds = { readonly [Column in 'phase' | 'state' | 'list_status']?: readonly number[] };

/** Every TaskPhase. */
export const allPhases: readonly number[] = [1, 2, 3, 4, 5, 6];
/** Every TaskState. */
export const allStates: readonly number[] = [1, 2, 3, 4];
const active = 3;
const idle = 2;

/** Every `list_status` of what waits, and of what does not. */
const areWaiting: readonly number[] = Array.from(canWait, (status) => status + waitingOffset);
const notWaiting: readonly number[] = [0, ...allStatuses];

/** What is counted of a filter; buckets that no task can be in are left out. Every task has a phase: these make up the total. */
export function countBuckets(filter: KindFilter): CountBucket[] {
  const buckets = (by: CountedBy, values: readonly number[]): CountBucket[] =>
    values.flatMap((value) => {
      const narrowed = narrow(filter, by, by === 'waiting' ? true : value);
      const range = narrowed && kindRange(narrowed, filter.status !== deletedStatus);
      return range === undefined ? [] : [{ by, value, range }];
    });
  return [
    ...buckets('waiting', [1]),
    ...buckets('status', allStatuses),
    ...buckets('phase', allPhases),
    ...buckets('state', allStates),
  ];
}

/** The ranges of tasks that are counted over time, as `activityOf` has them; of what is deleted there are none. */
export function activityRanges(filter: KindFilter): { readonly activity: number; readonly range: KindRange }[] {
  if (filter.status === deletedStatus) return [];
  const ranges = (activity: number, narrowed: KindFilter | undefined) => {
    const range = narrowed && kindRange(narrowed, true);
    return range === undefined ? [] : [{ activity, range: withoutDeletedWorkspaces(range) }];
  };
  const working = narrow(filter, 'state', 1);
  return [
    ...ranges(activities.waiting, narrow(filter, 'waiting', true)),
    ...ranges(activities.working, working && narrow(working, 'phase', active)),
    ...ranges(activities.failed, narrow(filter, 'state', 4)),
  ];
}

function withoutDeletedWorkspaces(range: KindRange): KindRange {
  if (range.index === 'st_sa') return range;
  const list_status = notWaiting.filter((status) => status !== deletedStatus);
  return { ...range, kinds: range.kinds.map((one) => ({ list_status, ...one })) };
}

function narrow(filter: KindFilter, key: keyof KindFilter, value: number | boolean): KindFilter | undefined {
  return filter[key] === undefined || filter[key] === value ? { ...filter, [key]: value } : undefined;
}

/** The range of a filter, or undefined when no task can be in it. */
function kindRange({ status, waiting, phase, state }: KindFilter, liveAlone: boolean): KindRange | undefined {
  const listStatuses = status === undefined ? undefined : listStatusesOf(status, waiting);
  if (listStatuses?.length === 0) return undefined;
  const live = liveAlone ? [1] : [0, 1];
  if (listStatuses !== undefined && phase === undefined && state === undefined) {
    return { index: 'st_sa', list_status: listStatuses, live };
  }
  const kinds = kindsOf(phase === undefined ? undefined : [phase], state === undefined ? undefined : [state], waiting);
  if (kinds.length === 0) return undefined;
  const ofStatus = listStatuses === undefined ? {} : { list_status: listStatuses };
  // Behind a column that says nothing an index cannot be used.
  const withState = listStatuses === undefined ? {} : { state: [0, ...allStates] };
  return {
    index: 'kind',
    live,
    kinds: kinds.map((one) => ({
      ...(one.state === undefined && listStatuses === undefined ? {} : { phase: allPhases }),
      ...withState,
      ...one,
      ...ofStatus,
    })),
  };
}

/** The values of `list_status` of tasks with a status, waiting or not. */
function listStatusesOf(status: number, waiting: boolean | undefined): number[] {
  return [...(waiting === true ? [] : [status]), ...(waiting !== false && canWait.has(status) ? [status + waitingOffset] : [])];
}

/** Phases with states. What is active and idle waits, if its status is one that can. */
function kindsOf(
  phase: readonly number[] | undefined,
  state: readonly number[] | undefined,
  waiting: boolean | undefined,
): Kinds[] {
  const all = { ...(phase === undefined ? {} : { phase }), ...(state === undefined ? {} : { state }) };
  if (waiting === undefined) return [all];
  const canBeWaiting = (phase ?? allPhases).includes(active) && (state ?? allStates).includes(idle);
  if (waiting) return canBeWaiting ? [{ phase: [active], state: [idle], list_status: areWaiting }] : [];
  if (!canBeWaiting) return [all];
  const otherPhases = (phase ?? allPhases).filter((one) => one !== active);
  const otherStates = (state ?? [0, ...allStates]).filter((one) => one !== idle);
  return [
    ...(otherPhases.length === 0 ? [] : [{ ...all, phase: otherPhases }]),
    ...(otherStates.length === 0 ? [] : [{ phase: [active], state: otherStates }]),
    { phase: [active], state: [idle], list_status: notWaiting },
  ];
}
