import { fromBinary, toBinary } from '@bufbuild/protobuf';
import type { OpenWatch } from '../packages/client/src/resume-watch.ts';
import { type WatchTasksResponse, WatchTasksResponseSchema } from '../src/gen/tasks/v1/tasks_pb.ts';
import { basePath } from './base-path.ts';
import { type LiveState, runTaskStream, type StreamListener } from './task-stream.ts';

/** Messages between tabs: events from the tab with the stream, and the request of a tab that joins. */
type TabMessage =
  | { readonly kind: 'message'; readonly bytes: Uint8Array<ArrayBuffer> }
  | { readonly kind: 'status'; readonly live: LiveState; readonly resumeToken: string }
  | { readonly kind: 'gap' }
  | { readonly kind: 'hello' };

/** A watch: a query and the token of its caller. */
interface Watch {
  readonly token: string;
  readonly query: string;
}

/** Most streams of one browser, for all of its tabs: over HTTP/1.1 a browser opens six connections to a host. */
const maxStreams = 3;

/** A shorter wait for one of them is not shown, in milliseconds. */
const noticedMs = 500;

/**
 * Watches a query by one stream for all tabs with the same watch: over HTTP/1.1 a browser opens only six connections to a host.
 *
 * The tab that holds the lock of the watch has the stream, and forwards its messages over a channel. When that tab closes, the
 * browser gives the lock to another one, which resumes after the last message.
 *
 * @param resumeToken where to resume, or empty.
 * @param begin called when this tab has the stream and nothing to resume from: gives where to start, or empty to start now.
 */
export async function runSharedStream(
  open: OpenWatch,
  watch: Watch,
  resumeToken: string,
  begin: () => Promise<string>,
  listener: StreamListener,
  stop: AbortSignal,
): Promise<void> {
  // Browsers have both only for pages from HTTPS or localhost. Elsewhere every tab has a stream of its own.
  if (navigator.locks === undefined || crypto.subtle === undefined) {
    await runTaskStream(open, watch.query, resumeToken || (await begin()), listener, stop);
    return;
  }
  const name = `tasks-service.watch.${await fingerprint(watch)}`;
  if (stop.aborted) return;
  const channel = new BroadcastChannel(name);
  const tell = (message: TabMessage): void => channel.postMessage(message);
  let token = resumeToken;
  let role: 'listening' | 'joined' | 'telling' = 'listening';
  let live: LiveState = { status: 'connecting' };

  const hear = (message: WatchTasksResponse): void => {
    token = message.resumeToken || token;
    listener.onMessage(message);
  };
  const setLive = (next: LiveState): void => {
    live = next;
    listener.onStatus(next.status, next);
  };
  channel.addEventListener('message', ({ data }: MessageEvent<TabMessage>) => {
    if (role === 'telling') {
      if (data.kind === 'hello') tell({ kind: 'status', live, resumeToken: token });
      return;
    }
    switch (data.kind) {
      case 'message':
        hear(fromBinary(WatchTasksResponseSchema, data.bytes));
        break;
      case 'status':
        setLive(data.live);
        // Messages before this tab listened were missed.
        if (role === 'listening' && data.live.status === 'live') {
          role = 'joined';
          token = data.resumeToken;
          listener.onGap();
        }
        break;
      case 'gap':
        listener.onGap();
        break;
      case 'hello':
        break;
    }
  });

  const lead = async (): Promise<void> => {
    role = 'telling';
    const both: StreamListener = {
      onMessage(message) {
        tell({ kind: 'message', bytes: toBinary(WatchTasksResponseSchema, message) });
        hear(message);
      },
      onStatus(status, away) {
        tell({ kind: 'status', live: { ...away, status }, resumeToken: token });
        setLive({ ...away, status });
      },
      onGap() {
        tell({ kind: 'gap' });
        listener.onGap();
      },
    };
    token ||= await Promise.race([begin(), aborted(stop).then(() => '')]);
    if (stop.aborted) return;
    const waiting = setTimeout(() => both.onStatus('polling'), noticedMs);
    await withStreamPermit(stop, async () => {
      clearTimeout(waiting);
      await runTaskStream(open, watch.query, token, both, stop);
      // The service has no stream for this query. The lock is kept, so that the other tabs do not try either.
      if (live.status === 'polling') await aborted(stop);
    });
    clearTimeout(waiting);
  };

  listener.onStatus('connecting');
  tell({ kind: 'hello' });
  try {
    await navigator.locks.request(name, { signal: stop }, lead);
  } catch (error) {
    if (!stop.aborted) throw error;
  } finally {
    channel.close();
  }
}

/** Waits for one of the browser's few streams. The status of a tab that waits is `polling`. */
async function withStreamPermit(stop: AbortSignal, run: () => Promise<void>): Promise<void> {
  const names = Array.from({ length: maxStreams }, (_, index) => `tasks-service.stream.${index}`);
  const enough = new AbortController();
  const signal = AbortSignal.any([stop, enough.signal]);
  let isRunning = false;
  const requests = names.map((name) =>
    navigator.locks
      .request(name, { signal }, async () => {
        if (isRunning || stop.aborted) return;
        isRunning = true;
        enough.abort(); // of those that are still asked for
        await run();
      })
      .catch((error: unknown) => {
        if (!signal.aborted) throw error;
      }),
  );
  await Promise.all(requests);
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve());
  });
}

/** A name for a watch that does not reveal its token. */
async function fingerprint({ token, query }: Watch): Promise<string> {
  const bytes = await crypto.subtle.digest('SHA-256', new TextEncoder().encode(`${basePath}\n${token}\n${query}`));
  return [...new Uint8Array(bytes)].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}
