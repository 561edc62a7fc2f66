import type { Knex } from 'knex';
import type { Database } from '../../db/connection.ts';
import { foldCase } from '../../db/letter-case.ts';
import type { Statement } from '../../db/read-rows.ts';
import { readRows } from '../../db/read-rows.ts';
import type { Scope, Subject } from '../scope.ts';
import { createFindRareParts, tasksWith } from './name-trigrams.ts';
import { type ReadByIds, readTogether } from './read-together.ts';
import { compileOnce } from './statement-shapes.ts';
import { aclKinds, namedOnlyOffset, type TaskRow, waitingOffset } from './tables.ts';
import { joinNames, longTextBytes, type TaskCells, taskColumns, taskRow } from './task-columns.ts';
import { applyFilter, type TaskFilter } from './task-filter.ts';

/**
 * The orders a list is read in. `key` is favorites, running, name; `run` is running, name: both are one column that ends in the
 * id, so that a position is a single comparison.
 */
export type ListOrder = 'key' | 'run' | 'name' | 'name desc' | 'created_at' | 'created_at desc';

/** The place behind a row in an order: values of the order's columns. */
export type Position = readonly [key: Buffer] | readonly [name: Buffer, id: Buffer] | readonly [createdAt: string, id: Buffer];

/** A page's question: filter, order, and where it starts. */
export interface ListQuestion {
  readonly filter: TaskFilter;
  readonly order: ListOrder;
  readonly after?: Position;
  /** Most rows. */
  readonly limit: number;
  /** Where the page ends, whatever the limit: with the first row that would make it longer. */
  readonly maxBytes?: number;
}

/**
 * Reads tasks from the read model. Each method is one statement, which ends when its signal is aborted; a list that has long texts
 * reads these by one more.
 */
export interface TaskRepository {
  /** The tasks of a page within what the scope may read, in order. */
  list(scope: Scope, question: ListQuestion, signal?: AbortSignal): Promise<TaskRow[]>;
  /** How many tasks a filter means within the scope, counted up to a limit. */
  count(scope: Scope, filter: TaskFilter, limit: number, signal?: AbortSignal): Promise<number>;
  /** The ids of the tasks that a filter means within the scope, as many as a limit, in no order. */
  ids(scope: Scope, filter: TaskFilter, limit: number, signal?: AbortSignal): Promise<Buffer[]>;
  /** The task with an id, if the scope may read it. Deleted ones too. */
  getById(scope: Scope, id: Buffer, signal?: AbortSignal): Promise<TaskRow | undefined>;
  /** The task that is not deleted with an owner and a folded name, if the scope may read it. */
  getByName(scope: Scope, owner: Buffer | string, name: string, signal?: AbortSignal): Promise<TaskRow | undefined>;
}

/** Columns and direction of each order, the suffix of the indexes that serve it, and the column that rows have for it alone. */
const orders = {
  key: { columns: ['own_key'], direction: 'asc', index: 'key', key: 't.own_key' },
  run: { columns: ['run_key'], direction: 'asc', index: 'run', key: 't.run_key' },
  name: { columns: ['name_fold', 'id'], direction: 'asc', index: 'name', key: 't.name_fold' },
  'name desc': { columns: ['name_fold', 'id'], direction: 'desc', index: 'name', key: 't.name_fold' },
  created_at: { columns: ['created_at', 'id'], direction: 'asc', index: 'ct', key: undefined },
  'created_at desc': { columns: ['created_at', 'id'], direction: 'desc', index: 'ct', key: undefined },
} as const;

/** The WorkspaceStatus of what is deleted. */
const deleted = 10;

/** Only starting and running tasks can wait for input. */
const canWait: ReadonlySet<number> = new Set([2, 3]);

/**
 * Above this many branches a union costs more than it saves: then one scan within the statement limit does the work. A branch
 * that finds nothing takes some 0.03 ms of the database and 0.1 ms of ours; people with 50 groups are still below.
 */
const maxBranches = 64;

/** The texts of a question that are values: times, names, and what is looked for. */
const valueTexts = ['after', 'owner', 'name', 'prompt', 'createdAfter', 'createdBefore', 'lastUsedAfter', 'lastUsedBefore'];

