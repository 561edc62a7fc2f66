import { pipeline } from 'node:stream/promises';
import { create } from '@bufbuild/protobuf';
import { Code, ConnectError } from '@connectrpc/connect';
import type { FindUser } from '../../auth/user-lookup.ts';
import type { Calls } from '../../call/calls.ts';
import { canceled, echo, invalidArgument, reasonOf, taskNotFound } from '../../call/errors.ts';
import type { CallInfo, ServerCall } from '../../call/server-call.ts';
import { formatUuid } from '../../db/uuid.ts';
import {
  type GetTaskRequest,
  GetTaskRequestSchema,
  ListTasksRequestSchema,
  type Task,
  TaskNameSchema,
  TasksService,
  WorkspaceStatus,
} from '../../gen/tasks/v1/tasks_pb.ts';
import { parseLooseUuid } from '../../tasks/query-keys.ts';
import type { TaskMessages } from '../../tasks/task-messages.ts';
import type { ClientAddress } from '../client-address.ts';
import { connectionOf, type HttpRequest, type HttpResponse, headerReader, pathOf, protect } from '../http.ts';
import { type CoderWording, experimentalWording, pathIdField, stableWording, toCoderError } from './coder-error.ts';
import { toCoderTask, toStableTask } from './coder-task.ts';
import { readListParameters } from './list-parameters.ts';
import { checkPathUser, idOfKnownUser } from './path-user.ts';
import { type ListShape, readList } from './read-list.ts';
import { readTaskSearch, type TaskSearch } from './task-search.ts';

/** An answer that is ready to be sent: its JSON in parts. */
interface CoderAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: readonly Buffer[];
}

/** Answers a request of Coder's JSON, or returns undefined when the path is not one of its routes. */
export type CoderJson = (request: HttpRequest, response: HttpResponse) => Promise<CoderAnswer> | undefined;

/** Where Coder had its first endpoints for tasks, which were experimental then, and where newer versions have theirs. */
const experimentalRoot = '/api/experimental/tasks';
const stableRoot = '/api/v2/tasks';

/** Lists in the shape of the first version, and in that of newer ones, where the newest task is the first. */
const experimentalList: ListShape = {
  toTask: toCoderTask,
  tooLong: ['limit', 'read it in parts, with limit and offset, or narrow it with q'],
};
const stableList: ListShape = {
  toTask: toStableTask,
  orderBy: 'created_at desc',
  tooLong: ['q', 'narrow it with owner, organization or status'],
};

/**
 * The tasks as Coder's endpoints give them, so that its clients keep working. Those of the first version (coderd/aitasks.go at
 * #19468 and #19496):
 *
 * - `GET /api/experimental/tasks`: the tasks of everyone whom the caller may read, unless `q` names an owner;
 * - `GET /api/experimental/tasks/{user}`: the caller's own tasks, unless `q` names an owner;
 * - `GET /api/experimental/tasks/{user}/{id}`: one task.
 *
 * And those of newer versions (coderd/aitasks.go at #20921 and later):
 *
 * - `GET /api/v2/tasks`: all tasks that the caller may read, as far as `q` says;
 * - `GET /api/v2/tasks/{user}/{task}`: the task of this id, or of this name and user.
 *
 * They are ListTasks and GetTask in another shape: the same handlers, and the same way of a call.
 */
