import { randomBytes } from 'node:crypto';
import type { Database } from '../db/connection.ts';
import { formatUuid } from '../db/uuid.ts';
import type { Logger } from '../platform/log.ts';
import { enqueueTasks, pendingTasks, taskIdsAfter } from '../schema/outbox.ts';
import {
  addDeadLetter,
  changeOfTask,
  countDeadLetters,
  errorForLog,
  findDeadLetters,
  processOrDeadLetter,
  removeDeadLetters,
} from './dead-letters.ts';
import { failureKind } from './failure-kind.ts';
import { type EventBatch, writeReadModel } from './feed.ts';
import { applyDifferences, batchesOf, compareTasks, differingColumns } from './read-model.ts';

/** What the sweep has of its projector. */
export interface SweepParts {
  readonly log: Logger;
  /** The shortest time of a sweep through all workspaces, in milliseconds; Infinity disables it, and with 0 it does not pause. */
  readonly passMs: number;
  /** The figures that it keeps up. */
  readonly counters: { swept: number; repairs: number; deadLetters: number };
  /** Is told what was written. */
  tell(written: EventBatch): void;
}

/** How many workspaces the sweep compares at once, and the shortest pause after that, in milliseconds. */
const sweepWorkspaces = 50;
const sweepPauseMs = 200;

/**
 * How many times as long as it worked the sweep pauses: it takes about 3% of a core after it has found something, until it has seen
 * all workspaces without finding any more, and 0.25% otherwise.
 */
const restTimes = { lively: 30, calm: 400 };

/**
 * Compares all workspaces with the read model again and again, some at a time, and repairs what differs although no change in the
 * outbox explains it. It also tries dead letters again.
 *
 * It goes on where it was after the connection is lost, behind the workspaces with which that happened. These are written to the
 * outbox, where a batch that fails is taken apart.
 */
export class Sweep {
  readonly #parts: SweepParts;
  /** The last workspace of the slice before. Not always the same ones come first. */
  #after: Buffer | undefined = randomBytes(16);
  #dueAt: number;
  #passAt: number;
  /** Whether this pass began at the first workspace, and how many repairs there were before it. */
  #isWhole = false;
  #repairsBefore: number;
  /** Whether nothing was found, at all or since a whole pass. */
  #isCalm = true;
  /** Workspaces that failed together: nobody knows yet which of them. */
  #failed: readonly Buffer[] = [];

  constructor(parts: SweepParts) {
    this.#parts = parts;
    this.#repairsBefore = parts.counters.repairs;
    this.#passAt = performance.now();
    this.#dueAt = parts.passMs === Number.POSITIVE_INFINITY ? parts.passMs : this.#passAt;
  }

  /** Whether the next slice is due. */
  get isDue(): boolean {
    return performance.now() >= this.#dueAt;
  }

  /** Sweeps the next slice. */
  async run(database: Database, epoch: number): Promise<void> {
    const began = performance.now();
    try {
      await this.#sweepSlice(database, epoch);
    } finally {
      this.#noteCalm();
      const rest = this.#isCalm ? restTimes.calm : restTimes.lively;
      const pauseMs = this.#parts.passMs === 0 ? 0 : Math.max(sweepPauseMs, rest * (performance.now() - began));
      this.#dueAt = began + pauseMs;
      if (this.#after === undefined) {
        this.#dueAt = Math.max(this.#dueAt, this.#passAt + this.#parts.passMs);
        this.#passAt = this.#dueAt;
      }
    }
  }

  /** Notes after a slice whether there is reason to look at the next ones soon. */
  #noteCalm(): void {
    const { repairs, deadLetters } = this.#parts.counters;
    const foundSomething = repairs > this.#repairsBefore || deadLetters > 0;
    if (foundSomething) this.#isCalm = false;
    if (this.#after !== undefined) return;
    if (this.#isWhole && !foundSomething) this.#isCalm = true;
    this.#isWhole = true;
    this.#repairsBefore = repairs;
  }

  async #sweepSlice(database: Database, epoch: number): Promise<void> {
    const { counters } = this.#parts;
    await enqueueTasks(database, this.#failed);
    this.#failed = [];
    const ids = await taskIdsAfter(database, this.#after, sweepWorkspaces);
    this.#after = ids.length < sweepWorkspaces ? undefined : ids.at(-1);
    // A dead letter by itself: what it does must not befall the others again.
    const single = counters.deadLetters === 0 ? [] : await findDeadLetters(database, ids);
    const together = ids.filter((id) => !single.some((one) => one.equals(id)));
    const slow: Buffer[] = [];
    this.#failed = together;
    for await (const part of batchesOf(database, together)) {
      await processOrDeadLetter(
        part,
        async (some) => {
          try {
            await this.#repair(database, epoch, some);
          } catch (error) {
            if (failureKind(error) !== 'slow') throw error;
            slow.push(...some);
          }
        },
        (ref, error) => this.#deadLetter(database, epoch, ref, error, 'a workspace cannot be projected and is a dead letter now'),
      );
    }
    this.#failed = slow;
    for (const id of single) {
      await processOrDeadLetter(
        [id],
        (some) => this.#repair(database, epoch, some),
        (ref, error) =>
          this.#deadLetter(database, epoch, ref, error, 'a workspace still cannot be projected and stays a dead letter'),
      );
    }
    if (counters.deadLetters > 0) counters.deadLetters = await countDeadLetters(database);
  }

  /** The sources are read before the outbox, so a change that is visible in them is also in the outbox. */
  async #repair(database: Database, epoch: number, some: readonly Buffer[]): Promise<void> {
    const { log, counters, tell } = this.#parts;
    let repaired = 0;
    const written = await writeReadModel(database, epoch, async (transaction) => {
      const differences = await compareTasks(transaction, [...some]);
      if (differences.length === 0) {
        if (counters.deadLetters === 0) return undefined;
        await removeDeadLetters(transaction, some); // they match their sources now, whatever failed before
        return [];
      }
      const waiting = await pendingTasks(
        transaction,
        differences.map(({ id }) => id),
      );
      const wrong = differences.filter(({ id }) => !waiting.has(id.toString('hex')));
      if (wrong.length === 0) return undefined;
      for (const { id, stored, expected, aclDiffers } of wrong) {
        const columns = [...differingColumns(stored.row, expected.row), ...(aclDiffers ? ['acl'] : [])];
        log.warn({ task: formatUuid(id), columns }, 'the sweep found a task that was not what its sources say');
      }
      repaired = wrong.length;
      const changes = await applyDifferences(transaction, wrong);
      if (counters.deadLetters > 0) await removeDeadLetters(transaction, some);
      return changes;
    });
    counters.swept += some.length;
    counters.repairs += repaired;
    tell(written);
  }

  async #deadLetter(database: Database, epoch: number, ref: Buffer, error: unknown, message: string): Promise<void> {
    const { log, counters } = this.#parts;
    await writeReadModel(database, epoch, async (transaction) => {
      await addDeadLetter(transaction, await changeOfTask(transaction, ref), error);
      return [];
    });
    counters.deadLetters = await countDeadLetters(database);
    log.error({ ...errorForLog(error), ref: formatUuid(ref) }, message);
  }
}