/**
 * Reads tasks by statements that Knex writes, once for each shape of question.
 *
 * @param agentInactiveSeconds how long an agent may be silent and still counts as connected.
 */
export function createTaskRepository(database: Database, agentInactiveSeconds: number): TaskRepository {
  const findRareParts = createFindRareParts(database);
  const rareParts = async ({ name, status, ids }: TaskFilter, signal?: AbortSignal): Promise<readonly Buffer[] | undefined> =>
    // A deleted task has none, and a few ids are found faster by themselves.
    name === undefined || status === deleted || ids !== undefined ? undefined : findRareParts(name, signal);

  const list = compileOnce(({ scope, question }: { scope: Scope; question: ListQuestion & Start }) => {
    const { parts, maxBytes } = question;
    const branches =
      parts === undefined ? branchesOf(scope, question.filter, question.order) : namedBranches(scope, question.filter, parts);
    const [only] = branches;
    if (only === undefined) return undefined;
    const query =
      branches.length === 1 && only.parts === undefined && only.subject === undefined
        ? listBranch(database, only, question, agentInactiveSeconds)
        : branches.length > maxBranches
          ? listBranch(database, scanOf(scope, question.filter), question, agentInactiveSeconds)
          : listUnion(database, branches, question, agentInactiveSeconds);
    return joinNames(
      query.select(
        taskColumns(database, agentInactiveSeconds, { sortKey: orders[question.order].key, longTexts: maxBytes === undefined }),
      ),
    );
  }, valueTexts);

  // <branch limit ?> [union <branch limit ?> …] limit ?
  const someIds = ({ scope, filter, limit, parts }: IdsQuestion) => {
    const branches = parts === undefined ? branchesOf(scope, filter, 'created_at') : namedBranches(scope, filter, parts);
    if (branches.length === 0) return undefined;
    return database
      .union(
        branches.map((branch) =>
          branchRows(database, branch, agentInactiveSeconds)
            .select(keysOf(branch, ['id']))
            .limit(limit),
        ),
        true,
      )
      .limit(limit);
  };
  const ids = compileOnce(someIds, valueTexts);

  // select count(*) as `count` from (<someIds>) as `k`
  const count = compileOnce((question: IdsQuestion) => {
    const counted = someIds(question);
    return counted && database.from(counted.as('k')).count({ count: '*' });
  }, valueTexts);

  // select … from workspace_tasks as t left join … where t.id = ? and (<readable>)
  const byId = compileOnce(({ scope, id }: { scope: Scope; id: Buffer }) =>
    oneTask(database, agentInactiveSeconds, scope).where('t.id', id),
  );

  // … where t.owner_id = ? and t.live = 1 and t.name_fold = ? and (<readable>), the owner found by username if need be
  const byName = compileOnce(
    ({ scope, owner, name }: { scope: Scope; owner: Buffer | string; name: Buffer }) =>
      oneTask(database, agentInactiveSeconds, scope)
        .where(
          't.owner_id',
          Buffer.isBuffer(owner) ? owner : database.from({ u: 'users' }).where('u.username_lower', owner).select('u.id'),
        )
        .where('t.live', 1)
        .where('t.name_fold', name),
    valueTexts,
  );

  // select … from workspace_tasks as t force index (uq_id) left join … where t.id in (…) and (<readable>)
  const byIds = compileOnce(({ scope, ids }: { scope: Scope; ids: readonly Buffer[] }) =>
    oneTask(database, agentInactiveSeconds, scope)
      .fromRaw(database.raw('?? as ?? force index (??)', ['workspace_tasks', 't', 'uq_id']))
      .whereIn('t.id', ids),
  );

  const read = async (statement: Statement | undefined, signal: AbortSignal | undefined): Promise<TaskRow[]> =>
    statement === undefined ? [] : ((await readRows(database, statement, signal)) as unknown as TaskCells[]).map(taskRow);

  const readByIds: ReadByIds = (scope, ids, signal) => {
    const [id] = ids;
    return read(ids.length === 1 && id !== undefined ? byId({ scope, id }) : byIds({ scope, ids: filledUp(ids) }), signal);
  };

  /** The question with where to start from, if few names have the parts of its own. */
  const started = async <Q extends { readonly filter: TaskFilter }>(question: Q, signal?: AbortSignal): Promise<Q & Start> => {
    const parts = await rareParts(question.filter, signal);
    return parts === undefined ? question : { ...question, parts };
  };

  const readList: TaskRepository['list'] = async (scope, question, signal) => {
    const { maxBytes } = question;
    const found = await read(list({ scope, question: await started(question, signal) }), signal);
    if (maxBytes === undefined) return found;
    const rows = found.slice(0, rowsWithin(found, maxBytes) + 1);
    const ids = rows.flatMap(({ id, texts_bytes }) => (texts_bytes > longTextBytes ? [id] : []));
    if (ids.length === 0) return rows;
    const long = new Map((await readByIds(scope, ids, signal)).map((row) => [row.id.toString('hex'), row]));
    if (long.size === ids.length) {
      return rows.map((row) => ({ ...row, ...textsOf(long.get(row.id.toString('hex')) ?? row) }));
    }
    // One has gone meanwhile. That is rare enough to begin again, with all texts.
    const { maxBytes: _, ...whole } = question;
    return readList(scope, whole, signal);
  };

  return {
    list: readList,

    async count(scope, filter, limit, signal) {
      const statement = count(await started({ scope, filter, limit }, signal));
      const [row] = statement === undefined ? [] : await readRows(database, statement, signal);
      return Number(row?.[0] ?? 0);
    },

    async ids(scope, filter, limit, signal) {
      const statement = ids(await started({ scope, filter, limit }, signal));
      return statement === undefined ? [] : (await readRows(database, statement, signal)).map(([id]) => id as Buffer);
    },

    getById: readTogether(readByIds),

    async getByName(scope, owner, name, signal) {
      const folded = { owner: Buffer.isBuffer(owner) ? owner : foldCase(owner), name: Buffer.from(foldCase(name)) };
      return (await read(byName({ scope, ...folded }), signal))[0];
    },
  };
}

