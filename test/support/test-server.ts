import { create } from '@bufbuild/protobuf';
import type { Caller } from '../../src/call/caller.ts';
import { unauthenticated } from '../../src/call/errors.ts';
import { serverStreaming, unary } from '../../src/call/method.ts';
import {
  CountTasksOverTimeResponseSchema,
  CountTasksResponseSchema,
  ListQueryValuesResponseSchema,
  ListTasksResponseSchema,
  TasksService,
} from '../../src/gen/tasks/v1/tasks_pb.ts';
import { createLog } from '../../src/platform/log.ts';
import type { CountTasks } from '../../src/tasks/count-tasks.ts';
import type { CountTasksOverTime } from '../../src/tasks/count-tasks-over-time.ts';
import type { ListQueryValues } from '../../src/tasks/list-query-values.ts';
import type { TaskMessages } from '../../src/tasks/task-messages.ts';
import { type Addresses, createServer, type Server, type ServerParts } from '../../src/transport/server.ts';
import type { WatchTasks } from '../../src/watch/watch-tasks.ts';

/** The one token that the test server takes. */
export const goodToken = 'abcdefghij-aaaaaaaaaaaaaaaaaaaaaa';

/** Headers of a signed-in caller. */
export const signedIn = { 'coder-session-token': goodToken } as const;

/** Who has that token. */
export const testCaller: Caller = {
  userId: Buffer.from('9e9b94750fc047b29170a5b7b9a075ee', 'hex'),
  username: 'developer',
  roles: [],
  customRoles: [],
  memberships: [],
  groupIds: [],
  mayRead: true,
};

/** A line of the log. */
export type LogLine = Readonly<Record<string, unknown>>;

/** What answers the methods, in messages. */
export type TestHandlers = TaskMessages & {
  readonly countTasks: CountTasks;
  readonly countTasksOverTime: CountTasksOverTime;
  readonly listQueryValues: ListQueryValues;
  readonly watchTasks: WatchTasks;
};

/** The real server on free ports with handlers of the test's own, without a database. */
export interface TestServer extends Addresses {
  readonly server: Server;
  /** What was logged, from `debug` on. */
  readonly log: readonly LogLine[];
  stop(): Promise<void>;
}

/**
 * Starts one. What is not given: ListTasks answers with the page size as count and a task named like the query, CountTasks with as
 * many tasks as the query has characters, ListQueryValues with none; GetTask answers nothing; the good token is taken, as a header, a bearer or a cookie;
 * reflection is on everywhere.
 */
export async function startTestServer({
  handlers: given,
  ...parts
}: Partial<ServerParts> & { readonly handlers?: Partial<TestHandlers> } = {}): Promise<TestServer> {
  const log: LogLine[] = [];
  const handlers: TestHandlers = {
    listTasks: ({ pageSize, query }) =>
      Promise.resolve(create(ListTasksResponseSchema, { count: pageSize, tasks: [{ name: query }] })),
    countTasks: ({ query }) =>
      Promise.resolve(create(CountTasksResponseSchema, { total: { count: query.length, capped: false } })),
    countTasksOverTime: () => Promise.resolve(create(CountTasksOverTimeResponseSchema)),
    listQueryValues: () => Promise.resolve(create(ListQueryValuesResponseSchema)),
    getTask: () => Promise.reject(new Error('GetTask is not part of this test')),
    watchTasks: () => {
      throw new Error('WatchTasks is not part of this test');
    },
    ...given,
  };
  const server = createServer({
    methods: [
      unary(TasksService.method.listTasks, (request, call) => handlers.listTasks(request, call)),
      unary(TasksService.method.countTasks, (request, call) => handlers.countTasks(request, call)),
      unary(TasksService.method.countTasksOverTime, (request, call) => handlers.countTasksOverTime(request, call)),
      unary(TasksService.method.listQueryValues, (request, call) => handlers.listQueryValues(request, call)),
      unary(TasksService.method.getTask, (request, call) => handlers.getTask(request, call)),
      serverStreaming(TasksService.method.watchTasks, (request, call) => handlers.watchTasks(request, call)),
    ],
    tasks: handlers,
    authenticate: authenticateForTests,
    findUser: () => Promise.resolve(undefined),
    host: '127.0.0.1',
    ports: { grpc: 0, web: 0, ops: 0 },
    webOrigins: [],
    reflection: { grpc: true, web: true },
    readiness: {},
    log: createLog('debug', { write: (line) => void log.push(JSON.parse(line) as LogLine) }),
    ...parts,
  });
  return { ...(await server.start()), server, log, stop: () => server.stop() };
}

/** Takes the good token wherever a client may put it. */
export const authenticateForTests: ServerParts['authenticate'] = (header) => {
  const given = [header('coder-session-token'), header('authorization'), header('cookie')];
  const good = [goodToken, `Bearer ${goodToken}`, `coder_session_token=${goodToken}`];
  return given.some((value, place) => value === good[place]) ? Promise.resolve(testCaller) : Promise.reject(unauthenticated());
};

/** Waits until something holds, 20 seconds at most: a moment, but for a machine with much else to do. */
export async function until<T>(what: string, probe: () => T | undefined | false | Promise<T | undefined | false>): Promise<T> {
  const deadline = performance.now() + 20_000;
  for (;;) {
    const found = await probe();
    if (found !== undefined && found !== false) return found;
    if (performance.now() > deadline) throw new Error(`in 20 s there was no ${what}`);
    await new Promise((resolve) => {
      setTimeout(resolve, 5);
    });
  }
}
