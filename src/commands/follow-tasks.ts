import { setTimeout as sleep } from 'node:timers/promises';
import { type Client, Code, ConnectError } from '@connectrpc/connect';
import type { Task, TasksService } from '../gen/tasks/v1/tasks_pb.ts';
import { CommandError } from './command-error.ts';

/** Something that changed for who follows tasks. */
export type Followed =
  | { readonly event: 'upserted'; readonly task: Task }
  | { readonly event: 'removed'; readonly id: string }
  /** All tasks are known. */
  | { readonly event: 'synced' }
  /** Everything that was known must be forgotten. */
  | { readonly event: 'restarted' }
  /** The service is away, for this reason, and asked again. */
  | { readonly event: 'disconnected'; readonly reason: string };

/** How long to wait before connecting again, from the first time to the longest, in milliseconds. */
const waitMs = { first: 250, most: 5000 };

/** A stream that is silent for so long is dead, in milliseconds: the service gives a sign of life each 15 seconds. */
const silenceMs = 45_000;

/**
 * Watches a query until the signal is aborted, as docs/watch.md says a client should: it goes on where it was when the connection
 * breaks, and begins anew when it must.
 *
 * @throws {CommandError} when asking again cannot help.
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
      } else if (mayPass.has(code)) yield { event: 'disconnected', reason: rawMessage };
      else throw new CommandError(rawMessage);
    } finally {
      clearTimeout(timer);
    }
    await sleep(wait * (0.5 + Math.random() / 2), undefined, { signal: stop }).catch(() => {});
    wait = Math.min(2 * wait, waitMs.most);
  }
}

/** What may be better the next time. */
const mayPass: ReadonlySet<Code> = new Set([Code.Unavailable, Code.Canceled, Code.Aborted, Code.Internal, Code.Unknown]);