/** As many ids as a power of two, with ids that no task has: else each number of them would be a statement to write and to prepare. */
function filledUp(ids: readonly Buffer[]): readonly Buffer[] {
  const size = 2 ** Math.ceil(Math.log2(ids.length));
  return [...ids, ...noTasks.slice(ids.length, size)];
}
const noTasks = Array.from({ length: 256 }, (_, number) => Buffer.concat([Buffer.alloc(15), Buffer.of(number)]));

/** Parts of the name that is asked for, if few tasks have them together: the search starts from these. */
interface Start {
  readonly parts?: readonly Buffer[];
}

interface IdsQuestion extends Start {
  readonly scope: Scope;
  readonly filter: TaskFilter;
  readonly limit: number;
}

function textsOf({ prompt, state_message, state_uri }: TaskRow): Pick<TaskRow, 'prompt' | 'state_message' | 'state_uri'> {
  return { prompt, state_message, state_uri };
}

/** `select … from workspace_tasks as t left join … where (<readable>)` */
function oneTask(database: Database, agentInactiveSeconds: number, scope: Scope): Knex.QueryBuilder {
  const query = database.from({ t: 'workspace_tasks' }).modify(whereInScope, database, scope);
  return joinNames(query.select(taskColumns(database, agentInactiveSeconds)));
}

/** Bytes of a task beside its long texts: ids, names, times and icons, at their longest, with their tags. */
const otherBytes = 4096;

/** How many rows fit into a page of so many bytes: at least one, so that every list ends. */
export function rowsWithin(rows: readonly TaskRow[], bytes: number): number {
  let used = 0;
  const fitting = rows.findIndex((row, index) => {
    const { prompt, state_message: message, state_uri: uri, owner_avatar_url: avatar, texts_bytes: counted } = row;
    const texts = counted === 0 ? Buffer.byteLength(prompt) + Buffer.byteLength(message) + Buffer.byteLength(uri) : counted;
    used += otherBytes + texts + Buffer.byteLength(avatar ?? '');
    return used > bytes && index > 0;
  });
  return fitting === -1 ? rows.length : fitting;
}

