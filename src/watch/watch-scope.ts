import { readsTask, type Scope, type TaskAccess } from '../tasks/scope.ts';
import type { WatchedRow } from '../tasks/store/tables.ts';
import type { TaskFilter } from '../tasks/store/task-filter.ts';
import { shortDigest } from './resume-token.ts';
import { type TaskMatch, taskMatch } from './task-match.ts';

/** Which tasks a watch selects: the scope of its caller and the filter of its query. Both are derived again each second. */
export interface WatchScope {
  readonly scope: Scope;
  /** Undefined when the query names something that does not exist, so that nothing matches. */
  readonly filter: TaskFilter | undefined;
  /** Scopes with the same digest select the same tasks. */
  readonly digest: Buffer;
  matches(row: WatchedRow): boolean;
  /** Whether a task may have matched before it changed, by its former access alone: its former row is not known. */
  mayHaveMatched(id: Buffer, place: TaskAccess): boolean;
}

/** Makes one of a scope and a filter. */
export function createWatchScope(scope: Scope, filter: TaskFilter | undefined): WatchScope {
  const matchesFilter: TaskMatch = filter === undefined ? () => false : taskMatch(filter);
  return {
    scope,
    filter,
    digest: digestOf(scope, filter),
    matches: (row) => matchesFilter(row) && readsTask(scope, row.id, accessOf(row)),
    mayHaveMatched: (id, place) =>
      filter !== undefined &&
      (filter.ownerId?.equals(place.ownerId) ?? true) &&
      (filter.organizationId?.equals(place.organizationId) ?? true) &&
      (filter.ids?.some((one) => one.equals(id)) ?? true) &&
      readsTask(scope, id, place),
  };
}

function accessOf(row: WatchedRow): TaskAccess {
  const { workspace_id: workspaceId, owner_id: ownerId, organization_id: organizationId, readers } = row;
  return { workspaceId, ownerId, organizationId, readers };
}

/** A digest that does not depend on the order of ids, which the database returns in any. */
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
