import { echo, invalidArgument, type Violation } from '../call/errors.ts';
import type { ListTasksRequest } from '../gen/tasks/v1/tasks_pb.ts';
import { type ParsedQuery, parseQuery, type QueryValue } from './query-grammar.ts';
import { type InvalidValue, type OwnerTerm, type QueryKey, type QueryNames, queryKeys, type TermsDraft } from './query-keys.ts';
import type { ListOrder } from './store/list-order.ts';
import type { TaskFilter } from './store/task-filter.ts';

/** A page without a size has this many tasks, and no page has more than the maximum. */
const defaultPageSize = 25;
export const maxPageSize = 200;

/** The order of a list as a caller may ask for it. */
type OrderBy = 'default' | Exclude<ListOrder, 'key' | 'run'>;

/** What a ListTasks request asks for, checked. */
export interface TaskQuery {
  /** What the query says of tasks, but for what it names. */
  readonly filter: TaskFilter;
  readonly names: QueryNames;
  readonly owner: OwnerTerm;
  readonly orderBy: OrderBy;
  /** Most tasks in the page, 1 to 200. */
  readonly pageSize: number;
}

const orders: ReadonlyMap<string, OrderBy> = new Map([
  ['', 'default'],
  ['created_at', 'created_at'],
  ['created_at desc', 'created_at desc'],
  ['current_state.timestamp', 'state_at'],
  ['current_state.timestamp desc', 'state_at desc'],
  ['name', 'name'],
  ['name desc', 'name desc'],
]);

/** Keys that name the tasks by something else than their owner: beside them, no owner means everyone, if nothing else is said. */
const wideningFilters = ['ids', 'organizationId', 'sharedWithUserId', 'sharedWithGroupId'] as const;
const wideningNames = ['organization', 'sharedWithUser', 'sharedWithGroup'] as const;

/** A request as it was read: what it asks for, as far as it is right, and what is wrong with it. */
export interface ReadTaskQuery {
  readonly query: TaskQuery;
  readonly queryViolations: readonly Violation[];
  readonly requestViolations: readonly Violation[];
}

/**
 * Reads a ListTasks request. It never throws: names that only the database knows are looked up before all problems are told.
 *
 * @param defaultOwner whose tasks a query without an owner means; if not said, the caller's own, and with a key that names the tasks
 *   by something else everyone's.
 */
export function readTaskQuery(
  request: Pick<ListTasksRequest, 'query' | 'orderBy' | 'pageSize'>,
  defaultOwner?: 'me' | 'everyone',
): ReadTaskQuery {
  const { values, violations: grammar } = split(request.query);
  const queryViolations: Violation[] = [...grammar];
  const terms: TermsDraft = { filter: {}, names: {} };
  const unknown: Violation[] = [];
  for (const [name, given] of values) {
    const key = queryKeys.get(name);
    const problem = key === undefined ? undefined : readKey(name, key, given, terms);
    if (key === undefined)
      unknown.push({ field: echo(name), description: `"${echo(name)}" is not a valid query key${at(given[0])}` });
    else if (problem !== undefined)
      queryViolations.push({ field: name, description: problem.description + at(given[problem.value]) });
  }
  queryViolations.push(...unknown);

  const requestViolations: Violation[] = [];
  const { pageSize, orderBy } = request;
  if (pageSize < 0)
    requestViolations.push({ field: 'page_size', description: `must not be negative; 0 means ${defaultPageSize}` });
  const isWide =
    wideningFilters.some((key) => terms.filter[key] !== undefined) || wideningNames.some((key) => terms.names[key] !== undefined);
  const owner = terms.owner ?? { kind: defaultOwner ?? (isWide ? 'everyone' : 'me') };
  const order = orders.get(orderBy.trim().replace(/ +/g, ' '));
  if (order === undefined) {
    requestViolations.push({
      field: 'order_by',
      description: `"${echo(orderBy)}" is not an order: use created_at, current_state.timestamp, or for one owner's tasks name, each also with desc`,
    });
  } else if (order.startsWith('name') && owner.kind === 'everyone') {
    requestViolations.push({
      field: 'order_by',
      description: 'name orders the tasks of one owner only: use created_at or current_state.timestamp, each also with desc',
    });
  }

  const query: TaskQuery = {
    ...terms,
    owner,
    orderBy: order ?? 'default',
    pageSize: pageSize === 0 ? defaultPageSize : Math.min(pageSize, maxPageSize),
  };
  return { query, queryViolations, requestViolations };
}

/** Keys that ask how an agent is connected right now: an agent that falls silent is no change of its task. */
const keysOfTheClock = ['has-agent', 'healthy'] as const;

/** Reads the query of a watch, which may not depend on the clock. It never throws. */
export function readWatchQuery(query: string): ReadTaskQuery {
  const read = readTaskQuery({ query, orderBy: '', pageSize: 0 });
  const { values } = split(query);
  const ofClock = keysOfTheClock.flatMap((key) => {
    const given = values.get(key)?.[0];
    if (given === undefined || given.value === '') return [];
    return [{ field: key, description: `"${key}" depends on the clock and cannot be watched${at(given)}` }];
  });
  return { ...read, queryViolations: [...read.queryViolations, ...ofClock] };
}

/**
 * The query of a request with which nothing is wrong.
 *
 * @param unknown the names in the query that mean nothing.
 * @throws {ConnectError} INVALID_ARGUMENT that names every wrong field and query key at once.
 */
export function checkTaskQuery(read: ReadTaskQuery, unknown: readonly Violation[] = []): TaskQuery {
  const queryViolations = [...read.queryViolations, ...unknown];
  const [problem, ...more] = [...queryViolations, ...read.requestViolations];
  if (problem !== undefined)
    throw invalidArgument([problem, ...more], queryViolations.length > 0 ? 'INVALID_QUERY' : 'INVALID_ARGUMENT');
  return read.query;
}

/** Where a key stands in a query, for a message about its value. */
export function positionOfKey(query: string, key: string): string {
  return at(split(query).values.get(key)?.[0]);
}

function split(query: string): ParsedQuery {
  return parseQuery(query, (key) => queryKeys.get(key)?.hasColons ?? false);
}

function at(value: QueryValue | undefined): string {
  return ` (at position ${value?.position ?? 0})`;
}

function readKey(name: string, key: QueryKey, given: readonly QueryValue[], terms: TermsDraft): InvalidValue | undefined {
  const [first, ...more] = given.map(({ value }) => value);
  // An empty first value switches the key off whatever follows, as in Coder.
  if (first === undefined || first === '') {
    key.byDefault?.(terms);
    return undefined;
  }
  if (!key.many && more.length > 0) {
    return { description: `"${name}" provided more than once, found ${given.length} times`, value: 1 };
  }
  return key.read([first, ...more], terms);
}