/** The position of a row in an order. */
export function positionOf(row: TaskRow, order: ListOrder): Position {
  const key = row.sort_key;
  if (key === null) return [row.created_at, row.id];
  return order === 'key' || order === 'run' ? [key] : [key, row.id];
}

/** One way in which a task can be in a list: an equality for each leading column of an index, and what else must hold. */
interface Branch {
  readonly index: string | undefined;
  readonly equal: Readonly<Record<string, Buffer | number>>;
  /** Equalities of which one must hold, where no index is walked for each. */
  readonly statuses?: readonly Readonly<Record<string, number>>[];
  /** What makes a task readable where the equalities do not say so. */
  readonly readable?: Readable;
  /** All that makes a task readable, where no index says any of it. */
  readonly scope?: Scope;
  /** Somebody whose shared tasks are walked, instead of an index of all tasks. */
  readonly subject?: SharedWith;
  /** Parts of the name, whose few tasks are looked at one by one, instead of an index of all tasks. */
  readonly parts?: readonly Buffer[];
  readonly filter: TaskFilter;
}

/** Somebody whom tasks are shared with, for reading or, with `namedOnly`, without. */
interface SharedWith extends Subject {
  readonly namedOnly?: true;
}

/** Tasks of these organizations; and those that are shared within a scope, if one is given. */
interface Readable {
  readonly organizations: readonly Buffer[];
  readonly orSharedIn?: Scope;
}

/**
 * The branches whose union is the list. A caller who may read in several ways has one branch for each way, and each status one
 * or two, because an index serves equalities in order but neither OR nor IN. No branch means that nothing can be read.
 */
function branchesOf(scope: Scope, asked: TaskFilter, order: ListOrder): Branch[] {
  const filter = withinToken(scope, asked);
  const { ownerId, organizationId, templateIds, ids } = filter;
  if (templateIds?.length === 0 || ids?.length === 0) return [];
  const suffix = orders[order].index;
  const statuses = statusesOf(filter);
  if (statuses.length === 0) return []; // nothing that is pending, for one, waits for input
  const shared = ids === undefined ? sharedBranches(scope, filter, statuses) : undefined;
  if (shared !== undefined) return shared;
  const byStatus = statuses !== live;
  // A few ids, or a rare template, are found faster through their own index than by walking the scope's: that choice is the
  // optimizer's.
  const forced = templateIds === undefined && ids === undefined && !(suffix === 'name' && byStatus);
  const walk = (scopeIndex: string, equal: Branch['equal'], readable?: Readable): Branch[] =>
    statuses.map((one) => ({
      index: forced ? `${scopeIndex}${byStatus ? '_st' : ''}_${suffix}` : undefined,
      equal: { ...equal, ...one },
      ...(readable === undefined ? {} : { readable }),
      filter,
    }));

  if (ownerId !== undefined) {
    if (scope.everything) return walk('own', { owner_id: ownerId });
    const organizations = ownerId.equals(scope.userId) ? [...scope.ownIn, ...scope.organizations] : scope.organizations;
    if (organizations.length === 0 && scope.sharedWith.length === 0) return [];
    // One owner's tasks are few enough to walk in their order and look up what is shared; that keeps it one branch.
    return walk('own', { owner_id: ownerId }, { organizations, orSharedIn: scope });
  }
  const wanted = (id: Buffer): boolean => organizationId === undefined || organizationId.equals(id);
  if (scope.everything) return organizationId === undefined ? walk('all', {}) : walk('org', { organization_id: organizationId });
  // Of an organization that is read as a whole, no other way leads to more.
  const others = (id: Buffer): boolean => wanted(id) && !scope.organizations.some((whole) => whole.equals(id));
  const ownIn = scope.ownIn.filter(others);
  return [
    ...(ownIn.length === 0 ? [] : walk('own', { owner_id: scope.userId }, { organizations: ownIn })),
    ...scope.organizations.filter(wanted).flatMap((id) => walk('org', { organization_id: id })),
    // What is shared with somebody is one range, whatever the status: that is looked up in the task.
    ...scope.sharedWith.flatMap((subject): Branch[] => {
      const branch = { index: undefined, equal: {}, statuses, subject, filter };
      if (subject.kind === 'user') return organizationId === undefined || others(organizationId) ? [branch] : [];
      const organizations = reachOf(subject, scope).filter(others);
      return organizations.length === 0 ? [] : [{ ...branch, readable: { organizations } }];
    }),
  ];
}

