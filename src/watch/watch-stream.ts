import { setTimeout as sleep } from 'node:timers/promises';
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
import { readFeedBatch, taskKey } from './feed-batch.ts';
import type { FeedState } from './feed-repository.ts';
import { createResumeTokens, type ResumePoint, type ResumeTokens, shortDigest } from './resume-token.ts';
import { Subscription } from './subscription.ts';
import { createWatchScope, type WatchScope } from './watch-scope.ts';
import type { WatchParts } from './watch-tasks.ts';

/** Silence after which a heartbeat is sent, in milliseconds: many proxies end a stream that is silent for a minute. */
const heartbeatMs = 15_000;

/** How often the caller is authenticated again, in milliseconds. The result is cached for AUTH_CACHE_SECONDS. */
const reauthenticateMs = 1000;

/** How long a watch continues while its caller cannot be authenticated, in milliseconds. */
const maxUnauthenticatedMs = 30_000;

/** How often the feed is looked at while it is behind a resume token, in milliseconds. */
const lookAgainMs = 50;

/** Tasks in one statement of the snapshot: their texts are in memory together. */
const snapshotPageSize = 100;

/** Most tasks of a watch that continues when the caller's rights change; one with more ends, and the client starts over. */
const maxResynced = 10_000;

/** The order of the snapshot: the position of a task in it never changes, so a snapshot can be resumed anywhere. */
const snapshotOrder = 'created_at desc';

/** A digest that no scope has. */
const noRights = Buffer.alloc(8);

type Responses = AsyncGenerator<WatchTasksResponse, void>;

/** The error of a watch that cannot continue. */
export function expired(): ConnectError {
  return resumeTokenExpired('the changes since then are no longer there, or cannot be told apart from what you may read now');
}

/**
 * One stream of WatchTasks: the snapshot if it is wanted, or the changes since the resume token, then `synced`, and then changes
 * as they happen.
 */
export class WatchStream {
  readonly #parts: WatchParts;
  readonly #request: WatchTasksRequest;
  readonly #call: Call;
  readonly #tokens: ResumeTokens;
  #caller: Caller;
  #subscription: Subscription | undefined;
  /** What resume tokens are made of, except for the sequence. */
  #point: ResumePoint | undefined;
  /** When the caller was last authenticated, and when that last succeeded. */
  #checkedAt = performance.now();
  #authenticatedAt = this.#checkedAt;

  constructor(parts: WatchParts, request: WatchTasksRequest, call: Call) {
    this.#parts = parts;
    this.#request = request;
    this.#call = call;
    this.#caller = call.caller;
    this.#tokens = createResumeTokens(parts.tokenKeys, { callerId: call.caller.userId, query: request.query });
  }

  async *run(): Responses {
    const scope = await this.#resolveScope(this.#caller);
    const { resumeToken, includeInitial } = this.#request;
    const resumed = resumeToken === '' ? undefined : this.#decode(resumeToken);
    const at = await this.#stateFrom(resumed);
    const start: ResumePoint = { seq: at.seq, generation: shortDigest(at.generation), rights: scope.digest };
    if (resumed !== undefined) ensureContinues(resumed, start, at);
    const point = resumed ?? start;
    const wantsSnapshot = resumeToken === '' && includeInitial;
    const subscription = new Subscription(scope, point.seq, wantsSnapshot ? 'empty' : 'unknown');
    this.#point = point;
    this.#subscription = subscription;

    if (wantsSnapshot || point.snapshotPosition !== undefined) yield* this.#snapshot(subscription, point.snapshotPosition);
    yield* this.#catchUp(subscription, at);
    yield this.#response({ case: 'synced', value: create(SyncedSchema) }, subscription.sentSeq);
    yield* this.#follow(subscription);
  }

  /** Releases what the stream holds. */
  end(): void {
    if (this.#subscription === undefined) return;
    this.#parts.feed.leave(this.#subscription);
    this.#subscription.clientTasks.clear();
  }

  /** The point in a resume token, which must be of this watch. */
  #decode(token: string): ResumePoint {
    const point = this.#tokens.decode(token);
    if (point !== undefined) return point;
    const description = 'is not a token of this watch: watch again without one, or with the query it was given for';
    throw invalidArgument([{ field: 'resume_token', description }]);
  }

