import { type Client, Code, ConnectError, createClient, type Interceptor, type Transport } from '@connectrpc/connect';
import { createConnectTransport } from '@connectrpc/connect-web';
import { QueryCache, QueryClient } from '@tanstack/react-query';
import { TasksService } from '../src/gen/tasks/v1/tasks_pb.ts';
import { basePath } from './base-path.ts';
import { createSeenValues, type SeenValues } from './seen-values.ts';
import { expire } from './session.ts';

/** The service with the session of one user. */
export interface Service {
  readonly token: string;
  readonly transport: Transport;
  readonly client: Client<typeof TasksService>;
  /** The cache of responses. A new session starts with an empty one. */
  readonly answers: QueryClient;
  readonly seen: SeenValues;
}

/** Connects to the service that served the page, with a session token. */
export function connectService(token: string): Service {
  const withToken: Interceptor = (next) => (request) => {
    request.header.set('coder-session-token', token);
    return next(request);
  };
  const transport = createConnectTransport({
    baseUrl: location.origin + basePath,
    useBinaryFormat: true,
    interceptors: [withToken],
    // The token alone identifies the caller, never the cookie of another session.
    fetch: (input, init) => fetch(input, { ...init, credentials: 'omit', cache: 'no-store' }),
  });
  const answers = new QueryClient({
    queryCache: new QueryCache({
      onError: (error) => {
        if (isCode(error, Code.Unauthenticated)) expire(token);
      },
    }),
    defaultOptions: {
      queries: {
        // "Offline" is about the internet, and the service may run on this very machine.
        networkMode: 'always',
        retry: (failures, error) => failures < 2 && isPassing(error),
        refetchOnWindowFocus: false, // the stream keeps the cache up to date
        refetchOnReconnect: false,
        staleTime: 10_000,
      },
    },
  });
  return { token, transport, client: createClient(TasksService, transport), answers, seen: createSeenValues() };
}

/** Whether the service accepts a token. @throws when the service cannot be asked. */
export async function isAccepted(token: string): Promise<boolean> {
  try {
    await connectService(token).client.countTasks({}, { timeoutMs: 10_000 });
    return true;
  } catch (error) {
    // A header cannot have control characters, and no token has any.
    if (isCode(error, Code.Unauthenticated) || error instanceof TypeError) return false;
    throw error;
  }
}

/** Whether an error has one of these codes. */
export function isCode(error: unknown, ...codes: readonly Code[]): boolean {
  return error instanceof ConnectError && codes.includes(error.code);
}

/** Whether the same call may succeed later: the service cannot be reached, is stopping, or is busy. */
export function isPassing(error: unknown): boolean {
  return isCode(error, Code.Unavailable, Code.Unknown, Code.Aborted);
}
