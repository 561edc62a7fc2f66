import { type Method, serverStreaming, unary } from '../call/method.ts';
import { TasksService } from '../gen/tasks/v1/tasks_pb.ts';
import type { TasksHandlers } from '../tasks/tasks-service.ts';
import type { WatchTasks } from '../watch/watch-tasks.ts';

/** The methods of `tasks.v1.TasksService`. */
export function tasksMethods(handlers: TasksHandlers & { readonly watchTasks: WatchTasks }): Method[] {
  const { listTasks, getTask, watchTasks } = TasksService.method;
  return [
    unary(listTasks, (request, call) => handlers.listTasks(request, call)),
    unary(getTask, (request, call) => handlers.getTask(request, call)),
    serverStreaming(watchTasks, (request, call) => handlers.watchTasks(request, call)),
  ];
}
