import { create } from '@bufbuild/protobuf';
import { Code, ConnectError } from '@connectrpc/connect';
import type { Call } from '../call/call.ts';
import type { Caller } from '../call/caller.ts';
import { databaseUnavailable, invalidArgument, resumeTokenExpired, shuttingDown } from '../call/errors.ts';
import { formatUuid } from '../db/uuid.ts';
import {
  HeartbeatSchema,
  SyncedSchema,
  TaskRemovedSchema,
  type WatchTasksRequest,
  type WatchTasksResponse,
  WatchTasksResponseSchema,
} from '../gen/tasks/v1/tasks_pb.ts';
import { decodePosition, encodePosition } from '../tasks/position.ts';
import { scopeOf } from '../tasks/scope.ts';
import { type Position, positionOf } from '../tasks/store/list-order.ts';
import { maxPageBytes } from '../tasks/store/task-repository.ts';
import { toTask } from '../tasks/task-mapper.ts';
import { readWatchQuery } from '../tasks/task-query.ts';
import { keyOf, readChanges } from './changes.ts';
import type { FeedState } from './feed-repository.ts';
import { createResumeTokens, type ResumePoint, type ResumeTokens, shortDigest } from './resume-token.ts';
import { Watch } from './watch.ts';
import { createWatchScope, type WatchScope } from './watch-scope.ts';
import type { WatchParts } from './watch-tasks.ts';

/** A stream on which nothing happens says so each 15 seconds: proxies end what is silent for a minute. */
export const heartbeatMs = 15_000;

/** How often to ask whether the caller still is who it was, in milliseconds. The answer is remembered for AUTH_CACHE_SECONDS. */
const recheckMs = 1000;

/** How long a watch goes on when its caller cannot be looked up, in milliseconds. */
const maxUnknownMs = 30_000;

/** Tasks in one statement of the initial state: their texts are in memory together. */
const listedAtOnce = 100;

/** Most tasks that a watch may have for it to be brought in line when rights change; beyond, it begins anew. */
export const maxRealigned = 10_000;

/** The initial state comes newest first: that order never changes, so it can be continued anywhere. */
const initialOrder = 'created_at desc';