  /** The state of the feed. Where it may lag behind the token of another node, waits a little until it has the token's event. */
  async #stateFrom(resumed: ResumePoint | undefined): Promise<FeedState> {
    const { feed, feedRepository } = this.#parts;
    const giveUpAt = performance.now() + feed.mayLagMs;
    for (;;) {
      const at = await feedRepository.state();
      const isBehind = resumed?.generation.equals(shortDigest(at.generation)) === true && at.seq < resumed.seq;
      if (!isBehind || performance.now() >= giveUpAt) return at;
      await sleep(lookAgainMs, undefined, { signal: this.#call.signal });
      if (this.#call.draining.aborted) throw shuttingDown();
    }
  }

  async *#snapshot(subscription: Subscription, snapshotPosition: Buffer | undefined): Responses {
    const { scope, filter } = subscription.scope;
    if (filter === undefined) return;
    let after: Position | undefined =
      snapshotPosition === undefined ? undefined : decodePosition(snapshotPosition, snapshotOrder);
    for (;;) {
      const selection = {
        filter,
        order: snapshotOrder,
        limit: snapshotPageSize,
        ...(after === undefined ? {} : { after }),
      } as const;
      const { rows, next } = await this.#parts.tasks.list(scope, selection, this.#call.signal);
      for (const row of rows) {
        subscription.clientTasks.set(taskKey(row.id), true);
        const value = toTask(row, this.#caller.userId);
        yield this.#response({ case: 'upserted', value }, subscription.seq, encodePosition(positionOf(row, snapshotOrder)));
        await this.#ensureUnchanged(subscription);
      }
      if (next === undefined) return;
      after = next;
    }
  }

  /** Sends the changes up to the start of the watch at least, until the subscription can join the reader of the feed. */
  async *#catchUp(subscription: Subscription, startState: FeedState): Responses {
    const { feed, feedRepository } = this.#parts;
    for (;;) {
      await this.#ensureUnchanged(subscription);
      yield* this.#sendPending(subscription);
      if (subscription.hasPending) continue;
      const position = await feed.position();
      if (position.generation !== startState.generation || position.floorSeq > subscription.seq) throw expired();
      const upTo = Math.max(position.seq, startState.seq); // the reader may be a moment behind
      if (upTo > subscription.seq)
        subscription.apply(await readFeedBatch(feedRepository, subscription.seq, upTo, subscription.parameterNames));
      else if (feed.join(subscription, { ...position, seq: subscription.seq })) return;
    }
  }

  /** Checks, before `synced`, that the call goes on and its scope is unchanged. */
  async #ensureUnchanged(subscription: Subscription): Promise<void> {
    this.#call.signal.throwIfAborted();
    if (this.#call.draining.aborted) throw shuttingDown();
    const next = await this.#reauthenticate();
    if (next !== undefined && !next.digest.equals(subscription.scope.digest)) throw expired();
  }

  async *#follow(subscription: Subscription): Responses {
    let sentAt = performance.now();
    for (;;) {
      this.#call.signal.throwIfAborted();
      if (this.#call.draining.aborted) {
        yield this.#heartbeat(subscription);
        throw shuttingDown();
      }
      const next = await this.#reauthenticate();
      if (next !== undefined && !next.digest.equals(subscription.scope.digest)) yield* this.#resync(subscription, next);
      if (subscription.lost) throw expired();
      const now = performance.now();
      if (subscription.hasPending) {
        yield* this.#sendPending(subscription);
        sentAt = performance.now();
      } else if (now - sentAt >= heartbeatMs) {
        yield this.#heartbeat(subscription);
        sentAt = now;
      } else {
        const restMs = Math.min(this.#checkedAt + reauthenticateMs, sentAt + heartbeatMs) - now;
        await subscription.wait(Math.max(0, restMs), this.#call.signal, this.#call.draining);
      }
    }
  }

  /** Sends the pending events, until the caller must be authenticated again. */
  async *#sendPending(subscription: Subscription): Responses {
    while (performance.now() - this.#checkedAt < reauthenticateMs) {
      const pending = subscription.take();
      if (pending === undefined) return;
      const { update, removed, seq } = pending;
      const { row } = update;
      if (removed || row === undefined) yield this.#removed(update.id, seq);
      else yield this.#response({ case: 'upserted', value: update.task(row, this.#caller.userId) }, seq);
    }
  }

  /**
   * Changes the scope: sends `removed` for tasks that the client may not read any more, and `upserted` for those it may read now.
   */
  async *#resync(subscription: Subscription, next: WatchScope): Responses {
    const former = subscription.scope;
    // A stream that breaks off in the middle of this must not be resumed, since nobody knows which tasks its client has.
    this.#point = { ...(this.#point as ResumePoint), rights: noRights };
    subscription.changeScope(next);
    const [before, after] = await Promise.all([this.#idsOf(former), this.#idsOf(next)]);
    // Events after this one find no task of the former scope at the client.
    subscription.endFormerScope((await this.#parts.feedRepository.state()).seq);
    for (const [key, id] of before) {
      if (after.has(key)) continue;
      subscription.clientTasks.set(key, false);
      yield this.#removed(id, subscription.sentSeq);
    }
    let added = Array.from(after).flatMap(([key, id]) => (before.has(key) ? [] : [id]));
    while (added.length > 0) {
      const { rows, covered } = await this.#parts.feedRepository.tasks(added.slice(0, snapshotPageSize), {
        parameterNames: subscription.parameterNames,
        maxBytes: maxPageBytes,
      });
      added = added.slice(covered);
      for (const row of rows) {
        if (!subscription.matches(row)) continue; // changed meanwhile: the feed has an event for it
        subscription.clientTasks.set(taskKey(row.id), true);
        yield this.#response({ case: 'upserted', value: toTask(row, this.#caller.userId) }, subscription.sentSeq);
      }
    }
    this.#point = { ...this.#point, rights: next.digest };
  }

  async #idsOf({ scope, filter }: WatchScope): Promise<Map<string, Buffer>> {
    if (filter === undefined) return new Map();
    const ids = await this.#parts.tasks.ids(scope, filter, maxResynced + 1, this.#call.signal);
    if (ids.length > maxResynced) throw expired();
    return new Map(ids.map((id) => [taskKey(id), id]));
  }

  /**
   * Authenticates the caller if a second has passed; returns the new scope if the caller's rights have changed.
   *
   * @throws {ConnectError} UNAUTHENTICATED; or UNAVAILABLE when the caller could not be authenticated for too long, or the database is
   *   not to be served from.
   */
  async #reauthenticate(): Promise<WatchScope | undefined> {
    const now = performance.now();
    if (now - this.#checkedAt < reauthenticateMs) return undefined;
    this.#checkedAt = now;
    const why = this.#parts.whyNotServing?.();
    if (why !== undefined) throw databaseUnavailable(new Error(why));
    try {
      const caller = await this.#call.reauthenticate();
      const scope = caller === this.#caller ? undefined : await this.#resolveScope(caller);
      this.#caller = caller;
      this.#authenticatedAt = now;
      return scope;
    } catch (error) {
      if (error instanceof ConnectError && error.code === Code.Unauthenticated) throw error;
      if (now - this.#authenticatedAt > maxUnauthenticatedMs) throw databaseUnavailable(error);
      this.#call.log.debug({ err: error }, 'the rights of a watch could not be looked up'); // again in a second
      return undefined;
    }
  }

  async #resolveScope(caller: Caller): Promise<WatchScope> {
    const { query } = this.#request;
    const isFirst = this.#subscription === undefined;
    const context = { caller, signal: this.#call.signal };
    const { filter } = await this.#parts.resolveQuery(readWatchQuery(query), query, context).catch((error: unknown) => {
      // A name in the query does not exist any more, or the caller may not know of it any more: then nothing matches.
      if (!isFirst && error instanceof ConnectError && error.code === Code.InvalidArgument) return { filter: undefined };
      throw error;
    });
    return createWatchScope(scopeOf(caller), filter);
  }

