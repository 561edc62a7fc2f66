import { once } from 'node:events';
import { connect, constants } from 'node:http2';
import net from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { anyUnpack } from '@bufbuild/protobuf/wkt';
import { Code, ConnectError } from '@connectrpc/connect';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  databaseUnavailable,
  deadlineExceeded,
  invalidArgument,
  queryTooExpensive,
  shuttingDown,
  taskNotFound,
} from '../../src/call/errors.ts';
import { maxRequestBytes } from '../../src/call/limits.ts';
import {
  BadRequestSchema,
  ErrorInfoSchema,
  RequestInfoSchema,
  RetryInfoSchema,
} from '../../src/gen/google/rpc/error_details_pb.ts';
import { StatusSchema } from '../../src/gen/google/rpc/status_pb.ts';
import {
  ListTasksRequestSchema,
  ListTasksResponseSchema,
  TasksService,
  WatchTasksRequestSchema,
} from '../../src/gen/tasks/v1/tasks_pb.ts';
import { type ListClient, listClients, makeGrpcClient } from '../support/clients.ts';
import { envelope } from '../support/raw-call.ts';
import { goodToken, signedIn, startTestServer, type TestServer, until } from '../support/test-server.ts';

/** What handlers throw, by the query that makes them, and what every client must see of it. */
const thrown: Readonly<Record<string, { error: () => Error; code: Code; reason: string; message: string | RegExp }>> = {
  invalid: {
    error: () => invalidArgument([{ field: 'page_size', description: 'must not be negative' }]),
    code: Code.InvalidArgument,
    reason: 'INVALID_ARGUMENT',
    message: 'page_size: must not be negative',
  },
  'bad query': {
    error: () => invalidArgument([{ field: 'stäte', description: 'unknown key "stäte" – 100%\n🙂' }], 'INVALID_QUERY'),
    code: Code.InvalidArgument,
    reason: 'INVALID_QUERY',
    message: 'stäte: unknown key "stäte" – 100%\n🙂',
  },
  'bad token': {
    error: () => invalidArgument([{ field: 'page_token', description: 'is not one of ours' }], 'PAGE_TOKEN_INVALID'),
    code: Code.InvalidArgument,
    reason: 'PAGE_TOKEN_INVALID',
    message: 'page_token: is not one of ours',
  },
  absent: { error: taskNotFound, code: Code.NotFound, reason: 'TASK_NOT_FOUND', message: 'no such task, or you may not read it' },
  'database away': {
    error: () => databaseUnavailable(new Error('secret of the database')),
    code: Code.Unavailable,
    reason: 'DATABASE_UNAVAILABLE',
    message: 'the database is unavailable, try again',
  },
  'driver error': {
    error: () => Object.assign(new Error('secret of the driver'), { code: 'ECONNREFUSED' }),
    code: Code.Unavailable,
    reason: 'DATABASE_UNAVAILABLE',
    message: 'the database is unavailable, try again',
  },
  'too expensive': {
    error: () => queryTooExpensive(new Error('secret of the statement')),
    code: Code.ResourceExhausted,
    reason: 'QUERY_TOO_EXPENSIVE',
    message: /^the query reads too much/,
  },
  'too late': {
    error: () => deadlineExceeded(),
    code: Code.DeadlineExceeded,
    reason: 'DEADLINE_EXCEEDED',
    message: 'the deadline has passed',
  },
  stopping: {
    error: shuttingDown,
    code: Code.Unavailable,
    reason: 'SHUTTING_DOWN',
    message: 'the server is shutting down, try again',
  },
  bug: {
    error: () => Object.assign(new TypeError('secret of a bug'), { sql: "select 'secret'", cause: new Error('secret below') }),
    code: Code.Internal,
    reason: 'INTERNAL',
    message: /^internal error \(request [A-Za-z0-9._-]{1,64}\)$/,
  },
};

let server: TestServer;
let enteredHandlers = 0;
const signals: AbortSignal[] = [];

