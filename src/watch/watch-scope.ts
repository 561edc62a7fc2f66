import { readsTask, type Scope } from '../tasks/scope.ts';
import type { WatchedRow } from '../tasks/store/tables.ts';
import type { TaskFilter } from '../tasks/store/task-filter.ts';
import type { TaskAccess } from './feed-repository.ts';
import { shortDigest } from './resume-token.ts';
import { type TaskMatch, taskMatch } from './task-match.ts';

/** What a watch shows at a time: what its caller may read, and what its query means. Both are worked out again and again. */
export interface WatchScope {
  readonly scope: Scope;
  /** Undefined when the query names what is not there, so that nothing matches. */
  readonly filter: TaskFilter | undefined;
  /** Tells it from others: with the same digest, the same tasks are shown. */
  readonly digest: Buffer;
  shows(row: WatchedRow): boolean;
  /** Whether it may have shown a task that was there: by what is known of the past, which is less than a row. */
  mayHaveShown(id: Buffer, place: TaskAccess): boolean;
}

/** Makes one of a scope and a filter. */
export function createWatchScope(scope: Scope, filter: TaskFilter | undefined): WatchScope {
  const matches: TaskMatch = filter === undefined ? () => false : taskMatch(filter);
  return {
    scope,
    filter,
    digest: digestOf(scope, filter),
    shows: (row) => matches(row) && readsTask(scope, row.id, row.owner_id, row.organization_id, row.readers),
    mayHaveShown: (id, { ownerId, organizationId, readers }) =>
      filter !== undefined &&
      (filter.ownerId?.equals(ownerId) ?? true) &&
      (filter.organizationId?.equals(organizationId) ?? true) &&
      (filter.ids?.some((one) => one.equals(id)) ?? true) &&
      readsTask(scope, id, ownerId, organizationId, readers),
  };
}

/** The order of ids says nothing: the database gives them in any. */
function digestOf({ sharedWith, ...scope }: Scope, filter: TaskFilter | undefined): Buffer {
  const subjects = sharedWith.map(({ kind, id }) => `${kind} ${id.toString('hex')}`).toSorted();
  return shortDigest(JSON.stringify([plain(scope), subjects, filter === undefined ? null : plain(filter)]));
}

function plain(value: object): unknown[] {
  const text = (one: unknown): string => (Buffer.isBuffer(one) ? one.toString('hex') : JSON.stringify(one));
  return Object.entries(value)
    .map(([key, one]): [string, unknown] => [key, Array.isArray(one) ? one.map(text).toSorted() : text(one)])
    .toSorted(([a], [b]) => (a < b ? -1 : 1));
}
