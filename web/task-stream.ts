import { Code } from '@connectrpc/connect';
import { type OpenWatch, resumeWatch } from '../packages/client/src/resume-watch.ts';
import type { WatchTasksResponse } from '../src/gen/tasks/v1/tasks_pb.ts';
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

/**
 * Watches a query until it is stopped, and says how the stream is.
 *
 * @param resumeToken where to resume, or empty to start now; then `onGap` is called first.
 */
export async function runTaskStream(
  open: OpenWatch,
  query: string,
  resumeToken: string,
  listener: StreamListener,
  stop: AbortSignal,
): Promise<void> {
  let isOpen = false;
  let isResumed = resumeToken !== '';
  let since: number | undefined;
  listener.onStatus('connecting');
  try {
    for await (const watched of resumeWatch(open, { query, resumeToken, network: window }, stop)) {
      if (watched.event === 'message') {
        if (!isOpen) {
          isOpen = true;
          since = undefined;
          listener.onStatus('live');
          if (!isResumed) listener.onGap();
          isResumed = true;
        }
        listener.onMessage(watched.message);
        continue;
      }
      isOpen = false;
      if (watched.event === 'restarted') isResumed = false;
      since ??= Date.now();
      const retryAt = Date.now() + watched.retryMs;
      listener.onStatus(navigator.onLine ? 'reconnecting' : 'offline', { since, retryAt });
    }
  } catch (error) {
    if (isCode(error, Code.Unauthenticated))
      listener.onGap(); // the next call fails in the same way and signs out
    else listener.onStatus('polling');
  }
}
