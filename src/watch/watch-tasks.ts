import { Code, ConnectError } from '@connectrpc/connect';
import type { Call } from '../call/call.ts';
import type { Caller } from '../call/caller.ts';
import { overloaded, tooManyWatches } from '../call/errors.ts';
import type { WatchTasksRequest, WatchTasksResponse } from '../gen/tasks/v1/tasks_pb.ts';
import type { ResolveQuery } from '../tasks/resolve-query.ts';
import type { TaskRepository } from '../tasks/store/task-repository.ts';
import { FeedGapError } from './feed-batch.ts';
import type { FeedRepository } from './feed-repository.ts';
import type { TaskFeed } from './task-feed.ts';
import type { WatchMetrics } from './watch-metrics.ts';
import { expired, WatchStream } from './watch-stream.ts';

/** The method WatchTasks. It does not know which transport called it. */
export type WatchTasks = (request: WatchTasksRequest, call: Call) => AsyncIterable<WatchTasksResponse>;

/** What a watch needs. */
export interface WatchParts {
  /** Must read from the primary: a snapshot from a replica could be older than the point from which changes are sent. */
  readonly tasks: TaskRepository;
  readonly feed: TaskFeed;
  readonly feedRepository: FeedRepository;
  readonly resolveQuery: ResolveQuery;
  /** The keys of page tokens, from which those of resume tokens are derived. */
  readonly tokenKeys: readonly [Buffer, ...Buffer[]];
  /** Most watches of one user on this process. */
  readonly watchesPerCaller: number;
  readonly metrics: WatchMetrics;
  /** Why nothing is to be served now, asked each second: then watches end, to be resumed elsewhere. */
  readonly whyNotServing?: () => string | undefined;
}

/** Most watches of a process: each takes some 50 kB, and CPU time for each change. */
const maxWatches = 5000;

/** Makes the method. */
export function createWatchTasks(parts: WatchParts): WatchTasks {
  const open = new Map<string, number>();
  let all = 0;

  return async function* watchTasks(request, call) {
    const leave = enter(call.caller);
    const stream = new WatchStream(parts, request, call);
    try {
      yield* stream.run();
    } catch (error) {
      const seen = error instanceof FeedGapError ? expired() : error;
      if (seen instanceof ConnectError && seen.code === Code.OutOfRange) parts.metrics.expired();
      throw seen;
    } finally {
      stream.end();
      leave();
    }
  };

  function enter({ userId }: Caller): () => void {
    const key = userId.toString('latin1');
    const own = open.get(key) ?? 0;
    if (own >= parts.watchesPerCaller) throw tooManyWatches(parts.watchesPerCaller);
    if (all >= maxWatches) throw overloaded(new Error(`${maxWatches} watches are open`));
    open.set(key, own + 1);
    all += 1;
    return () => {
      all -= 1;
      const left = (open.get(key) ?? 1) - 1;
      if (left === 0) open.delete(key);
      else open.set(key, left);
    };
  }
}
