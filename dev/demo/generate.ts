import type { Database } from '../../src/db/connection.ts';
import { projectAll } from '../../src/projection/rebuild.ts';
import { deleteFromOutbox, enqueueWorkspaces, outboxBatchSize, outboxLagMs } from '../../src/schema/outbox.ts';
import { outboxBypass } from '../../src/schema/triggers.ts';
import { writeGeneratedPeople } from './generated-people.ts';
import { addGeneratedTask, taskIds } from './generated-task.ts';
import { insertRows, noRows, presentIds, sourceTables } from './source-rows.ts';

/** What to generate. */
export interface GenerateOptions {
  /** The total number of tasks of this seed, from 0 to 10,000,000. */
  readonly tasks: number;
  /** A whole number from 0 to 2,147,483,647. */
  readonly seed: number;
  /** Called with the number of completed tasks, about four times a second and once at the end. */
  readonly onProgress?: ((done: number, total: number) => void) | undefined;
}

/**
 * Generates tasks for benchmarks and completes the read model. Returns the number of tasks that it added.
 *
 * Task number i of a seed always has the same ids, texts and times, whatever the number of tasks. So a call adds only the tasks
 * that are missing, also after an interrupted one. Times are in the half year before November 2026, so that runs can be compared;
 * agents count as disconnected.
 *
 * About every seventh task belongs to `user-00001`. The others have one owner per dozen tasks: a few owners have many tasks and
 * most have few. Owners belong to the organizations `org-01` to `org-08`, nearly half of them to the first; `user-00002` to
 * `user-00009` are the admins of these. The tasks do not conflict with the demo data, or with those of another seed, which has
 * the same users.
 *
 * Rows are written in one transaction per 500 tasks, on three connections of the pool.
 *
 * @throws {RangeError} for a number or a seed out of bounds.
 */
export async function generateTasks(database: Database, { tasks, seed, onProgress }: GenerateOptions): Promise<number> {
  wholeNumber('tasks', tasks, 10_000_000);
  wholeNumber('seed', seed, 2 ** 31 - 1);
  await writeGeneratedPeople(database, tasks);
  const show = progressOf(tasks, onProgress);
  const notes: number[] = [];
  let written = 0;
  let next = 0;
  const write = async (): Promise<void> => {
    for (let from = next; from < tasks; from = next) {
      next += tasksPerTransaction;
      const to = Math.min(next, tasks);
      notes.push(...(await writeTasks(database, seed, from, to)));
      written += to - from;
      show(writingShare * (written / tasks));
    }
  };
  const stop = (error: unknown): never => {
    next = tasks;
    throw error;
  };
  // An error is thrown after all connections have stopped writing.
  const ends = await Promise.allSettled(Array.from({ length: connections }, () => write().catch(stop)));
  for (const end of ends) if (end.status === 'rejected') throw end.reason;
  if (notes.length === 0 && (await outboxLagMs(database)) === undefined) {
    onProgress?.(tasks, tasks); // nothing was added, and no earlier call ended before this
    return 0;
  }
  const onProject = (workspaces: number) => show(writingShare + (1 - writingShare) * Math.min(0.99, workspaces / tasks));
  await analyze(database, sourceTables);
  await projectAll(database, { onProgress: onProject });
  await analyze(database, ['workspace_tasks', 'workspace_task_acl']);
  await removeNotes(database, notes);
  onProgress?.(tasks, tasks);
  return notes.length;
}

/** Two keep a server on two cores busy; for a third this process makes rows meanwhile. */
const connections = 3;

/** Tasks in one transaction, about 5,000 rows: enough to make commits cheap, and still short. */
const tasksPerTransaction = 500;

/** The share of the time that the source tables take; the rest is for the read model. */
const writingShare = 0.35;

/** Milliseconds between two calls of `onProgress`. */
const progressIntervalMs = 250;

/** Returns a function that takes the completed share of the work and calls `onProgress` from time to time. */
function progressOf(total: number, onProgress: GenerateOptions['onProgress']): (share: number) => void {
  let told = performance.now();
  return (share) => {
    if (performance.now() - told < progressIntervalMs) return;
    told = performance.now();
    onProgress?.(Math.floor(share * total), total);
  };
}

/**
 * Updates the statistics of the optimizer. The server does that only some time after a load, and until then it may scan a table
 * to find one row.
 */
async function analyze(database: Database, tables: readonly string[]): Promise<void> {
  await database.raw('analyze table ??', [[...tables]]);
}

/**
 * Writes the missing tasks of a range in one transaction, and returns the sequence numbers of their rows in the outbox.
 *
 * The triggers would write each task to the outbox ten times, and the projector would project them all again. So the session
 * turns them off and writes each workspace once: if this process ends early, a projector completes the read model.
 */
async function writeTasks(database: Database, seed: number, from: number, to: number): Promise<number[]> {
  const numbers = Array.from({ length: to - from }, (_, index) => from + index);
  const ids = numbers.map((task) => taskIds(seed, task)());
  const present = await presentIds(database, 'workspaces', ids);
  const rows = noRows();
  for (const [index, task] of numbers.entries()) {
    if (!present.has(ids[index]?.toString('hex') ?? '')) addGeneratedTask(rows, seed, task);
  }
  if (rows.workspaces.length === 0) return [];
  return await database.transaction(async (transaction) => {
    await transaction.raw(`set @${outboxBypass} = 1`);
    try {
      await insertRows(transaction, rows);
      return await noteOnce(
        transaction,
        rows.workspaces.map(({ id }) => id as Buffer),
      );
    } finally {
      await transaction.raw(`set @${outboxBypass} = null`);
    }
  });
}

/** Writes new workspaces to the outbox, and returns the sequence numbers of the rows. */
async function noteOnce(transaction: Database, ids: readonly Buffer[]): Promise<number[]> {
  const [newest] = await transaction('workspace_changes').max<{ seq: number | null }[]>({ seq: 'workspace_changes.seq' });
  await enqueueWorkspaces(transaction, ids);
  const notes = await transaction('workspace_changes')
    .where('workspace_changes.seq', '>', newest?.seq ?? 0)
    .whereIn('workspace_changes.ref', ids)
    .select<{ seq: number }[]>('workspace_changes.seq');
  return notes.map(({ seq }) => seq);
}

/** Deletes the rows of workspaces that have been projected since, see `deleteFromOutbox`. */
async function removeNotes(database: Database, notes: readonly number[]): Promise<void> {
  for (let from = 0; from < notes.length; from += outboxBatchSize) {
    await deleteFromOutbox(
      database,
      notes.slice(from, from + outboxBatchSize).map((seq) => ({ seq })),
    );
  }
}

function wholeNumber(name: string, value: number, most: number): void {
  if (Number.isInteger(value) && value >= 0 && value <= most) return;
  throw new RangeError(`${name} must be a whole number from 0 to ${most}`);
}
