import { setTimeout as sleep } from 'node:timers/promises';
import { Code } from '@connectrpc/connect';
import { toConnectError } from '../call/errors.ts';
import type { Logger } from '../platform/log.ts';
import { type RestLimits, restAfterQuiet } from '../platform/rest-after-quiet.ts';
import { eventsAtOnce, type FeedBatch, FeedGapError, readFeedBatch } from './feed-batch.ts';
import type { FeedRepository, FeedState } from './feed-repository.ts';

/**
 * How often the feed is polled while there are listeners, by how long it has had nothing new, in milliseconds. This process's own
 * projector calls `wake`.
 */
const pollRest: RestLimits = { least: 50, most: 250 };

/** How long to wait after a failure, from the first to the tenth, in milliseconds. */
const retryMs = { first: 100, most: 1000 };

/**
 * How long the feed of a cluster's node may be behind what another node has shown, in milliseconds. A node that is further behind
 * is not soon where the others are.
 */
export const clusterLagMs = 2000;

/** So often a single event is tried that cannot be read, until it is passed over. */
const mostTries = 5;

/** A listener of the feed. */
export interface FeedListener {
  /** The lower-cased names of the parameters that its query names. */
  readonly parameterNames: readonly string[];
  /** Called with the next changes. It must not block. */
  deliver(changes: FeedBatch): void;
  /** Called when events are lost. */
  lose(): void;
}

/**
 * Reads the feed of changes for all watchers of the process together. Without watchers it reads nothing.
 */
export class TaskFeed {
  /** How long the feed may be behind what was read of it before, in milliseconds. After that, events are lost. */
  readonly mayLagMs: number;
  readonly #repository: FeedRepository;
  readonly #log: Logger;
  readonly #listeners = new Set<FeedListener>();
  /** The position of the reader; undefined while there is none. */
  #at: FeedState | undefined;
  #parameterNames: readonly string[] = [];
  /** How many events are read at once: after a failure half as many, and twice as many after the next success. */
  #most = eventsAtOnce;
  /** How often the next event could not be read by itself. */
  #tries = 0;
  /** Since when the feed has been behind the reader. */
  #behindSince: number | undefined;
  #woken = new AbortController();
  #reader: Promise<void> | undefined;
  #stopped = false;

  constructor(repository: FeedRepository, log: Logger, { mayLagMs = 0 }: { readonly mayLagMs?: number } = {}) {
    this.mayLagMs = mayLagMs;
    this.#repository = repository;
    this.#log = log;
  }

  /** The number of listeners. */
  get listeners(): number {
    return this.#listeners.size;
  }

  /** The position of the reader, or without one that of the feed. */
  async position(): Promise<FeedState> {
    return this.#at ?? (await this.#repository.state());
  }

  /**
   * Adds a listener, which gets all changes after `at`, a result of `position`. Returns false when the reader has moved past
   * `at`: then catch up and try again.
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

  /** Makes the reader poll now. */
  wake(): void {
    this.#woken.abort();
  }

  /** Stops the reader; resolves when it has ended. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.wake();
    await this.#reader;
  }

  async #read(): Promise<void> {
    let failures = 0;
    let changedAt = performance.now();
    while (!this.#stopped && this.#at !== undefined) {
      this.#woken = new AbortController();
      const { seq } = this.#at;
      try {
        await this.#readOnce(this.#at);
        if (this.#at?.seq !== seq) changedAt = performance.now();
        if (failures > 0) this.#log.info('the feed of changes is read again');
        failures = 0;
      } catch (error) {
        if (error instanceof FeedGapError) {
          this.#log.warn({ err: error }, 'watchers must begin anew');
          this.#loseAll();
          continue;
        }
        failures += 1;
        this.#log[failures === 1 ? 'warn' : 'debug']({ err: error }, 'the feed of changes cannot be read');
      }
      const quietMs = performance.now() - changedAt;
      const rest = failures === 0 ? restAfterQuiet(quietMs, pollRest) : Math.min(retryMs.first * failures, retryMs.most);
      await sleep(rest, undefined, { signal: this.#woken.signal }).catch(() => {});
    }
    this.#reader = undefined; // in the same tick as the loop's end, or a listener that joins now would have no reader
  }

  async #readOnce(from: FeedState): Promise<void> {
    const state = await this.#repository.state();
    if (this.#at !== from) return; // all listeners have left, and new ones may have joined at another position
    if (state.generation !== from.generation) throw new FeedGapError('the feed has a new generation');
    if (this.#isBehind(state, from)) return;
    if (state.seq < from.seq || state.floorSeq > from.seq) throw new FeedGapError('the feed was cut');
    let at = from;
    while (at.seq < state.seq) {
      const parameterNames = this.#parameterNames;
      const changes = await readFeedBatch(this.#repository, at.seq, state.seq, parameterNames, this.#most).catch(
        (error: unknown) => {
          this.#narrow(error, at.seq + 1);
          throw error;
        },
      );
      this.#most = Math.min(eventsAtOnce, 2 * this.#most);
      this.#tries = 0;
      if (this.#at !== at) return;
      if (parameterNames !== this.#parameterNames) continue; // a listener has joined that needs more parameters
      at = { ...state, seq: changes.to };
      this.#at = at;
      for (const listener of this.#listeners) this.#deliver(listener, changes);
    }
  }

  /** Whether the feed is a moment behind the reader, as on another node after the first one has gone. */
  #isBehind(state: FeedState, from: FeedState): boolean {
    const now = performance.now();
    this.#behindSince = state.seq < from.seq ? (this.#behindSince ?? now) : undefined;
    if (this.#behindSince === undefined) return false;
    if (now - this.#behindSince < this.mayLagMs) return true;
    this.#behindSince = undefined;
    return false;
  }

  /**
   * After an error that an event may cause, reads fewer events at once; passes a single one over that cannot be read again and
   * again. Watchers begin anew then, since they would miss it.
   */
  #narrow(error: unknown, seq: number): void {
    if (error instanceof FeedGapError) return;
    const { fatal } = Object(error) as { fatal?: unknown }; // the connection was lost, which was well a moment ago
    const { code } = toConnectError(error, { requestId: '', signal: new AbortController().signal });
    if (code === Code.Unavailable && fatal !== true) return;
    if (this.#most > 1) this.#most = Math.floor(this.#most / 2);
    else this.#tries += 1;
    if (this.#tries < mostTries) return;
    this.#log.error({ err: error, event: seq }, 'an event of the feed cannot be read, and watchers must begin anew');
    this.#tries = 0;
    this.#loseAll();
  }

  /** A listener that throws is dropped; the others go on. */
  #deliver(listener: FeedListener, changes: FeedBatch): void {
    try {
      listener.deliver(changes);
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
