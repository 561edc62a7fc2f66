import { fromBinary, toBinary } from '@bufbuild/protobuf';
import { type WatchTasksResponse, WatchTasksResponseSchema } from '../src/gen/tasks/v1/tasks_pb.ts';
import { type LiveStatus, type OpenStream, runTaskStream, type StreamListener } from './task-stream.ts';

/** What the tab with the stream tells those that listen to it, and what a tab asks that begins to. */
type TabMessage =
  | { readonly kind: 'message'; readonly bytes: Uint8Array<ArrayBuffer> }
  | { readonly kind: 'status'; readonly status: LiveStatus; readonly resumeToken: string }
  | { readonly kind: 'gap' }
  | { readonly kind: 'hello' };

/** What is watched: a query, as the one who has the token sees it. */
interface Watch {
  readonly token: string;
  readonly query: string;
}

/** How many streams one browser has open to the service, whatever its tabs show: over HTTP/1.1 it opens six connections in all. */
const maxStreams = 3;

/** A wait for one of them that is shorter is not worth telling, in milliseconds. */
const noticedMs = 500;

/**
 * Watches a query by one stream for all tabs that watch the same: browsers open only six connections of HTTP/1.1 to a host.
 *
 * Whoever holds the lock of the watch has the stream, and tells the others over a channel. When that tab goes, the browser gives
 * the lock to the next one, which goes on where the last message was.
 *
 * @param resumeToken where to go on, or empty to start now.
 */
export async function runSharedStream(
  open: OpenStream,
  watch: Watch,
  resumeToken: string,
  listener: StreamListener,
  stop: AbortSignal,
): Promise<void> {
  // Both exist for pages from HTTPS or this machine alone. Elsewhere every tab has a stream of its own.
  if (navigator.locks === undefined || crypto.subtle === undefined) {
    await runTaskStream(open, watch.query, resumeToken, listener, stop);
    return;
  }
  const name = `tasks-service.watch.${await fingerprint(watch)}`;
  if (stop.aborted) return;
  const channel = new BroadcastChannel(name);
  const tell = (message: TabMessage): void => channel.postMessage(message);
  let token = resumeToken;
  let role: 'listening' | 'joined' | 'telling' = 'listening';
  let status: LiveStatus = 'connecting';

  const hear = (message: WatchTasksResponse): void => {
    token = message.resumeToken || token;
    listener.onMessage(message);
  };
  const setStatus = (next: LiveStatus): void => {
    status = next;
    listener.onStatus(next);
  };
  channel.addEventListener('message', ({ data }: MessageEvent<TabMessage>) => {
    if (role === 'telling') {
      if (data.kind === 'hello') tell({ kind: 'status', status, resumeToken: token });
      return;
    }
    switch (data.kind) {
      case 'message':
        hear(fromBinary(WatchTasksResponseSchema, data.bytes));
        break;
      case 'status':
        setStatus(data.status);
        // What the stream told before one listened was missed.
        if (role === 'listening' && data.status === 'live') {
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
      onStatus(next) {
        tell({ kind: 'status', status: next, resumeToken: token });
        setStatus(next);
      },
      onGap() {
        tell({ kind: 'gap' });
        listener.onGap();
      },
    };
    const waiting = setTimeout(() => both.onStatus('polling'), noticedMs);
    await withStreamPermit(stop, async () => {
      clearTimeout(waiting);
      await runTaskStream(open, watch.query, token, both, stop);
      // A service without the stream is not asked again; the lock is kept, so that the other tabs do not ask either.
      if (status === 'polling') await aborted(stop);
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

/** Waits for one of the browser's few streams. Whoever waits polls meanwhile, as its status says. */
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

/** Names a watch without giving away its token. */
async function fingerprint({ token, query }: Watch): Promise<string> {
  const bytes = await crypto.subtle.digest('SHA-256', new TextEncoder().encode(`${token}\n${query}`));
  return [...new Uint8Array(bytes)].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}
