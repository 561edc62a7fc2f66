import type { Database } from '../db/connection.ts';
import { formatUuid } from '../db/uuid.ts';
import type { Logger } from '../platform/log.ts';
import { changesOf, deleteFromOutbox, type OutboxChange, tasksOf } from '../schema/outbox.ts';
import { addDeadLetter, changeOfTask, countDeadLetters, errorForLog } from './dead-letters.ts';
import { writeReadModel } from './feed.ts';

/** What {@link createDeadLetterChange} has of its projector. */
interface DeadLetterParts {
  readonly database: Database;
  readonly epoch: number;
  readonly log: Logger;
  readonly counters: { deadLetters: number };
}

/**
 * Makes the workspaces of a change dead letters, and takes them from the outbox.
 *
 * @param read changes that had been read before it was tried.
 * @returns those that were taken from the outbox: a workspace has several when it is new.
 */
type DeadLetterChange = (change: OutboxChange, error: unknown, read: readonly OutboxChange[]) => Promise<readonly OutboxChange[]>;

/** Makes what makes dead letters, for the active projector. */
export function createDeadLetterChange({ database, epoch, log, counters }: DeadLetterParts): DeadLetterChange {
  return async (change, error, read) => {
    let taken: readonly OutboxChange[] = [];
    let letters: readonly Pick<OutboxChange, 'kind' | 'ref'>[] = [];
    await writeReadModel(database, epoch, async (transaction) => {
      const ids = await tasksOf(transaction, [change]);
      letters = ids.length === 0 ? [change] : await Promise.all(ids.map((id) => changeOfTask(transaction, id)));
      for (const letter of letters) await addDeadLetter(transaction, letter, error);
      taken = ids.length === 0 ? [change] : await changesOf(transaction, read, ids);
      await deleteFromOutbox(transaction, taken);
      counters.deadLetters = await countDeadLetters(transaction); // before others see that the outbox is empty
      return [];
    });
    for (const { kind, ref } of letters) {
      log.error(
        { ...errorForLog(error), kind, ref: formatUuid(ref) },
        'a workspace cannot be projected and is a dead letter now',
      );
    }
    return taken;
  };
}
