import type { Knex } from 'knex';
import type { Database } from '../../db/connection.ts';
import { type Branch, type Branches, isOfAclAlone, type StatusEquality } from './branches.ts';
import { type BoundFilter, whereFilter, whereInScope, whereReadable } from './conditions.ts';
import { type ListOrder, listOrders, type Position } from './list-order.ts';
import { tasksWith } from './name-trigrams.ts';
import type { Bindings, Slot } from './statement-template.ts';

/** Writes the queries of lists, without the columns of their rows. */
export interface ListQueries {
  /** The tasks of a page `t`, in order. */
  page(page: PageStructure): Knex.QueryBuilder;
  /** The ids of some tasks, in no order. */
  ids(branches: Branches, limit: number): Knex.QueryBuilder;
  /** All tasks `t`, each once, in no order. */
  all(branches: Branches): Knex.QueryBuilder;
}

/** What a page is made of, without its values. */
export interface PageStructure extends Branches {
  readonly order: ListOrder;
  /** The position behind which it starts. */
  readonly after?: BoundPosition;
  readonly limit: number;
}

/** A position with slots for its values. A time that is null stands in the text, as it is compared in another way. */
type BoundPosition = readonly [first: Slot | null, id?: Slot];

/** Binds the values of a position. */
export function bindPosition(bindings: Bindings, [first, second]: Position): BoundPosition {
  const bound = first === null ? null : bindings.bind(first);
  return second === undefined ? [bound] : [bound, bindings.bind(second)];
}

/** @param agentInactiveSeconds how long an agent may be silent and still counts as connected. */
export function createListQueries(database: Database, agentInactiveSeconds: number): ListQueries {
  return {
    page(page) {
      const [first, ...others] = page.branches;
      const alone = first !== undefined && others.length === 0 && first.nameTrigrams === undefined && first.subject === undefined;
      return alone ? pageOfBranch(first, page) : pageOfUnion(page);
    },

    // <branch limit ?> [union <branch limit ?> …] limit ?
    ids: ({ branches, filter }, limit) =>
      database
        .union(
          branches.map((branch) =>
            rowsOf(branch, filter)
              .select(keysOf(branch, { filter }, ['id']))
              .limit(limit),
          ),
          true,
        )
        .limit(limit),

    all({ branches, filter }) {
      const [first, ...others] = branches;
      if (first !== undefined && others.length === 0 && !isOfAclAlone(first, filter)) return rowsOf(first, filter);
      // from (<branch> union <branch> …) as k straight_join workspace_tasks as t on t.owner_id = k.owner_id and t.id = k.id
      return withTasks(
        database.union(branches.map((branch) => rowsOf(branch, filter).select(keysOf(branch, { filter }, ['owner_id', 'id'])))),
      );
    },
  };

  /** A branch from the position on: `… and (t.created_at < ? or (t.created_at = ? and t.id < ?)) order by … limit ?` */
  function pageOfBranch(branch: Branch, { filter, order, after, limit }: PageStructure): Knex.QueryBuilder {
    const query = rowsOf(branch, filter, order);
    const { columns, direction, index } = listOrders[order];
    // What is shared is walked in its own index, which has the order of everyone's lists.
    const walked =
      branch.subject !== undefined && index === 'ct' ? ['s.created_at', 's.task_id'] : columns.map((column) => `t.${column}`);
    if (after !== undefined) query.where((any) => whereBehind(any, walked, direction, after));
    return query.orderBy(walked.map((column) => ({ column, order: direction }))).limit(limit);
  }

  /**
   * The union of branches, each with all filters and the limit inside, then the rows by primary key:
   *
   *     from ((select t.owner_id, t.id, t.created_at from … limit ?) union (…) order by created_at desc, id desc limit ?) as k
   *     straight_join workspace_tasks as t on t.owner_id = k.owner_id and t.id = k.id … order by k.created_at desc, k.id desc
   */
  function pageOfUnion(page: PageStructure): Knex.QueryBuilder {
    const { columns, direction } = listOrders[page.order];
    const selected = [...new Set(['owner_id', 'id', ...columns])];
    const sort = (table: string) => columns.map((column) => ({ column: `${table}${column}`, order: direction }));
    const keys = database
      .union(
        page.branches.map((branch) => pageOfBranch(branch, page).select(keysOf(branch, page, selected))),
        true,
      )
      .orderBy(sort(''))
      .limit(page.limit);
    return withTasks(keys).orderBy(sort('k.'));
  }

  /** `from (<keys>) as k straight_join workspace_tasks as t on t.owner_id = k.owner_id and t.id = k.id` */
  function withTasks(keys: Knex.QueryBuilder): Knex.QueryBuilder {
    return database
      .from(keys.as('k'))
      .joinRaw('straight_join ?? as ?? on ?? = ?? and ?? = ??', [
        'workspace_tasks',
        't',
        't.owner_id',
        'k.owner_id',
        't.id',
        'k.id',
      ]);
  }

  /**
   * `from workspace_tasks as t force index (…) where t.owner_id = ? and t.live = ? and <readable> and …`, or, of what is shared with
   * somebody, `from workspace_task_acl as s straight_join workspace_tasks as t on … where s.kind = ? and s.subject_id = ? and …`
   */
  function rowsOf(branch: Branch, filter: BoundFilter, order?: ListOrder): Knex.QueryBuilder {
    const { index, ownerId, organizationId, statuses, readable, scope, subject, nameTrigrams } = branch;
    const query = database.queryBuilder();
    if (subject !== undefined) {
      query.from({ s: 'workspace_task_acl' }).where({ 's.kind': subject.kind, 's.subject_id': subject.id });
      if (isOfAclAlone(branch, filter, order)) {
        // from workspace_task_acl as s where s.kind = ? and s.subject_id = ? and s.organization_id in (…)
        const organizations = readable?.organizations ?? (filter.organizationId && [filter.organizationId]);
        if (organizations !== undefined) query.whereIn('s.organization_id', organizations);
        return query;
      }
      // The optimizer chooses where to start when an owner or a template may have fewer tasks.
      if (ownerId === undefined && filter.templateIds === undefined) joinTasks(query, 's');
      else query.joinRaw('join ?? as ?? on ?? = ?? and ?? = ??', ['workspace_tasks', 't', ...taskKeys('s')]);
    } else if (nameTrigrams !== undefined) joinTasks(query.from(tasksOfTrigrams(nameTrigrams, ownerId).as('n')), 'n');
    else if (index === undefined) query.from({ t: 'workspace_tasks' });
    // MariaDB 10.11 prefers `ref` over `range` for a page in the middle and reads the whole scope (550 ms instead of 0.4).
    else query.fromRaw(database.raw('?? as ?? force index (??)', ['workspace_tasks', 't', index]));
    if (ownerId !== undefined) query.where('t.owner_id', ownerId);
    if (organizationId !== undefined) query.where('t.organization_id', organizationId);
    query.where((any) => {
      for (const status of statuses) any.orWhere(ofStatus(status));
    });
    if (readable !== undefined) query.where((any) => whereReadable(database, any, readable.organizations, readable.sharing));
    if (scope !== undefined) whereInScope(database, query, scope);
    whereFilter(database, query, filter, agentInactiveSeconds);
    return query;
  }

  /**
   * The tasks whose names have all of some trigrams, and those whose trigrams are not written yet:
   *
   *     <tasksWith>
   *     union select p.owner_id, p.id as task_id from workspace_tasks as p force index (name_pending) where p.name_pending = 1
   */
  function tasksOfTrigrams(trigrams: readonly Slot[], ownerId: Slot | undefined): Knex.QueryBuilder {
    const pending = database
      .queryBuilder()
      .fromRaw(database.raw('?? as ?? force index (??)', ['workspace_tasks', 'p', 'name_pending']))
      .where('p.name_pending', 1)
      .select('p.owner_id', 'p.id as task_id');
    return tasksWith(database, trigrams, ownerId).union(pending);
  }
}

