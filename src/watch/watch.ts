import type { WatchedRow } from '../tasks/store/tables.ts';
import type { ChangedTask, Changes } from './changes.ts';
import type { FeedListener } from './task-feed.ts';
import { ToldTasks } from './told-tasks.ts';
import type { WatchScope } from './watch-scope.ts';

/**
 * How far a client may fall behind: so many tasks, or so many characters of their texts. A task that changes again takes no more
 * room. Beyond, the client has to begin anew.
 */
export const maxBacklogTasks = 1000;
const maxBacklogLength = 4 * 1024 * 1024;

/** Something that a client is to be told: a task as it is now, or with `removed`, that it is gone. */
export interface News {
  readonly change: ChangedTask;
  readonly removed: boolean;
  /** With it, everything up to this event is told. */
  readonly seq: number;
}

/** What one client watches: judges the changes, and keeps those that the client has not taken yet. */
export class Watch implements FeedListener {
  readonly parameterNames: readonly string[];
  readonly told: ToldTasks;
  #shown: WatchScope;
  /** What it showed before, when that was something else. */
  #former: WatchScope | undefined;
  /** The last event from before then. */
  #formerUntil = 0;
  #seq: number;
  #lost = false;
  readonly #backlog = new Map<string, { readonly change: ChangedTask; readonly removed: boolean }>();
  #backlogLength = 0;
  #wake: (() => void) | undefined;

  constructor(shown: WatchScope, seq: number, begin: ConstructorParameters<typeof ToldTasks>[0]) {
    this.#shown = shown;
    this.#seq = seq;
    this.told = new ToldTasks(begin);
    const { parameterNames = [], parameterValues = [] } = shown.filter ?? {};
    this.parameterNames = [...parameterNames, ...parameterValues.map(([name]) => name)];
  }

  /** Everything up to this event has been judged. */
  get seq(): number {
    return this.#seq;
  }

  /** Everything up to this event has been told. */
  get toldSeq(): number {
    const [next] = this.#backlog.values();
    return next === undefined ? this.#seq : next.change.seq - 1;
  }

  /** What it shows. */
  get shown(): WatchScope {
    return this.#shown;
  }

  /** Whether changes are missing, because the feed was cut or the client fell too far behind. */
  get lost(): boolean {
    return this.#lost;
  }

  /** Whether there is something to take. */
  get waiting(): boolean {
    return this.#backlog.size > 0;
  }

  offer(changes: Changes): void {
    if (this.#lost) return;
    this.judge(changes);
    if (this.#backlog.size > maxBacklogTasks || this.#backlogLength > maxBacklogLength) this.lose();
    else if (this.#backlog.size > 0) this.#wake?.();
  }

  /** Takes changes, however far behind the client is. */
  judge(changes: Changes): void {
    for (const change of changes.tasks) if (change.seq > this.#seq) this.#judge(change);
    this.#seq = Math.max(this.#seq, changes.to);
  }

  lose(): void {
    this.#lost = true;
    this.#backlog.clear();
    this.#wake?.();
  }

  /** Takes what the client is to be told next, oldest first. */
  take(): News | undefined {
    const [first] = this.#backlog;
    if (first === undefined) return undefined;
    const [key, { change, removed }] = first;
    this.#drop(key);
    return { change, removed, seq: this.toldSeq };
  }

  /** Resolves when there is something to take, or after so many milliseconds, or when a signal is aborted. */
  async wait(milliseconds: number, ...signals: readonly AbortSignal[]): Promise<void> {
    if (this.#lost || this.#backlog.size > 0 || signals.some(({ aborted }) => aborted)) return;
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

  /** Shows something else from here on. What waits is judged anew; the rest is the business of who calls. */
  turnTo(shown: WatchScope): void {
    this.#former = this.#shown;
    this.#formerUntil = Number.POSITIVE_INFINITY;
    this.#shown = shown;
    const waiting = [...this.#backlog.values()];
    this.#backlog.clear();
    this.#backlogLength = 0;
    // What waited to be told has been noted as told: whatever is not shown now must be taken away.
    for (const { change } of waiting) this.#queue(change, change.row === undefined || !this.shows(change.row));
  }

  /** Says from which event on nothing can have been shown by what it showed before. */
  forgetFormerAfter(seq: number): void {
    this.#formerUntil = seq;
  }

  /** Whether the client is to have a task. */
  shows(row: WatchedRow): boolean {
    return this.#shown.shows(row);
  }

  #judge(change: ChangedTask): void {
    const { key, row } = change;
    if (row !== undefined && this.shows(row)) this.#queue(change, false);
    else if (this.told.has(key) ?? this.#mayHaveShown(change)) this.#queue(change, true);
  }

  #queue(change: ChangedTask, removed: boolean): void {
    const { key } = change;
    this.told.set(key, !removed);
    this.#drop(key); // to the end: its place is that of its newest event
    this.#backlog.set(key, { change, removed });
    if (!removed) this.#backlogLength += change.length;
  }

  #drop(key: string): void {
    const present = this.#backlog.get(key);
    if (present === undefined) return;
    this.#backlog.delete(key);
    if (!present.removed) this.#backlogLength -= present.change.length;
  }

  /** Whether the client may have the task: nobody learns of the end of what was never theirs to see. */
  #mayHaveShown({ id, before, seq }: ChangedTask): boolean {
    const former = seq <= this.#formerUntil ? this.#former : undefined;
    return before.some((place) => this.#shown.mayHaveShown(id, place) || former?.mayHaveShown(id, place) === true);
  }
}
