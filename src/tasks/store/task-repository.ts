import type { Database } from '../../db/connection.ts';
import { foldCase } from '../../db/letter-case.ts';
import type { Statement } from '../../db/read-rows.ts';
import { readRows } from '../../db/read-rows.ts';
import type { Scope } from '../scope.ts';
import { deletedStatus } from './branches.ts';
import { addCounts, type CountCells, type KindCounts } from './count-query.ts';
import { type ListOrder, type Position, positionOf } from './list-order.ts';
import { createFindRareTrigrams } from './name-trigrams.ts';
import { type ActivityHistory, addOverTime } from './over-time-query.ts';
import { type ReadByIds, readTogether } from './read-together.ts';
import type { TaskRow } from './tables.ts';
import type { TaskFilter } from './task-filter.ts';
import { longTextBytes, type TaskCells, taskRow } from './task-row.ts';
import { createTaskStatements } from './task-statements.ts';
import type { ValueCells, ValueKey } from './value-query.ts';

/** Which tasks a page has: filter, order, and where it starts. */
export interface PageSelection {
  readonly filter: TaskFilter;
  readonly order: ListOrder;
  readonly after?: Position;
  /** Most tasks of the page. */
  readonly limit: number;
}

/** The tasks of a page. It may have fewer than its limit, even none, and not be the last. */
interface ListedPage {
  readonly rows: readonly TaskRow[];
  /** The position behind which the next page starts. Absent on the last page. */
  readonly next?: Position;
}

/**
 * Reads tasks from the read model. Each method is one statement, which ends when its signal is aborted; a list that has long texts
 * reads these by one more.
 */
export interface TaskRepository {
  /** A page of the tasks that the scope may read, in order, which ends before it has too many bytes. */
  list(scope: Scope, selection: PageSelection, signal?: AbortSignal): Promise<ListedPage>;
  /** How many tasks a filter means within the scope, counted up to a limit. */
  count(scope: Scope, filter: TaskFilter, limit: number, signal?: AbortSignal): Promise<number>;
  /** How many tasks a filter means within the scope, in all and by their kinds, each counted up to a limit, or further. */
  countKinds(scope: Scope, filter: TaskFilter, signal?: AbortSignal): Promise<KindCounts>;
  /** How many tasks a filter means within the scope that wait, work and are failed, and what has changed since a time, in UTC. */
  countOverTime(scope: Scope, filter: TaskFilter, from: string, signal?: AbortSignal): Promise<ActivityHistory | undefined>;
  /** Values of a key of a query, of tasks that are not deleted and the scope may read, by what they begin with, and one more than fit. */
  values(scope: Scope, key: ValueKey, prefix: string, signal?: AbortSignal): Promise<readonly ValueCells[]>;
  /** The ids of the tasks that a filter means within the scope, as many as a limit, in no order. */
  ids(scope: Scope, filter: TaskFilter, limit: number, signal?: AbortSignal): Promise<Buffer[]>;
  /** The task with an id, if the scope may read it. Deleted ones too. */
  getById(scope: Scope, id: Buffer, signal?: AbortSignal): Promise<TaskRow | undefined>;
  /** The task that is not deleted with an owner and a folded name, if the scope may read it. */
  getByName(scope: Scope, owner: Buffer | string, name: string, signal?: AbortSignal): Promise<TaskRow | undefined>;
}

/**
 * Reads tasks by prepared statements.
 *
 * @param agentInactiveSeconds how long an agent may be silent and still counts as connected.
 */
