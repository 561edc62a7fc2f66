import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from '../platform/log.ts';
import { type Changes, LostEventsError, readChanges } from './changes.ts';
import type { FeedRepository, FeedState } from './feed-repository.ts';

/** How often the feed is looked at while somebody watches, in milliseconds. Changes of this process's own projector come at once. */
const pollMs = 50;

/** How long to wait after a failure, from the first to the tenth, in milliseconds. */
const retryMs = { first: 100, most: 1000 };

/** Somebody who follows the feed. */
export interface FeedListener {
  /** The parameters, lower-cased, that its query asks about. */
  readonly parameterNames: readonly string[];
  /** Takes the next changes. It must not wait. */
  offer(changes: Changes): void;
  /** The feed cannot be continued. */
  lose(): void;
}

/**
 * Follows the feed of changes for all watchers of the process: one reader, however many they are, and none when there is nobody.
 */
export class TaskFeed {
  readonly #repository: FeedRepository;
  readonly #log: Logger;
  readonly #listeners = new Set<FeedListener>();
  /** Where the reader is; undefined while there is none. */
  #at: FeedState | undefined;
  #parameterNames: readonly string[] = [];
  #woken = new AbortController();
  #reader: Promise<void> | undefined;
  #stopped = false;

  constructor(repository: FeedRepository, log: Logger) {
    this.#repository = repository;
    this.#log = log;
  }

  /** How many follow it. */
  get listeners(): number {
    return this.#listeners.size;
  }

  /** How far the reader is, or where there is none, the feed itself. */
  async position(): Promise<FeedState> {
    return this.#at ?? (await this.#repository.state());
  }

  /**
   * Gives a listener all changes after `at`, which is a position that was just asked for. Returns whether it does: if not, the
   * reader has gone on meanwhile.
   */
  join(listener: FeedListener, at: FeedState): boolean {
    if (this.#at !== undefined && (this.#at.seq > at.seq || this.#at.generation !== at.generation)) return false;
    this.#listeners.add(listener);
    this.#chooseParameters();
    this.#at ??= at;
    this.#reader ??= this.#read();
    return true;
  }

  leave(listener: FeedListener): void {
    this.#listeners.delete(listener);
    this.#chooseParameters();
    if (this.#listeners.size > 0) return;
    this.#at = undefined;
    this.wake();
  }

  /** Has the reader look at once. */
  wake(): void {
    this.#woken.abort();
  }

  /** Ends the reader; resolves when it reads no more. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.wake();
    await this.#reader;
  }

  async #read(): Promise<void> {
    let failures = 0;
    while (!this.#stopped && this.#at !== undefined) {
      this.#woken = new AbortController();
      try {
        await this.#readOnce(this.#at);
        if (failures > 0) this.#log.info('the feed of changes is read again');
        failures = 0;
      } catch (error) {
        if (error instanceof LostEventsError) {
          this.#log.warn({ err: error }, 'watchers must begin anew');
          this.#loseAll();
          continue;
        }
        failures += 1;
        this.#log[failures === 1 ? 'warn' : 'debug']({ err: error }, 'the feed of changes cannot be read');
      }
      const rest = failures === 0 ? pollMs : Math.min(retryMs.first * failures, retryMs.most);
      await sleep(rest, undefined, { signal: this.#woken.signal }).catch(() => {});
    }
    this.#reader = undefined; // in the same turn, or whoever joins now would have none
  }

  async #readOnce(from: FeedState): Promise<void> {
    const state = await this.#repository.state();
    if (this.#at !== from) return; // everybody has left, and others may have come who begin somewhere else
    if (state.generation !== from.generation) throw new LostEventsError('the feed has a new generation');
    if (state.seq < from.seq || state.floorSeq > from.seq) throw new LostEventsError('the feed was cut');
    let at = from;
    while (at.seq < state.seq) {
      const parameterNames = this.#parameterNames;
      const changes = await readChanges(this.#repository, at.seq, state.seq, parameterNames);
      if (this.#at !== at) return;
      if (parameterNames !== this.#parameterNames) continue; // somebody has joined who asks about more
      at = { ...state, seq: changes.to };
      this.#at = at;
      for (const listener of this.#listeners) this.#tell(listener, changes);
    }
  }

  /** One that fails loses its own place, and nobody else's. */
  #tell(listener: FeedListener, changes: Changes): void {
    try {
      listener.offer(changes);
    } catch (error) {
      this.#log.error({ err: error }, 'a watcher could not be told');
      listener.lose();
    }
  }

  #loseAll(): void {
    for (const listener of [...this.#listeners]) {
      this.#listeners.delete(listener);
      listener.lose();
    }
    this.#at = undefined;
  }

  #chooseParameters(): void {
    const names = [...new Set([...this.#listeners].flatMap(({ parameterNames }) => parameterNames))];
    const known = new Set(this.#parameterNames);
    if (names.length !== known.size || names.some((name) => !known.has(name))) this.#parameterNames = names;
  }
}
