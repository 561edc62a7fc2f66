import type { MessageInitShape } from '@bufbuild/protobuf';
import { type Client, createClient, type Interceptor } from '@connectrpc/connect';
import { createConnectTransport } from '@connectrpc/connect-web';
import { type ListTasksRequestSchema, type Task, TasksService } from '../../../src/gen/tasks/v1/tasks_pb.ts';

/** A client of the service, with a function for each of its methods. */
export type TasksClient = Client<typeof TasksService>;

/** Which service a client calls, and as whom. */
export interface TasksClientOptions {
  /** The address of the service's page, such as `https://tasks.example.com`. */
  readonly address: string;
  /** A session token, or what gives the present one. */
  readonly token: string | (() => string | Promise<string>);
}

/**
 * A client that calls by the Connect protocol with `fetch`, in browsers and in Node.
 *
 * For another transport, such as gRPC by `@connectrpc/connect-node`, give `createClient` that transport with the interceptor
 * {@link sessionToken}.
 */
export function createTasksClient({ address, token }: TasksClientOptions): TasksClient {
  return createClient(TasksService, createConnectTransport({ baseUrl: address, interceptors: [sessionToken(token)] }));
}

/** Sends a session token with each call. */
export function sessionToken(token: TasksClientOptions['token']): Interceptor {
  return (next) => async (request) => {
    request.header.set('coder-session-token', typeof token === 'string' ? token : await token());
    return next(request);
  };
}

/** The tasks of a list, read page by page as they are asked for. */
export async function* listAllTasks(
  client: Pick<TasksClient, 'listTasks'>,
  request: MessageInitShape<typeof ListTasksRequestSchema>,
  options?: Parameters<TasksClient['listTasks']>[1],
): AsyncGenerator<Task, void> {
  let pageToken = request.pageToken ?? '';
  do {
    const page = await client.listTasks({ ...request, pageToken }, options);
    yield* page.tasks;
    pageToken = page.nextPageToken;
  } while (pageToken !== '');
}
