import type { Database } from '../db/connection.ts';
import { enqueueAll, taskIdsAfter, tasksOf } from '../schema/outbox.ts';
import { followTaskSource } from '../schema/task-source.ts';
import {
  addDeadLetter,
  changeOfTask,
  type DeadLetter,
  processOrDeadLetter,
  readDeadLetters,
  removeDeadLetter,
  removeDeadLetters,
} from './dead-letters.ts';
import { startGeneration, writeReadModel } from './feed.ts';
import { projectTasks } from './read-model.ts';

/** Options of a rebuild. */
interface RebuildOptions {
  /** Called after each transaction with the number of workspaces that are done. */
  readonly onProgress?: (workspaces: number) => void;
}

/** The result of a rebuild. */
interface RebuildResult {
  /** Workspaces that were compared. */
  readonly workspaces: number;
  /** Tasks whose row was inserted, updated or deleted. */
  readonly changed: number;
  /** Workspaces that could not be projected, and are in `workspace_changes_failed`. */
  readonly deadLetters: number;
}

/** Workspaces in one transaction, for which the active projector waits, two seconds at most. */
const workspacesPerTransaction = 200;

/**
 * Projects all workspaces and removes rows of workspaces that are gone: after a restore, after a time without triggers, and for a
 * first load.
 *
 * It may run beside an active projector, and may be interrupted and run again. The feed starts a new generation, so that watchers
 * cannot resume and start over.
 */
export async function projectAll(database: Database, { onProgress }: RebuildOptions = {}): Promise<RebuildResult> {
  if (await followTaskSource(database)) await enqueueAll(database); // for the projector, which may be another version's
  await startGeneration(database);
  let workspaces = 0;
  let changed = 0;
  let deadLetters = 0;
  let after: Buffer | undefined;
  for (;;) {
    const ids = await taskIdsAfter(database, after, workspacesPerTransaction);
    after = ids.at(-1);
    if (after === undefined) return { workspaces, changed, deadLetters };
    await processOrDeadLetter(
      ids,
      async (some, begin) => {
        const written = await writeReadModel(database, undefined, async (transaction) => {
          begin();
          const changes = await projectTasks(transaction, some);
          await removeDeadLetters(transaction, some);
          return changes;
        });
        changed += written.events.length;
      },
      async (ref, error) => {
        await addDeadLetter(database, await changeOfTask(database, ref), error);
        deadLetters += 1;
      },
      { patient: true },
    );
    workspaces += ids.length;
    onProgress?.(workspaces);
  }
}

/** The result of trying dead letters again. */
interface RetryResult {
  /** Dead letters that were tried. */
  readonly tried: number;
  /** Those of them that still cannot be projected. */
  readonly left: readonly DeadLetter[];
}

/** Tries to project each dead letter again, by itself. It may run beside an active projector. */
export async function retryDeadLetters(database: Database): Promise<RetryResult> {
  const letters = await readDeadLetters(database);
  for (const letter of letters) {
    await processOrDeadLetter(
      [letter],
      async (_letters, begin) => {
        await writeReadModel(database, undefined, async (transaction) => {
          begin();
          const ids = await tasksOf(transaction, [letter]);
          const changes = await projectTasks(transaction, ids);
          await removeDeadLetters(transaction, ids);
          await removeDeadLetter(transaction, letter);
          return changes;
        });
      },
      (_letter, error) => addDeadLetter(database, letter, error),
      { patient: true },
    );
  }
  const tried = new Set(letters.map(keyOf));
  return { tried: tried.size, left: (await readDeadLetters(database)).filter((letter) => tried.has(keyOf(letter))) };
}

function keyOf({ kind, ref }: DeadLetter): string {
  return `${kind} ${ref.toString('hex')}`;
}
