import { once } from 'node:events';
import { type ClientHttp2Session, connect as connectHttp2, constants } from 'node:http2';
import { connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { create } from '@bufbuild/protobuf';
import { pino } from 'pino';
import { Registry } from 'prom-client';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createCallMetrics } from '../../src/call/call-metrics.ts';
import { createCalls } from '../../src/call/calls.ts';
import { maxConnections } from '../../src/call/limits.ts';
import { unary } from '../../src/call/method.ts';
import { type ListTasksResponse, ListTasksResponseSchema, TasksService } from '../../src/gen/tasks/v1/tasks_pb.ts';
import { createGrpcListener } from '../../src/transport/grpc/grpc-listener.ts';
import { sessionLimits } from '../../src/transport/http2-limits.ts';
import { type Listener, listen } from '../../src/transport/listener.ts';
import { hpack } from '../fuzz/cases.ts';
import { makeGrpcClient } from '../support/clients.ts';
import { frame, preface } from '../support/http2-frames.ts';
import { authenticateForTests, signedIn, startTestServer, type TestServer, until } from '../support/test-server.ts';

const ports = ['grpc', 'web'] as const;
type Port = (typeof ports)[number];

let server: TestServer;
beforeAll(async () => {
  server = await startTestServer();
});
afterAll(() => server.stop());

/** A connection without a library, on which nothing is read until somebody listens. */
async function open(port: Port): Promise<Socket> {
  const [host = '', number] = server[port].split(':');
  const socket = connect(Number(number), host);
  socket.on('error', () => {}); // it is reset
  await once(socket, 'connect');
  return socket;
}

/** Resolves when it is closed, whether or not with an error. */
function closing(one: Socket | ClientHttp2Session): Promise<'closed'> {
  return new Promise((resolve) => {
    one.once('close', () => resolve('closed'));
  });
}

const settings = frame(4, 0, 0, Buffer.alloc(0));
const ping = Buffer.from('are you?');

/** Of a call of ListTasks that nobody makes. */
const listTasksCall = {
  ':method': 'POST',
  ':scheme': 'http',
  ':authority': 'host',
  ':path': '/tasks.v1.TasksService/ListTasks',
  'content-type': 'application/grpc',
} as const;
const listTasksHeaders = hpack(listTasksCall);

/** Whether others are served meanwhile. */
async function answers(port: Port): Promise<boolean> {
  const client = makeGrpcClient(server[port]);
  try {
    const { message } = await client.unary(
      TasksService.method.listTasks,
      { pageSize: 7 },
      { headers: signedIn, timeoutMs: 10_000 },
    );
    return message.count === 7;
  } finally {
    client.close();
  }
}

function drained(socket: Socket): Promise<'drained'> {
  return new Promise((resolve) => {
    socket.once('drain', () => resolve('drained'));
  });
}

/** Writes without end and without reading, until the other end has had enough. Returns how many megabytes that took. */
async function flood(socket: Socket, chunk: Buffer, mostMegabytes = 64): Promise<number> {
  const closed = closing(socket);
  let written = 0;
  while (!socket.destroyed && written < mostMegabytes * 2 ** 20) {
    written += chunk.length;
    if (socket.write(chunk)) continue;
    const what = await Promise.race([drained(socket), closed, sleep(5000, 'stuck')]);
    if (what === 'stuck') break; // the server does not read any more: it is the client that has to wait
  }
  return written / 2 ** 20;
}

