import type { Database } from '../db/connection.ts';
import type { TaskSourceName } from '../schema/task-source.ts';
import type { SourcedTask } from './sourced-task.ts';
import { readTableTasks } from './table-tasks.ts';
import { readTaskFacts } from './task-facts.ts';
import { taskOfWorkspace } from './workspace-tasks.ts';

/**
 * Reads the tasks among some ids, in one statement and so in one snapshot of all tables. An id that is no task has none.
 *
 * Here it is decided what makes a row a task: a source is a statement by ids, and a function from its rows to a {@link
 * SourcedTask}.
 */
export async function readTasks(database: Database, source: TaskSourceName, ids: Buffer[]): Promise<SourcedTask[]> {
  if (source === 'tasks') return readTableTasks(database, ids);
  return (await readTaskFacts(database, ids)).flatMap((facts) => taskOfWorkspace(facts) ?? []);
}
