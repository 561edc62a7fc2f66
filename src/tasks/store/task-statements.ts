import type { Database } from '../../db/connection.ts';
import type { Statement } from '../../db/read-rows.ts';
import type { Scope } from '../scope.ts';
import { type Branches, branchesOf, maxBranches, type TaskSelection } from './branches.ts';
import { type BoundScope, bindScope, whereInScope } from './conditions.ts';
import { type CountStructure, countQuery, countStructureOf } from './count-query.ts';
import { listOrders, type Position } from './list-order.ts';
import { bindPosition, createListQueries, type PageStructure } from './list-query.ts';
import { type OverTimeStructure, overTimeQuery, overTimeStructureOf } from './over-time-query.ts';
import { Bindings, createStatementTemplate, type Slot } from './statement-template.ts';
import { joinNames, taskRowColumns } from './task-row.ts';
import { type ValueKey, type ValuesStructure, valuesQuery, valuesStructureOf } from './value-query.ts';

/** Writes the statements that read tasks. Undefined means that nothing can be found. */
interface TaskStatements {
  /** Tasks in order from a position on, without long texts: as many rows as wanted, or some more. */
  list(selection: TaskSelection & { readonly after?: Position | undefined }, rows: number): Statement | undefined;
  /** How many tasks there are, counted up to a number, or a little further. */
  count(selection: TaskSelection, rows: number): Statement | undefined;
  /** How many tasks there are of each kind, as rows that `addCounts` adds up. */
  countKinds(selection: TaskSelection): Statement | undefined;
  /** How many tasks wait, work and are failed, and what has changed since a time, as rows that `addOverTime` adds up. */
  countOverTime(selection: TaskSelection, from: string): Statement | undefined;
  /** Values of a key of a query with a folded prefix, in order: one row more than an answer may have. */
  values(scope: Scope, key: ValueKey, foldedPrefix: string): Statement | undefined;
  /** The ids of tasks in no order: as many rows as wanted, or some more. */
  ids(selection: TaskSelection, rows: number): Statement | undefined;
  /** The tasks with some ids that a scope may read, in no order. */
  byIds(scope: Scope, ids: readonly Buffer[]): Statement;
  /** The task that is not deleted with an owner, by id or folded username, and a folded name, if a scope may read it. */
  byName(scope: Scope, owner: Buffer | string, name: string): Statement;
}

/** The limits that statements have: one row more than pages of usual sizes, and than a total or a watch may have. */
const limits = [11, 26, 51, 101, 201, 10_001];

/** The least of the limits that is enough. A limit stands in the text, where each number would be a statement of its own. */
function limitFor(rows: number): number {
  const limit = limits.find((each) => each >= rows);
  if (limit === undefined) throw new RangeError(`no statement reads ${rows} rows`);
  return limit;
}

/** No kind of task is counted further than this. */
export const maxOfKind = 1000;

/** @param agentInactiveSeconds how long an agent may be silent and still counts as connected. */
export function createTaskStatements(database: Database, agentInactiveSeconds: number): TaskStatements {
  const queries = createListQueries(database, agentInactiveSeconds);

  const list = createStatementTemplate((page: PageStructure) => {
    const sortKey = listOrders[page.order].key;
    return joinNames(queries.page(page).select(taskRowColumns(database, agentInactiveSeconds, { sortKey, longTexts: false })));
  });

  const ids = createStatementTemplate(({ limit, ...branches }: Limited) => queries.ids(branches, limit));

  // select count(*) as `count` from (<ids>) as `k`
  const count = createStatementTemplate(({ limit, ...branches }: Limited) =>
    database.from(queries.ids(branches, limit).as('k')).count({ count: '*' }),
  );

  const countKinds = createStatementTemplate((structure: CountStructure) =>
    countQuery(database, queries, structure, maxOfKind + 1),
  );

  const countOverTime = createStatementTemplate((structure: OverTimeStructure) =>
    overTimeQuery(database, queries, agentInactiveSeconds, structure),
  );

  const values = createStatementTemplate((structure: ValuesStructure) => valuesQuery(database, queries, structure));

  // select … from workspace_tasks as t left join … where (<in scope>)
  const oneTask = (scope: BoundScope) => {
    const query = database.from({ t: 'workspace_tasks' });
    whereInScope(database, query, scope);
    return joinNames(query.select(taskRowColumns(database, agentInactiveSeconds)));
  };

  // … where (<in scope>) and t.id = ?, or of several: … from workspace_tasks as t force index (uq_id) … and t.id in (…)
  const byIds = createStatementTemplate(({ scope, wanted }: { scope: BoundScope; wanted: readonly Slot[] }) => {
    const [id, ...more] = wanted;
    if (id !== undefined && more.length === 0) return oneTask(scope).where('t.id', id);
    return oneTask(scope)
      .fromRaw(database.raw('?? as ?? force index (??)', ['workspace_tasks', 't', 'uq_id']))
      .whereIn('t.id', wanted);
  });

  // … and t.owner_id = ? and t.live = 1 and t.name_fold = ?, the owner found by username if need be:
  // (select min(u.id) from users as u where u.username_lower = ?)
  const byName = createStatementTemplate(({ scope, ownerId, username, name }: NameStructure) =>
    oneTask(scope)
      .where('t.owner_id', ownerId ?? database.from({ u: 'users' }).where('u.username_lower', username).min('u.id'))
      .where('t.live', 1)
      .where('t.name_fold', name),
  );

  return {
    list({ after, ...selection }, rows) {
      const bindings = new Bindings();
      const branches = branchesOf(bindings, selection, maxBranches);
      if (branches === undefined) return undefined;
      const position = after === undefined ? {} : { after: bindPosition(bindings, after) };
      return list({ ...branches, ...position, order: selection.order, limit: limitFor(rows) }, bindings);
    },

    count(selection, rows) {
      const bindings = new Bindings();
      const branches = branchesOf(bindings, selection);
      return branches && count({ ...branches, limit: limitFor(rows) }, bindings);
    },

    countKinds(selection) {
      const bindings = new Bindings();
      const structure = countStructureOf(bindings, selection);
      return structure && countKinds(structure, bindings);
    },

    countOverTime(selection, from) {
      const bindings = new Bindings();
      const structure = overTimeStructureOf(bindings, selection, from);
      return structure && countOverTime(structure, bindings);
    },

    values(scope, key, foldedPrefix) {
      const bindings = new Bindings();
      const structure = valuesStructureOf(bindings, key, scope, foldedPrefix);
      return structure && values(structure, bindings);
    },

    ids(selection, rows) {
      const bindings = new Bindings();
      const branches = branchesOf(bindings, selection);
      return branches && ids({ ...branches, limit: limitFor(rows) }, bindings);
    },

    byIds(scope, wanted) {
      const bindings = new Bindings();
      return byIds({ scope: bindScope(bindings, scope), wanted: bindings.bindList(wanted) }, bindings);
    },

    byName(scope, owner, name) {
      const bindings = new Bindings();
      const bound = bindings.bind(owner);
      const whose = Buffer.isBuffer(owner) ? { ownerId: bound } : { username: bound };
      return byName({ scope: bindScope(bindings, scope), ...whose, name: bindings.bind(Buffer.from(name)) }, bindings);
    },
  };
}

interface Limited extends Branches {
  readonly limit: number;
}

type NameStructure = { readonly scope: BoundScope; readonly name: Slot } & (
  | { readonly ownerId: Slot; readonly username?: never }
  | { readonly ownerId?: never; readonly username: Slot }
);
