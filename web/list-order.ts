import type { Task } from '../src/gen/tasks/v1/tasks_pb.ts';
import { queryScopeOf } from './query-text.ts';
import { tabOf } from './tabs.ts';
import { changedAt, milliseconds } from './task-words.ts';

/** The column of a list that shows a time. */
export interface TimeColumn {
  readonly name: string;
  /** The time of a task, in milliseconds; 0 for none. */
  at(task: Task): number;
}

/** The tabs of what has ended. */
const ended: ReadonlySet<string | undefined> = new Set(['failed', 'complete']);

/** The order in which the service is asked for a list. What waits longest comes first on the tab of what waits, and what ended last where things have ended. */
export function orderAsked(query: string, orderBy: string): string {
  if (orderBy !== '') return orderBy;
  const tab = tabOf(query);
  if (tab === 'waiting') return 'current_state.timestamp';
  return ended.has(tab) ? 'current_state.timestamp desc' : '';
}

/** How many tasks of a list ended today, in words, on a tab of what has ended whose last ones come first; the list goes on if not all are loaded. */
export function endedToday(query: string, orderBy: string, tasks: readonly Task[], hasMore: boolean): string | undefined {
  if (!ended.has(tabOf(query)) || orderAsked(query, orderBy) !== 'current_state.timestamp desc') return undefined;
  const midnight = new Date().setHours(0, 0, 0, 0);
  const count = tasks.filter(({ currentState }) => milliseconds(currentState?.timestamp) >= midnight).length;
  return `${count}${hasMore && count === tasks.length ? '+' : ''} today`;
}

/** The orders that a list may have, and what they are called. The first is the default. */
export function ordersOf(query: string): readonly (readonly [orderBy: string, text: string])[] {
  const isOneOwners = queryScopeOf(query) !== 'all';
  const newest = ['created_at desc', 'Newest first'] as const;
  const names = [['name', 'Name, A to Z'] as const, ['name desc', 'Name, Z to A'] as const];
  const byCreationAndName = [['created_at', 'Oldest first'] as const, ...(isOneOwners ? names : [])];
  if (tabOf(query) === 'waiting') {
    return [['', 'Waiting longest'], ['current_state.timestamp desc', 'Latest question'], newest, ...byCreationAndName];
  }
  if (ended.has(tabOf(query))) {
    return [['', 'Latest report'], ['current_state.timestamp', 'Oldest report'], newest, ...byCreationAndName];
  }
  const reports = [
    ['current_state.timestamp desc', 'Latest report'] as const,
    ['current_state.timestamp', 'Oldest report'] as const,
  ];
  return isOneOwners
    ? [['', 'Running first'], ...reports, newest, ...byCreationAndName]
    : [['', 'Newest first'], ...reports, ...byCreationAndName];
}

/** The time that a list shows: the one that it is ordered by. */
export function timeColumnOf(query: string, orderBy: string): TimeColumn {
  const order = orderAsked(query, orderBy);
  if (order.startsWith('current_state.timestamp')) {
    return tabOf(query) === 'waiting' ? columns.waiting : columns.reported;
  }
  const isByCreation = order.startsWith('created_at') || (order === '' && queryScopeOf(query) === 'all');
  return isByCreation ? columns.created : columns.changed;
}

const columns = {
  waiting: { name: 'Asked', at: (task) => milliseconds(task.waitingSince ?? task.currentState?.timestamp) },
  reported: { name: 'Reported', at: (task) => milliseconds(task.currentState?.timestamp) },
  created: { name: 'Created', at: (task) => milliseconds(task.createdAt) },
  changed: { name: 'Changed', at: changedAt },
} as const satisfies Record<string, TimeColumn>;