export function createCoderJson(parts: {
  readonly tasks: TaskMessages;
  readonly findUser: FindUser;
  readonly calls: Calls;
  readonly clientAddress: ClientAddress;
}): CoderJson {
  const { tasks, findUser, calls, clientAddress } = parts;
  const beginList = calls.register({ kind: 'unary', desc: TasksService.method.listTasks });
  const beginGet = calls.register({ kind: 'unary', desc: TasksService.method.getTask });

  return (request, response) => {
    const path = pathOf(request);
    return answerExperimental(request, response, path) ?? answerStable(request, response, path);
  };

  function answerExperimental(request: HttpRequest, response: HttpResponse, path: string): Promise<CoderAnswer> | undefined {
    const segments = segmentsOf(path, experimentalRoot);
    if (segments === undefined) return undefined;
    if (request.method !== 'GET') return Promise.resolve(onlyGet);
    const [user, id] = segments;
    if (id === undefined) {
      const defaultOwner = user === undefined ? 'everyone' : 'me';
      const search = searchOf(request);
      return answerCall(beginList(infoOf(request)), response, { user, wording: experimentalWording }, (call) =>
        readList(tasks.listTasks, readListParameters(search), call, { defaultOwner }, experimentalList),
      );
    }
    return answerCall(beginGet(infoOf(request)), response, { user, wording: experimentalWording }, async (call) => {
      const bytes = parseLooseUuid(id);
      if (bytes === undefined) {
        const description = `Invalid UUID ${JSON.stringify(echo(id))} for task ID.`;
        throw invalidArgument([{ field: pathIdField, description }]);
      }
      return [json(toCoderTask(await getTask({ case: 'id', value: formatUuid(bytes) }, call)))];
    });
  }

  function answerStable(request: HttpRequest, response: HttpResponse, path: string): Promise<CoderAnswer> | undefined {
    const segments = segmentsOf(path.endsWith('/') ? path.slice(0, -1) : path, stableRoot);
    const [user, task] = segments ?? [];
    // What Coder alone can do at these paths is no route here: to create a task, and to delete one.
    if (segments === undefined || (user !== undefined && task === undefined) || request.method === 'DELETE') return undefined;
    if (request.method !== 'GET') return Promise.resolve(onlyGet);
    const wording = stableWording;
    if (user === undefined || task === undefined) {
      const parameters = searchOf(request);
      return answerCall(beginList(infoOf(request)), response, { wording }, async (call) => {
        const search = readTaskSearch(parameters.get('q') ?? '');
        const query = await listQueryOf(search, call);
        const list = { query, limit: 0, offset: 0 };
        return readList(tasks.listTasks, list, call, { defaultOwner: 'everyone' }, stableList).catch((error: unknown) => {
          // The organization is all that can be wrong with this query.
          const isWrong = error instanceof ConnectError && reasonOf(error) === 'INVALID_QUERY';
          throw isWrong && search.organization !== undefined ? unknownName('organization', search.organization) : error;
        });
      });
    }
    return answerCall(beginGet(infoOf(request)), response, { user, wording }, async (call) => [
      json(toStableTask(await findLiveTask(user, task, call))),
    ]);
  }

  /** A task that is not deleted. Its workspace may be: then it is still in lists. */
  async function findLiveTask(user: string, task: string, call: ServerCall): Promise<Task> {
    const found = await findTask(user, task, call);
    if (found.status !== WorkspaceStatus.DELETED) return found;
    const request = create(ListTasksRequestSchema, { query: `owner:* id:${found.id}`, pageSize: 1 });
    if ((await tasks.listTasks(request, call)).tasks.length === 0) throw taskNotFound();
    return found;
  }

  /** A task by its id; where there is none that the caller may read, by its name among the user's. */
  async function findTask(user: string, task: string, call: ServerCall): Promise<Task> {
    const id = parseLooseUuid(task);
    const owner = parseLooseUuid(user);
    const byName = () =>
      getTask(
        { case: 'name', value: create(TaskNameSchema, { owner: owner === undefined ? user : formatUuid(owner), name: task }) },
        call,
      );
    if (id === undefined) return byName();
    try {
      return await getTask({ case: 'id', value: formatUuid(id) }, call);
    } catch (error) {
      if (ConnectError.from(error).code !== Code.NotFound) throw error;
      return byName();
    }
  }

  async function getTask(identifier: GetTaskRequest['identifier'], call: ServerCall): Promise<Task> {
    const { task } = await tasks.getTask(create(GetTaskRequestSchema, { identifier }), call);
    if (task === undefined) throw taskNotFound();
    return task;
  }

  /** The query of ListTasks for what was searched. A user whom the caller may not know of is refused like one who does not exist. */
  async function listQueryOf({ owner, organization, status }: TaskSearch, call: ServerCall): Promise<string> {
    const ownerId = owner === undefined ? undefined : await idOfKnownUser(owner, call, findUser);
    if (owner !== undefined && ownerId === undefined) throw unknownName('owner', owner);
    // No name has a quotation mark.
    if (organization?.includes('"')) throw unknownName('organization', organization);
    return [
      ...(ownerId === undefined ? [] : [`owner:${formatUuid(ownerId)}`]),
      ...(organization === undefined ? [] : [`organization:"${organization}"`]),
      ...(status === undefined ? [] : [`phase:${status}`]),
    ].join(' ');
  }

  /** Answers a call. The user of the path is checked once the caller is known, before anything else. */
  async function answerCall(
    call: ServerCall,
    response: HttpResponse,
    { user, wording }: { readonly user?: string | undefined; readonly wording: CoderWording },
    handle: (call: ServerCall) => Promise<Buffer[]>,
  ): Promise<CoderAnswer> {
    response.once('close', () => call.abort(canceled));
    const requestId = { 'x-request-id': call.requestId };
    try {
      await call.admit(() => response.destroy());
      const body = await call.unary(async () => {
        if (user !== undefined) await checkPathUser(user, call, findUser);
        return handle(call);
      });
      return { status: 200, headers: requestId, body };
    } catch (error) {
      const { status, headers, body } = toCoderError(error as ConnectError, wording); // a call throws nothing else
      return { status, headers: { ...requestId, ...headers }, body: [json(body)] };
    }
  }

  function infoOf(request: HttpRequest): CallInfo {
    const connection = connectionOf(request);
    const header = headerReader(request);
    return { protocol: 'coder-json', connection, header, ...clientAddress(connection, header) };
  }
}

