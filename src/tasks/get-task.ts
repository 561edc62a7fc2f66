import type { Call } from '../call/call.ts';
import { echo, invalidArgument, taskNotFound, type Violation } from '../call/errors.ts';
import { parseUuid } from '../db/uuid.ts';
import type { GetTaskRequest, TaskName } from '../gen/tasks/v1/tasks_pb.ts';
import { scopeOf } from './scope.ts';
import type { TaskRow } from './store/tables.ts';
import type { TaskRepository } from './store/task-repository.ts';

/** Longest name of anything, in UTF-16 code units: the widest column of one has 191 characters. */
const maxNameLength = 2 * 191;

/** The method GetTask, up to the row of its task. It does not know which transport called it. */
export type GetTask = (request: GetTaskRequest, call: Call) => Promise<TaskRow>;

/** Makes the method GetTask. */
export function createGetTask({ tasks }: { readonly tasks: TaskRepository }): GetTask {
  return async (request, call) => {
    const row = await rowOf(request, call);
    call.rows = row === undefined ? 0 : 1;
    if (row === undefined) throw taskNotFound();
    return row;
  };

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
