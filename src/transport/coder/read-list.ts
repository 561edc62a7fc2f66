import { create } from '@bufbuild/protobuf';
import type { Call } from '../../call/call.ts';
import { invalidArgument } from '../../call/errors.ts';
import { ListTasksRequestSchema, type Task } from '../../gen/tasks/v1/tasks_pb.ts';
import type { ListOptions } from '../../tasks/list-tasks.ts';
import type { TaskMessages } from '../../tasks/task-messages.ts';
import { maxPageSize } from '../../tasks/task-query.ts';
import type { CoderTask } from './coder-task.ts';
import { type ListParameters, maxTasks } from './list-parameters.ts';

/** Most bytes of tasks in one answer, which is made in memory: what 10,000 tasks with prompts of 2 kB take. */
export const maxListBytes = 32 * 1024 * 1024;

/** What a list is put into, and how it is asked for. */
export interface ListShape {
  readonly toTask: (task: Task) => CoderTask;
  /** The order, if it is not ListTasks's own. */
  readonly orderBy?: string;
  /** The parameter that a list which is too long is blamed on, and what can be done. */
  readonly tooLong: readonly [field: string, advice: string];
}

/**
 * Reads a list page by page and puts it into Coder's JSON: `{"tasks": […], "count": <how many>}`. The answer is whole or an error,
 * never a short list. A task that moves in the order while the pages are read is in it once.
 *
 * @returns the parts of the JSON text.
 * @throws {ConnectError} INVALID_ARGUMENT of `limit` when the list is too long for one answer, and what ListTasks throws.
 */
export async function readList(
  listTasks: TaskMessages['listTasks'],
  { query, limit, offset }: ListParameters,
  call: Call,
  options: ListOptions,
  shape: ListShape,
): Promise<Buffer[]> {
  const wanted = limit === 0 ? maxTasks : Math.min(limit, maxTasks);
  const mustEnd = limit === 0 || limit > maxTasks;
  const parts = [Buffer.from('{"tasks":[')];
  const seen = new Set<string>();
  let left = wanted;
  let skip = offset;
  let bytes = 0;
  let pageToken = '';
  for (let page = 1; ; page++) {
    const request = create(ListTasksRequestSchema, {
      query,
      orderBy: shape.orderBy ?? '',
      pageToken,
      pageSize: Math.min(skip + left, maxPageSize),
      // Tells early that a list is too long: counting costs less than reading it. Most lists have one page and need neither.
      includeTotalSize: page === 2 && mustEnd && offset === 0,
    });
    const { tasks, nextPageToken, totalSizeCapped } = await listTasks(request, call, options);
    call.signal.throwIfAborted();
    if (totalSizeCapped) throw tooLong(shape, `has more than ${maxTasks} tasks`);

    const fresh = tasks.filter(({ id }) => !seen.has(id));
    for (const { id } of fresh) seen.add(id);
    const taken = fresh.slice(skip);
    skip -= fresh.length - taken.length;
    const texts = taken.map((task) => JSON.stringify(shape.toTask(task)));
    if (texts.length > 0) {
      const part = Buffer.from(`${left < wanted ? ',' : ''}${texts.join(',')}`);
      parts.push(part);
      bytes += part.length;
      left -= texts.length;
    }
    if (bytes > maxListBytes) throw tooLong(shape, `is larger than ${maxListBytes} bytes`);
    if (nextPageToken === '') break;
    if (left === 0) {
      if (mustEnd) throw tooLong(shape, `has more than ${maxTasks} tasks`);
      break;
    }
    pageToken = nextPageToken;
  }
  parts.push(Buffer.from(`],"count":${wanted - left}}\n`));
  return parts;
}

function tooLong({ tooLong: [field, advice] }: ListShape, what: string): Error {
  return invalidArgument([{ field, description: `the list ${what}: ${advice}` }]);
}
