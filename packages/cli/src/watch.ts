import { toJson } from '@bufbuild/protobuf';
import { CommandError } from '../../../src/commands/command-error.ts';
import { takesEscapes } from '../../../src/commands/takes-escapes.ts';
import { type Task, TaskSchema } from '../../../src/gen/tasks/v1/tasks_pb.ts';
import { stopSignal } from '../../../src/platform/stop-signal.ts';
import { type Followed, followTasks } from '../../client/src/follow-tasks.ts';
import type { ConnectedService } from './connect-service.ts';
import { exitCodes } from './exit-codes.ts';
import { endWithReader } from './print-tasks.ts';
import { cut, printable, taskCells, taskTable, waitingFirst } from './task-table.ts';
import { readUntil } from './until-query.ts';

/** The options of `watch`. */
export interface WatchOptions {
  readonly query: string;
  /** A table, or lines of JSON; without a terminal that takes escape sequences, a line for each change in place of the table. */
  readonly output: 'table' | 'jsonl';
  /** The conditions to wait for: each task must meet one of them. */
  readonly until?: readonly string[];
  /** How long to watch, in seconds. */
  readonly timeout?: number;
}

/** The table is drawn at most this often, in milliseconds. */
const drawMs = 100;

/**
 * Shows the tasks of a query and how they change: a table at a terminal that takes escape sequences, else a line for each change.
 *
 * With `until`, it ends as soon as there are tasks and each of them meets a condition.
 *
 * @throws {CommandError} when the conditions are not met in time, no task is left, or the service is away when the time is over.
 * @throws {ConnectError} when the service refuses.
 */
export async function watchTasks(
  options: WatchOptions,
  { client, address }: ConnectedService,
  env: NodeJS.ProcessEnv,
): Promise<void> {
  const conditions = (options.until ?? []).map(readUntil);
  const tasks = new Map<string, Task>();
  const show = options.output === 'jsonl' ? printJson : takesEscapes(process.stdout, env) ? drawTable(tasks, address) : printLine;
  endWithReader();
  const interrupted = stopSignal();
  const timeout = options.timeout === undefined ? undefined : AbortSignal.timeout(options.timeout * 1000);
  const stop = timeout === undefined ? interrupted : AbortSignal.any([interrupted, timeout]);
  const conditionsMet = (): boolean =>
    conditions.length > 0 &&
    tasks.size > 0 &&
    [...tasks.values()].every((task) => conditions.some((condition) => condition(task)));

  let isSynced = false;
  let awayBecause: string | undefined = 'it has not answered yet';
  for await (const followed of followTasks(client, options.query, stop)) {
    if (followed.event === 'upserted') tasks.set(followed.task.id, followed.task);
    else if (followed.event === 'removed') tasks.delete(followed.id);
    else if (followed.event === 'restarted') tasks.clear();
    // Until the next `synced`, the tasks are not all of the same time.
    if (followed.event === 'restarted' || followed.event === 'disconnected') isSynced = false;
    else isSynced ||= followed.event === 'synced';
    awayBecause = followed.event === 'disconnected' ? printable(followed.reason) : undefined;
    show(followed);
    if (isSynced && conditionsMet()) return;
    if (isSynced && followed.event === 'removed' && conditions.length > 0 && tasks.size === 0) {
      throw new CommandError('no task matches the query any more', exitCodes.notMet);
    }
  }
  // What the tasks are by now is not known, so that neither "done" nor "not met" would be true.
  if (timeout?.aborted === true && awayBecause !== undefined)
    throw new CommandError(`timed out after ${options.timeout} s, while the service is away: ${awayBecause}`, exitCodes.away);
  if (conditions.length === 0) return;
  throw new CommandError(
    timeout?.aborted === true
      ? `timed out after ${options.timeout} s: no --until condition was met`
      : 'interrupted before an --until condition was met',
    exitCodes.notMet,
  );
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

/** Redraws the whole table after changes, and when the terminal gets another size. */
function drawTable(tasks: ReadonlyMap<string, Task>, address: string): (followed: Followed) => void {
  let state = 'connecting';
  let timer: NodeJS.Timeout | undefined;
  const draw = (): void => {
    timer = undefined;
    // Some terminals do not report their size.
    const [rows, columns] = [process.stdout.rows || 24, process.stdout.columns || 80];
    const status = cut(`${tasks.size} tasks, ${state} (${address})`, columns);
    const table = taskTable(waitingFirst(tasks.values()), { rows: rows - 2, columns, colors: true });
    // A line feed behind the last row would scroll the first one away.
    process.stdout.write(`\x1b[2J\x1b[H${status}\n\n${table}`);
  };
  const drawSoon = (): void => {
    timer ??= setTimeout(draw, drawMs);
  };
  process.stdout.on('resize', drawSoon);
  process.once('exit', () => {
    if (timer !== undefined) draw();
    process.stdout.write('\n');
  });
  return (followed) => {
    if (followed.event === 'synced') state = 'live';
    else if (followed.event === 'disconnected') state = `reconnecting: ${printable(followed.reason)}`;
    drawSoon();
  };
}