/**
 * The tasks that a filter wants to be shared with somebody, by the rows that say so: with the right to read, and without. Undefined
 * when it wants no such thing, or what is deleted, of which there are no such rows.
 */
function sharedBranches(scope: Scope, filter: TaskFilter, statuses: NonNullable<Branch['statuses']>): Branch[] | undefined {
  const { sharedWithUserId, ...ofUser } = filter;
  const { sharedWithGroupId, ...ofGroup } = filter;
  if (filter.status === deleted) return undefined;
  const equal = filter.ownerId === undefined ? {} : { owner_id: filter.ownerId };
  const branches = (kind: Subject['kind'], id: Buffer, rest: TaskFilter): Branch[] => {
    const branch = { index: undefined, equal, statuses, filter: rest };
    const isCaller = kind === 'user' && scope.sharedWith.some((one) => one.kind === kind && one.id.equals(id));
    return [
      { ...branch, ...(isCaller ? {} : { scope }), subject: { kind, id } },
      { ...branch, scope, subject: { kind, id, namedOnly: true } },
    ];
  };
  // Where both are asked for, one is walked, and the other looked up.
  if (sharedWithUserId !== undefined) return branches('user', sharedWithUserId, ofUser);
  if (sharedWithGroupId !== undefined) return branches('group', sharedWithGroupId, ofGroup);
  return undefined;
}

/**
 * Too many branches for a union: one walk, in an index of the optimizer's choice, and for each task the question whether it may
 * be read.
 *
 *     from workspace_tasks as t where (t.list_status = ? or …) and (t.owner_id = ? and … or t.organization_id in (…) or exists …)
 */
function scanOf(scope: Scope, asked: TaskFilter): Branch {
  const filter = withinToken(scope, asked);
  const equal = filter.ownerId === undefined ? {} : { owner_id: filter.ownerId };
  return { index: undefined, equal, statuses: statusesOf(filter), scope, filter };
}

/** The tasks with rare parts of a name, of one owner if the filter says so, as one branch: they are few, whatever the scope. */
function namedBranches(scope: Scope, asked: TaskFilter, parts: readonly Buffer[]): Branch[] {
  const branch = { ...scanOf(scope, asked), parts };
  return branch.statuses?.length === 0 ? [] : [branch];
}

/** Where tasks can be shared with a group: wherever the caller is a member, but with Everyone in its own organization alone. */
function reachOf(group: Subject, { memberOf }: Scope): readonly Buffer[] {
  const everyone = memberOf.filter((id) => id.equals(group.id));
  return everyone.length > 0 ? everyone : memberOf;
}

/** The filter, with the ids that the caller's token is good for. */
function withinToken({ onlyIds }: Scope, filter: TaskFilter): TaskFilter {
  if (onlyIds === undefined) return filter;
  const asked = filter.ids;
  return { ...filter, ids: asked === undefined ? onlyIds : onlyIds.filter((id) => asked.some((one) => one.equals(id))) };
}

/** The branches of a list by status: all that are not deleted, or those of a status, waiting for input or not. */
function statusesOf({ status, waiting }: TaskFilter): readonly Readonly<Record<string, number>>[] {
  if (status === undefined && waiting !== true) return live;
  const wanted = status === undefined ? [...canWait] : [status];
  return wanted.flatMap((one) => [
    ...(waiting === true ? [] : [{ list_status: one }]),
    ...(canWait.has(one) && waiting !== false ? [{ list_status: one + waitingOffset }] : []),
  ]);
}
const live: readonly Readonly<Record<string, number>>[] = [{ live: 1 }];

