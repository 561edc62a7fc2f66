import type { OutboxChange } from '../schema/outbox.ts';
import type { FailureKind } from './failure-kind.ts';

/** Changes that failed together: perhaps because of one of them. */
interface FailedBatch {
  readonly seqs: ReadonlySet<number>;
  /** What the batch failed with; for a single change, the first time it was tried alone. */
  readonly error: unknown;
  /**
   * How often a single change has failed alone by an error that it may cause; Infinity when nothing but its data can be the cause.
   */
  readonly times: number;
  /** How many batches had been projected before it failed alone for the first time. */
  readonly projected: number;
  /** All changes that had been read from the outbox before. */
  readonly read: ReadonlySet<number>;
}

/** A change that keeps failing by itself. */
interface FoundChange {
  readonly change: OutboxChange;
  /** Its first error. */
  readonly error: unknown;
  /** Tells of a change whether it had been read before this one failed for the last time. */
  wasRead(change: OutboxChange): boolean;
}

/** Of a batch that failed, a part of this size is tried next: an eighth. So one of 500 changes is found by three more failures. */
const parts = 8;

/**
 * How often a change must fail by itself before it becomes a dead letter for an error that may have other causes: where other
 * changes are projected in between, and where there are no others.
 */
const timesAmongOthers = 5;
const timesAlone = 15;

/**
 * Finds the change that makes a batch fail, when each failure costs a connection or the time of a statement limit. It remembers
 * what failed, also while the projector connects anew, and tries smaller parts of it. In between it lets other changes through, so
 * that they do not wait for it.
 */
export class FailedBatches {
  #failed: FailedBatch[] = [];
  #read: ReadonlySet<number> = new Set();
  #othersAreNext = false;
  #projected = 0;

  /**
   * The changes to project next: of the ones that were read, those that have not failed, or a part of those that have.
   *
   * @param changes what the outbox has now. What failed and is not in it is forgotten.
   */
  next(changes: readonly OutboxChange[]): readonly OutboxChange[] {
    const present = new Set(changes.map(({ seq }) => seq));
    this.#read = present;
    this.#failed = this.#failed.filter(({ seqs }) => [...seqs].some((seq) => present.has(seq)));
    const [batch, ...later] = this.#failed;
    if (batch === undefined) return changes;
    const others = changes.filter(({ seq }) => !this.#failed.some(({ seqs }) => seqs.has(seq)));
    this.#othersAreNext = !this.#othersAreNext;
    if (this.#othersAreNext && others.length > 0) return others;
    this.#failed = [...later, batch];
    const left = changes.filter(({ seq }) => batch.seqs.has(seq));
    return left.slice(0, Math.ceil(left.length / parts));
  }

  /**
   * Remembers changes that failed together.
   *
   * @param kind what the error says of them.
   */
  add(changes: readonly OutboxChange[], error: unknown, kind: Exclude<FailureKind, 'row' | 'server' | 'conflict'>): void {
    const before = this.#failed.find(({ seqs }) => changes.every(({ seq }) => seqs.has(seq)));
    const again = changes.length === 1 && before?.seqs.size === 1 ? before : undefined;
    this.#failed = this.#failed.filter((batch) => batch !== before);
    const timesBefore = again?.times ?? 0;
    this.#failed.push({
      seqs: new Set(changes.map(({ seq }) => seq)),
      error: timesBefore === 0 ? error : again?.error,
      times:
        changes.length > 1 || kind === 'transient' ? timesBefore : kind === 'slow' ? Number.POSITIVE_INFINITY : timesBefore + 1,
      projected: again?.projected ?? this.#projected,
      read: this.#read,
    });
  }

  /** Whether there are no changes that failed. */
  get isEmpty(): boolean {
    return this.#failed.length === 0;
  }

  /** Is told of each batch that was projected. */
  succeeded(): void {
    this.#projected += 1;
  }

  /** Takes out the changes that have failed by themselves often enough. */
  takeFound(changes: readonly OutboxChange[]): FoundChange[] {
    const isFound = ({ times, projected }: FailedBatch): boolean =>
      times >= (this.#projected === projected ? timesAlone : timesAmongOthers);
    const found = this.#failed.filter(isFound);
    this.#failed = this.#failed.filter((batch) => !isFound(batch));
    return found.flatMap(({ seqs, error, read }) => {
      const change = changes.find(({ seq }) => seqs.has(seq));
      return change === undefined ? [] : [{ change, error, wasRead: ({ seq }: OutboxChange) => read.has(seq) }];
    });
  }
}
