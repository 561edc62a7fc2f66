import type { Knex } from 'knex';
import type { Database } from '../../db/connection.ts';
import { hasId } from '../../db/uuid.ts';
import { isOfSomeTasks, type Scope } from '../scope.ts';
import { type Branch, type Branches, branchesOf, organizationsOf, type TaskSelection } from './branches.ts';
import { bindSharing, whereReadable } from './conditions.ts';
import { type CountedBy, countBuckets, type KindFilter, type KindRange } from './count-buckets.ts';
import type { ListQueries } from './list-query.ts';
import type { Bindings, Slot } from './statement-template.ts';
import { aclKinds, waitingOffset } from './tables.ts';

/** How many tasks there are, by what they are counted by. */
export type KindCounts = Readonly<Record<CountedBy, ReadonlyMap<number, number>>>;

/** What is counted, without its values. */
export interface CountStructure {
  /** Ways to read that have no task in common, in which each bucket of the filter is counted by itself. */
  readonly ways: readonly Branch[];
  readonly filter: KindFilter;
  /** Of an owner's tasks, those of this organization. */
  readonly organizationId?: Slot;
  /** What is read as a whole, each task once, without what the ways lead to. */
  readonly whole?: Branches & { readonly without?: { readonly organizations: readonly Slot[]; readonly own?: OwnTasks } };
}

interface OwnTasks {
  readonly ownerId: Slot;
  readonly organizations: readonly Slot[];
}

/** Above this many ranges it costs less to read all there is. */
const maxRanges = 400;

/**
 * How a selection is counted. Everyone's tasks, those of an organization and those of an owner are counted by ranges of an index, if
 * nothing but their kind is asked for. What is shared comes by several ways, and what else is asked for is in no index: these
 * tasks are read. Undefined means that nothing can be found.
 */
export function countStructureOf(bindings: Bindings, selection: TaskSelection): CountStructure | undefined {
  const { scope, filter: wanted } = selection;
  const { ownerId, organizationId, status, waiting, phase, state, ...others } = wanted;
  const all = branchesOf(bindings, selection);
  if (all === undefined) return undefined;
  const readWhole: CountStructure = { ways: [], filter: {}, whole: all };
  if (isOfSomeTasks(scope) || Object.values(others).some((value) => value !== undefined)) return readWhole;

  const filter: KindFilter = definedOf({ status, waiting, phase, state });
  const buckets = countBuckets(filter).length;
  if (buckets === 0) return undefined;
  const ofOwner = ownerId === undefined || organizationId === undefined ? {} : { organizationId: bindings.bind(organizationId) };
  const counted = { filter, ...ofOwner };
  if (ownerId !== undefined && !scope.everything) return { ...counted, ...ofOwnerInScope(bindings, scope, ownerId, all) };
  const inScope = branchesOf(bindings, { ...selection, filter: definedOf({ ownerId, organizationId }) })?.branches ?? [];
  const ways = inScope.filter(({ subject }) => subject === undefined);
  if (ways.length * buckets > maxRanges) return readWhole;
  const shared = all.branches.filter(({ subject }) => subject !== undefined);
  if (shared.length === 0) return { ways, ...counted };
  const own = { ownerId: bindings.bind(scope.userId), organizations: bindings.bindList(scope.ownIn) };
  const without = { organizations: bindings.bindList(scope.organizations), own };
  return { ways, ...counted, whole: { ...all, branches: shared, without } };
}

/** An owner's tasks of the organizations in which all are read, and beside them those that are shared. */
function ofOwnerInScope(bindings: Bindings, scope: Scope, owner: Buffer, all: Branches): Pick<CountStructure, 'ways' | 'whole'> {
  const organizations = organizationsOf(scope, owner);
  const inOrganizations = { ownerId: bindings.bind(owner), readable: { organizations: bindings.bindList(organizations) } };
  const ways = organizations.length === 0 ? [] : [{ ...inOrganizations, statuses: [] }];
  if (scope.sharedWith.length === 0) return { ways };
  const statuses = all.branches.flatMap((branch) => branch.statuses);
  // What is shared with a group is read in the organizations of the caller alone: if all of these are read, that adds nothing.
  const byGroup = scope.memberOf.some((id) => !hasId(organizations, id));
  const shared: Branch = byGroup
    ? {
        index: 'own_kind',
        ownerId: inOrganizations.ownerId,
        statuses,
        readable: { organizations: [], sharing: bindSharing(bindings, scope) },
      }
    : { ownerId: inOrganizations.ownerId, statuses, subject: { kind: aclKinds.user, id: bindings.bind(scope.userId) } };
  return { ways, whole: { ...all, branches: [shared], without: inOrganizations.readable } };
}

/** An object without the properties that are undefined. */
function definedOf<T extends object>(object: T): { readonly [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined)) as T;
}

/** A row of a count: of a bucket, by its place among those of the filter, or of a kind, whose bucket is -1. */
export type CountCells = readonly [bucket: Cell, listStatus: Cell, phase: Cell, state: Cell, count: Cell];

/** Where signed and unsigned numbers come together, a server makes decimals of them, and the driver texts of these. */
type Cell = number | string | null;

