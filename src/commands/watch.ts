import { readFileSync } from 'node:fs';
import { toJson } from '@bufbuild/protobuf';
import { createClient } from '@connectrpc/connect';
import { createGrpcTransport, Http2SessionManager } from '@connectrpc/connect-node';
import type { DevelopmentService } from '../development.ts';
import { type Task, TaskSchema, TasksService } from '../gen/tasks/v1/tasks_pb.ts';
import { stopSignal } from '../platform/stop-signal.ts';
import { CommandError } from './command-error.ts';
import { type Followed, followTasks } from './follow-tasks.ts';
import { takesEscapes } from './takes-escapes.ts';
import { printable, taskCells, taskTable } from './task-table.ts';
import { readUntil } from './until-query.ts';

/** The options of `watch`. */
export interface WatchOptions {
  /** `host:port` of the gRPC port, or its URL. */
  readonly address?: string;
  readonly query: string;
  /** Whether to print a line of JSON for each change. */
  readonly json?: true;
  /** The conditions to wait for: each task must meet one of them. */
  readonly until?: readonly string[];
  /** How long to wait, in seconds. */
  readonly timeout?: number;
}

/** The table is drawn at most this often, in milliseconds. */
const drawMs = 100;

/**
 * Shows the tasks of a query and how they change: a table at a terminal that takes escape sequences, else a line for each change.
 *
 * With `until`, it ends as soon as there are tasks and each of them meets a condition. An address and a token that neither the
 * options nor the environment give are taken from `local`.
 *
 * @throws {CommandError} when the conditions are not met in time, no task is left, or the service refuses.
 */
export async function watchTasks(
  options: WatchOptions,
  env: NodeJS.ProcessEnv,
  local: DevelopmentService | undefined,
): Promise<void> {
  const conditions = (options.until ?? []).map(readUntil);
  const { address, token } = resolveService(options, env, local);
  const sessionManager = new Http2SessionManager(address);
  const client = createClient(TasksService, createGrpcTransport({ baseUrl: address, sessionManager }));
  const tasks = new Map<string, Task>();
  const show = options.json === true ? printJson : takesEscapes(process.stdout, env) ? drawTable(tasks, address) : printLine;
  process.stdout.once('error', () => process.exit(1)); // the reader has closed the pipe, as `head` does
  const interrupted = stopSignal();
  const timeout = options.timeout === undefined ? undefined : AbortSignal.timeout(options.timeout * 1000);
  const stop = timeout === undefined ? interrupted : AbortSignal.any([interrupted, timeout]);
  const conditionsMet = (): boolean =>
    conditions.length > 0 &&
    tasks.size > 0 &&
    [...tasks.values()].every((task) => conditions.some((condition) => condition(task)));

  let isSynced = false;
  try {
    for await (const followed of followTasks(client, { query: options.query, token }, stop)) {
      if (followed.event === 'upserted') tasks.set(followed.task.id, followed.task);
      else if (followed.event === 'removed') tasks.delete(followed.id);
      else if (followed.event === 'restarted') tasks.clear();
      // Until the next `synced`, the tasks are not all of the same time.
      if (followed.event === 'restarted' || followed.event === 'disconnected') isSynced = false;
      else isSynced ||= followed.event === 'synced';
      show(followed);
      if (isSynced && conditionsMet()) return;
      if (isSynced && followed.event === 'removed' && conditions.length > 0 && tasks.size === 0) {
        throw new CommandError('no task matches the query any more');
      }
    }
  } finally {
    sessionManager.abort(); // an open connection would keep the process alive
  }
  if (timeout?.aborted === true) throw new CommandError(`timed out after ${options.timeout} s: no --until condition was met`);
  if (conditions.length > 0) throw new CommandError('interrupted before an --until condition was met');
}

/** The address and the session token: those given, else those of the service that `npm start` runs. */
function resolveService(
  { address }: WatchOptions,
  env: NodeJS.ProcessEnv,
  local: DevelopmentService | undefined,
): { address: string; token: string } {
  const file = env['TASKS_TOKEN_FILE'];
  const given = env['TASKS_TOKEN'] ?? (file === undefined ? undefined : readToken(file));
  const target = address ?? env['TASKS_ADDRESS'] ?? local?.grpc;
  const token = given ?? local?.token;
  if (target === undefined)
    throw new CommandError('no service address: set --address or TASKS_ADDRESS, or run a local service with `npm start`');
  if (token === undefined) throw new CommandError('no session token: set TASKS_TOKEN or TASKS_TOKEN_FILE');
  const url = /^https?:\/\//.test(target) ? target : `http://${target}`;
  if (!URL.canParse(url)) throw new CommandError(`"${target}" is not an address: use host:port, or a URL with https:// for TLS`);
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
  else if (followed.event === 'disconnected') console.error(`${printable(followed.reason)}: reconnecting`);
}

/** Redraws the whole table after changes. */
function drawTable(tasks: ReadonlyMap<string, Task>, address: string): (followed: Followed) => void {
  let state = 'connecting';
  let timer: NodeJS.Timeout | undefined;
  const draw = (): void => {
    timer = undefined;
    // Some terminals do not report their size.
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
