import { create } from '@bufbuild/protobuf';
import type { Call } from '../call/call.ts';
import { echo, invalidArgument, taskNotFound, type Violation } from '../call/errors.ts';
import { parseUuid } from '../db/uuid.ts';
import { type GetTaskRequest, type GetTaskResponse, GetTaskResponseSchema, type TaskName } from '../gen/tasks/v1/tasks_pb.ts';
import { scopeOf } from './scope.ts';
import type { TaskRow } from './store/tables.ts';
import type { TaskRepository } from './store/task-repository.ts';
import { encodeGetTaskResponse } from './task-encoder.ts';
import { toTask } from './task-mapper.ts';

/** Longest name of anything, in UTF-16 code units: the widest column of one has 191 characters. */
const maxNameLength = 2 * 191;

/** The method GetTask. It does not know which transport called it. */
export interface GetTaskHandlers {
  getTask(request: GetTaskRequest, call: Call): Promise<GetTaskResponse>;
  /** The same response as a gRPC frame, made without the message; without this, of the message. */
  encodedGetTask?(request: GetTaskRequest, call: Call): Promise<Buffer>;
}

/** Makes the method GetTask. */
export function createGetTask({ tasks }: { readonly tasks: TaskRepository }): GetTaskHandlers {
  return {
    getTask: async (request, call) =>
      create(GetTaskResponseSchema, { task: toTask(await taskOf(request, call), call.caller.userId) }),
    encodedGetTask: async (request, call) => encodeGetTaskResponse(await taskOf(request, call), call.caller.userId),
  };

  async function taskOf(request: GetTaskRequest, call: Call): Promise<TaskRow> {
    const row = await rowOf(request, call);
    call.rows = row === undefined ? 0 : 1;
    if (row === undefined) throw taskNotFound();
    return row;
  }

  async function rowOf({ identifier }: GetTaskRequest, { caller, signal }: Call): Promise<TaskRow | undefined> {
    switch (identifier.case) {
      case 'id': {
        const id = parseUuid(identifier.value);
        if (id === undefined) throw invalidArgument([{ field: 'id', description: `"${echo(identifier.value)}" is not a UUID` }]);
        return tasks.getById(scopeOf(caller), id, signal);
      }
      case 'name': {
        const { owner, name } = checkName(identifier.value);
        // Nothing is called that: the database takes no notice of spaces at the end of an owner.
        if (owner.length > maxNameLength || name.length > maxNameLength || owner.endsWith(' ')) return undefined;
        const whose = owner.toLowerCase() === 'me' ? caller.userId : (parseUuid(owner) ?? owner);
        return tasks.getByName(scopeOf(caller), whose, name, signal);
      }
      default:
        throw invalidArgument([{ field: 'id', description: 'either id or name is required' }]);
    }
  }
}

function checkName(given: TaskName): TaskName {
  const violations: Violation[] = [];
  if (given.owner === '') violations.push({ field: 'name.owner', description: 'is required: a username, a user id, or me' });
  if (given.name === '') violations.push({ field: 'name.name', description: 'is required' });
  const [first, ...more] = violations;
  if (first !== undefined) throw invalidArgument([first, ...more]);
  return given;
}
