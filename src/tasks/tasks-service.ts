import { create } from '@bufbuild/protobuf';
import type { Call } from '../call/call.ts';
import { echo, invalidArgument, taskNotFound, type Violation } from '../call/errors.ts';
import { parseUuid } from '../db/uuid.ts';
import {
  type GetTaskRequest,
  type GetTaskResponse,
  GetTaskResponseSchema,
  type ListTasksRequest,
  type ListTasksResponse,
  type TaskName,
} from '../gen/tasks/v1/tasks_pb.ts';
import type { PageTokens, TokenScope } from './page-token.ts';
import { decodePosition, encodePosition } from './position.ts';
import type { ResolveQuery } from './resolve-query.ts';
import { type Scope, scopeOf } from './scope.ts';
import type { ListOrder, Position } from './store/list-order.ts';
import type { TaskRow } from './store/tables.ts';
import type { TaskRepository } from './store/task-repository.ts';
import { encodeGetTaskResponse, encodeListTasksResponse } from './task-encoder.ts';
import { type TaskPage, toListTasksResponse, toTask } from './task-mapper.ts';
import { readTaskQuery, type TaskQuery } from './task-query.ts';

/** What a transport may say of a list beside the request. */
export interface ListOptions {
  /** Whose tasks a query without an owner means; the caller's own if not said. */
  readonly defaultOwner?: 'me' | 'everyone';
}

/** The methods of `tasks.v1.TasksService`. They do not know which transport called them. */
export interface TasksHandlers {
  listTasks(request: ListTasksRequest, call: Call, options?: ListOptions): Promise<ListTasksResponse>;
  getTask(request: GetTaskRequest, call: Call): Promise<GetTaskResponse>;
  /** The same answers as gRPC frames, made without the messages; without these, of the messages. */
  encodedListTasks?(request: ListTasksRequest, call: Call): Promise<Buffer>;
  encodedGetTask?(request: GetTaskRequest, call: Call): Promise<Buffer>;
}

/** Longest name of anything, in UTF-16 code units: the widest column of one has 191 characters. */
const maxNameLength = 2 * 191;

/** A total is counted up to here; beyond, `total_size_capped` is set. Counting further would cost what the list costs. */
export const maxTotalSize = 10_000;

/** Makes the handlers of the service out of the parts that read and name things. */
export function createTasksService(parts: {
  readonly tasks: TaskRepository;
  readonly resolveQuery: ResolveQuery;
  readonly pageTokens: PageTokens;
}): TasksHandlers {
  const { tasks, resolveQuery, pageTokens } = parts;

  return {
    listTasks: async (request, call, options) => toListTasksResponse(await pageOf(request, call, options), call.caller.userId),
    getTask: async (request, call) =>
      create(GetTaskResponseSchema, { task: toTask(await taskOf(request, call), call.caller.userId) }),
    encodedListTasks: async (request, call) => encodeListTasksResponse(await pageOf(request, call), call.caller.userId),
    encodedGetTask: async (request, call) => encodeGetTaskResponse(await taskOf(request, call), call.caller.userId),
  };

  async function pageOf(request: ListTasksRequest, call: Call, { defaultOwner }: ListOptions = {}): Promise<TaskPage> {
    const read = readTaskQuery(request, defaultOwner);
    const { query, ownerId, filter } = await resolveQuery(read, request.query, call);
    const scope = scopeOf(call.caller);
    const order = orderOf(query, ownerId, call.caller.userId);
    const tokenScope: TokenScope = {
      callerId: call.caller.userId,
      query: request.query,
      orderBy: `${request.orderBy} / ${order}`,
    };
    const after = request.pageToken === '' ? undefined : positionIn(request.pageToken, tokenScope, order);
    if (filter === undefined) return request.includeTotalSize ? { rows: [], total: { size: 0, capped: false } } : { rows: [] };

    const question = { filter, order, limit: query.pageSize, ...(after === undefined ? {} : { after }) };
    const [{ rows, next }, total] = await Promise.all([
      tasks.list(scope, question, call.signal),
      request.includeTotalSize ? tasks.count(scope, filter, maxTotalSize + 1, call.signal) : undefined,
    ]);
    call.rows = (call.rows ?? 0) + rows.length; // a call of another shape reads several pages
    return {
      rows,
      ...(next === undefined ? {} : { nextPageToken: pageTokens.encode(encodePosition(next), tokenScope) }),
      ...(total === undefined ? {} : { total: { size: Math.min(total, maxTotalSize), capped: total > maxTotalSize } }),
    };
  }

  async function taskOf(request: GetTaskRequest, call: Call): Promise<TaskRow> {
    const row = await rowOf(request, scopeOf(call.caller), call);
    call.rows = row === undefined ? 0 : 1;
    if (row === undefined) throw taskNotFound();
    return row;
  }

  function positionIn(token: string, tokenScope: TokenScope, order: ListOrder): Position {
    const bytes = pageTokens.decode(token, tokenScope);
    const position = bytes === undefined ? undefined : decodePosition(bytes, order);
    if (position !== undefined) return position;
    const description = 'is not a token of this list: list again without one, and keep query and order_by from page to page';
    throw invalidArgument([{ field: 'page_token', description }], 'PAGE_TOKEN_INVALID');
  }

  async function rowOf(request: GetTaskRequest, scope: Scope, call: Call): Promise<TaskRow | undefined> {
    const { identifier } = request;
    switch (identifier.case) {
      case 'id': {
        const id = parseUuid(identifier.value);
        if (id === undefined) throw invalidArgument([{ field: 'id', description: `"${echo(identifier.value)}" is not a UUID` }]);
        return tasks.getById(scope, id, call.signal);
      }
      case 'name': {
        const { owner, name } = checkName(identifier.value);
        // Nothing is called that: the database takes no notice of spaces at the end of an owner.
        if (owner.length > maxNameLength || name.length > maxNameLength || owner.endsWith(' ')) return undefined;
        const whose = owner.toLowerCase() === 'me' ? call.caller.userId : (parseUuid(owner) ?? owner);
        return tasks.getByName(scope, whose, name, call.signal);
      }
      default:
        throw invalidArgument([{ field: 'id', description: 'either id or name is required' }]);
    }
  }
}

/** The order a list is read in. For one's own tasks favorites come first; nobody sees another's favorites. */
function orderOf({ orderBy }: TaskQuery, ownerId: Buffer | 'everyone' | undefined, callerId: Buffer): ListOrder {
  if (orderBy !== 'default') return orderBy;
  if (ownerId === 'everyone') return 'created_at desc';
  return ownerId?.equals(callerId) === true ? 'key' : 'run';
}

function checkName(given: TaskName): TaskName {
  const violations: Violation[] = [];
  if (given.owner === '') violations.push({ field: 'name.owner', description: 'is required: a username, a user id, or me' });
  if (given.name === '') violations.push({ field: 'name.name', description: 'is required' });
  const [first, ...more] = violations;
  if (first !== undefined) throw invalidArgument([first, ...more]);
  return given;
}
