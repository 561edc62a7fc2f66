import type { Task } from '../../../src/gen/tasks/v1/tasks_pb.ts';
import { resumeWatch } from './resume-watch.ts';
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

/**
 * Watches a query until the signal is aborted: it resumes when the connection breaks, and starts over when the service refuses the
 * resume token.
 *
 * @param resumeToken that of a list with `includeResumeToken` whose tasks are known: only what has changed since then follows.
 *   Without one, all tasks follow first.
 * @throws {ConnectError} for an error that a retry does not help.
 */
export async function* followTasks(
  client: Pick<TasksClient, 'watchTasks'>,
  query: string,
  stop: AbortSignal,
  resumeToken?: string,
): AsyncGenerator<Followed, void> {
  for await (const watched of resumeWatch(client.watchTasks, { query, resumeToken, includeInitial: true }, stop)) {
    if (watched.event === 'restarted') yield { event: 'restarted' };
    else if (watched.event === 'disconnected') {
      if (watched.reason !== undefined) yield { event: 'disconnected', reason: watched.reason };
    } else {
      const { event } = watched.message;
      if (event.case === 'upserted') yield { event: 'upserted', task: event.value };
      else if (event.case === 'removed') yield { event: 'removed', id: event.value.id };
      else if (event.case === 'synced') yield { event: 'synced' };
    }
  }
}
