import type { DevelopmentService } from '../development.ts';
import type { Task } from '../gen/tasks/v1/tasks_pb.ts';
import { parseQuery } from '../tasks/query-grammar.ts';
import { answerOf, type ConnectedService, connectService, type ServiceOptions } from './connect-service.ts';
import { type OutputOptions, printTasks } from './print-tasks.ts';

/** The options of `list`. */
export interface ListOptions extends ServiceOptions, OutputOptions {
  readonly query: string;
  /** The order, as in the API; by default what waits for input comes first. */
  readonly orderBy?: string;
  readonly limit: number;
}

/** The most tasks of a page. */
const pageSize = 200;

/**
 * Prints the tasks of a query. Without an order, those that wait for input come first, the one that has waited longest before all,
 * and behind them the others in the order of the service.
 *
 * @throws {CommandError} when the service refuses or is away.
 */
export async function listTasks(
  { query, orderBy, limit, ...options }: ListOptions,
  env: NodeJS.ProcessEnv,
  local: DevelopmentService | undefined,
): Promise<void> {
  using service = connectService(options, env, local);
  const lists =
    orderBy !== undefined || parseQuery(query).values.has('waiting')
      ? [{ query, orderBy: orderBy ?? '' }]
      : [
          { query: `${query} waiting:true`, orderBy: 'current_state.timestamp' },
          { query: `${query} waiting:false`, orderBy: '' },
        ];
  const tasks = new Map<string, Task>();
  for (const list of lists) await readList(service, list, tasks, limit + 1);
  const shown = [...tasks.values()].slice(0, limit);
  printTasks(shown, options, env);
  if (tasks.size > limit) console.error(`there are more than ${limit} tasks: --limit shows more of them`);
}

/** Reads a list page by page until there are so many tasks. One that changes meanwhile may be in two lists, and stays where it was. */
async function readList(
  { client, call }: ConnectedService,
  list: { readonly query: string; readonly orderBy: string },
  tasks: Map<string, Task>,
  most: number,
): Promise<void> {
  let pageToken = '';
  while (tasks.size < most) {
    const request = { ...list, pageToken, pageSize: Math.min(pageSize, most - tasks.size) };
    const page = await answerOf(client.listTasks(request, call));
    for (const task of page.tasks) if (!tasks.has(task.id)) tasks.set(task.id, task);
    pageToken = page.nextPageToken;
    if (pageToken === '') return;
  }
}
