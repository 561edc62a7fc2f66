import { setTimeout as sleep } from 'node:timers/promises';
import type { Database } from '../db/connection.ts';
import type { OutboxChange } from '../schema/outbox.ts';
import { kindOfTasks, readTaskSource } from '../schema/task-source.ts';
import { failureKind } from './failure-kind.ts';

/** How {@link processOrDeadLetter} treats errors that an item may or may not cause, such as a lost connection. */
interface Patience {
  /**
   * Whether it looks for an item that causes them: it splits the items as for an error about the data, and tries a single one
   * {@link mostTries} times. It also tries again when another transaction was first, and in smaller parts when one was refused that
   * may be too large. By default these errors are thrown.
   */
  readonly patient?: boolean;
}

/** How often a single item is tried, and the pause before the second try, which grows with each. */
const mostTries = 4;
const pauseMs = 100;

/** How often items are tried again after another transaction was first. */
const mostConflicts = 20;

/**
 * Processes all items at once. When that fails because of the data of an item, splits the items in halves until the bad ones are
 * found: `deadLetter` is called for each of those, and all others are processed. Any other error, of the server or of the
 * connection, is thrown as it is.
 *
 * @param process calls `begin` when it comes to the items: an error before that is not caused by them.
 */
export async function processOrDeadLetter<T>(
  items: readonly T[],
  process: (items: readonly T[], begin: () => void) => Promise<void>,
  deadLetter: (item: T, error: unknown) => Promise<void>,
  { patient = false }: Patience = {},
): Promise<void> {
  const errors: unknown[] = [];
  for (let conflicts = 0; ; ) {
    let begun = false;
    try {
      return await process(items, () => {
        begun = true;
      });
    } catch (error) {
      const kind = failureKind(error);
      if (patient && kind === 'conflict' && conflicts < mostConflicts) {
        conflicts += 1;
        await sleep(Math.random() * pauseMs * conflicts);
        continue;
      }
      const isOfData = kind === 'row' || kind === 'slow';
      const [first] = items;
      if (patient && kind === 'transient' && items.length > 1) break;
      if (first === undefined || !(isOfData || (patient && begun && kind === 'unclear'))) throw error;
      if (items.length > 1) break;
      errors.push(error);
      if (isOfData || errors.length === mostTries) return await deadLetter(first, errors[0]);
      await sleep(pauseMs * errors.length);
    }
  }
  const middle = Math.ceil(items.length / 2);
  await processOrDeadLetter(items.slice(0, middle), process, deadLetter, { patient });
  await processOrDeadLetter(items.slice(middle), process, deadLetter, { patient });
}

/**
 * An error as log fields: the code and message of an error of the server or of the connection, without the statement that Knex
 * puts in front; any other error as it is.
 */
export function errorForLog(error: unknown): { readonly err: unknown } | { readonly code: unknown; readonly reason: string } {
  const { sqlMessage, code } = Object(error) as { sqlMessage?: unknown; code?: unknown };
  if (typeof sqlMessage === 'string') return { code, reason: sqlMessage };
  if (typeof code !== 'string' || !(error instanceof Error)) return { err: error };
  return { code, reason: error.message.slice(error.message.lastIndexOf(' - ') + 1).replace(/^- /, '') };
}

/** Characters of an error that are kept. */
const maxErrorCharacters = 1000;

/** A change that could not be projected. */
export interface DeadLetter extends Pick<OutboxChange, 'kind' | 'ref'> {
  /** Why not. */
  readonly error: string;
}

/** Records a change that cannot be projected. A later change of the same workspace is tried again. */
export async function addDeadLetter(
  database: Database,
  { kind, ref }: Pick<OutboxChange, 'kind' | 'ref'>,
  error: unknown,
): Promise<void> {
  const brief = errorForLog(error);
  const text = ('reason' in brief ? brief.reason : String(error)).slice(0, maxErrorCharacters);
  await database.raw(
    'insert into `workspace_changes_failed` (`kind`, `ref`, `error`) values (?, ?, ?) ' +
      'on duplicate key update `error` = values(`error`), `failed_at` = utc_timestamp(6)',
    [kind, ref, text],
  );
}

/** The change that stands for a task: of a workspace, or of a row of `tasks`. */
export async function changeOfTask(database: Database, id: Buffer): Promise<Pick<OutboxChange, 'kind' | 'ref'>> {
  return { kind: kindOfTasks[await readTaskSource(database)], ref: id };
}

/** The kinds of {@link changeOfTask}. */
const taskKinds = Object.values(kindOfTasks);

/** Reads all dead letters, the oldest first. */
export async function readDeadLetters(database: Database): Promise<DeadLetter[]> {
  return (await database
    .from({ f: 'workspace_changes_failed' })
    .orderBy('f.failed_at')
    .select('f.kind', 'f.ref', 'f.error')) as DeadLetter[];
}

/** Which of these tasks are dead letters. */
export async function findDeadLetters(database: Database, ids: readonly Buffer[]): Promise<Buffer[]> {
  const rows = (await database
    .from({ f: 'workspace_changes_failed' })
    .whereIn('f.kind', taskKinds)
    .whereIn('f.ref', ids)
    .select('f.ref')) as { ref: Buffer }[];
  return rows.map(({ ref }) => ref);
}

/** Removes the dead letters of tasks that have been projected since. */
export async function removeDeadLetters(database: Database, ids: readonly Buffer[]): Promise<void> {
  if (ids.length === 0) return;
  await database('workspace_changes_failed')
    .whereIn('workspace_changes_failed.kind', taskKinds)
    .whereIn('workspace_changes_failed.ref', ids)
    .delete();
}

/** Removes one dead letter. */
export async function removeDeadLetter(database: Database, { kind, ref }: Pick<DeadLetter, 'kind' | 'ref'>): Promise<void> {
  await database('workspace_changes_failed')
    .where('workspace_changes_failed.kind', kind)
    .where('workspace_changes_failed.ref', ref)
    .delete();
}

/** Counts the dead letters. */
export async function countDeadLetters(database: Database): Promise<number> {
  const [[row]] = (await database.raw('select count(*) as `count` from `workspace_changes_failed`')) as [{ count: number }[]];
  return row?.count ?? 0;
}
