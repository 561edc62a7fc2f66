import { Code, ConnectError } from '@connectrpc/connect';
import type { Task } from '../../../src/gen/tasks/v1/tasks_pb.ts';
import type { TasksClient } from './tasks-client.ts';

/** An event of {@link followTasks}. */
export type Followed =
  | { readonly event: 'upserted'; readonly task: Task }
  | { readonly event: 'removed'; readonly id: string }
  /** All tasks are known. */
  | { readonly event: 'synced' }
  /** The tasks so far are void: all of them follow again. */
  | { readonly event: 'restarted' }
  /** The stream broke off for this reason; it is opened again. */
  | { readonly event: 'disconnected'; readonly reason: string };

/** How long to wait before connecting again, in milliseconds: doubled from the first to the most. */
const waitMs = { first: 250, most: 5000 };

/** Silence after which a stream counts as dead, in milliseconds: the service sends a heartbeat each 15 seconds. */
const silenceMs = 45_000;

/** Codes of errors that may be gone at the next attempt. */
const retryable: ReadonlySet<Code> = new Set([Code.Unavailable, Code.Canceled, Code.Aborted, Code.Internal, Code.Unknown]);

/**
 * Watches a query until the signal is aborted: it resumes when the connection breaks, and starts over when the service refuses the
 * resume token.
 *
 * @throws {ConnectError} for an error that a retry does not help.
 */
export async function* followTasks(
  client: Pick<TasksClient, 'watchTasks'>,
  query: string,
  stop: AbortSignal,
): AsyncGenerator<Followed, void> {
  let resumeToken = '';
  let wait = waitMs.first;
  while (!stop.aborted) {
    const silence = new AbortController();
    const startTimer = () => setTimeout(() => silence.abort(), silenceMs);
    let timer = startTimer();
    try {
      const signal = AbortSignal.any([stop, silence.signal]);
      const stream = client.watchTasks({ query, resumeToken, includeInitial: resumeToken === '' }, { signal });
      for await (const { event, resumeToken: next } of stream) {
        clearTimeout(timer);
        timer = startTimer();
        wait = waitMs.first;
        resumeToken = next;
        if (event.case === 'upserted') yield { event: 'upserted', task: event.value };
        else if (event.case === 'removed') yield { event: 'removed', id: event.value.id };
        else if (event.case === 'synced') yield { event: 'synced' };
      }
    } catch (error) {
      if (stop.aborted) return;
      const failure = ConnectError.from(error);
      if (isTokenRefused(failure, resumeToken)) {
        resumeToken = '';
        yield { event: 'restarted' };
      } else if (retryable.has(failure.code)) yield { event: 'disconnected', reason: failure.rawMessage };
      else throw failure;
    } finally {
      clearTimeout(timer);
    }
    await pause(wait * (0.5 + Math.random() / 2), stop);
    wait = Math.min(2 * wait, waitMs.most);
  }
}

/** Whether a resume token has expired, or was signed with a former key of the service. */
function isTokenRefused({ code }: ConnectError, resumeToken: string): boolean {
  return code === Code.OutOfRange || (code === Code.InvalidArgument && resumeToken !== '');
}

/** Waits so many milliseconds, or until the signal is aborted. */
function pause(ms: number, stop: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer);
      stop.removeEventListener('abort', end);
      resolve();
    };
    const timer = setTimeout(end, ms);
    stop.addEventListener('abort', end);
    if (stop.aborted) end();
  });
}