beforeAll(async () => {
  server = await startTestServer({
    handlers: {
      async listTasks({ query, pageSize }, { signal }) {
        enteredHandlers += 1;
        const error = thrown[query]?.error();
        if (error !== undefined) throw error;
        if (query === 'a moment') await sleep(50);
        if (query === 'deaf') {
          signals.push(signal);
          await sleep(2000);
        }
        if (query === 'too large a number') return create(ListTasksResponseSchema, { count: 2 ** 40 });
        return create(ListTasksResponseSchema, { count: pageSize });
      },
    },
  });
});

afterAll(async () => {
  await server.stop();
});

/** The error a call ends with. It must be one. */
async function failureOf(call: Promise<unknown>): Promise<ConnectError> {
  const error = await call.then(
    () => new Error('the call went well'),
    (reason: unknown) => reason,
  );
  if (error instanceof ConnectError) return error;
  throw error;
}

function reasonOf(error: ConnectError): string | undefined {
  const [info, ...others] = error.findDetails(ErrorInfoSchema);
  expect(others).toEqual([]);
  expect(info?.domain).toBe('tasks.v1');
  return info?.reason;
}

function fieldsOf(error: ConnectError): string[] {
  return error.findDetails(BadRequestSchema).flatMap(({ fieldViolations }) => fieldViolations.map(({ field }) => field));
}

describe.each(listClients)('%s', (_name, open) => {
  let client: ListClient;
  beforeAll(() => {
    client = open(server);
  });
  afterAll(() => client.close());

  test('an answer has the request id of the call', async () => {
    const { message, header } = await client.list({ pageSize: 3 }, { headers: { ...signedIn, 'x-request-id': 'mine-1.2_3' } });
    expect(message.count).toBe(3);
    expect(header('x-request-id')).toBe('mine-1.2_3');
  });

  test.each(['a b', 'x'.repeat(65), '"', 'a/b', '{"level":60}'])('%j is no request id: the server makes one', async (given) => {
    const { header } = await client.list({}, { headers: { ...signedIn, 'x-request-id': given } });
    expect(header('x-request-id')).toMatch(/^[A-Za-z0-9_-]{14,30}$/);
  });

  test.each(Object.entries(thrown))('%s', async (query, { code, reason, message }) => {
    const requestId = `id-${Math.random()}`;
    const error = await failureOf(client.list({ query }, { headers: { ...signedIn, 'x-request-id': requestId } }));
    expect(Code[error.code]).toBe(Code[code]);
    expect(error.rawMessage).toEqual(typeof message === 'string' ? message : expect.stringMatching(message));
    expect(reasonOf(error)).toBe(reason);
    expect(error.metadata.get('x-request-id')).toBe(requestId);
    expect(fieldsOf(error).length).toBe(code === Code.InvalidArgument ? 1 : 0);
    expect(error.findDetails(RetryInfoSchema).length).toBe(code === Code.Unavailable ? 1 : 0);
    expect(JSON.stringify([error.message, error.details, [...error.metadata]])).not.toContain('secret');

    const line = await until('line in the log', () => server.log.find((each) => each['requestId'] === requestId));
    expect(line).toMatchObject({ reason, caller: '9e9b9475-0fc0-47b2-9170-a5b7b9a075ee' });
    expect(JSON.stringify(line)).not.toContain("select 'secret'");
    if (query === 'bug') {
      expect(error.findDetails(RequestInfoSchema)).toMatchObject([{ requestId }]);
      expect(error.rawMessage).toContain(requestId);
      expect(line).toMatchObject({
        level: 'error',
        code: 'INTERNAL',
        cause: { type: 'TypeError', message: 'secret of a bug', cause: { message: 'secret below' } },
      });
      expect((line['cause'] as { stack: string }).stack).toContain('errors.test.ts');
    }
  });

  test.each<[string, Record<string, string>]>([
    ['no token', {}],
    ['half a token', { 'coder-session-token': goodToken.slice(0, goodToken.length / 2) }],
    ['a token and more', { 'coder-session-token': `${goodToken}x` }],
    ['another scheme', { authorization: `Basic ${goodToken}` }],
  ])('%s', async (_what, headers) => {
    const entered = enteredHandlers;
    const error = await failureOf(client.list({}, { headers }));
    expect(Code[error.code]).toBe('Unauthenticated');
    expect(reasonOf(error)).toBe('UNAUTHENTICATED');
    expect(error.rawMessage).toBe('you are signed out, or your session has expired: send a valid session token');
    expect(error.metadata.get('x-request-id')).toMatch(/^[A-Za-z0-9_-]{14,30}$/);
    expect(enteredHandlers).toBe(entered);
  });

  test('a bearer token is one, too', async () => {
    const { message } = await client.list({ pageSize: 1 }, { headers: { authorization: `Bearer ${goodToken}` } });
    expect(message.count).toBe(1);
  });

  test('a passed deadline ends the call and aborts its handler, which does not listen', async () => {
    const requestId = `late-${Math.random()}`;
    const started = performance.now();
    const error = await failureOf(
      client.list({ query: 'deaf' }, { timeoutMs: 150, headers: { ...signedIn, 'x-request-id': requestId } }),
    );
    expect(Code[error.code]).toBe('DeadlineExceeded');
    expect(performance.now() - started).toBeLessThan(1500);
    // The client may give up before the server's answer comes; the log has the server's view.
    const line = await until('line in the log', () => server.log.find((each) => each['requestId'] === requestId));
    expect(['DEADLINE_EXCEEDED', 'CANCELLED']).toContain(line['code']);
    expect(line['durationMs']).toBeLessThan(1500);
    expect(signals.at(-1)?.aborted).toBe(true);
  });

  test('a client that cancels ends the call and aborts its handler', async () => {
    const requestId = `cancel-${Math.random()}`;
    const seen = signals.length;
    const controller = new AbortController();
    const call = client.list(
      { query: 'deaf' },
      { signal: controller.signal, headers: { ...signedIn, 'x-request-id': requestId } },
    );
    const failed = failureOf(call);
    await until('call', () => signals.length > seen);
    controller.abort();
    expect(Code[(await failed).code]).toBe('Canceled');
    const line = await until('line in the log', () => server.log.find((each) => each['requestId'] === requestId));
    expect(line).toMatchObject({ code: 'CANCELLED', level: 'info' });
    expect(signals.at(-1)?.aborted).toBe(true);
  });

  test('300 calls at once', async () => {
    const answers = await Promise.all(
      Array.from({ length: 300 }, (_, i) => client.list({ pageSize: i + 1 }, { headers: signedIn })),
    );
    expect(answers.map(({ message }) => message.count)).toEqual(Array.from({ length: 300 }, (_, i) => i + 1));
  });
});