describe.each(ports)('on the port %s', (port) => {
  test('calls that are opened and canceled by the ten thousand cost their connection, and others nothing', async () => {
    const socket = await open(port);
    const closed = closing(socket);
    const cancel = Buffer.of(0, 0, 0, constants.NGHTTP2_CANCEL);
    socket.write(Buffer.concat([preface, settings]));
    const lines = server.log.length;
    let canceled = 0;
    // As quickly as the server takes them, and no more at once than it allows.
    while (canceled < 60_000) {
      const frames: Buffer[] = [];
      for (let i = 0; i < 500; i++, canceled++) {
        const stream = 2 * canceled + 1;
        frames.push(frame(1, 4, stream, listTasksHeaders), frame(3, 0, stream, cancel));
      }
      socket.write(Buffer.concat([...frames, frame(6, 0, 0, ping)]));
      const answered = new Promise<'answered'>((resolve) => {
        socket.on('data', (bytes: Buffer) => bytes.includes(ping) && resolve('answered'));
      });
      const what = await Promise.race([answered, closed]);
      socket.removeAllListeners('data');
      if (what === 'closed') break;
    }
    // A mesh whose users give up all at once is no attack: the gRPC port asks a connection to leave after 250.
    expect(canceled).toBeGreaterThan(port === 'grpc' ? 250 : 9000);
    expect(canceled).toBeLessThan(60_000);
    expect(server.log.length - lines).toBeLessThan(canceled / 10); // nearly none was begun
    socket.destroy();
    expect(await answers(port)).toBe(true);
  });

  test.each([
    ['pings', frame(6, 0, 0, Buffer.alloc(8))],
    ['settings', settings],
  ])('%s without end, whose acknowledgements nobody reads, end the connection', async (_name, one) => {
    const socket = await open(port);
    socket.write(Buffer.concat([preface, settings]));
    const megabytes = await flood(socket, Buffer.concat(Array.from({ length: 1000 }, () => one)));
    expect(megabytes).toBeLessThan(64);
    expect(await answers(port)).toBe(true);
    socket.destroy();
  });

  test('headers without end are cut off', async () => {
    const socket = await open(port);
    socket.resume();
    socket.write(Buffer.concat([preface, settings, frame(1, 0, 1, Buffer.alloc(0))])); // HEADERS that are not the last
    const more = Buffer.from('\0\x04xxxx\x04yyyy'.repeat(100)); // literal headers
    const megabytes = await flood(socket, frame(9, 0, 1, more));
    expect(socket.destroyed || socket.closed).toBe(true);
    expect(megabytes).toBeLessThan(32);
    expect(await answers(port)).toBe(true);
  });

  test('more headers than are taken are refused, and the next call is served', async () => {
    const session = connectHttp2(`http://${server[port]}`);
    session.on('error', () => {});
    const many = Object.fromEntries(Array.from({ length: 500 }, (_, i) => [`x-${i}`, 'y']));
    const outcome = await new Promise<string>((resolve) => {
      const stream = session.request({
        ':method': 'POST',
        ':path': '/tasks.v1.TasksService/ListTasks',
        'content-type': 'application/grpc',
        ...many,
      });
      stream.on('response', (headers) => resolve(`status ${headers[':status']}`));
      stream.on('error', () => resolve('refused'));
      stream.on('close', () => resolve('closed'));
      stream.end();
    });
    expect(outcome).toMatch(/refused|closed/);
    session.destroy();
    expect(await answers(port)).toBe(true);
  });

  test('more connections than there may be are closed at once, and leave the others alone', async () => {
    const sockets: Socket[] = [];
    for (let i = 0; i < maxConnections + 50; i += 50) {
      sockets.push(...(await Promise.all(Array.from({ length: 50 }, () => open(port)))));
    }
    await until(
      'connection that is closed',
      () => sockets.filter((socket) => socket.resume().destroyed || socket.closed).length >= 50,
    );
    const left = sockets.filter((socket) => !socket.destroyed && !socket.closed);
    expect(left.length).toBeGreaterThan(maxConnections - 200);
    for (const socket of sockets) socket.destroy();
    await sleep(200);
    expect(await answers(port)).toBe(true);
  });
});

test('a client that says nothing, or a little at a time, is cut off after ten seconds', async () => {
  const began = performance.now();
  await Promise.all(
    ports.map(async (port) => {
      const silent = await open(port);
      const slow = await open(port);
      silent.resume();
      slow.resume();
      const greeting = preface.values();
      const trickle = setInterval(() => slow.write(Buffer.of(greeting.next().value ?? 0)), 1000);
      await Promise.all([closing(silent), closing(slow)]);
      clearInterval(trickle);
    }),
  );
  expect(performance.now() - began).toBeLessThan(20_000);
});

test('a connection of gRPC with many calls that are canceled is asked to leave, and its other calls are answered', async () => {
  const answer = Promise.withResolvers<void>();
  const own = await startTestServer({
    handlers: {
      async listTasks() {
        await answer.promise;
        return create(ListTasksResponseSchema, { count: 7 });
      },
    },
  });
  const session = connectHttp2(`http://${own.grpc}`);
  const leaving = once(session, 'goaway');
  const headers = { ...listTasksCall, ':authority': 'host', te: 'trailers', ...signedIn };
  const lasting = session.request(headers);
  lasting.end(Buffer.alloc(5));
  lasting.resume();
  for (let i = 0; i < 260; i++) {
    const canceled = session.request(headers);
    canceled.on('error', () => {});
    canceled.close(constants.NGHTTP2_CANCEL);
    if (i % 50 === 0) await sleep(5);
  }
  expect((await leaving)[0]).toBe(constants.NGHTTP2_NO_ERROR);
  answer.resolve();
  const [trailers] = (await once(lasting, 'trailers')) as [Record<string, string>];
  expect(trailers['grpc-status']).toBe('0');
  session.destroy();
  await own.stop();
});

