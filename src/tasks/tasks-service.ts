import { createGetTask, type GetTaskHandlers } from './get-task.ts';
import { createListTasks, type ListTasksHandlers, type ListTasksParts } from './list-tasks.ts';

/** The methods of `tasks.v1.TasksService` with one response. */
export interface TasksHandlers extends ListTasksHandlers, GetTaskHandlers {}

/** Makes the methods out of the parts that read and name things. */
export function createTasksService(parts: ListTasksParts): TasksHandlers {
  return { ...createListTasks(parts), ...createGetTask(parts) };
}