/** The digest of what nobody may be shown. */
const noRights = Buffer.alloc(8);

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
  /** When the caller was last looked up, and when that last succeeded. */
  #checkedAt = performance.now();
  #knownAt = this.#checkedAt;

  constructor(parts: WatchParts, request: WatchTasksRequest, call: Call) {
    this.#parts = parts;
    this.#request = request;
    this.#call = call;
    this.#caller = call.caller;
    this.#tokens = createResumeTokens(parts.tokenKeys, { callerId: call.caller.userId, query: request.query });
  }

  async *run(): Responses {
    const shown = await this.#shownTo(this.#caller);
    const { resumeToken, includeInitial } = this.#request;
    const at = await this.#parts.feedRepository.state();
    const beginning: ResumePoint = { seq: at.seq, generation: shortDigest(at.generation), rights: shown.digest };
    const point = resumeToken === '' ? beginning : this.#resumed(resumeToken, beginning, at);
    const isNew = resumeToken === '' && includeInitial;
    const watch = new Watch(shown, point.seq, isNew ? 'with the initial state' : 'unknown');
    this.#point = point;
    this.#watch = watch;

    if (isNew || point.listedTo !== undefined) yield* this.#initialState(watch, point.listedTo);
    yield* this.#catchUp(watch, at);
    yield this.#say({ case: 'synced', value: create(SyncedSchema) }, watch.toldSeq);
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
    for (;;) {
      const question = { filter, order: initialOrder, limit: listedAtOnce, ...(after === undefined ? {} : { after }) } as const;
      const { rows, next } = await this.#parts.tasks.list(scope, question, this.#call.signal);
      for (const row of rows) {
        watch.told.set(keyOf(row.id), true);
        const value = toTask(row, this.#caller.userId);
        yield this.#say({ case: 'upserted', value }, watch.seq, encodePosition(positionOf(row, initialOrder)));
        await this.#goOnAs(watch);
      }
      if (next === undefined) return;
      after = next;
    }
  }

  /** What happened since, at least up to when the watch began, until the reader of the feed is where the watch is. */
  async *#catchUp(watch: Watch, began: FeedState): Responses {
    const { feed, feedRepository } = this.#parts;
    for (;;) {
      await this.#goOnAs(watch);
      yield* this.#backlog(watch);
      if (watch.waiting) continue;
      const position = await feed.position();
      if (position.generation !== began.generation || position.floorSeq > watch.seq) throw expired();
      const upTo = Math.max(position.seq, began.seq); // the reader may be a moment behind
      if (upTo > watch.seq) watch.judge(await readChanges(feedRepository, watch.seq, upTo, watch.parameterNames));
      else if (feed.join(watch, { ...position, seq: watch.seq })) return;
    }
  }

  /** Makes sure, while a watch begins, that it may go on as it began. */
  async #goOnAs(watch: Watch): Promise<void> {
    this.#call.signal.throwIfAborted();
    if (this.#call.draining.aborted) throw shuttingDown();
    const next = await this.#recheck();
    if (next !== undefined && !next.digest.equals(watch.shown.digest)) throw expired();
  }

  async *#follow(watch: Watch): Responses {
    let saidAt = performance.now();
    for (;;) {
      this.#call.signal.throwIfAborted();
      if (this.#call.draining.aborted) {
        yield this.#heartbeat(watch);
        throw shuttingDown();
      }
      const next = await this.#recheck();
      if (next !== undefined && !next.digest.equals(watch.shown.digest)) yield* this.#realign(watch, next);
      if (watch.lost) throw expired();
      const now = performance.now();
      if (watch.waiting) {
        yield* this.#backlog(watch);
        saidAt = performance.now();
      } else if (now - saidAt >= heartbeatMs) {
        yield this.#heartbeat(watch);
        saidAt = now;
      } else {
        const restMs = Math.min(this.#checkedAt + recheckMs, saidAt + heartbeatMs) - now;
        await watch.wait(Math.max(0, restMs), this.#call.signal, this.#call.draining);
      }
    }
  }

  /** What waits for the client, until a look at the caller's rights is due. */
  async *#backlog(watch: Watch): Responses {
    while (performance.now() - this.#checkedAt < recheckMs) {
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
    // Of a watch that breaks off in the middle of this nobody knows what it has: no rights have this digest.
    this.#point = { ...(this.#point as ResumePoint), rights: noRights };
    watch.turnTo(next);
    const [had, has] = await Promise.all([this.#idsOf(former), this.#idsOf(next)]);
    // Behind this event nothing is of the former rights any more.
    watch.forgetFormerAfter((await this.#parts.feedRepository.state()).seq);
    for (const [key, id] of had) {
      if (has.has(key)) continue;
      watch.told.set(key, false);
      yield this.#removed(id, watch.toldSeq);
    }
    let added = Array.from(has).flatMap(([key, id]) => (had.has(key) ? [] : [id]));
    while (added.length > 0) {
      const { rows, covered } = await this.#parts.feedRepository.tasks(added.slice(0, listedAtOnce), {
        parameterNames: watch.parameterNames,
        maxBytes: maxPageBytes,
      });
      added = added.slice(covered);
      for (const row of rows) {
        if (!watch.shows(row)) continue; // changed meanwhile, which the feed tells
        watch.told.set(keyOf(row.id), true);
        yield this.#say({ case: 'upserted', value: toTask(row, this.#caller.userId) }, watch.toldSeq);
      }
    }
    this.#point = { ...this.#point, rights: next.digest };
  }

  async #idsOf({ scope, filter }: WatchScope): Promise<Map<string, Buffer>> {
    if (filter === undefined) return new Map();
    const ids = await this.#parts.tasks.ids(scope, filter, maxRealigned + 1, this.#call.signal);
    if (ids.length > maxRealigned) throw expired();
    return new Map(ids.map((id) => [keyOf(id), id]));
  }

  /**
   * What to show from now on, if a second has passed and the caller was looked up again.
   *
   * @throws {ConnectError} UNAUTHENTICATED; or UNAVAILABLE when the caller could not be looked up for too long.
   */
  async #recheck(): Promise<WatchScope | undefined> {
    const now = performance.now();
    if (now - this.#checkedAt < recheckMs) return undefined;
    this.#checkedAt = now;
    try {
      const caller = await this.#call.reauthenticate();
      const shown = caller === this.#caller ? undefined : await this.#shownTo(caller);
      this.#caller = caller;
      this.#knownAt = now;
      return shown;
    } catch (error) {
      if (error instanceof ConnectError && error.code === Code.Unauthenticated) throw error;
      if (now - this.#knownAt > maxUnknownMs) throw databaseUnavailable(error);
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
    return this.#say({ case: 'heartbeat', value: create(HeartbeatSchema) }, watch.toldSeq);
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
