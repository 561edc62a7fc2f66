import { createGetTask } from '../../src/tasks/get-task.ts';
import { createListTasks, type ListTasksParts } from '../../src/tasks/list-tasks.ts';
import { createTaskMessages, type TaskMessages } from '../../src/tasks/task-messages.ts';

/** ListTasks and GetTask without a transport, their responses as messages. */
export function createTasksService(parts: ListTasksParts): TaskMessages {
  return createTaskMessages(createListTasks(parts), createGetTask(parts));
}
