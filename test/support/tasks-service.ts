import { type CountTasks, createCountTasks } from '../../src/tasks/count-tasks.ts';
import { createGetTask } from '../../src/tasks/get-task.ts';
import { createListQueryValues, type ListQueryValues } from '../../src/tasks/list-query-values.ts';
import { createListTasks, type ListTasksParts } from '../../src/tasks/list-tasks.ts';
import { createTaskMessages, type TaskMessages } from '../../src/tasks/task-messages.ts';

/** ListTasks, CountTasks, ListQueryValues and GetTask without a transport, their responses as messages. */
export interface TestTasksService extends TaskMessages {
  readonly countTasks: CountTasks;
  readonly listQueryValues: ListQueryValues;
}

/** Makes one. */
export function createTasksService(parts: ListTasksParts): TestTasksService {
  return {
    ...createTaskMessages(createListTasks(parts), createGetTask(parts)),
    countTasks: createCountTasks(parts),
    listQueryValues: createListQueryValues(parts),
  };
}
