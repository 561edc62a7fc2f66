import type { Call } from '../call/call.ts';
import type { Caller } from '../call/caller.ts';
import { invalidArgument } from '../call/errors.ts';
import type { ListTasksRequest } from '../gen/tasks/v1/tasks_pb.ts';
import type { PageTokens, TokenScope } from './page-token.ts';
import { decodePosition, encodePosition } from './position.ts';
import type { ResolveQuery } from './resolve-query.ts';
import { scopeOf } from './scope.ts';
import type { ListOrder, Position } from './store/list-order.ts';
import type { TaskFilter } from './store/task-filter.ts';
import type { TaskRepository } from './store/task-repository.ts';
import type { TaskPage } from './task-mapper.ts';
import { readTaskQuery, type TaskQuery } from './task-query.ts';

/** What a transport may say of a list beside the request. */
export interface ListOptions {
  /** Whose tasks any query without an owner means; as docs/query.md has it if not said. */
  readonly defaultOwner?: 'me' | 'everyone';
}

/** The method ListTasks, up to the rows of its page. It does not know which transport called it. */
export type ListTasks = (request: ListTasksRequest, call: Call, options?: ListOptions) => Promise<TaskPage>;

/** What ListTasks is made of. */
export interface ListTasksParts {
  readonly tasks: TaskRepository;
  readonly resolveQuery: ResolveQuery;
  readonly pageTokens: PageTokens;
  /** For lists that are watched afterwards. Without it, lists have no resume tokens. */
  readonly watched?: WatchedListParts;
}

/** What a list needs whose client goes on with WatchTasks. */
interface WatchedListParts {
  /** Must read from the primary, as the feed is: a page from a replica could be older than its token. */
  readonly tasks: TaskRepository;
  readonly watchFrom: WatchFrom;
}

/**
 * Where the feed of changes stands now, as a resume token of WatchTasks for this caller and query: what is read after that has all
 * changes before it. Undefined when the query cannot be watched.
 *
 * @param filter the query in terms of columns, as it was resolved for the caller.
 */
export type WatchFrom = (query: string, filter: TaskFilter | undefined, caller: Caller) => Promise<string | undefined>;

/** A total is counted up to here; beyond, `total_size_capped` is set. Counting further would cost what the list costs. */
const maxTotalSize = 10_000;

/** Makes the method ListTasks. */
export function createListTasks({ tasks, resolveQuery, pageTokens, watched }: ListTasksParts): ListTasks {
  return async (request, call, { defaultOwner } = {}) => {
    const { caller, signal } = call;
    const { query, ownerId, filter } = await resolveQuery(readTaskQuery(request, defaultOwner), request.query, call);
    const order = orderOf(query, ownerId, caller.userId);
    const tokenScope: TokenScope = { callerId: caller.userId, query: request.query, orderBy: `${request.orderBy} / ${order}` };
    const after = request.pageToken === '' ? undefined : positionIn(request.pageToken, tokenScope, order);
    const isWatched = request.includeResumeToken && watched !== undefined;
    // Before the first page is read: that and the later ones then have at least what the feed had.
    const resumeToken = isWatched && after === undefined ? await watched.watchFrom(request.query, filter, caller) : undefined;
    const resume = resumeToken === undefined ? {} : { resumeToken };
    if (filter === undefined)
      return { rows: [], ...resume, ...(request.includeTotalSize ? { total: { size: 0, capped: false } } : {}) };

    const scope = scopeOf(caller);
    const from = isWatched ? watched.tasks : tasks;
    const selection = { filter, order, limit: query.pageSize, ...(after === undefined ? {} : { after }) };
    const [{ rows, next }, total] = await Promise.all([
      from.list(scope, selection, signal),
      request.includeTotalSize ? from.count(scope, filter, maxTotalSize + 1, signal) : undefined,
    ]);
    call.rows = (call.rows ?? 0) + rows.length; // a call of another shape reads several pages
    return {
      rows,
      ...resume,
      ...(next === undefined ? {} : { nextPageToken: pageTokens.encode(encodePosition(next), tokenScope) }),
      ...(total === undefined ? {} : { total: { size: Math.min(total, maxTotalSize), capped: total > maxTotalSize } }),
    };
  };

  function positionIn(token: string, tokenScope: TokenScope, order: ListOrder): Position {
    const bytes = pageTokens.decode(token, tokenScope);
    const position = bytes === undefined ? undefined : decodePosition(bytes, order);
    if (position !== undefined) return position;
    const description = 'is not a token of this list: list again without one, and keep query and order_by from page to page';
    throw invalidArgument([{ field: 'page_token', description }], 'PAGE_TOKEN_INVALID');
  }
}

/** The order a list is read in. For one's own tasks favorites come first; nobody sees another's favorites. */
function orderOf({ orderBy }: TaskQuery, ownerId: Buffer | 'everyone' | undefined, callerId: Buffer): ListOrder {
  if (orderBy !== 'default') return orderBy;
  if (ownerId === 'everyone') return 'created_at desc';
  return ownerId?.equals(callerId) === true ? 'key' : 'run';
}
