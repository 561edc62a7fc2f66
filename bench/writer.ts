import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { formatUuid, parseUuid } from '../src/db/uuid.ts';
import type { TasksClient } from './client.ts';
import type { DataSet } from './data.ts';

/** Writes reports of tasks' agents. A report is one row, fires one trigger, and is one change of the read model. */
interface Writer {
  /** Commits a report of the next task, and returns it. */
  write(): Promise<Report>;
  /** Removes all reports that it wrote. */
  cleanUp(): Promise<void>;
}

/** A report that was committed, and when, by `performance.now()`. */
interface Report {
  readonly taskId: string;
  readonly message: string;
  readonly committedAt: number;
}

/** The number of tasks that are written in turns: enough that none is written again before it was projected. */
const tasksInTurn = 2000;

/** Makes a writer on the running tasks of a data set. */
export async function createWriter({ database, projected }: DataSet): Promise<Writer> {
  const tasks = await database('workspace_tasks')
    .where({ 'workspace_tasks.status': 3, 'workspace_tasks.live': 1 })
    .whereNotNull('workspace_tasks.app_id')
    .whereNotNull('workspace_tasks.state_at')
    .limit(tasksInTurn)
    .select<{ id: Buffer; agent_id: Buffer; app_id: Buffer }[]>(
      'workspace_tasks.id',
      'workspace_tasks.agent_id',
      'workspace_tasks.app_id',
    );
  const written: Buffer[] = [];
  let next = 0;
  return {
    async write() {
      const task = tasks[next % tasks.length];
      next += 1;
      const id = parseUuid(randomUUID());
      if (task === undefined || id === undefined) throw new Error('the data have no running task');
      const message = `report ${next}`;
      await database('workspace_app_statuses').insert({
        id,
        workspace_id: task.id,
        agent_id: task.agent_id,
        app_id: task.app_id,
        state: 'working',
        message,
        uri: '',
        created_at: database.raw('utc_timestamp(6)'),
      });
      written.push(id);
      return { taskId: formatUuid(task.id), message, committedAt: performance.now() };
    },
    async cleanUp() {
      for (let from = 0; from < written.length; from += 500) {
        await database('workspace_app_statuses')
          .whereIn('workspace_app_statuses.id', written.slice(from, from + 500))
          .delete();
      }
      await projected();
    },
  };
}

/** Writes at a steady rate for some seconds, without waiting for the writes before, and passes each report on. */
export async function writeSteadily(
  writer: Writer,
  perSecond: number,
  seconds: number,
  onReport: (report: Report) => void,
): Promise<void> {
  const began = performance.now();
  const writes: Promise<void>[] = [];
  for (let count = 0; count < perSecond * seconds; count++) {
    const early = began + (1000 * count) / perSecond - performance.now();
    if (early > 0) await sleep(early);
    writes.push(writer.write().then(onReport));
  }
  await Promise.all(writes);
}

/** Polls a task until it shows a report, and returns the milliseconds since the commit. */
export async function visibleAfter(client: TasksClient, { taskId, message, committedAt }: Report): Promise<number> {
  for (;;) {
    const task = await client.getTask({ identifier: { case: 'id', value: taskId } });
    if (task?.currentState?.message === message) return performance.now() - committedAt;
    await sleep(5);
  }
}