export function createTaskRepository(database: Database, agentInactiveSeconds: number): TaskRepository {
  const statements = createTaskStatements(database, agentInactiveSeconds);
  const findRareTrigrams = createFindRareTrigrams(database);
  const rareTrigramsOf = async (
    { name, status, ids }: TaskFilter,
    signal?: AbortSignal,
  ): Promise<readonly Buffer[] | undefined> =>
    // A deleted task has none, and a few ids are found faster by themselves.
    name === undefined || status === deletedStatus || ids !== undefined ? undefined : findRareTrigrams(name, signal);

  const readTasks = async (statement: Statement | undefined, signal: AbortSignal | undefined): Promise<TaskRow[]> =>
    statement === undefined ? [] : (await readRows<TaskCells>(database, statement, signal)).map(taskRow);

  const readByIds: ReadByIds = (scope, ids, signal) => readTasks(statements.byIds(scope, ids), signal);

  /** The rows with their long texts. What is gone meanwhile is left out. */
  const withLongTexts = async (scope: Scope, rows: readonly TaskRow[], signal?: AbortSignal): Promise<readonly TaskRow[]> => {
    const ids = rows.filter(hasLongTexts).map(({ id }) => id);
    if (ids.length === 0) return rows;
    const whole = new Map((await readByIds(scope, ids, signal)).map((row) => [keyOf(row), row]));
    return rows.flatMap((row) => {
      if (!hasLongTexts(row)) return [row];
      const found = whole.get(keyOf(row));
      if (found === undefined) return [];
      const { prompt, state_message, state_uri, texts_bytes } = found;
      return [{ ...row, prompt, state_message, state_uri, texts_bytes }];
    });
  };

  return {
    async list(scope, { filter, order, after, limit }, signal) {
      const nameTrigrams = await rareTrigramsOf(filter, signal);
      // One row more shows whether there is a next page, without an empty last one.
      const found = await readTasks(statements.list({ scope, filter, order, after, nameTrigrams }, limit + 1), signal);
      const listed = found.slice(0, Math.min(limit, rowsInPage(found)));
      const read = await withLongTexts(scope, listed, signal);
      const rows = read.slice(0, rowsInPage(read)); // a text may have grown meanwhile
      // Behind the last row that was listed, also if it is gone: what follows it has not been read.
      const last = rows.length < read.length ? rows.at(-1) : listed.at(-1);
      const isLast = rows.length === read.length && listed.length === found.length;
      return last === undefined || isLast ? { rows } : { rows, next: positionOf(last, order) };
    },

    async count(scope, filter, limit, signal) {
      const nameTrigrams = await rareTrigramsOf(filter, signal);
      const statement = statements.count({ scope, filter, order: 'created_at', nameTrigrams }, limit);
      const [row] = statement === undefined ? [] : await readRows(database, statement, signal);
      return Math.min(limit, Number(row?.[0] ?? 0));
    },

    async countKinds(scope, filter, signal) {
      const nameTrigrams = await rareTrigramsOf(filter, signal);
      const statement = statements.countKinds({ scope, filter, order: 'created_at', nameTrigrams });
      const rows = statement === undefined ? [] : await readRows<CountCells>(database, statement, signal);
      return addCounts(rows, filter);
    },

    async countOverTime(scope, filter, from, signal) {
      const nameTrigrams = await rareTrigramsOf(filter, signal);
      const statement = statements.countOverTime({ scope, filter, order: 'created_at', nameTrigrams }, from);
      if (statement === undefined) return undefined;
      return addOverTime(await readRows<CountCells>(database, statement, signal), filter);
    },

    async values(scope, key, prefix, signal) {
      const statement = statements.values(scope, key, foldCase(prefix));
      return statement === undefined ? [] : readRows<ValueCells>(database, statement, signal);
    },

    async ids(scope, filter, limit, signal) {
      const nameTrigrams = await rareTrigramsOf(filter, signal);
      const statement = statements.ids({ scope, filter, order: 'created_at', nameTrigrams }, limit);
      const rows = statement === undefined ? [] : await readRows(database, statement, signal);
      return rows.slice(0, limit).map(([id]) => id as Buffer);
    },

    getById: readTogether(readByIds),

    async getByName(scope, owner, name, signal) {
      const statement = statements.byName(scope, Buffer.isBuffer(owner) ? owner : foldCase(owner), foldCase(name));
      return firstById(await readTasks(statement, signal));
    },
  };
}

/** The task of several with one name: Coder has no two, but a copy of it may for a moment. */
function firstById(tasks: readonly TaskRow[]): TaskRow | undefined {
  return tasks.toSorted((a, b) => a.id.compare(b.id))[0];
}

function hasLongTexts({ texts_bytes }: TaskRow): boolean {
  return texts_bytes > longTextBytes;
}

function keyOf({ id }: TaskRow): string {
  return id.toString('latin1');
}

/** A page ends before its encoding passes this: gRPC clients refuse messages over 4 MiB by default. */
export const maxPageBytes = 3 * 1024 * 1024;

/** Bytes of a task beside its long texts: ids, names, times and icons, at their longest, with their tags. */
const otherBytes = 4096;

/** How many rows fit into a page: at least one, so that every list ends. */
function rowsInPage(rows: readonly TaskRow[]): number {
  let used = 0;
  const fitting = rows.findIndex((row, index) => {
    const { prompt, state_message: message, state_uri: uri, owner_avatar_url: avatar, texts_bytes: counted } = row;
    const texts = counted === 0 ? Buffer.byteLength(prompt) + Buffer.byteLength(message) + Buffer.byteLength(uri) : counted;
    used += otherBytes + texts + Buffer.byteLength(avatar ?? '');
    return used > maxPageBytes && index > 0;
  });
  return fitting === -1 ? rows.length : fitting;
}
