import type { Knex } from 'knex';
import type { Database } from '../../db/connection.ts';
import { type Branch, branchesOf, maxBranches, type StatusEquality, statusesOf, type TaskSelection } from './branches.ts';
import { type BoundFilter, type BoundScope, bindFilter, bindScope, whereFilter, whereInScope } from './conditions.ts';
import { activityRanges } from './count-buckets.ts';
import { type CountCells, type CountStructure, countQueries, countStructureOf } from './count-query.ts';
import { type ListQueries, ofStatus } from './list-query.ts';
import type { Bindings, Slot } from './statement-template.ts';
import { activities, activityOf } from './task-activity.ts';

/** How far apart the counts are, in seconds. */
export const stepSeconds = 900;

/** How many counts there are before that of now: the quarters of an hour in 24 hours. */
export const steps = 96;

/** Most transitions that are read, the newest: then the counts begin later. */
export const maxTransitions = 10_000;

/** No activity is counted further than this. */
export const maxOfActivity = 10_000;

/** What is counted over time, without its values. */
export interface OverTimeStructure {
  /** What there is now. */
  readonly now: CountStructure;
  /** The ways to the transitions of the owner, the organization, or everyone, and of what is shared with the caller. */
  readonly ways: readonly Pick<Branch, 'ownerId' | 'organizationId' | 'subject'>[];
  /** What is asked of the task of a transition. */
  readonly scope: BoundScope;
  readonly ownerId?: Slot;
  /** Without any, what is deleted counts, too. */
  readonly statuses: readonly StatusEquality[];
  readonly filter: BoundFilter;
  /** The time of the first count. */
  readonly from: Slot;
}

/** Counts of tasks by their activity: how many there are now, and what has changed since. */
export interface ActivityHistory {
  /** How many there are now, up to {@link maxOfActivity}, or further, in the order of `activities`. */
  readonly now: readonly number[];
  /** How many more tasks became each than ceased to be it, by the step in which that was. */
  readonly growth: ReadonlyMap<number, readonly number[]>;
  /** The second behind which all transitions are known, counted from the first step; without one nothing is known of the past. */
  readonly knownAfter: number | undefined;
}

/**
 * How a selection is counted over time. The transitions come by the ways on which the scope reads tasks; what else is asked is looked up
 * in their tasks, and so are the rights. Undefined means that nothing can be found.
 */
export function overTimeStructureOf(bindings: Bindings, selection: TaskSelection, from: string): OverTimeStructure | undefined {
  const { scope, filter } = selection;
  const { ownerId, organizationId, status, waiting } = filter;
  const now = countStructureOf(bindings, selection);
  const place = { ...(ownerId === undefined ? {} : { ownerId }), ...(organizationId === undefined ? {} : { organizationId }) };
  const ways = branchesOf(bindings, { scope, filter: place, order: 'created_at' }, maxBranches)?.branches;
  if (now === undefined || ways === undefined) return undefined;
  return {
    now,
    ways: ways.map((way) => ({
      ...(way.ownerId === undefined ? {} : { ownerId: way.ownerId }),
      ...(way.organizationId === undefined ? {} : { organizationId: way.organizationId }),
      ...(way.subject === undefined ? {} : { subject: way.subject }),
    })),
    scope: bindScope(bindings, scope),
    ...(ownerId === undefined ? {} : { ownerId: bindings.bind(ownerId) }),
    statuses: status === undefined && waiting !== true ? [] : statusesOf(filter),
    filter: bindFilter(bindings, filter),
    from: bindings.bind(from),
  };
}

/** A count for each of `activities`. */
const none = (): number[] => Object.keys(activities).map(() => 0);

/** The first cells of rows that are no counts. */
const rowKinds = { growth: -2, begin: -3, start: -4 } as const;

/** Adds up the rows of {@link overTimeQuery}. */
export function addOverTime(rows: readonly CountCells[], filter: TaskSelection['filter']): ActivityHistory {
  const ranges = activityRanges(filter);
  const now = none();
  const growth = new Map<number, number[]>();
  let start: number | undefined;
  let begin = Number.NEGATIVE_INFINITY;
  const add = (counts: number[], activity: number, count: number): void => {
    if (activity > 0) counts[activity - 1] = (counts[activity - 1] ?? 0) + count;
  };
  for (const cells of rows) {
    const [place = 0, first = 0, second = 0, third = 0, count = 0] = cells.map(Number);
    if (place === rowKinds.growth) {
      const step = Math.min(first, steps - 1); // the database's clock may be ahead of ours
      const counts = growth.get(step) ?? none();
      growth.set(step, counts);
      add(counts, second, -count);
      add(counts, third, count);
    } else if (place === rowKinds.begin) begin = first;
    else if (place === rowKinds.start) {
      if (cells[1] !== null) start = first;
    } else if (place < 0) add(now, activityOf({ list_status: first, phase: second, state: third }), count);
    else add(now, ranges[place]?.activity ?? 0, count);
  }
  return { now, growth, knownAfter: start === undefined ? undefined : Math.max(start, begin) };
}

