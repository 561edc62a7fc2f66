import type { Task } from '../src/gen/tasks/v1/tasks_pb.ts';
import { WorkspaceStatus } from '../src/gen/tasks/v1/tasks_pb.ts';
import { queryScopeOf } from './query-text.ts';

/** An event of a watch: the present state of a task, or its removal from the list. */
export type LiveEvent = { readonly upserted: Task } | { readonly removed: string };

/** The loaded tasks, page by page, in order. */
export type Pages = readonly (readonly Task[])[];

/** Changes that would move rows of the list, held back while somebody may be about to click one. */
export interface PendingChanges {
  /** New tasks of the list, by id. */
  readonly arrived: ReadonlyMap<string, Task>;
  /** Ids of removed tasks. */
  readonly left: ReadonlySet<string>;
  /** Loaded tasks that belong elsewhere in the list since they have changed, by id. */
  readonly moved: ReadonlyMap<string, Task>;
}

/** Compares two tasks in the order of the service: negative when the first comes before the second. */
type TaskOrder = (one: Task, other: Task) => number;

export const noPendingChanges: PendingChanges = { arrived: new Map(), left: new Set(), moved: new Map() };

/**
 * Updates the loaded tasks in their places. Changes that would move rows are held back; {@link settle} applies them.
 *
 * @param isWhole whether all pages are loaded: then a task after the last one belongs to the list, too.
 */
export function applyEvents(
  pages: Pages,
  pending: PendingChanges,
  events: readonly LiveEvent[],
  order: TaskOrder,
  isWhole: boolean,
): { pages: Pages; pending: PendingChanges } {
  const rows = pages.flat();
  const loaded = new Set(rows.map((task) => task.id));
  const last = rows.at(-1);
  const changed = new Map<string, Task>();
  const arrived = new Map(pending.arrived);
  const left = new Set(pending.left);
  const moved = new Map(pending.moved);
  for (const event of events) {
    if ('removed' in event) {
      arrived.delete(event.removed);
      if (loaded.has(event.removed)) left.add(event.removed);
      continue;
    }
    const task = event.upserted;
    left.delete(task.id);
    if (loaded.has(task.id)) changed.set(task.id, task);
    else if (isWhole || (last !== undefined && order(task, last) < 0)) arrived.set(task.id, task);
  }
  if (changed.size === 0) return { pages, pending: { arrived, left, moved } };
  const next = pages.map((page) =>
    page.some((task) => changed.has(task.id)) ? page.map((task) => changed.get(task.id) ?? task) : page,
  );
  const nextRows = next.flat();
  for (const [index, task] of nextRows.entries()) {
    if (!changed.has(task.id)) continue;
    const [before, after] = [nextRows[index - 1], nextRows[index + 1]];
    const isInPlace = (before === undefined || order(before, task) <= 0) && (after === undefined || order(task, after) <= 0);
    if (isInPlace) moved.delete(task.id);
    else moved.set(task.id, task);
  }
  return { pages: next, pending: { arrived, left, moved } };
}

/** Applies the changes that were held back: deletes removed tasks, and inserts new and moved ones in order. */
export function settle(pages: Pages, { arrived, left, moved }: PendingChanges, order: TaskOrder): Pages {
  const inserted = [...arrived.values(), ...[...moved.values()].filter(({ id }) => !left.has(id) && !arrived.has(id))];
  const next = pages.map((page) => page.filter(({ id }) => !left.has(id) && !arrived.has(id) && !moved.has(id)));
  for (const task of inserted) {
    const page = next.find((tasks) => tasks.some((other) => order(task, other) < 0)) ?? next.at(-1);
    if (page === undefined) return [inserted.sort(order)];
    const place = page.findIndex((other) => order(task, other) < 0);
    page.splice(place === -1 ? page.length : place, 0, task);
  }
  return next;
}

/**
 * The order of the list, as in docs/query.md and the contract. The service may order names that differ only in case and accents
 * otherwise; then a new row is slightly misplaced until the list is loaded again.
 */
export function orderOf(query: string, orderBy: string): TaskOrder {
  const scope = queryScopeOf(query);
  switch (orderBy) {
    case 'created_at':
      return inTurn(byCreation, byId);
    case 'created_at desc':
      return reversed(inTurn(byCreation, byId));
    case 'current_state.timestamp':
      return inTurn(byReport, byId);
    case 'current_state.timestamp desc':
      return reversed(inTurn(byReport, byId));
    case 'name':
      return inTurn(byName, byId);
    case 'name desc':
      return reversed(inTurn(byName, byId));
    default:
      if (scope === 'all') return reversed(inTurn(byCreation, byId));
      return scope === 'mine' ? inTurn(byFavorite, byRunning, byName, byId) : inTurn(byRunning, byName, byId);
  }
}

function inTurn(...orders: readonly TaskOrder[]): TaskOrder {
  return (one, other) => {
    for (const order of orders) {
      const result = order(one, other);
      if (result !== 0) return result;
    }
    return 0;
  };
}

function reversed(order: TaskOrder): TaskOrder {
  return (one, other) => order(other, one);
}

const byFavorite: TaskOrder = (one, other) => Number(other.favorite) - Number(one.favorite);
const byRunning: TaskOrder = (one, other) => isRunning(other) - isRunning(one);
const byName: TaskOrder = (one, other) => compare(one.name.toLowerCase(), other.name.toLowerCase());
const byId: TaskOrder = (one, other) => compare(one.id, other.id);
const byCreation: TaskOrder = ({ createdAt: one }, { createdAt: other }) => byTime(one, other);
/** A task without a report comes before all others. */
const byReport: TaskOrder = ({ currentState: one }, { currentState: other }) => byTime(one?.timestamp, other?.timestamp);

function byTime(one: Task['createdAt'], other: Task['createdAt']): number {
  return compare(one?.seconds ?? -1n, other?.seconds ?? -1n) || (one?.nanos ?? 0) - (other?.nanos ?? 0);
}

function isRunning(task: Task): number {
  return Number(task.status === WorkspaceStatus.RUNNING);
}

function compare<T extends string | bigint>(one: T, other: T): number {
  return one < other ? -1 : one > other ? 1 : 0;
}