test.each([
  ['without a token has been refused already', listTasksHeaders, 'UNAUTHENTICATED'],
  ['with a token is canceled', hpack({ ...listTasksCall, ...signedIn }), 'CANCELLED'],
])('a call over gRPC whose client leaves without an error, before its request has ended, %s', async (_what, headers, code) => {
  const socket = await open('grpc');
  const lines = server.log.length;
  socket.write(Buffer.concat([preface, settings, frame(1, 4, 1, headers)]));
  await sleep(50);
  const message = frame(0, 0, 1, Buffer.alloc(5));
  socket.write(Buffer.concat([message, frame(3, 0, 1, Buffer.of(0, 0, 0, constants.NGHTTP2_NO_ERROR)), frame(6, 0, 0, ping)]));
  await new Promise<void>((resolve) => {
    socket.on('data', (bytes: Buffer) => bytes.includes(ping) && resolve());
  });
  await sleep(50);
  expect(server.log.slice(lines)).toMatchObject([{ code, level: 'info' }]);
  socket.destroy();
});

test('a header over 32 KiB over HTTP/1.1 is refused', async () => {
  const response = await fetch(`http://${server.web}/tasks.v1.TasksService/ListTasks`, {
    headers: { 'x-large': 'y'.repeat(33 * 1024) },
  });
  expect(response.status).toBe(431);
});

test('more headers than are taken over HTTP/1.1 are refused, and none is left out', async () => {
  const send = (count: number) =>
    fetch(`http://${server.web}/tasks.v1.TasksService/ListTasks`, {
      method: 'POST',
      headers: {
        ...signedIn,
        'content-type': 'application/json',
        ...Object.fromEntries(Array.from({ length: count }, (_, i) => [`x-${i}`, 'y'])),
      },
      body: '{"pageSize": 7}',
    });
  const refused = await send(129);
  expect(refused.status).toBe(431);
  expect(await refused.json()).toEqual({ code: 'resource_exhausted', message: 'a request has at most 128 headers' });
  expect((await send(100)).status).toBe(200);
});

describe('a call that does not go on', () => {
  const large: ListTasksResponse = create(ListTasksResponseSchema, { tasks: [{ initialPrompt: 'x'.repeat(2 * 2 ** 20) }] });
  const limits = { ...sessionLimits, stalled: 500 };
  let grpc: Listener;
  let address = '';

  beforeAll(async () => {
    const calls = createCalls({
      authenticate: authenticateForTests,
      log: pino({ level: 'silent' }),
      metrics: createCallMetrics(new Registry()),
    });
    grpc = createGrpcListener([unary(TasksService.method.listTasks, () => Promise.resolve(large))], calls, { limits });
    address = await listen(grpc.port, '127.0.0.1', 0, 'GRPC_PORT');
  });
  afterAll(async () => {
    const drained = grpc.drain();
    grpc.destroy();
    await drained;
  });

  function call(session: ClientHttp2Session, body: Buffer, ends: boolean): Promise<number> {
    const stream = session.request({
      ':method': 'POST',
      ':path': '/tasks.v1.TasksService/ListTasks',
      'content-type': 'application/grpc',
      te: 'trailers',
      ...signedIn,
    });
    stream.on('error', () => {});
    if (ends) stream.end(body);
    else stream.write(body);
    return new Promise((resolve) => stream.once('close', () => resolve(stream.rstCode ?? 0)));
  }

  const whole = Buffer.from([0, 0, 0, 0, 0]);

  test.each([
    ['sends half of its request', { initialWindowSize: 65_535 }, Buffer.from([0, 0, 0, 1, 0, 8]), false],
    ['takes nothing of its answer', { initialWindowSize: 0 }, whole, true],
    ['stops taking its answer', { initialWindowSize: 100_000 }, whole, true],
  ])('is cut when its client %s', async (_name, clientSettings, body, ends) => {
    const session = connectHttp2(`http://${address}`, { settings: clientSettings });
    session.on('error', () => {});
    const began = performance.now();
    expect(await call(session, body, ends)).toBe(constants.NGHTTP2_ENHANCE_YOUR_CALM);
    expect(performance.now() - began).toBeGreaterThan(300);
    session.destroy();
  });

  test('is not cut while it does', async () => {
    const client = makeGrpcClient(address);
    const { message } = await client.unary(TasksService.method.listTasks, {}, { headers: signedIn });
    expect(message.tasks[0]?.initialPrompt).toHaveLength(2 * 2 ** 20);
    client.close();
  });
});
