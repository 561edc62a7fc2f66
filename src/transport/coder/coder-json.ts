import { pipeline } from 'node:stream/promises';
import { create } from '@bufbuild/protobuf';
import type { ConnectError } from '@connectrpc/connect';
import type { FindUser } from '../../auth/user-lookup.ts';
import type { Calls } from '../../call/calls.ts';
import { canceled, echo, invalidArgument, taskNotFound } from '../../call/errors.ts';
import type { CallInfo, ServerCall } from '../../call/server-call.ts';
import { formatUuid } from '../../db/uuid.ts';
import { GetTaskRequestSchema, TasksService } from '../../gen/tasks/v1/tasks_pb.ts';
import { parseLooseUuid } from '../../tasks/query-keys.ts';
import type { TaskMessages } from '../../tasks/task-messages.ts';
import type { ClientAddress } from '../client-address.ts';
import { type HttpRequest, type HttpResponse, pathOf, protect } from '../http.ts';
import { pathIdField, toCoderError } from './coder-error.ts';
import { toCoderTask } from './coder-task.ts';
import { readListParameters } from './list-parameters.ts';
import { checkPathUser } from './path-user.ts';
import { readList } from './read-list.ts';

/** An answer that is ready to be sent: its JSON in parts. */
interface CoderAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: readonly Buffer[];
}

/** Answers a request of Coder's JSON, or returns undefined when the path is not one of its routes. */
export type CoderJson = (request: HttpRequest, response: HttpResponse) => Promise<CoderAnswer> | undefined;

/** Where Coder had its first endpoints for tasks, which were experimental then. */
const root = '/api/experimental/tasks';

/**
 * The tasks as Coder's first endpoints give them, so that its clients keep working (coderd/aitasks.go at #19468 and #19496):
 *
 * - `GET /api/experimental/tasks`: the tasks of everyone whom the caller may read, unless `q` names an owner;
 * - `GET /api/experimental/tasks/{user}`: the caller's own tasks, unless `q` names an owner;
 * - `GET /api/experimental/tasks/{user}/{id}`: one task.
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
    const path = segmentsOf(pathOf(request));
    if (path === undefined) return undefined;
    if (request.method !== 'GET') return Promise.resolve(onlyGet);
    const [user, id] = path;
    if (id === undefined) {
      const search = new URLSearchParams(request.url?.slice(pathOf(request).length));
      const defaultOwner = user === undefined ? 'everyone' : 'me';
      return answerCall(beginList(infoOf(request)), response, user, (call) =>
        readList(tasks.listTasks, readListParameters(search), call, { defaultOwner }),
      );
    }
    return answerCall(beginGet(infoOf(request)), response, user, async (call) => {
      const bytes = parseLooseUuid(id);
      if (bytes === undefined) {
        const description = `Invalid UUID ${JSON.stringify(echo(id))} for task ID.`;
        throw invalidArgument([{ field: pathIdField, description }]);
      }
      const identifier = { case: 'id', value: formatUuid(bytes) } as const;
      const { task } = await tasks.getTask(create(GetTaskRequestSchema, { identifier }), call);
      if (task === undefined) throw taskNotFound();
      return [json(toCoderTask(task))];
    });
  };

  /** Answers a call. The user of the path is checked once the caller is known, before anything else. */
  async function answerCall(
    call: ServerCall,
    response: HttpResponse,
    user: string | undefined,
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
      const { status, headers, body } = toCoderError(error as ConnectError); // a call throws nothing else
      return { status, headers: { ...requestId, ...headers }, body: [json(body)] };
    }
  }

  function infoOf(request: HttpRequest): CallInfo {
    const { remoteAddress, remotePort } = request.socket;
    const connection = `${remoteAddress}:${remotePort}`;
    const header = (name: string): string | undefined => {
      const value = request.headers[name];
      return typeof value === 'string' ? value : undefined;
    };
    return { protocol: 'coder-json', connection, header, ...clientAddress(connection, header) };
  }
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

/** What follows the root in a path: nothing, a user, or a user and an id; undefined for any other path. */
function segmentsOf(path: string): readonly [user?: string, id?: string] | undefined {
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
