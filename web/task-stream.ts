import type { MessageInitShape } from '@bufbuild/protobuf';
import { Code } from '@connectrpc/connect';
import type { WatchTasksRequestSchema, WatchTasksResponse } from '../src/gen/tasks/v1/tasks_pb.ts';
import { isCode } from './service.ts';

/** The status of updates: `live` with a stream, `polling` when the service has none for the query, `idle` without anything to follow. */
export type LiveStatus = 'connecting' | 'live' | 'reconnecting' | 'offline' | 'polling' | 'idle';

/** The status with what a user may want to know while the service is away. */
export interface LiveState {
  readonly status: LiveStatus;
  /** Since when the service is away, in milliseconds since 1970. */
  readonly since?: number | undefined;
  /** When it is tried again. */
  readonly retryAt?: number | undefined;
}

/** Callbacks of a stream. */
export interface StreamListener {
  onMessage(message: WatchTasksResponse): void;
  onStatus(status: LiveStatus, away?: Omit<LiveState, 'status'>): void;
  /** Changes may have been missed: the view must be loaded again. */
  onGap(): void;
}

/** Opens a stream: WatchTasks of the client. */
export type OpenStream = (
  request: MessageInitShape<typeof WatchTasksRequestSchema>,
  options: { readonly signal: AbortSignal },
) => AsyncIterable<WatchTasksResponse>;

/** The first and the longest wait before a new attempt, in milliseconds. Half of it is random, so that clients spread. */
const firstWaitMs = 400;
const longestWaitMs = 10_000;

/** Silence after which a stream counts as dead, in milliseconds: the service sends a heartbeat each 15 s. */
const silenceMs = 45_000;

/**
 * Watches a query until it is stopped: reopens the stream when it breaks, and resumes.
 *
 * @param resumeToken where to resume, or empty to start now; then `onGap` is called first.
 */
export async function runTaskStream(
  open: OpenStream,
  query: string,
  resumeToken: string,
  listener: StreamListener,
  stop: AbortSignal,
): Promise<void> {
  let token = resumeToken;
  let waitMs = firstWaitMs;
  let since: number | undefined;
  listener.onStatus('connecting');
  while (!stop.aborted) {
    const attempt = new AbortController();
    const signal = AbortSignal.any([stop, attempt.signal]);
    let silence = setTimeout(() => attempt.abort(), silenceMs);
    let isOpen = false;
    try {
      for await (const message of open({ query, resumeToken: token, includeInitial: false }, { signal })) {
        clearTimeout(silence);
        silence = setTimeout(() => attempt.abort(), silenceMs);
        if (!isOpen) {
          isOpen = true;
          waitMs = firstWaitMs;
          since = undefined;
          listener.onStatus('live');
          if (token === '') listener.onGap();
        }
        token = message.resumeToken || token;
        listener.onMessage(message);
      }
    } catch (error) {
      const isTokenRefused = token !== '' && isCode(error, Code.OutOfRange, Code.InvalidArgument);
      if (isTokenRefused)
        token = ''; // expired, or signed with a former key of the service
      else if (isCode(error, Code.Unimplemented, Code.InvalidArgument, Code.PermissionDenied, Code.ResourceExhausted)) {
        listener.onStatus('polling');
        return;
      }
      if (isCode(error, Code.Unauthenticated)) {
        listener.onGap(); // the next call fails in the same way and signs out
        return;
      }
    } finally {
      clearTimeout(silence);
    }
    if (stop.aborted) return;
    since ??= Date.now();
    const pauseMs = waitMs * (0.5 + Math.random() / 2);
    listener.onStatus(navigator.onLine ? 'reconnecting' : 'offline', { since, retryAt: Date.now() + pauseMs });
    await pause(pauseMs, stop);
    waitMs = Math.min(waitMs * 2, longestWaitMs);
  }
}

/** Waits for a time, until the stream is stopped, or until the network is back. */
function pause(milliseconds: number, stop: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      clearTimeout(timer);
      stop.removeEventListener('abort', done);
      removeEventListener('online', done);
      resolve();
    };
    const timer = setTimeout(done, milliseconds);
    stop.addEventListener('abort', done);
    addEventListener('online', done);
  });
}
