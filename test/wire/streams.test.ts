import { connect } from 'node:http2';
import { setTimeout as sleep } from 'node:timers/promises';
import { create, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import { Code, ConnectError, createClient } from '@connectrpc/connect';
import { createConnectTransport, createGrpcTransport, createGrpcWebTransport } from '@connectrpc/connect-node';
import { pino } from 'pino';
import { Registry } from 'prom-client';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createCallMetrics } from '../../src/call/call-metrics.ts';
import { type Calls, createCalls } from '../../src/call/calls.ts';
import { taskNotFound } from '../../src/call/errors.ts';
import { serverStreaming } from '../../src/call/method.ts';
import { ErrorInfoSchema } from '../../src/gen/google/rpc/error_details_pb.ts';
import {
  TasksService,
  WatchTasksRequestSchema,
  type WatchTasksResponse,
  WatchTasksResponseSchema,
} from '../../src/gen/tasks/v1/tasks_pb.ts';
import { createGrpcListener } from '../../src/transport/grpc/grpc-listener.ts';
import { type Listener, listen } from '../../src/transport/listener.ts';
import { createWebListener } from '../../src/transport/web-listener.ts';
import { type CallOptions, makeGrpcClient } from '../support/clients.ts';
import { authenticateForTests, signedIn, until } from '../support/test-server.ts';

/** How far the handler of a call came, and whether it was left, by request id. */
const calls = new Map<string, { produced: number; left: boolean }>();

/** Streams as the query says: so many messages of 10 kB, or one and then nothing, or an error after three, or without end. */
const watchTasks = serverStreaming(TasksService.method.watchTasks, async function* ({ query }, { signal, requestId }) {
  const state = { produced: 0, left: false };
  calls.set(requestId, state);
  const [what, number = ''] = query.split(' ');
  try {
    for (let i = 0; what !== 'send' || i < Number(number); i++) {
      if (what === 'fail' && i === 3) throw taskNotFound();
      if (what === 'wait' && i === 1) await sleep(60_000, undefined, { signal });
      state.produced += 1;
      yield create(WatchTasksResponseSchema, { resumeToken: `${i}`.padEnd(10_000) });
    }
  } finally {
    state.left = true;
  }
});

let shared: Calls;
const listeners: Listener[] = [];
const addresses = { grpc: '', web: '' };
const lines: Record<string, unknown>[] = [];

beforeAll(async () => {
  shared = createCalls({
    authenticate: authenticateForTests,
    log: pino({ base: null }, { write: (line) => void lines.push(JSON.parse(line) as Record<string, unknown>) }),
    metrics: createCallMetrics(new Registry()),
  });
  const grpc = createGrpcListener([watchTasks], shared);
  const web = createWebListener([watchTasks], shared);
  listeners.push(grpc, web);
  addresses.grpc = await listen(grpc.port, '127.0.0.1', 0, 'GRPC_PORT');
  addresses.web = await listen(web.port, '127.0.0.1', 0, 'WEB_PORT');
});

afterAll(async () => {
  await Promise.all(
    listeners.map((listener) => {
      const closed = listener.drain();
      listener.destroy();
      return closed;
    }),
  );
});

type Watch = (
  request: MessageInitShape<typeof WatchTasksRequestSchema>,
  options: CallOptions,
) => AsyncIterable<WatchTasksResponse>;
const overConnect = (transport: Parameters<typeof createClient>[1]): Watch => {
  const client = createClient(TasksService, transport);
  return (request, options) => client.watchTasks(request, options);
};
const overGrpcJs = (address: string): Watch => {
  const client = makeGrpcClient(address);
  return (request, options) => client.serverStream(TasksService.method.watchTasks, request, options);
};

const protocols: readonly (readonly [string, () => Watch])[] = [
  ['gRPC, grpc-js', () => overGrpcJs(addresses.grpc)],
  ['gRPC, grpc-js on the web port', () => overGrpcJs(addresses.web)],
  ['gRPC, connect-node', () => overConnect(createGrpcTransport({ baseUrl: `http://${addresses.grpc}` }))],
  ['gRPC-Web over HTTP/2', () => overConnect(createGrpcWebTransport({ baseUrl: `http://${addresses.web}`, httpVersion: '2' }))],
  [
    'gRPC-Web over HTTP/1.1',
    () => overConnect(createGrpcWebTransport({ baseUrl: `http://${addresses.web}`, httpVersion: '1.1' })),
  ],
  ['Connect over HTTP/2', () => overConnect(createConnectTransport({ baseUrl: `http://${addresses.web}`, httpVersion: '2' }))],
  [
    'Connect over HTTP/1.1',
    () => overConnect(createConnectTransport({ baseUrl: `http://${addresses.web}`, httpVersion: '1.1' })),
  ],
];