/**
 * Writes the statement that counts over time: the counts of now, and the transitions since by the step they were in. One statement sees
 * both in one state of the database.
 *
 *     <counts of now> union all
 *     select -2, timestampdiff(second, ?, c.changed_at) div 900 as step, c.was, c.became, count(*) from (<transitions> limit 10000) as c
 *       straight_join workspace_tasks as t force index (primary) on t.owner_id = c.owner_id and t.id = c.task_id
 *       where <in scope> and <filter> group by step, c.was, c.became union all
 *     select -3, <seconds> from (<transitions> limit 1 offset 10000) as c union all
 *     select -4, <seconds> from projector_state as p where p.id = 1
 */
export function overTimeQuery(
  database: Database,
  queries: ListQueries,
  agentInactiveSeconds: number,
  structure: OverTimeStructure,
): Knex.QueryBuilder {
  const { now, ways, scope, ownerId, statuses, filter, from } = structure;
  return database.unionAll([
    ...countQueries(database, queries, now, activityRanges(now.filter), maxOfActivity + 1),
    growth(),
    database
      .from(transitions(['changed_at', 'seq'], 1, maxTransitions).as('c'))
      .select(secondsOf(rowKinds.begin, 'c.changed_at')),
    database.from({ p: 'projector_state' }).where('p.id', 1).select(secondsOf(rowKinds.start, 'p.transitions_since')),
  ]);

  function growth(): Knex.QueryBuilder {
    const query = database
      .from(transitions(['changed_at', 'seq', 'task_id', 'owner_id', 'was', 'became'], maxTransitions).as('c'))
      .joinRaw('straight_join ?? as ?? force index (primary) on ?? = ?? and ?? = ??', [
        ...['workspace_tasks', 't', 't.owner_id', 'c.owner_id', 't.id', 'c.task_id'],
      ]);
    if (ownerId !== undefined) query.where('t.owner_id', ownerId);
    if (statuses.length > 0) {
      query.where((any) => {
        for (const status of statuses) any.orWhere(ofStatus(status));
      });
    }
    whereInScope(database, query, scope);
    whereFilter(database, query, filter, agentInactiveSeconds);
    return query
      .groupBy('step', 'c.was', 'c.became')
      .select(
        database.raw('? as ??', [rowKinds.growth, 'bucket']),
        database.raw('timestampdiff(second, ?, ??) div ? as ??', [from, 'c.changed_at', stepSeconds, 'step']),
        'c.was',
        'c.became',
        database.raw('count(*) as ??', ['n']),
      );
  }

  /** `-3 as bucket, timestampdiff(second, ?, c.changed_at) as seconds, 0 as was, 0 as became, 0 as n` */
  function secondsOf(kind: number, column: string): Knex.Raw {
    return database.raw('? as ??, timestampdiff(second, ?, ??) as ??, 0 as ??, 0 as ??, 0 as ??', [
      ...[kind, 'bucket', from, column, 'seconds', 'was', 'became', 'n'],
    ]);
  }

  /**
   * The newest transitions, each once, which the time and the number tell apart: `<way limit ?> [union <way limit ?> …] order by
   * changed_at desc limit ?`
   */
  function transitions(columns: readonly string[], limit: number, offset = 0): Knex.QueryBuilder {
    const parts = ways.map((way) =>
      ofWay(way)
        .select(columns.map((column) => `c.${column}`))
        .orderBy('c.changed_at', 'desc')
        .limit(limit + offset),
    );
    const [only, ...others] = parts;
    const newest =
      only !== undefined && others.length === 0
        ? only.limit(limit)
        : database.union(parts, true).orderBy('changed_at', 'desc').limit(limit);
    return offset === 0 ? newest : newest.offset(offset);
  }

  /**
   * `select c.changed_at, … from task_transitions as c force index (own) where c.owner_id = ? and c.changed_at >= ?`, or, of what is
   * shared with somebody, `from workspace_task_acl as s straight_join task_transitions as c force index (task) on c.task_id = s.task_id
   * and c.changed_at >= ? where s.kind = ? and s.subject_id = ?`
   */
  function ofWay(way: OverTimeStructure['ways'][number]): Knex.QueryBuilder {
    const query = database.queryBuilder();
    if (way.subject !== undefined) {
      query
        .from({ s: 'workspace_task_acl' })
        .joinRaw('straight_join ?? as ?? force index (??) on ?? = ?? and ?? >= ?', [
          ...['task_transitions', 'c', 'task', 'c.task_id', 's.task_id', 'c.changed_at', from],
        ])
        .where({ 's.kind': way.subject.kind, 's.subject_id': way.subject.id });
    } else {
      const index = way.ownerId !== undefined ? 'own' : way.organizationId !== undefined ? 'org' : 'primary';
      query
        .fromRaw(database.raw('?? as ?? force index (??)', ['task_transitions', 'c', index]))
        .where('c.changed_at', '>=', from);
      if (way.ownerId !== undefined) query.where('c.owner_id', way.ownerId);
      if (way.organizationId !== undefined) query.where('c.organization_id', way.organizationId);
    }
    return query;
  }
}