/** Bytes that are no ListTasksRequest. */
const noMessages: readonly (readonly [string, number[]])[] = [
  ['a tag without a value', [0x08]],
  ['a varint without an end', [0x08, 0x80]],
  ['a varint of eleven bytes', [0x08, ...Array.from({ length: 11 }, () => 0xff)]],
  ['a string longer than the message', [0x1a, 0x7f, 0x61]],
  ['a string that is no UTF-8', [0x1a, 0x01, 0xff]],
  ['a group without an end', [0x0b]],
  ['field number 0', [0x00, 0x00]],
  ['text', [...Buffer.from('this is no protobuf')]],
];

describe.each(noMessages)('bytes that are no protobuf, on the gRPC port: %s', (_name, bytes) => {
  test('a unary method', async () => {
    const client = makeGrpcClient(server.grpc);
    const requestId = `bytes-${Math.random()}`;
    const headers = { ...signedIn, 'x-request-id': requestId };
    const error = await failureOf(client.bytes(TasksService.method.listTasks, Uint8Array.from(bytes), { headers }));
    client.close();
    expect(Code[error.code]).toBe('InvalidArgument');
    expect(reasonOf(error)).toBe('INVALID_ARGUMENT');
    expect(fieldsOf(error)).toEqual(['request']);
    expect(error.metadata.get('x-request-id')).toBe(requestId);
    const line = await until('line in the log', () => server.log.find((each) => each['requestId'] === requestId));
    expect(line).toMatchObject({ code: 'INVALID_ARGUMENT', reason: 'INVALID_ARGUMENT', protocol: 'grpc', level: 'info' });
  });
});