function searchOf(request: HttpRequest): URLSearchParams {
  return new URLSearchParams(request.url?.slice(pathOf(request).length));
}

/**
 * Writes an answer as JSON that is not to be stored or taken for anything else. A HEAD is answered without the body.
 *
 * @throws when the client is gone.
 */
export async function sendAnswer(
  request: HttpRequest,
  response: HttpResponse,
  { status, headers, body }: CoderAnswer,
): Promise<void> {
  response.statusCode = status;
  response.setHeader('content-type', 'application/json; charset=utf-8');
  response.setHeader(
    'content-length',
    body.reduce((bytes, part) => bytes + part.length, 0),
  );
  protect(response);
  for (const [name, value] of Object.entries(headers)) response.setHeader(name, value);
  if (request.method === 'HEAD') response.end();
  else await pipeline(body, response);
}

const onlyGet: CoderAnswer = {
  status: 405,
  headers: { allow: 'GET' },
  body: [json({ message: 'Only GET is served here.' })],
};

/** What follows a root in a path: nothing, a user, or a user and an id; undefined for any other path. */
function segmentsOf(path: string, root: string): readonly [user?: string, id?: string] | undefined {
  if (path === root || path === `${root}/`) return [];
  if (!path.startsWith(`${root}/`)) return undefined;
  const [user = '', id, ...more] = path.slice(root.length + 1).split('/');
  if (user === '' || more.length > 0) return undefined;
  return id === undefined || id === '' ? [decode(user)] : [decode(user), decode(id)];
}

/** A segment without its percent-encoding. One that cannot be decoded stays as it is, and is no user and no id. */
function decode(segment: string): string {
  try {
    return decodeURIComponent(segment);
  } catch {
    return segment;
  }
}

function json(value: object): Buffer {
  return Buffer.from(`${JSON.stringify(value)}\n`);
}

/** Refuses the name of a user or of an organization that does not exist, or that the caller may not know of, as Coder does. */
function unknownName(field: 'owner' | 'organization', name: string): ConnectError {
  const [what, them] = field === 'owner' ? ['user', 'them'] : [field, 'it'];
  const description = `Query param "${field}" has invalid value: ${what} "${echo(name)}" either does not exist, or you are unauthorized to view ${them}`;
  return invalidArgument([{ field, description }], 'INVALID_QUERY');
}
