import { setTimeout as sleep } from 'node:timers/promises';
import { type Client, Code, ConnectError } from '@connectrpc/connect';
import type { Task, TasksService } from '../gen/tasks/v1/tasks_pb.ts';
import { callError } from './connect-service.ts';

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

/**
 * Watches a query until the signal is aborted, in the way of docs/watch.md: it resumes when the connection breaks, and starts
 * over when the resume token has expired.
 *
 * @throws {CommandError} for an error that a retry does not help.
 */
export async function* followTasks(
  client: Client<typeof TasksService>,
  request: { readonly query: string; readonly token: string },
  stop: AbortSignal,
): AsyncGenerator<Followed, void> {
  const headers = { 'coder-session-token': request.token };
  let resumeToken = '';
  let wait = waitMs.first;
  while (!stop.aborted) {
    const silence = new AbortController();
    const timer = setTimeout(() => silence.abort(), silenceMs);
    try {
      const signal = AbortSignal.any([stop, silence.signal]);
      const stream = client.watchTasks(
        { query: request.query, resumeToken, includeInitial: resumeToken === '' },
        { headers, signal },
      );
      for await (const { event, resumeToken: next } of stream) {
        timer.refresh();
        wait = waitMs.first;
        resumeToken = next;
        if (event.case === 'upserted') yield { event: 'upserted', task: event.value };
        else if (event.case === 'removed') yield { event: 'removed', id: event.value.id };
        else if (event.case === 'synced') yield { event: 'synced' };
      }
    } catch (error) {
      if (stop.aborted) return;
      const { code, rawMessage } = ConnectError.from(error);
      if (code === Code.OutOfRange) {
        resumeToken = '';
        yield { event: 'restarted' };
      } else if (retryable.has(code)) yield { event: 'disconnected', reason: rawMessage };
      else throw callError(error);
    } finally {
      clearTimeout(timer);
    }
    await sleep(wait * (0.5 + Math.random() / 2), undefined, { signal: stop }).catch(() => {});
    wait = Math.min(2 * wait, waitMs.most);
  }
}

/** Codes of errors that may be gone at the next attempt. */
const retryable: ReadonlySet<Code> = new Set([Code.Unavailable, Code.Canceled, Code.Aborted, Code.Internal, Code.Unknown]);
