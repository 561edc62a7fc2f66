import { readFileSync } from 'node:fs';
import { toJson } from '@bufbuild/protobuf';
import { createClient } from '@connectrpc/connect';
import { createGrpcTransport, Http2SessionManager } from '@connectrpc/connect-node';
import type { DevelopmentService } from '../development.ts';
import { type Task, TaskSchema, TasksService } from '../gen/tasks/v1/tasks_pb.ts';
import { stopSignal } from '../platform/stop-signal.ts';
import { CommandError } from './command-error.ts';
import { type Followed, followTasks } from './follow-tasks.ts';
import { printable, taskCells, taskTable } from './task-table.ts';
import { readUntil } from './until-query.ts';

/** What `watch` was told. */
export interface WatchOptions {
  /** `host:port` of the gRPC port, or its URL. */
  readonly address?: string;
  readonly query: string;
  /** Whether to print a line of JSON for each change. */
  readonly json?: true;
  /** What to wait for; any of them will do. */
  readonly until?: readonly string[];
  /** How long to wait for it, in seconds. */
  readonly timeout?: number;
}

/** The table is drawn at most this often, in milliseconds. */
const drawMs = 100;

/**
 * Shows the tasks of a query and how they change: a table at a terminal, else a line for each change.
 *
 * With `until`, it ends as soon as there are tasks and each of them is as wanted. What neither the options nor the environment say of
 * the service is taken from `local`.
 *
 * @throws {CommandError} when that did not happen in time, no task is left that could be, or the service refuses.
 */
export async function watchTasks(
  options: WatchOptions,
  env: NodeJS.ProcessEnv,
  local: DevelopmentService | undefined,
): Promise<void> {
  const conditions = (options.until ?? []).map(readUntil);
  const { address, token } = whereAndWho(options, env, local);
  const sessionManager = new Http2SessionManager(address);
  const client = createClient(TasksService, createGrpcTransport({ baseUrl: address, sessionManager }));
  const tasks = new Map<string, Task>();
  const show = options.json === true ? printJson : process.stdout.isTTY ? drawTable(tasks, address) : printLine;
  process.stdout.once('error', () => process.exit(1)); // nobody reads on, as behind `head`
  const asked = stopSignal();
  const late = options.timeout === undefined ? undefined : AbortSignal.timeout(options.timeout * 1000);
  const stop = late === undefined ? asked : AbortSignal.any([asked, late]);
  const holds = (): boolean =>
    conditions.length > 0 && tasks.size > 0 && [...tasks.values()].every((task) => conditions.some((wanted) => wanted(task)));

  let isSynced = false;
  try {
    for await (const followed of followTasks(client, { query: options.query, token }, stop)) {
      if (followed.event === 'upserted') tasks.set(followed.task.id, followed.task);
      else if (followed.event === 'removed') tasks.delete(followed.id);
      else if (followed.event === 'restarted') tasks.clear();
      // What comes from here to the next `synced` is older for some tasks than for others.
      if (followed.event === 'restarted' || followed.event === 'disconnected') isSynced = false;
      else isSynced ||= followed.event === 'synced';
      show(followed);
      if (isSynced && holds()) return;
      if (isSynced && followed.event === 'removed' && conditions.length > 0 && tasks.size === 0) {
        throw new CommandError('no task of the query is left');
      }
    }
  } finally {
    sessionManager.abort(); // an idle connection would keep the program from ending
  }
  if (late?.aborted === true) throw new CommandError(`after ${options.timeout} seconds it is not so`);
  if (conditions.length > 0) throw new CommandError('stopped before it was so');
}

/** Where the service is and with which token: what is said, else the private service of `npm start` and its developer. */
function whereAndWho(
  { address }: WatchOptions,
  env: NodeJS.ProcessEnv,
  local: DevelopmentService | undefined,
): { address: string; token: string } {
  const file = env['TASKS_TOKEN_FILE'];
  const given = env['TASKS_TOKEN'] ?? (file === undefined ? undefined : readToken(file));
  const where = address ?? env['TASKS_ADDRESS'] ?? local?.grpc;
  const token = given ?? local?.token;
  if (where === undefined)
    throw new CommandError('where is the service? Give --address or TASKS_ADDRESS, or start one here by `npm start`');
  if (token === undefined) throw new CommandError('who are you? Give a session token in TASKS_TOKEN or TASKS_TOKEN_FILE');
  const url = /^https?:\/\//.test(where) ? where : `http://${where}`;
  if (!URL.canParse(url)) throw new CommandError(`"${where}" is no address: give host:port, or a URL with https:// for TLS`);
  return { address: url, token: token.trim() };
}

function readToken(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    throw new CommandError(`TASKS_TOKEN_FILE: ${(error as Error).message}`);
  }
}

function printJson(followed: Followed): void {
  const line = followed.event === 'upserted' ? { event: followed.event, task: toJson(TaskSchema, followed.task) } : followed;
  console.log(JSON.stringify(line));
}

function printLine(followed: Followed): void {
  if (followed.event === 'upserted') console.log(taskCells(followed.task).join('\t'));
  else if (followed.event === 'removed') console.log(`removed\t${followed.id}`);
  else if (followed.event === 'disconnected') console.error(`${printable(followed.reason)}: trying again`);
}

/** Draws the table when something has changed, all of it, from the top of the terminal. */
function drawTable(tasks: ReadonlyMap<string, Task>, address: string): (followed: Followed) => void {
  let state = 'connecting';
  let timer: NodeJS.Timeout | undefined;
  const draw = (): void => {
    timer = undefined;
    // Some terminals do not say how large they are.
    const [rows, columns] = [process.stdout.rows || 24, process.stdout.columns || 80];
    const table = taskTable(tasks.values(), { rows: rows - 2, columns });
    process.stdout.write(`\x1b[2J\x1b[H${tasks.size} tasks, ${state} (${address})\n\n${table}\n`);
  };
  process.once('exit', () => timer === undefined || draw());
  return (followed) => {
    if (followed.event === 'synced') state = 'live';
    else if (followed.event === 'disconnected') state = `reconnecting: ${printable(followed.reason)}`;
    timer ??= setTimeout(draw, drawMs);
  };
}