test('bytes that are no protobuf, on the gRPC port, for a stream', async () => {
  const requestId = `bytes-${Math.random()}`;
  const answer = await rawGrpc('grpc', { 'x-request-id': requestId }, 'WatchTasks', envelope(Buffer.from([8])));
  expect(answer).toMatchObject({ 'grpc-status': '3', reasons: ['INVALID_ARGUMENT'], 'x-request-id': requestId });
  expect(server.log.filter((each) => each['requestId'] === requestId)).toMatchObject([
    { code: 'INVALID_ARGUMENT', reason: 'INVALID_ARGUMENT', level: 'info' },
  ]);
});

interface JsonError {
  readonly code: string;
  readonly message: string;
  readonly details: readonly [Detail, ...Detail[]];
}
interface Detail {
  readonly type: string;
  readonly debug: Readonly<Record<string, { field: string; description: string }[]>>;
}

function post(method: string, type: string, body: Uint8Array | string, headers: Record<string, string> = {}): Promise<Response> {
  return fetch(`http://${server.web}/tasks.v1.TasksService/${method}`, {
    method: 'POST',
    headers: { 'content-type': type, ...signedIn, ...headers },
    body: body as never,
  });
}

test('an unknown field is ignored, as in Protobuf', async () => {
  const response = await post('ListTasks', 'application/json', '{"pageSize":4,"newer":true}');
  expect(await response.json()).toEqual({ count: 4 });
});

test('a body of exactly 64 KiB is read', async () => {
  const query = 'a'.repeat(maxRequestBytes - 12);
  const response = await post('ListTasks', 'application/json', `{"query":"${query}"}`);
  expect(response.status).toBe(200);
});

/** Sends one message over gRPC without a library, and gives back all metadata of the answer. */
async function rawGrpc(
  port: 'grpc' | 'web',
  headers: Record<string, string>,
  method = 'ListTasks',
  body: Uint8Array = envelope(toBinary(ListTasksRequestSchema, create(ListTasksRequestSchema, { query: 'deaf' }))),
): Promise<Record<string, unknown>> {
  const session = connect(`http://${server[port]}`);
  try {
    const stream = session.request({
      ':method': 'POST',
      ':path': `/tasks.v1.TasksService/${method}`,
      'content-type': 'application/grpc',
      te: 'trailers',
      ...signedIn,
      ...headers,
    });
    const answer: Record<string, unknown> = {};
    const add = (received: object): void => void Object.assign(answer, received);
    stream.on('response', add);
    stream.on('trailers', add);
    stream.end(body);
    stream.resume();
    await once(stream, 'end');
    const status = fromBinary(StatusSchema, Buffer.from(String(answer['grpc-status-details-bin'] ?? ''), 'base64'));
    return { ...answer, reasons: status.details.map((any) => anyUnpack(any, ErrorInfoSchema)?.reason).filter(Boolean) };
  } finally {
    session.destroy();
  }
}

