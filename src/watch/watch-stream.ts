import { create } from '@bufbuild/protobuf';
import { Code, ConnectError } from '@connectrpc/connect';
import type { FeedState } from '../db/feed-repository.ts';
import { type Position, positionOf } from '../db/task-repository.ts';
import { formatUuid } from '../db/uuid.ts';
import { invalidArgument, resumeTokenExpired, shuttingDown } from '../errors.ts';
import {
  HeartbeatSchema,
  SyncedSchema,
  TaskRemovedSchema,
  type WatchTasksRequest,
  type WatchTasksResponse,
  WatchTasksResponseSchema,
} from '../gen/tasks/v1/tasks_pb.ts';
import type { Call } from '../server/call.ts';
import type { Caller } from '../tasks/caller.ts';
import { decodePosition, encodePosition } from '../tasks/position.ts';
import { scopeOf } from '../tasks/scope.ts';
import { toTask } from '../tasks/task-mapper.ts';
import { readWatchQuery } from '../tasks/task-query.ts';
import { keyOf, readChanges } from './changes.ts';
import { createResumeTokens, type ResumePoint, type ResumeTokens, shortDigest } from './resume-token.ts';
import { Watch } from './watch.ts';
import { createWatchScope, type WatchScope } from './watch-scope.ts';
import type { WatchParts } from './watch-tasks.ts';

/** A stream on which nothing happens says so each 15 seconds: proxies end what is silent for a minute. */
export const heartbeatMs = 15_000;

/** How often to ask whether the caller still is who it was, in milliseconds. The answer is remembered for AUTH_CACHE_SECONDS. */
const recheckMs = 1000;

/** Tasks in one statement of the initial state: their texts are in memory together. */
const listedAtOnce = 100;

/** Most tasks that a watch may have for it to be brought in line when rights change; beyond, it begins anew. */
export const maxRealigned = 10_000;

/** The initial state comes newest first: that order never changes, so it can be continued anywhere. */
const initialOrder = 'created_at desc';

type Responses = AsyncGenerator<WatchTasksResponse, void>;

/** The error of a watch that cannot go on where it was. */
export function expired(): ConnectError {
  return resumeTokenExpired('the changes since then are no longer there, or cannot be told apart from what you may read now');
}

/**
 * One stream of WatchTasks: the initial state if it is wanted, what happened since the resume token, `synced`, and then changes as
 * they happen.
 */
export class WatchStream {
  readonly #parts: WatchParts;
  readonly #request: WatchTasksRequest;
  readonly #call: Call;
  readonly #tokens: ResumeTokens;
  #caller: Caller;
  #watch: Watch | undefined;
  /** The token of the moment, but for the sequence. */
  #point: ResumePoint | undefined;

  constructor(parts: WatchParts, request: WatchTasksRequest, call: Call) {
    this.#parts = parts;
    this.#request = request;
    this.#call = call;
    this.#caller = call.caller;
    this.#tokens = createResumeTokens(parts.tokenKeys, { callerId: call.caller.userId, query: request.query });
  }

  async *run(): Responses {
    const shown = await this.#shownTo(this.#caller);
    const { feed, feedRepository } = this.#parts;
    const { resumeToken, includeInitial } = this.#request;
    const at = await feedRepository.state();
    const beginning: ResumePoint = { seq: at.seq, generation: shortDigest(at.generation), rights: shown.digest };
    const point = resumeToken === '' ? beginning : this.#resumed(resumeToken, beginning, at);
    const isNew = resumeToken === '' && includeInitial;
    const watch = new Watch(shown, point.seq, isNew ? 'with the initial state' : 'unknown');
    this.#point = point;
    this.#watch = watch;

    if (isNew || point.listedTo !== undefined) yield* this.#initialState(watch, point.listedTo);
    // What happened since, at least up to when this began, until the reader of the feed is where this watch is.
    for (;;) {
      const position = await feed.position();
      if (position.generation !== at.generation || position.floorSeq > watch.seq) throw expired();
      const upTo = Math.max(position.seq, at.seq); // the reader may be a moment behind
      if (upTo > watch.seq) {
        watch.offer(await readChanges(feedRepository, watch.seq, upTo, watch.parameterNames));
        yield* this.#backlog(watch);
      } else if (feed.join(watch, { ...position, seq: watch.seq })) break;
    }
    yield this.#say({ case: 'synced', value: create(SyncedSchema) }, watch.seq);
    yield* this.#follow(watch);
  }

  /** Gives back what the stream holds. */
  end(): void {
    if (this.#watch === undefined) return;
    this.#parts.feed.leave(this.#watch);
    this.#watch.told.clear();
  }

  /** Where a token says that the watch goes on. */
  #resumed(token: string, { generation, rights }: ResumePoint, at: FeedState): ResumePoint {
    const point = this.#tokens.decode(token);
    if (point === undefined) {
      const description = 'is not a token of this watch: watch again without one, or with the query it was given for';
      throw invalidArgument([{ field: 'resume_token', description }]);
    }
    const goesOn = point.generation.equals(generation) && point.seq >= at.floorSeq && point.seq <= at.seq;
    if (!goesOn || !point.rights.equals(rights)) throw expired();
    return point;
  }

