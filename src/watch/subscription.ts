import type { WatchedRow } from '../tasks/store/tables.ts';
import { ClientTasks } from './client-tasks.ts';
import type { FeedBatch, TaskUpdate } from './feed-batch.ts';
import type { FeedListener } from './task-feed.ts';
import type { WatchScope } from './watch-scope.ts';

/**
 * Most pending tasks, and most characters of their texts together; a task that changes again counts once. A client that falls
 * behind further must start over.
 */
export const maxPendingTasks = 1000;
const maxPendingLength = 4 * 1024 * 1024;

/** An event to be sent: the present task, or with `removed`, that it is gone. */
interface PendingEvent {
  readonly update: TaskUpdate;
  readonly removed: boolean;
  /** Once it is sent, all changes up to this event of the feed have been. */
  readonly seq: number;
}

/** One client's subscription to the feed: selects the changes that concern the client, and keeps them until they are sent. */
export class Subscription implements FeedListener {
  readonly parameterNames: readonly string[];
  readonly clientTasks: ClientTasks;
  #scope: WatchScope;
  /** The scope before the last change of scope. */
  #former: WatchScope | undefined;
  /** The last event at which the former scope was in effect. */
  #formerUntil = 0;
  #seq: number;
  #lost = false;
  readonly #pending = new Map<string, { readonly update: TaskUpdate; readonly removed: boolean }>();
  #pendingLength = 0;
  #wake: (() => void) | undefined;

  constructor(scope: WatchScope, seq: number, baseline: ConstructorParameters<typeof ClientTasks>[0]) {
    this.#scope = scope;
    this.#seq = seq;
    this.clientTasks = new ClientTasks(baseline);
    const { parameterNames = [], parameterValues = [] } = scope.filter ?? {};
    this.parameterNames = [...parameterNames, ...parameterValues.map(([name]) => name)];
  }

  /** All changes up to this event have been applied. */
  get seq(): number {
    return this.#seq;
  }

  /** All changes up to this event have been sent. */
  get sentSeq(): number {
    const [next] = this.#pending.values();
    return next === undefined ? this.#seq : next.update.seq - 1;
  }

  /** Which tasks the client gets. */
  get scope(): WatchScope {
    return this.#scope;
  }

  /** Whether changes are lost, because events were deleted or the client fell too far behind. */
  get lost(): boolean {
    return this.#lost;
  }

  /** Whether events are waiting to be sent. */
  get hasPending(): boolean {
    return this.#pending.size > 0;
  }

  deliver(batch: FeedBatch): void {
    if (this.#lost) return;
    this.apply(batch);
    if (this.#pending.size > maxPendingTasks || this.#pendingLength > maxPendingLength) this.lose();
    else if (this.#pending.size > 0) this.#wake?.();
  }

  /** Applies changes without the limit on pending tasks. */
  apply(batch: FeedBatch): void {
    for (const update of batch.tasks) if (update.seq > this.#seq) this.#applyUpdate(update);
    this.#seq = Math.max(this.#seq, batch.to);
  }

  lose(): void {
    this.#lost = true;
    this.#pending.clear();
    this.#wake?.();
  }

  /** Removes and returns the oldest pending event. */
  take(): PendingEvent | undefined {
    const [first] = this.#pending;
    if (first === undefined) return undefined;
    const [key, { update, removed }] = first;
    this.#drop(key);
    return { update, removed, seq: this.sentSeq };
  }

  /** Resolves when an event is pending or changes are lost, after a time, or when a signal is aborted. */
  async wait(milliseconds: number, ...signals: readonly AbortSignal[]): Promise<void> {
    if (this.#lost || this.#pending.size > 0 || signals.some(({ aborted }) => aborted)) return;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(() => done(), milliseconds);
      const done = (): void => {
        clearTimeout(timer);
        for (const signal of signals) signal.removeEventListener('abort', done);
        resolve();
      };
      for (const signal of signals) signal.addEventListener('abort', done);
      this.#wake = done;
    });
    this.#wake = undefined;
  }

  /** Replaces the scope and applies it to the pending events. The caller must send what changes for all other tasks. */
  changeScope(scope: WatchScope): void {
    this.#former = this.#scope;
    this.#formerUntil = Number.POSITIVE_INFINITY;
    this.#scope = scope;
    const waiting = [...this.#pending.values()];
    this.#pending.clear();
    this.#pendingLength = 0;
    // `clientTasks` has the pending tasks already: those that do not match any more must be removed.
    for (const { update } of waiting) this.#enqueue(update, update.row === undefined || !this.matches(update.row));
  }

  /** Sets the last event at which the former scope was in effect. */
  endFormerScope(seq: number): void {
    this.#formerUntil = seq;
  }

  /** Whether the client gets a task. */
  matches(row: WatchedRow): boolean {
    return this.#scope.matches(row);
  }

  #applyUpdate(update: TaskUpdate): void {
    const { key, row } = update;
    if (row !== undefined && this.matches(row)) this.#enqueue(update, false);
    else if (this.clientTasks.has(key) ?? this.#mayHaveMatched(update)) this.#enqueue(update, true);
  }

  #enqueue(update: TaskUpdate, removed: boolean): void {
    const { key } = update;
    this.clientTasks.set(key, !removed);
    this.#drop(key); // moves it to the end: events are sent in the order of `seq`
    this.#pending.set(key, { update, removed });
    if (!removed) this.#pendingLength += update.length;
  }

  #drop(key: string): void {
    const present = this.#pending.get(key);
    if (present === undefined) return;
    this.#pending.delete(key);
    if (!present.removed) this.#pendingLength -= present.update.length;
  }

  /** Whether the client may have the task: nobody gets `removed` for a task they could never read. */
  #mayHaveMatched({ id, before, seq }: TaskUpdate): boolean {
    const former = seq <= this.#formerUntil ? this.#former : undefined;
    return before.some((place) => this.#scope.mayHaveMatched(id, place) || former?.mayHaveMatched(id, place) === true);
  }
}