describe('the deadline of a client that leaves it to the server', () => {
  // On the gRPC port grpc-js answers by itself.
  test.each(['100m', '100000u', '0m'])('over gRPC on the web port: %s', async (timeout) => {
    const requestId = `timeout-${timeout}`;
    const answer = await rawGrpc('web', { 'grpc-timeout': timeout, 'x-request-id': requestId });
    expect(answer).toMatchObject({ 'grpc-status': '4', 'x-request-id': requestId, reasons: ['DEADLINE_EXCEEDED'] });
    await until('line in the log', () => server.log.find((each) => each['requestId'] === requestId));
    await sleep(20);
    expect(server.log.filter((each) => each['requestId'] === requestId)).toMatchObject([{ code: 'DEADLINE_EXCEEDED' }]);
  });

  test('over gRPC on the web port, while the message is on its way', async () => {
    const session = connect(`http://${server.web}`);
    const requestId = 'slow-web';
    const stream = session.request({
      ':method': 'POST',
      ':path': '/tasks.v1.TasksService/ListTasks',
      'content-type': 'application/grpc',
      te: 'trailers',
      'grpc-timeout': '50m',
      'x-request-id': requestId,
      ...signedIn,
    });
    const entered = enteredHandlers;
    const answer: Record<string, unknown> = {};
    stream.on('response', (headers) => void Object.assign(answer, headers));
    stream.on('trailers', (trailers) => void Object.assign(answer, trailers));
    stream.on('error', () => {});
    stream.resume();
    stream.write(envelope(new Uint8Array()).subarray(0, 3));
    await until('answer', () => answer['grpc-status'] !== undefined);
    stream.end(envelope(new Uint8Array()).subarray(3));
    await sleep(20);
    session.destroy();
    expect(answer).toMatchObject({ 'grpc-status': '4', 'x-request-id': requestId });
    expect(answer).toHaveProperty('grpc-status-details-bin');
    expect(server.log.filter((each) => each['requestId'] === requestId)).toMatchObject([{ code: 'DEADLINE_EXCEEDED' }]);
    expect(enteredHandlers).toBe(entered);
  });

  test.each(['150', '1', '0'])('over Connect: %s', async (timeout) => {
    const response = await post('ListTasks', 'application/json', '{"query":"deaf"}', { 'connect-timeout-ms': timeout });
    const error = (await response.json()) as JsonError;
    expect([response.status, error.code]).toEqual([504, 'deadline_exceeded']);
    expect(error.details[0].debug).toMatchObject({ reason: 'DEADLINE_EXCEEDED' });
  });

  test('is a passed one while the request is still on its way', async () => {
    const { hostname, port } = new URL(`http://${server.web}`);
    const socket = net.connect(Number(port), hostname);
    let text = '';
    socket.on('data', (chunk: Buffer) => {
      text += chunk.toString();
    });
    const head = [
      'POST /tasks.v1.TasksService/ListTasks HTTP/1.1',
      'host: localhost',
      'content-type: application/json',
      'content-length: 100',
      'connect-timeout-ms: 100',
      `coder-session-token: ${goodToken}`,
    ];
    socket.write(`${head.join('\r\n')}\r\n\r\n{"query":`);
    await until('answer', () => text.includes('deadline_exceeded'));
    socket.destroy();
    expect(text).toContain('HTTP/1.1 504');
    expect(text).toContain('DEADLINE_EXCEEDED');
  });

  test.each(['2147483647', '2147483648', '9999999999', '99999999999'])('over Connect may be months away: %s', async (timeout) => {
    const response = await post('ListTasks', 'application/json', '{"query":"a moment","pageSize":2}', {
      'connect-timeout-ms': timeout,
    });
    expect(await response.json()).toEqual({ count: 2 });
  });

  test.each([
    ['grpc', '596H'],
    ['grpc', '597H'],
    ['grpc', '99999999H'],
    ['grpc', '99999999M'],
    ['grpc', '99999999S'],
    ['web', '596H'],
    ['web', '597H'],
    ['web', '99999999H'],
    ['web', '99999999M'],
    ['web', '99999999S'],
  ] as const)('over gRPC on the port %s may be months away: %s', async (port, timeout) => {
    const body = envelope(toBinary(ListTasksRequestSchema, create(ListTasksRequestSchema, { query: 'a moment' })));
    expect(await rawGrpc(port, { 'grpc-timeout': timeout }, 'ListTasks', body)).toMatchObject({ 'grpc-status': '0' });
  });
});

test.each(['NO_ERROR', 'PROTOCOL_ERROR', 'INTERNAL_ERROR', 'REFUSED_STREAM', 'CANCEL', 'ENHANCE_YOUR_CALM'] as const)(
  'a client that resets its stream with %s has canceled its call',
  async (code) => {
    for (const port of ['grpc', 'web'] as const) {
      const seen = signals.length;
      const requestId = `reset-${port}-${code}`;
      const session = connect(`http://${server[port]}`);
      const stream = session.request({
        ':method': 'POST',
        ':path': '/tasks.v1.TasksService/ListTasks',
        'content-type': 'application/grpc',
        te: 'trailers',
        'x-request-id': requestId,
        ...signedIn,
      });
      stream.on('error', () => {});
      stream.end(envelope(toBinary(ListTasksRequestSchema, create(ListTasksRequestSchema, { query: 'deaf' }))));
      await until('call', () => signals.length > seen);
      stream.close(constants[`NGHTTP2_${code}`]);
      const line = await until('line in the log', () => server.log.find((each) => each['requestId'] === requestId));
      expect(line).toMatchObject({ code: 'CANCELLED', level: 'info' });
      expect(signals.at(-1)?.aborted).toBe(true);
      session.destroy();
    }
  },
);