/**
 * `t.created_at < ? or (t.created_at = ? and t.id < ?)`. NULL comes before all else: behind it is `(t.state_at is null and t.id > ?)
 * or t.state_at is not null`, and backwards from a time also `t.state_at is null`.
 */
function whereBehind(
  any: Knex.QueryBuilder,
  [first = '', second = '']: readonly string[],
  direction: 'asc' | 'desc',
  [afterFirst, afterSecond]: BoundPosition,
): void {
  const beyond = direction === 'asc' ? '>' : '<';
  const tie = (isEqual: (tie: Knex.QueryBuilder) => Knex.QueryBuilder) => {
    // Never a row constructor: no engine reads (a, b) < (?, ?) as a range.
    if (afterSecond !== undefined) any.orWhere((both) => isEqual(both).where(second, beyond, afterSecond));
  };
  if (afterFirst === null) {
    tie((both) => both.whereNull(first));
    if (direction === 'asc') any.orWhereNotNull(first);
    return;
  }
  any.where(first, beyond, afterFirst);
  tie((both) => both.where(first, afterFirst));
  if (direction === 'desc' && first === 't.state_at') any.orWhereNull(first);
}

/** `t.live = 1`, or `t.list_status = 3`, or `t.list_status = 3 and t.live = 1` */
export function ofStatus(status: StatusEquality): Readonly<Record<string, number>> {
  return Object.fromEntries(Object.entries(status).map(([column, value]) => [`t.${column}`, value]));
}

/** Columns of the key of a branch's tasks, or of its order, under the names that they have in `workspace_tasks`. */
function keysOf(
  branch: Branch,
  { filter, order }: { readonly filter: BoundFilter; readonly order?: ListOrder },
  columns: readonly string[],
): string[] {
  const ofAcl = isOfAclAlone(branch, filter, order);
  return columns.map((column) => (!ofAcl ? `t.${column}` : column === 'id' ? 's.task_id as id' : `s.${column}`));
}

/**
 * Looks up the tasks of a few rows: `… straight_join workspace_tasks as t force index (primary) on t.owner_id = s.owner_id and t.id =
 * s.task_id`. Where few tasks have the status that is asked for, MariaDB reads all these for each of the rows, if it may.
 */
function joinTasks(query: Knex.QueryBuilder, rows: 's' | 'n'): void {
  query.joinRaw('straight_join ?? as ?? force index (primary) on ?? = ?? and ?? = ??', [
    'workspace_tasks',
    't',
    ...taskKeys(rows),
  ]);
}

function taskKeys(rows: 's' | 'n'): string[] {
  return ['t.owner_id', `${rows}.owner_id`, 't.id', `${rows}.task_id`];
}