  #heartbeat(subscription: Subscription): WatchTasksResponse {
    return this.#response({ case: 'heartbeat', value: create(HeartbeatSchema) }, subscription.sentSeq);
  }

  #removed(id: Buffer, seq: number): WatchTasksResponse {
    return this.#response({ case: 'removed', value: create(TaskRemovedSchema, { id: formatUuid(id) }) }, seq);
  }

  #response(
    event: Extract<WatchTasksResponse['event'], { value: unknown }>,
    seq: number,
    snapshotPosition?: Buffer,
  ): WatchTasksResponse {
    this.#parts.metrics.sent(event.case);
    const { generation, rights } = this.#point as ResumePoint;
    const resumeToken = this.#tokens.encode({
      seq,
      generation,
      rights,
      ...(snapshotPosition === undefined ? {} : { snapshotPosition }),
    });
    return create(WatchTasksResponseSchema, { event, resumeToken });
  }
}

/** @throws {ConnectError} OUT_OF_RANGE when the feed at `at` does not continue a point, or the caller's rights are others. */
function ensureContinues(point: ResumePoint, { generation, rights }: ResumePoint, at: FeedState): void {
  const continues = point.generation.equals(generation) && point.seq >= at.floorSeq && point.seq <= at.seq;
  if (!continues || !point.rights.equals(rights)) throw expired();
}