let ids = 0;

/** Starts reading a stream, and says how it went. */
function reading(watch: Watch, query: string, options: CallOptions = {}) {
  const id = `stream-${++ids}`;
  let count = 0;
  const end = (async () => {
    try {
      const headers = { 'x-request-id': id, ...(options.headers ?? signedIn) };
      for await (const { resumeToken } of watch({ query }, { ...options, headers })) {
        expect(resumeToken.trim()).toBe(`${count}`);
        count += 1;
      }
      return 'OK';
    } catch (error) {
      return error;
    }
  })();
  return { id, end, count: () => count, state: () => calls.get(id) };
}

function codeOf(end: unknown): unknown {
  return end instanceof ConnectError ? Code[end.code] : end;
}

function reasonOf(end: unknown): unknown {
  return end instanceof ConnectError ? end.findDetails(ErrorInfoSchema)[0]?.reason : end;
}

describe.each(protocols)('a stream over %s', (_name, open) => {
  let watch: Watch;
  beforeAll(() => {
    watch = open();
  });

  test.each([0, 1, 1000])('arrives whole and in order: %d messages', async (number) => {
    const stream = reading(watch, `send ${number}`);
    expect([await stream.end, stream.count()]).toEqual(['OK', number]);
  });

  test('ends with an error that has its details', async () => {
    const stream = reading(watch, 'fail');
    expect(reasonOf(await stream.end)).toBe('TASK_NOT_FOUND');
    // grpc-js may give its reader the error before the last messages.
    expect(stream.state()?.produced).toBe(3);
  });

  test('is not for everyone', async () => {
    const stream = reading(watch, 'send 5', { headers: {} });
    expect([codeOf(await stream.end), stream.count()]).toEqual(['Unauthenticated', 0]);
    expect(stream.state()).toBeUndefined();
  });

  test('ends at its deadline', async () => {
    const stream = reading(watch, 'wait', { timeoutMs: 200 });
    expect([codeOf(await stream.end), stream.count()]).toEqual(['DeadlineExceeded', 1]);
    await until('end of the handler', () => stream.state()?.left);
  });

  test('ends with its client', async () => {
    const leaving = new AbortController();
    const stream = reading(watch, 'wait', { signal: leaving.signal });
    await until('first message', () => stream.count() === 1);
    leaving.abort();
    await stream.end;
    await until('end of the handler', () => stream.state()?.left);
    const line = await until('line in the log', () => lines.find(({ requestId }) => requestId === stream.id));
    expect(line).toMatchObject({ code: 'CANCELLED' });
  });

  test('ends when the server stops', async () => {
    const stream = reading(watch, 'wait');
    await until('first message', () => stream.count() === 1);
    shared.abort();
    expect(reasonOf(await stream.end)).toBe('SHUTTING_DOWN');
    await until('end of the handler', () => stream.state()?.left);
    expect(shared.running).toBe(0);
  });
});

describe('a stream goes no faster than its reader', () => {
  test.each([
    ['grpc', 'application/grpc'],
    ['web', 'application/grpc'],
    ['web', 'application/grpc-web+proto'],
    ['web', 'application/connect+proto'],
  ] as const)('on the port %s: %s', async (port, type) => {
    const id = `stream-${++ids}`;
    const request = toBinary(WatchTasksRequestSchema, create(WatchTasksRequestSchema, { query: 'endless' }));
    const session = connect(`http://${addresses[port]}`);
    const stream = session.request({
      ':method': 'POST',
      ':path': '/tasks.v1.TasksService/WatchTasks',
      'content-type': type,
      'x-request-id': id,
      ...signedIn,
    });
    stream.on('error', () => {});
    stream.end(Buffer.concat([Buffer.from([0, 0, 0, 0, request.length]), request]));
    const state = await until('call', () => calls.get(id));
    await sleep(100);
    const after = state.produced;
    await sleep(200);
    // A window of 64 kB holds six messages; the buffers of the server hold some more.
    expect(state.produced).toBe(after);
    expect(after).toBeLessThan(100);
    session.destroy();
    await until('end of the handler', () => state.left);
  });
});
