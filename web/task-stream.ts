import type { MessageInitShape } from '@bufbuild/protobuf';
import { Code } from '@connectrpc/connect';
import type { WatchTasksRequestSchema, WatchTasksResponse } from '../src/gen/tasks/v1/tasks_pb.ts';
import { isCode } from './service.ts';

/** How up to date the page is: `live` by a stream, `polling` where the service has none for the query. */
export type LiveStatus = 'connecting' | 'live' | 'reconnecting' | 'offline' | 'polling';

/** What a stream tells. */
export interface StreamListener {
  onMessage(message: WatchTasksResponse): void;
  onStatus(status: LiveStatus): void;
  /** Changes may have been missed: what is shown has to be loaded again. */
  onGap(): void;
}

/** How a stream is opened: WatchTasks of the client. */
export type OpenStream = (
  request: MessageInitShape<typeof WatchTasksRequestSchema>,
  options: { readonly signal: AbortSignal },
) => AsyncIterable<WatchTasksResponse>;

/** The first wait before a new attempt, and the longest, in milliseconds. Half of it is chance, so that not all come at once. */
const firstWaitMs = 400;
const longestWaitMs = 10_000;

/** A stream without a sign of life for so long is dead, in milliseconds: the service says a heartbeat each 15 s. */
const silenceMs = 45_000;

/**
 * Watches a query until it is told to stop: opens the stream again when it breaks, and goes on where it was.
 *
 * @param resumeToken where to go on, or empty to start now; then there is a gap first.
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
          listener.onStatus('live');
          if (token === '') listener.onGap();
        }
        token = message.resumeToken || token;
        listener.onMessage(message);
      }
    } catch (error) {
      const isTokenRefused = token !== '' && isCode(error, Code.OutOfRange, Code.InvalidArgument);
      if (isTokenRefused)
        token = ''; // too old to go on from, or from before the service's key changed
      else if (isCode(error, Code.Unimplemented, Code.InvalidArgument, Code.PermissionDenied, Code.ResourceExhausted)) {
        listener.onStatus('polling');
        return;
      }
      if (isCode(error, Code.Unauthenticated)) {
        listener.onGap(); // the next call says so, too, and signs out
        return;
      }
    } finally {
      clearTimeout(silence);
    }
    if (stop.aborted) return;
    listener.onStatus(navigator.onLine ? 'reconnecting' : 'offline');
    await pause(waitMs * (0.5 + Math.random() / 2), stop);
    waitMs = Math.min(waitMs * 2, longestWaitMs);
  }
}

/** Waits, but no longer than until one is told to stop or the network is back. */
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
