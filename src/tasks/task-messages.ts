import { create } from '@bufbuild/protobuf';
import type { Call } from '../call/call.ts';
import {
  type GetTaskRequest,
  type GetTaskResponse,
  GetTaskResponseSchema,
  type ListTasksRequest,
  type ListTasksResponse,
} from '../gen/tasks/v1/tasks_pb.ts';
import type { GetTask } from './get-task.ts';
import type { ListOptions, ListTasks } from './list-tasks.ts';
import { toListTasksResponse, toTask } from './task-mapper.ts';

/** ListTasks and GetTask with their responses as messages, for whoever makes something else of them. */
export interface TaskMessages {
  listTasks(request: ListTasksRequest, call: Call, options?: ListOptions): Promise<ListTasksResponse>;
  getTask(request: GetTaskRequest, call: Call): Promise<GetTaskResponse>;
}

/** Makes messages of what the two methods give. */
export function createTaskMessages(listTasks: ListTasks, getTask: GetTask): TaskMessages {
  return {
    listTasks: async (request, call, options) => toListTasksResponse(await listTasks(request, call, options), call.caller.userId),
    getTask: async (request, call) =>
      create(GetTaskResponseSchema, { task: toTask(await getTask(request, call), call.caller.userId) }),
  };
}