/** Whether the rows of `workspace_task_acl` alone say what is in a branch: their tasks are not deleted, and nothing else is asked. */
function aclSays({ subject, equal, statuses, readable, scope, filter }: Branch): boolean {
  const { organizationId: _, ...others } = filter;
  return (
    subject !== undefined &&
    scope === undefined &&
    readable?.orSharedIn === undefined &&
    statuses === live &&
    Object.keys(equal).length === 0 &&
    Object.values(others).every((value) => value === undefined)
  );
}

/** Columns of the key of a branch's tasks, or of its order, under the names that they have in `workspace_tasks`. */
function keysOf(branch: Branch, columns: readonly string[]): string[] {
  return columns.map((column) => (!aclSays(branch) ? `t.${column}` : column === 'id' ? 's.task_id as id' : `s.${column}`));
}

/**
 * `from workspace_tasks as t force index (…) where t.owner_id = ? and t.live = ? and <readable> and …`, or, of what is shared with
 * somebody, `from workspace_task_acl as s straight_join workspace_tasks as t on … where s.kind = ? and s.subject_id = ? and …`
 */
function branchRows(database: Database, branch: Branch, agentInactiveSeconds: number): Knex.QueryBuilder {
  const { index, equal, statuses, readable, scope, subject, parts, filter } = branch;
  const query = database.queryBuilder();
  if (subject !== undefined) {
    const kind = aclKinds[subject.kind] + (subject.namedOnly === true ? namedOnlyOffset : 0);
    query.from({ s: 'workspace_task_acl' }).where({ 's.kind': kind, 's.subject_id': subject.id });
    if (aclSays(branch)) {
      // from workspace_task_acl as s where s.kind = ? and s.subject_id = ? and s.organization_id in (…)
      const { organizationId } = filter;
      const organizations = readable?.organizations ?? (organizationId === undefined ? undefined : [organizationId]);
      if (organizations !== undefined) query.whereIn('s.organization_id', organizations);
      return query;
    }
    // The optimizer chooses where to start when an owner or a template may have fewer tasks.
    if (filter.ownerId === undefined && filter.templateIds === undefined) joinTasks(query, 's');
    else query.joinRaw('join ?? as ?? on ?? = ?? and ?? = ??', ['workspace_tasks', 't', ...taskKeys('s')]);
  } else if (parts !== undefined) {
    joinTasks(query.from(named(database, parts, filter.ownerId).as('n')), 'n');
  } else if (index === undefined) query.from({ t: 'workspace_tasks' });
  // MariaDB 10.11 prefers `ref` over `range` for a page in the middle and reads the whole scope (550 ms instead of 0.4).
  else query.fromRaw(database.raw('?? as ?? force index (??)', ['workspace_tasks', 't', index]));
  for (const [column, value] of Object.entries(equal)) query.where(`t.${column}`, value);
  if (statuses !== undefined) {
    query.where((any) => {
      for (const one of statuses) {
        any.orWhere((all) => {
          for (const [column, value] of Object.entries(one)) all.where(`t.${column}`, value);
        });
      }
    });
  }
  if (readable !== undefined) query.where((any) => whereReadable(database, any, readable));
  if (scope !== undefined) whereInScope(query, database, scope);
  applyFilter(database, query, filter, agentInactiveSeconds);
  return query;
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

/**
 * The tasks whose names have parts, and those for which nobody has looked yet:
 *
 *     <tasksWith>
 *     union select p.owner_id, p.id as task_id from workspace_tasks as p force index (name_pending) where p.name_pending = 1
 */
function named(database: Database, parts: readonly Buffer[], ownerId: Buffer | undefined): Knex.QueryBuilder {
  const pending = database
    .queryBuilder()
    .fromRaw(database.raw('?? as ?? force index (??)', ['workspace_tasks', 'p', 'name_pending']))
    .where('p.name_pending', 1)
    .select('p.owner_id', 'p.id as task_id');
  return tasksWith(database, parts, ownerId).union(pending);
}

/**
 * `t.organization_id in (…) or exists (select 1 from workspace_task_acl as s where s.task_id = t.id and s.kind = 1 and
 * s.subject_id = ?) or t.organization_id in (…) and exists (… s.kind = 2 and s.subject_id in (…) and
 * (s.subject_id not in (<organizations>) or s.subject_id = t.organization_id))`
 */
function whereReadable(database: Database, any: Knex.QueryBuilder, { organizations, orSharedIn }: Readable): void {
  any.whereIn('t.organization_id', organizations);
  if (orSharedIn === undefined) return;
  const shared = (kind: Subject['kind']) =>
    database
      .from({ s: 'workspace_task_acl' })
      .select(database.raw('1'))
      .whereRaw('?? = ??', ['s.task_id', 't.id'])
      .where('s.kind', aclKinds[kind])
      .whereIn(
        's.subject_id',
        orSharedIn.sharedWith.filter((subject) => subject.kind === kind).map(({ id }) => id),
      );
  const { memberOf } = orSharedIn;
  const sharedWithGroup = shared('group').where((group) =>
    group.whereNotIn('s.subject_id', memberOf).orWhereRaw('?? = ??', ['s.subject_id', 't.organization_id']),
  );
  any.orWhereExists(shared('user')).orWhere((group) => group.whereIn('t.organization_id', memberOf).whereExists(sharedWithGroup));
}

/** A branch from the position on: `… and (t.created_at < ? or (t.created_at = ? and t.id < ?)) order by … limit ?` */
function listBranch(
  database: Database,
  branch: Branch,
  { order, after, limit }: ListQuestion,
  agentInactiveSeconds: number,
): Knex.QueryBuilder {
  const query = branchRows(database, branch, agentInactiveSeconds);
  const { columns, direction, index } = orders[order];
  // What is shared is walked in its own index, which has the order of everyone's lists.
  const walked =
    branch.subject !== undefined && index === 'ct' ? ['s.created_at', 's.task_id'] : columns.map((column) => `t.${column}`);
  const [first, second] = walked;
  if (after !== undefined && first !== undefined) {
    const beyond = direction === 'asc' ? '>' : '<';
    query.where((position) => {
      position.where(first, beyond, after[0]);
      // Never a row constructor: no engine reads (a, b) < (?, ?) as a range.
      if (second !== undefined) {
        position.orWhere((tie) => tie.where(first, after[0]).where(second, beyond, after[1] as Buffer));
      }
    });
  }
  return query.orderBy(walked.map((column) => ({ column, order: direction }))).limit(limit);
}

/**
 * The union of branches, each with all filters and the limit inside, then the rows by primary key:
 *
 *     from ((select t.owner_id, t.id, t.created_at from … limit ?) union (…) order by created_at desc, id desc limit ?) as k
 *     straight_join workspace_tasks as t on t.owner_id = k.owner_id and t.id = k.id … order by k.created_at desc, k.id desc
 */
function listUnion(
  database: Database,
  branches: readonly Branch[],
  question: ListQuestion,
  agentInactiveSeconds: number,
): Knex.QueryBuilder {
  const { columns, direction } = orders[question.order];
  const selected = [...new Set(['owner_id', 'id', ...columns])];
  const sort = (table: string) => columns.map((column) => ({ column: `${table}${column}`, order: direction }));
  const keys = database
    .union(
      branches.map((branch) => listBranch(database, branch, question, agentInactiveSeconds).select(keysOf(branch, selected))),
      true,
    )
    .orderBy(sort(''))
    .limit(question.limit);
  return database
    .from(keys.as('k'))
    .joinRaw('straight_join ?? as ?? on ?? = ?? and ?? = ??', [
      'workspace_tasks',
      't',
      't.owner_id',
      'k.owner_id',
      't.id',
      'k.id',
    ])
    .orderBy(sort('k.'));
}

/** `and (<whereReadable> or (t.owner_id = ? and t.organization_id in (…)))`: for one row, or a walk, an OR is right. */
function whereInScope(query: Knex.QueryBuilder, database: Database, scope: Scope): void {
  if (scope.onlyIds !== undefined) query.whereIn('t.id', scope.onlyIds);
  if (scope.everything) return;
  query.where((any) => {
    whereReadable(database, any, { organizations: scope.organizations, orSharedIn: scope });
    any.orWhere((own) => own.where('t.owner_id', scope.userId).whereIn('t.organization_id', scope.ownIn));
  });
}