  async *#initialState(watch: Watch, listedTo: Buffer | undefined): Responses {
    const { scope, filter } = watch.shown;
    if (filter === undefined) return;
    let after: Position | undefined = listedTo === undefined ? undefined : decodePosition(listedTo, initialOrder);
    let checkedAt = performance.now();
    for (;;) {
      const question = { filter, order: initialOrder, limit: listedAtOnce, ...(after === undefined ? {} : { after }) } as const;
      const rows = await this.#parts.tasks.list(scope, question, this.#call.signal);
      for (const row of rows) {
        watch.told.set(keyOf(row.id), true);
        after = positionOf(row, initialOrder);
        const value = toTask(row, this.#caller.userId);
        yield this.#say({ case: 'upserted', value }, watch.seq, encodePosition(after));
        if (this.#call.draining.aborted) throw shuttingDown();
      }
      if (rows.length < listedAtOnce) return;
      if (performance.now() - checkedAt < recheckMs) continue;
      checkedAt = performance.now();
      const next = await this.#recheck();
      if (next !== undefined && !next.digest.equals(watch.shown.digest)) throw expired();
    }
  }

  async *#follow(watch: Watch): Responses {
    let saidAt = performance.now();
    let checkedAt = saidAt;
    for (;;) {
      if (this.#call.draining.aborted) {
        yield this.#heartbeat(watch);
        throw shuttingDown();
      }
      const now = performance.now();
      if (now - checkedAt >= recheckMs) {
        checkedAt = now;
        const next = await this.#recheck();
        if (next !== undefined && !next.digest.equals(watch.shown.digest)) yield* this.#realign(watch, next);
      }
      if (watch.lost) throw expired();
      if (watch.waiting) {
        yield* this.#backlog(watch);
        saidAt = performance.now();
      } else if (now - saidAt >= heartbeatMs) {
        yield this.#heartbeat(watch);
        saidAt = now;
      } else {
        const restMs = Math.min(checkedAt + recheckMs, saidAt + heartbeatMs) - now;
        await watch.wait(Math.max(0, restMs), this.#call.signal, this.#call.draining);
        this.#call.signal.throwIfAborted();
      }
    }
  }

  /** What waits for the client, unless there is so much that a look at the caller's rights is due. */
  async *#backlog(watch: Watch): Responses {
    const until = performance.now() + recheckMs;
    while (performance.now() < until) {
      const news = watch.take();
      if (news === undefined) return;
      const { change, removed, seq } = news;
      const { row } = change;
      if (removed || row === undefined) yield this.#removed(change.id, seq);
      else yield this.#say({ case: 'upserted', value: change.task(row, this.#caller.userId) }, seq);
    }
  }

  /** Tells the client what it may read no longer, and what it may read now. */
  async *#realign(watch: Watch, next: WatchScope): Responses {
    const former = watch.shown;
    watch.turnTo(next);
    const [had, has] = await Promise.all([this.#idsOf(former), this.#idsOf(next)]);
    for (const [key, id] of had) {
      if (has.has(key)) continue;
      watch.told.set(key, false);
      yield this.#removed(id, watch.seq);
    }
    const added = Array.from(has).flatMap(([key, id]) => (had.has(key) ? [] : [id]));
    for (let from = 0; from < added.length; from += listedAtOnce) {
      const ids = added.slice(from, from + listedAtOnce);
      for (const row of await this.#parts.feedRepository.tasks(ids, watch.parameterNames)) {
        if (!watch.shows(row)) continue; // changed meanwhile, which the feed tells
        watch.told.set(keyOf(row.id), true);
        yield this.#say({ case: 'upserted', value: toTask(row, this.#caller.userId) }, watch.seq);
      }
    }
    // Until here tokens were of the former rights, since with the new ones this would not be told again.
    this.#point = { ...(this.#point as ResumePoint), rights: next.digest };
  }

  async #idsOf({ scope, filter }: WatchScope): Promise<Map<string, Buffer>> {
    if (filter === undefined) return new Map();
    const ids = await this.#parts.tasks.ids(scope, filter, maxRealigned + 1, this.#call.signal);
    if (ids.length > maxRealigned) throw expired();
    return new Map(ids.map((id) => [keyOf(id), id]));
  }

  /** What to show from now on, if the caller was looked up again. @throws {ConnectError} UNAUTHENTICATED. */
  async #recheck(): Promise<WatchScope | undefined> {
    try {
      const caller = await this.#call.reauthenticate();
      if (caller === this.#caller) return undefined;
      const shown = await this.#shownTo(caller);
      this.#caller = caller;
      return shown;
    } catch (error) {
      if (error instanceof ConnectError && error.code === Code.Unauthenticated) throw error;
      this.#call.log.debug({ err: error }, 'the rights of a watch could not be looked up'); // again in a second
      return undefined;
    }
  }

  async #shownTo(caller: Caller): Promise<WatchScope> {
    const { query } = this.#request;
    const isFirst = this.#watch === undefined;
    const asker = { caller, signal: this.#call.signal };
    const { filter } = await this.#parts.resolveQuery(readWatchQuery(query), query, asker).catch((error: unknown) => {
      // A name that means nothing any more, or that the caller may not know of any more: then nothing is left to show.
      if (!isFirst && error instanceof ConnectError && error.code === Code.InvalidArgument) return { filter: undefined };
      throw error;
    });
    return createWatchScope(scopeOf(caller), filter);
  }

  #heartbeat(watch: Watch): WatchTasksResponse {
    return this.#say({ case: 'heartbeat', value: create(HeartbeatSchema) }, watch.seq);
  }

  #removed(id: Buffer, seq: number): WatchTasksResponse {
    return this.#say({ case: 'removed', value: create(TaskRemovedSchema, { id: formatUuid(id) }) }, seq);
  }

  #say(event: Extract<WatchTasksResponse['event'], { value: unknown }>, seq: number, listedTo?: Buffer): WatchTasksResponse {
    this.#parts.metrics.said(event.case);
    const { generation, rights } = this.#point as ResumePoint;
    const resumeToken = this.#tokens.encode({ seq, generation, rights, ...(listedTo === undefined ? {} : { listedTo }) });
    return create(WatchTasksResponseSchema, { event, resumeToken });
  }
}
