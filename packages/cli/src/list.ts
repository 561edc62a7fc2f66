import type { Task } from '../../../src/gen/tasks/v1/tasks_pb.ts';
import { parseQuery } from '../../../src/tasks/query-grammar.ts';
import { listAllTasks, type TasksClient } from '../../client/src/tasks-client.ts';
import { unary } from './connect-service.ts';
import { type OutputOptions, printTasks } from './print-tasks.ts';

/** The options of `list`. */
export interface ListOptions extends OutputOptions {
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
 * @throws {ConnectError} when the service refuses or is away.
 */
export async function listTasks(
  { query, orderBy, limit, ...options }: ListOptions,
  client: TasksClient,
  env: NodeJS.ProcessEnv,
): Promise<void> {
  const lists =
    orderBy !== undefined || parseQuery(query).values.has('waiting')
      ? [{ query, orderBy: orderBy ?? '' }]
      : [
          { query: `${query} waiting:true`, orderBy: 'current_state.timestamp' },
          { query: `${query} waiting:false`, orderBy: '' },
        ];
  const tasks = new Map<string, Task>();
  for (const list of lists) await readList(client, list, tasks, limit + 1);
  const shown = [...tasks.values()].slice(0, limit);
  if (shown.length === 0 && options.output === 'table' && process.stdout.isTTY) return console.error('no tasks');
  printTasks(shown, options, env);
  if (tasks.size > limit)
    console.error(`the list has more than ${limit} ${limit === 1 ? 'task' : 'tasks'}: --limit shows more of them`);
}

/** Reads a list until there are so many tasks. One that changes meanwhile may be in two lists, and stays where it was. */
async function readList(
  client: TasksClient,
  list: { readonly query: string; readonly orderBy: string },
  tasks: Map<string, Task>,
  most: number,
): Promise<void> {
  if (tasks.size >= most) return;
  for await (const task of listAllTasks(client, { ...list, pageSize: Math.min(pageSize, most - tasks.size) }, unary)) {
    if (!tasks.has(task.id)) tasks.set(task.id, task);
    if (tasks.size >= most) return;
  }
}