/** Adds up the rows of a count. */
export function addCounts(rows: readonly CountCells[], filter: KindFilter): KindCounts {
  const counts = { waiting: new Map(), status: new Map(), phase: new Map(), state: new Map() } as const;
  const add = (by: CountedBy, value: number, count: number) => counts[by].set(value, (counts[by].get(value) ?? 0) + count);
  const buckets = countBuckets(filter);
  for (const cells of rows) {
    const [place = 0, listStatus = 0, phase = 0, state = 0, count = 0] = cells.map(Number);
    const bucket = buckets[place];
    if (bucket !== undefined) {
      add(bucket.by, bucket.value, count);
      continue;
    }
    add('status', listStatus % waitingOffset, count);
    add('phase', phase, count);
    add('state', state, count);
    if (listStatus >= waitingOffset) add('waiting', 1, count);
  }
  return counts;
}

/** What kinds are told apart by. */
const kindColumns = ['list_status', 'phase', 'state'] as const;

/**
 * Writes the statement of a count: a row for each bucket and way, and one for each kind of what is read as a whole.
 *
 *     select 0 as bucket, 0 as list_status, 0 as phase, 0 as state, <count of range> as n union all select 1 … union all <whole>
 *
 * @param limit each bucket is counted up to here.
 */
export function countQuery(
  database: Database,
  queries: ListQueries,
  structure: CountStructure,
  limit: number,
): Knex.QueryBuilder {
  return database.unionAll(countQueries(database, queries, structure, countBuckets(structure.filter), limit));
}

/** The parts of {@link countQuery}, with a row for each of some ranges, by its place among them. */
export function countQueries(
  database: Database,
  queries: ListQueries,
  { ways, organizationId, whole }: CountStructure,
  ranges: readonly { readonly range: KindRange }[],
  limit: number,
): Knex.QueryBuilder[] {
  const rows = ways.flatMap((way) =>
    ranges.map(({ range }, place) =>
      database.select(
        database.raw('? as ??', [place, 'bucket']),
        ...kindColumns.map((column) => database.raw('0 as ??', [column])),
        database.raw('? as ??', [countOfRange(way, range), 'n']),
      ),
    ),
  );
  return whole === undefined ? rows : [...rows, countOfWhole(whole)];

  /**
   * Looks whether there are as many rows as the limit, and else counts them. A derived table with that many rows takes twice as long.
   *
   *     coalesce((select 1001 from <range> limit 1 offset 1000), (select count(*) from <range>))
   */
  function countOfRange(way: Branch, range: KindRange): Knex.Raw {
    const enough = rowsOf(way, range)
      .select(database.raw('?', [limit]))
      .limit(1)
      .offset(limit - 1);
    return database.raw('coalesce(?, ?)', [enough, rowsOf(way, range).count('*')]);
  }

  /** `from workspace_tasks as t force index (all_kind) where t.live in (1) and (t.phase in (3) and t.state in (2))` */
  function rowsOf(way: Branch, range: KindRange): Knex.QueryBuilder {
    const scopeIndex = way.ownerId !== undefined ? 'own' : way.organizationId !== undefined ? 'org' : 'all';
    const index = `${scopeIndex}_${range.index}`;
    const query = database.queryBuilder().fromRaw(database.raw('?? as ?? force index (??)', ['workspace_tasks', 't', index]));
    const { readable, ownerId } = way;
    const ofOrganization = way.organizationId ?? organizationId;
    if (ownerId !== undefined) query.where('t.owner_id', ownerId);
    if (ofOrganization !== undefined) query.where('t.organization_id', ofOrganization);
    whereIn(query, { live: range.live });
    if (range.index === 'st_sa') whereIn(query, { list_status: range.list_status });
    else {
      query.where((any) => {
        for (const kinds of range.kinds) if (Object.keys(kinds).length > 0) any.orWhere((all) => whereIn(all, kinds));
      });
    }
    if (readable !== undefined) query.where((any) => whereReadable(database, any, readable.organizations, readable.sharing));
    return query;
  }

  /**
   * `select -1 as bucket, t.list_status, t.phase, t.state, count(*) as n from (<keys>) as k straight_join workspace_tasks as t on …
   * where t.organization_id not in (…) and not (t.owner_id = ? and t.organization_id in (…)) group by t.list_status, t.phase, t.state`
   */
  function countOfWhole({ without, ...branches }: NonNullable<CountStructure['whole']>): Knex.QueryBuilder {
    const query = queries.all(branches);
    if (without !== undefined) {
      const { organizations, own } = without;
      query.whereNotIn('t.organization_id', organizations);
      if (own !== undefined) {
        query.whereNot((mine) => mine.where('t.owner_id', own.ownerId).whereIn('t.organization_id', own.organizations));
      }
    }
    const columns = kindColumns.map((column) => `t.${column}`);
    return query.groupBy(columns).select(database.raw('-1 as ??', ['bucket']), ...columns, database.raw('count(*) as ??', ['n']));
  }
}

/** `t.phase in (3) and t.state in (0, 1, 2, 3, 4)` */
function whereIn(query: Knex.QueryBuilder, values: Readonly<Record<string, readonly number[]>>): void {
  for (const [column, some] of Object.entries(values)) query.whereIn(`t.${column}`, some);
}