test('half a message over gRPC, and then the client hangs up', async () => {
  for (const port of ['grpc', 'web'] as const) {
    const session = connect(`http://${server[port]}`);
    const stream = session.request({
      ':method': 'POST',
      ':path': '/tasks.v1.TasksService/ListTasks',
      'content-type': 'application/grpc',
      ...signedIn,
    });
    stream.on('error', () => {});
    stream.write(envelope(Buffer.alloc(100)).subarray(0, 50));
    await sleep(50);
    session.destroy();
  }
  expect(await rawGrpc('web', {}, 'ListTasks', envelope(new Uint8Array()))).toMatchObject({ 'grpc-status': '0' });
  expect(await rawGrpc('grpc', {}, 'ListTasks', envelope(new Uint8Array()))).toMatchObject({ 'grpc-status': '0' });
});

test.each(['application/grpc', 'application/grpc+proto', 'application/grpc;charset=utf-8'])(
  'the content type %s on the gRPC port is gRPC',
  async (type) => {
    const body = envelope(new Uint8Array());
    expect(await rawGrpc('grpc', { 'content-type': type }, 'ListTasks', body)).toMatchObject({
      ':status': 200,
      'grpc-status': '0',
    });
  },
);

test('WatchTasks without a token', async () => {
  const client = makeGrpcClient(server.grpc);
  const watch = async () => {
    for await (const _ of client.serverStream(TasksService.method.watchTasks, create(WatchTasksRequestSchema)));
  };
  const error = await failureOf(watch());
  client.close();
  expect(Code[error.code]).toBe('Unauthenticated');
});

describe('when to try again', () => {
  test('is told to retries of gRPC, too', async () => {
    const body = envelope(toBinary(ListTasksRequestSchema, create(ListTasksRequestSchema, { query: 'database away' })));
    const answer = await rawGrpc('grpc', {}, 'ListTasks', body);
    expect(answer).toMatchObject({ 'grpc-status': '14', 'grpc-retry-pushback-ms': '1000' });
    const absent = envelope(toBinary(ListTasksRequestSchema, create(ListTasksRequestSchema, { query: 'absent' })));
    expect(await rawGrpc('grpc', {}, 'ListTasks', absent)).not.toHaveProperty('grpc-retry-pushback-ms');
  });

  test('is heeded by grpc-js, whose own wait would be a hundredth', async () => {
    const retryPolicy = {
      maxAttempts: 2,
      initialBackoff: '0.01s',
      maxBackoff: '0.01s',
      backoffMultiplier: 1,
      retryableStatusCodes: ['UNAVAILABLE'],
    };
    const client = makeGrpcClient(server.grpc, {
      'grpc.service_config': JSON.stringify({ loadBalancingConfig: [], methodConfig: [{ name: [{}], retryPolicy }] }),
    });
    const entered = enteredHandlers;
    const started = performance.now();
    await failureOf(client.unary(TasksService.method.listTasks, { query: 'database away' }, { headers: signedIn }));
    client.close();
    expect(enteredHandlers).toBe(entered + 2);
    expect(performance.now() - started).toBeGreaterThan(900);
  });
});

test('a response that cannot be written is a bug like any other, over gRPC', async () => {
  const client = makeGrpcClient(server.grpc);
  const error = await failureOf(
    client.unary(TasksService.method.listTasks, { query: 'too large a number' }, { headers: signedIn }),
  );
  client.close();
  expect(Code[error.code]).toBe('Internal');
  expect(reasonOf(error)).toBe('INTERNAL');
});
