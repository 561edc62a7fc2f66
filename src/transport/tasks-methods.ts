import { create } from '@bufbuild/protobuf';
import { type Method, serverStreaming, unary, unaryWithResult } from '../call/method.ts';
import { GetTaskResponseSchema, TasksService } from '../gen/tasks/v1/tasks_pb.ts';
import type { CountTasks } from '../tasks/count-tasks.ts';
import type { CountTasksOverTime } from '../tasks/count-tasks-over-time.ts';
import type { GetTask } from '../tasks/get-task.ts';
import type { ListQueryValues } from '../tasks/list-query-values.ts';
import type { ListTasks } from '../tasks/list-tasks.ts';
import { encodeGetTaskResponse, encodeListTasksResponse } from '../tasks/task-encoder.ts';
import { toListTasksResponse, toTask } from '../tasks/task-mapper.ts';
import type { WatchTasks } from '../watch/watch-tasks.ts';

/** What answers the methods of `tasks.v1.TasksService`. */
interface TasksHandlers {
  readonly listTasks: ListTasks;
  readonly countTasks: CountTasks;
  readonly countTasksOverTime: CountTasksOverTime;
  readonly listQueryValues: ListQueryValues;
  readonly getTask: GetTask;
  readonly watchTasks: WatchTasks;
}

/** The methods of `tasks.v1.TasksService`. */
export function tasksMethods(handlers: TasksHandlers): Method[] {
  const { listTasks, countTasks, countTasksOverTime, listQueryValues, getTask, watchTasks } = handlers;
  const { method } = TasksService;
  return [
    unaryWithResult({
      desc: method.listTasks,
      handle: (request, call) => listTasks(request, call),
      toMessage: (page, { caller }) => toListTasksResponse(page, caller.userId),
      toBinary: (page, { caller }) => encodeListTasksResponse(page, caller.userId),
    }),
    unary(method.countTasks, countTasks),
    unary(method.countTasksOverTime, countTasksOverTime),
    unary(method.listQueryValues, listQueryValues),
    unaryWithResult({
      desc: method.getTask,
      handle: getTask,
      toMessage: (row, { caller }) => create(GetTaskResponseSchema, { task: toTask(row, caller.userId) }),
      toBinary: (row, { caller }) => encodeGetTaskResponse(row, caller.userId),
    }),
    serverStreaming(method.watchTasks, watchTasks),
  ];
}
