import { parseUuid } from '../db/uuid.ts';
import { echo, invalidArgument, type Violation } from '../errors.ts';
import type { ListTasksRequest } from '../gen/tasks/v1/tasks_pb.ts';
import { WorkspaceStatus } from '../gen/tasks/v1/tasks_pb.ts';
import { parseQuery, type QueryValue } from './query-grammar.ts';

/** A page without a size has this many tasks, and no page has more than the maximum. */
export const defaultPageSize = 25;
export const maxPageSize = 200;

/** Whose tasks a query means. */
export type OwnerTerm =
  | { readonly kind: 'me' }
  | { readonly kind: 'everyone' }
  | { readonly kind: 'id'; readonly id: Buffer }
  | { readonly kind: 'username'; readonly username: string };

/** The order of a list as a caller may ask for it. */
export type OrderBy = 'default' | 'created_at' | 'created_at desc' | 'name' | 'name desc';

/** What a ListTasks request asks for, checked, with every text lower-cased where Coder ignores case. */
export interface TaskQuery {
  readonly owner: OwnerTerm;
  /** A part of the name, literal. */
  readonly name?: string;
  /** A template's name. */
  readonly template?: string;
  readonly status?: WorkspaceStatus;
  readonly orderBy: OrderBy;
  /** Most tasks in the page, 1 to 200. */
  readonly pageSize: number;
}

const orders: ReadonlySet<string> = new Set<OrderBy>(['created_at', 'created_at desc', 'name', 'name desc']);

/** The words of `status:`, which are Coder's and the lower-cased names of the enum. */
export const statusWords: ReadonlyMap<string, WorkspaceStatus> = new Map(
  Object.entries(WorkspaceStatus)
    .filter(([name]) => name !== 'UNSPECIFIED')
    .map(([name, value]) => [name.toLowerCase(), value]),
);

/** How each key of a query is read. A reader answers the description of what is wrong with the value, if anything is. */
type Draft = { -readonly [K in keyof TaskQuery]?: TaskQuery[K] };
const keys: Readonly<Record<string, (value: string, draft: Draft) => string | undefined>> = {
  owner(value, draft) {
    const id = parseUuid(value);
    if (value === 'me') draft.owner = { kind: 'me' };
    else if (value === '*') draft.owner = { kind: 'everyone' };
    else draft.owner = id === undefined ? { kind: 'username', username: value } : { kind: 'id', id };
    return undefined;
  },
  name(value, draft) {
    draft.name = value;
    return undefined;
  },
  template(value, draft) {
    draft.template = value;
    return undefined;
  },
  status(value, draft) {
    const status = statusWords.get(value);
    if (status === undefined) return `"${echo(value)}" is not a valid value: use ${[...statusWords.keys()].join(', ')}`;
    draft.status = status;
    return undefined;
  },
};

/**
 * Reads and checks a ListTasks request.
 *
 * @throws {ConnectError} INVALID_ARGUMENT that names every wrong field and query key at once.
 */
export function toTaskQuery(request: ListTasksRequest): TaskQuery {
  const { values, violations: grammar } = parseQuery(request.query);
  const ofQuery: Violation[] = [...grammar];
  const draft: Draft = {};
  const unknown: Violation[] = [];
  for (const [key, given] of values) {
    const read = Object.hasOwn(keys, key) ? keys[key] : undefined;
    if (read === undefined) {
      unknown.push({ field: echo(key), description: `"${echo(key)}" is not a valid query key${at(given[0])}` });
      continue;
    }
    const first = given[0];
    // An empty first value switches the key off whatever follows, as in Coder.
    if (first === undefined || first.value === '') continue;
    const problem = given.length > 1 ? `"${key}" provided more than once, found ${given.length} times` : read(first.value, draft);
    if (problem !== undefined) ofQuery.push({ field: key, description: `${problem}${at(given[1] ?? first)}` });
  }
  ofQuery.push(...unknown);

  const ofRequest: Violation[] = [];
  const { pageSize, orderBy } = request;
  if (pageSize < 0) ofRequest.push({ field: 'page_size', description: `must not be negative; 0 means ${defaultPageSize}` });
  const owner = draft.owner ?? { kind: 'me' };
  const order = orderBy.trim().replace(/ +/g, ' ');
  if (order !== '' && !orders.has(order)) {
    ofRequest.push({
      field: 'order_by',
      description: `"${echo(orderBy)}" is not an order: use created_at, created_at desc, or for one owner's tasks name or name desc`,
    });
  } else if (order.startsWith('name') && owner.kind === 'everyone') {
    ofRequest.push({
      field: 'order_by',
      description: 'name orders the tasks of one owner only: use created_at or created_at desc',
    });
  }

  const [problem, ...more] = [...ofQuery, ...ofRequest];
  if (problem !== undefined) throw invalidArgument([problem, ...more], ofQuery.length > 0 ? 'INVALID_QUERY' : 'INVALID_ARGUMENT');
  return {
    ...draft,
    owner,
    orderBy: order === '' ? 'default' : (order as OrderBy),
    pageSize: pageSize === 0 ? defaultPageSize : Math.min(pageSize, maxPageSize),
  };
}

function at(value: QueryValue | undefined): string {
  return value === undefined ? '' : ` (at position ${value.position})`;
}
