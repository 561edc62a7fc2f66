import type { MessageInitShape } from '@bufbuild/protobuf';
import { Code, ConnectError } from '@connectrpc/connect';
import type { WatchTasksRequestSchema, WatchTasksResponse } from '../../../src/gen/tasks/v1/tasks_pb.ts';

/** Opens a stream: `watchTasks` of a client. */
export type OpenWatch = (
  request: MessageInitShape<typeof WatchTasksRequestSchema>,
  options: { readonly signal: AbortSignal },
) => AsyncIterable<WatchTasksResponse>;

/** What to watch, and where to begin. */
export interface WatchStart {
  readonly query: string;
  /** The token of a list or of an earlier watch; without one it begins now. */
  readonly resumeToken?: string | undefined;
  /** Whether a stream without a token begins with all tasks. */
  readonly includeInitial?: boolean;
  /** In a browser `window`, whose event `online` ends waiting. */
  readonly network?: EventTarget;
}

/** What {@link resumeWatch} has seen. */
export type Watched =
  | { readonly event: 'message'; readonly message: WatchTasksResponse }
  /** The service refuses the resume token: what was known is void. The stream is opened without one after so many milliseconds. */
  | { readonly event: 'restarted'; readonly retryMs: number }
  /** The stream broke off for this reason, or was ended. It is opened again after so many milliseconds. */
  | { readonly event: 'disconnected'; readonly reason: string | undefined; readonly retryMs: number };

/** How long to wait before connecting again, in milliseconds: doubled from the first to the most, half of it random. */
const waitMs = { first: 250, most: 5000 };

/** Silence after which a stream counts as dead, in milliseconds: the service sends a heartbeat each 15 seconds. */
const silenceMs = 45_000;

/** Codes of errors that may be gone at the next attempt. */
const retryable: ReadonlySet<Code> = new Set([
  Code.Unavailable,
  Code.Canceled,
  Code.Aborted,
  Code.Internal,
  Code.Unknown,
  Code.DeadlineExceeded,
]);

/**
 * The messages of a watch until the signal is aborted: the stream is opened again when it breaks, and resumes.
 *
 * @throws {ConnectError} for an error that a retry does not help.
 */
export async function* resumeWatch(
  open: OpenWatch,
  { query, resumeToken: from = '', includeInitial = false, network }: WatchStart,
  stop: AbortSignal,
): AsyncGenerator<Watched, void> {
  let resumeToken = from;
  let wait = waitMs.first;
  while (!stop.aborted) {
    const silence = new AbortController();
    const startTimer = () => setTimeout(() => silence.abort(), silenceMs);
    let timer = startTimer();
    let failure: ConnectError | undefined;
    try {
      const signal = AbortSignal.any([stop, silence.signal]);
      for await (const message of open(
        { query, resumeToken, includeInitial: includeInitial && resumeToken === '' },
        { signal },
      )) {
        clearTimeout(timer);
        timer = startTimer();
        wait = waitMs.first;
        resumeToken = message.resumeToken || resumeToken;
        yield { event: 'message', message };
      }
    } catch (error) {
      failure = ConnectError.from(error);
    } finally {
      clearTimeout(timer);
    }
    if (stop.aborted) return;
    const retryMs = wait * (0.5 + Math.random() / 2);
    if (isTokenRefused(failure, resumeToken)) {
      resumeToken = '';
      yield { event: 'restarted', retryMs };
    } else if (failure === undefined || retryable.has(failure.code)) {
      yield { event: 'disconnected', reason: failure?.rawMessage, retryMs };
    } else throw failure;
    await pause(retryMs, stop, network);
    wait = Math.min(2 * wait, waitMs.most);
  }
}

/** Whether a resume token has expired, or was signed with a former key of the service. */
function isTokenRefused(failure: ConnectError | undefined, resumeToken: string): boolean {
  return failure?.code === Code.OutOfRange || (failure?.code === Code.InvalidArgument && resumeToken !== '');
}

/** Waits so many milliseconds, until the signal is aborted, or until there is a network. */
function pause(ms: number, stop: AbortSignal, network: EventTarget | undefined): Promise<void> {
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer);
      stop.removeEventListener('abort', end);
      network?.removeEventListener('online', end);
      resolve();
    };
    const timer = setTimeout(end, ms);
    stop.addEventListener('abort', end);
    network?.addEventListener('online', end);
    if (stop.aborted) end();
  });
}
