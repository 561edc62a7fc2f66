import { once } from 'node:events';
import { type ClientHttp2Session, connect as connectHttp2 } from 'node:http2';
import { BlockList, connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { create, toBinary } from '@bufbuild/protobuf';
import { Code, ConnectError } from '@connectrpc/connect';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { openCallLimits } from '../../src/call/limits.ts';
import { ErrorInfoSchema } from '../../src/gen/google/rpc/error_details_pb.ts';
import { Health, HealthCheckRequestSchema } from '../../src/gen/grpc/health/v1/health_pb.ts';
import { TasksService, WatchTasksResponseSchema } from '../../src/gen/tasks/v1/tasks_pb.ts';
import { hpack } from '../fuzz/cases.ts';
import { makeGrpcClient } from '../support/clients.ts';
import { frame, preface } from '../support/http2-frames.ts';
import { envelope } from '../support/raw-call.ts';
import { goodToken, signedIn, startTestServer, type TestServer, until } from '../support/test-server.ts';

const ports = ['grpc', 'web'] as const;
type Port = (typeof ports)[number];
const listPath = '/tasks.v1.TasksService/ListTasks';

let server: TestServer;
beforeAll(async () => {
  server = await startTestServer();
});
afterAll(() => server.stop());

async function open(port: Port, at = server): Promise<Socket> {
  const { hostname, port: number } = new URL(`http://${at[port]}`);
  const socket = connect(Number(number), hostname);
  socket.on('error', () => {});
  await once(socket, 'connect');
  return socket;
}

/** The frames of HTTP/2 in what has been received: the type of each, its stream and its payload. */
function framesIn(bytes: Buffer): { type: number; flags: number; stream: number; payload: Buffer }[] {
  const frames = [];
  for (let at = 0; at + 9 <= bytes.length; ) {
    const length = bytes.readUIntBE(at, 3);
    const payload = bytes.subarray(at + 9, at + 9 + length);
    frames.push({ type: bytes.readUInt8(at + 3), flags: bytes.readUInt8(at + 4), stream: bytes.readUInt32BE(at + 5), payload });
    at += 9 + length;
  }
  return frames;
}

describe('a call without a token whose request never comes whole is answered on its headers', () => {
  test.each([
    ['grpc', 'application/grpc', listPath],
    ['grpc', 'application/grpc', '/tasks.v1.TasksService/WatchTasks'],
    ['web', 'application/grpc', listPath],
    ['web', 'application/grpc-web+proto', listPath],
    ['web', 'application/proto', listPath],
    ['web', 'application/json', listPath],
    ['web', 'application/connect+proto', '/tasks.v1.TasksService/WatchTasks'],
  ] as const)('over HTTP/2 on the port %s, %s, %s, and its stream is closed without an error', async (port, type, path) => {
    const socket = await open(port);
    let received: Buffer = Buffer.alloc(0);
    socket.on('data', (chunk: Buffer) => {
      received = Buffer.concat([received, chunk]);
    });
    const lines = server.log.length;
    const began = performance.now();
    const headers = { ':method': 'POST', ':scheme': 'http', ':authority': 'host', ':path': path, 'content-type': type };
    const firstByte = envelope(Buffer.alloc(60_000)).subarray(0, 1);
    socket.write(
      Buffer.concat([preface, frame(4, 0, 0, Buffer.alloc(0)), frame(1, 4, 1, hpack(headers)), frame(0, 0, 1, firstByte)]),
    );
    const ofStream = () => framesIn(received).filter(({ stream }) => stream === 1);
    const reset = await until('RST_STREAM', () => ofStream().find(({ type: kind }) => kind === 3));
    expect(performance.now() - began).toBeLessThan(1000);
    expect(reset.payload.readUInt32BE()).toBe(0); // NO_ERROR
    // The answer is whole before it: a frame that ends the stream.
    expect(ofStream().some(({ type: kind, flags }) => kind < 2 && (flags & 1) === 1)).toBe(true);
    expect(server.log.slice(lines)).toMatchObject([{ code: 'UNAUTHENTICATED', reason: 'UNAUTHENTICATED' }]);
    socket.destroy();
  });

  test.each(ports)('as clients of gRPC see it on the port %s', async (port) => {
    const session = connectHttp2(`http://${server[port]}`);
    const headers = { ':method': 'POST', ':path': listPath, 'content-type': 'application/grpc', te: 'trailers' };
    const stream = session.request(headers);
    stream.write(envelope(Buffer.alloc(60_000)).subarray(0, 1));
    stream.resume();
    const answer: Record<string, unknown> = {};
    for (const event of ['response', 'trailers']) stream.on(event, (received: object) => void Object.assign(answer, received));
    await once(stream, 'close');
    expect(answer).toMatchObject({ ':status': 200, 'grpc-status': '16' });
    expect(stream.rstCode).toBe(0);
    session.destroy();
  });

  test('over HTTP/1.1', async () => {
    const socket = await open('web');
    let received = '';
    socket.on('data', (chunk: Buffer) => {
      received += chunk.toString('latin1');
    });
    const began = performance.now();
    socket.write(`POST ${listPath} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 60000\r\n\r\n{`);
    await until('answer', () => received.includes('"UNAUTHENTICATED"'));
    expect(performance.now() - began).toBeLessThan(1000);
    expect(received).toMatch(/^HTTP\/1\.1 401 /);
    socket.destroy();
  });
});

describe('a watch that is not read until the server stops is told so, once it is read again', () => {
  const large = create(WatchTasksResponseSchema, {
    event: { case: 'upserted', value: { initialPrompt: 'x'.repeat(3 * 2 ** 20) } },
  });
  const requestId = 'slow-watcher';
  let own: TestServer;
  let written = 0;

  beforeEach(async () => {
    written = 0;
    own = await startTestServer({
      handlers: {
        async *watchTasks() {
          for (;;) {
            written += 1;
            yield large;
          }
        },
      },
    });
  });

  /** Resolves when the server waits for a client that does not read: ten times in a row, since a busy machine makes pauses, too. */
  function stuck(): Promise<true> {
    let before = 0;
    let quiet = 0;
    return until('message that waits for its client', async () => {
      await sleep(50);
      quiet = written > 0 && written === before ? quiet + 1 : 0;
      before = written;
      return quiet === 10;
    });
  }

  function expectLogged(): void {
    const lines = own.log.filter((each) => each['requestId'] === requestId);
    expect(lines).toMatchObject([{ code: 'UNAVAILABLE', reason: 'SHUTTING_DOWN' }]);
  }

  // These read ahead, sixteen messages at most.
  test.each(ports)('by grpc-js on the port %s', async (port) => {
    const client = makeGrpcClient(own[port]);
    const headers = { ...signedIn, 'x-request-id': requestId };
    const messages = client.serverStream(TasksService.method.watchTasks, {}, { headers })[Symbol.asyncIterator]();
    await messages.next();
    await stuck();
    const stopped = own.stop();
    await sleep(300);
    let error: unknown;
    let read = 0;
    try {
      while ((await messages.next()).done !== true) read += 1;
    } catch (reason) {
      error = reason;
    }
    expect(read).toBeGreaterThan(1); // megabytes were on their way
    expect(error).toBeInstanceOf(ConnectError);
    expect(error).toMatchObject({ code: Code.Unavailable, rawMessage: 'the server is shutting down, try again' });
    expect(error instanceof ConnectError && error.findDetails(ErrorInfoSchema)[0]?.reason).toBe('SHUTTING_DOWN');
    client.close();
    await stopped;
    expectLogged();
  });

  // The others without a library, since that of Connect reads ahead without a bound.
  test.each([
    ['grpc', 'application/grpc', { 'grpc-status': '14', 'x-request-id': requestId }, ''],
    ['web', 'application/grpc', { 'grpc-status': '14', 'x-request-id': requestId }, ''],
    ['web', 'application/grpc-web+proto', {}, 'grpc-status: 14\r\n'],
    ['web', 'application/connect+proto', {}, '{"error":{"code":"unavailable"'],
  ] as const)('on the port %s, %s, over HTTP/2, and no more than one message waits for it', async (port, type, trailers, end) => {
    const session = connectHttp2(`http://${own[port]}`);
    const stream = session.request({
      ':method': 'POST',
      ':path': '/tasks.v1.TasksService/WatchTasks',
      'content-type': type,
      te: 'trailers',
      'x-request-id': requestId,
      ...signedIn,
    });
    stream.end(Buffer.alloc(5));
    await stuck();
    expect(written).toBe(1);
    const stopped = own.stop();
    await sleep(300);
    const received: Record<string, unknown> = {};
    stream.on('trailers', (more: object) => void Object.assign(received, more));
    let read = 0;
    let last = '';
    for await (const chunk of stream) {
      read += (chunk as Buffer).length;
      last = (last + (chunk as Buffer).toString('latin1')).slice(-1000);
    }
    expect(read).toBeGreaterThan(3 * 2 ** 20);
    expect(received).toMatchObject(trailers);
    expect(last).toContain(end);
    expect(stream.rstCode).toBe(0);
    await stopped;
    expectLogged();
    session.destroy();
  });

  test.each([
    ['application/grpc-web+proto', 'grpc-status: 14\r\n'],
    ['application/connect+proto', '{"error":{"code":"unavailable"'],
  ])('%s, over HTTP/1.1', async (type, end) => {
    const socket = await open('web', own);
    const head = [
      'POST /tasks.v1.TasksService/WatchTasks HTTP/1.1',
      'host: x',
      `content-type: ${type}`,
      `coder-session-token: ${goodToken}`,
      `x-request-id: ${requestId}`,
      'content-length: 5',
    ];
    socket.pause();
    socket.write(`${head.join('\r\n')}\r\n\r\n\0\0\0\0\0`);
    await stuck();
    const stopped = own.stop();
    await sleep(300);
    let read = 0;
    let last = '';
    socket.on('data', (chunk: Buffer) => {
      read += chunk.length;
      last = (last + chunk.toString('latin1')).slice(-1000);
    });
    socket.resume();
    await once(socket, 'close');
    expect(read).toBeGreaterThan(3 * 2 ** 20);
    expect(last).toContain(end);
    expect(last).toMatch(/\r\n0\r\n\r\n$/); // the answer is whole
    await stopped;
    expectLogged();
  });
});

describe('the client of a proxy', () => {
  test.each([
    ['is named in the log when the proxy is trusted', ['127.0.0.1'], '203.0.113.7'],
    ['is not believed from anybody else', ['198.51.100.1'], /^127\.0\.0\.1:\d+$/],
    ['is not believed when none is trusted', undefined, /^127\.0\.0\.1:\d+$/],
  ])('%s', async (_what, proxies, peer) => {
    let trustedProxies: BlockList | undefined;
    for (const proxy of proxies ?? []) {
      trustedProxies ??= new BlockList();
      trustedProxies.addAddress(proxy);
    }
    const own = await startTestServer({ trustedProxies });
    const headers = { ...signedIn, 'x-forwarded-for': '192.0.2.1, 203.0.113.7' };
    for (const port of ports) {
      const client = makeGrpcClient(own[port]);
      await client.unary(TasksService.method.listTasks, {}, { headers });
      client.close();
    }
    await fetch(`http://${own.web}${listPath}`, {
      method: 'POST',
      headers: { ...headers, 'content-type': 'application/json' },
      body: '{}',
    });
    await fetch(`http://${own.web}/api/experimental/tasks`, { headers });
    await own.stop();
    expect(own.log.map((line) => line['protocol'])).toEqual(['grpc', 'grpc', 'connect', 'coder-json']);
    for (const line of own.log) expect(line['peer']).toEqual(typeof peer === 'string' ? peer : expect.stringMatching(peer));
  });
});

describe.each(ports)('streams that need no token, on the port %s', (port) => {
  const headers = {
    ':method': 'POST',
    ':path': '/grpc.health.v1.Health/Watch',
    'content-type': 'application/grpc',
    te: 'trailers',
  };
  const request = envelope(toBinary(HealthCheckRequestSchema, create(HealthCheckRequestSchema)));

  /** Opens a watch. Gives `serving` when it has its first message, else the status that it ended with. */
  async function watch(session: ClientHttp2Session) {
    const stream = session.request(headers);
    stream.on('error', () => {});
    stream.end(request);
    const outcome = await new Promise<string | undefined>((resolve) => {
      stream.once('data', () => resolve('serving'));
      for (const event of ['response', 'trailers'])
        stream.on(event, (received: Record<string, string>) => {
          if (received['grpc-status'] !== undefined) resolve(received['grpc-status']);
        });
    });
    return { outcome, end: () => stream.close(8) };
  }

  test('a connection has eight, which take nothing from other connections', async () => {
    const [first, second] = [connectHttp2(`http://${server[port]}`), connectHttp2(`http://${server[port]}`)];
    const watches = [];
    for (let i = 0; i < openCallLimits.streamsPerConnection; i++) watches.push(await watch(first));
    expect(watches.map(({ outcome }) => outcome)).toEqual(Array.from({ length: 8 }, () => 'serving'));
    expect((await watch(first)).outcome).toBe(String(Code.ResourceExhausted));
    expect((await watch(second)).outcome).toBe('serving');
    // One that ends makes room.
    const lines = server.log.length;
    watches[0]?.end();
    await until('line in the log', () => server.log.length > lines);
    expect((await watch(first)).outcome).toBe('serving');
    first.destroy();
    second.destroy();
  });

  test('one that is too many is told why', async () => {
    const client = makeGrpcClient(server[port]);
    const streams = Array.from({ length: 9 }, () => client.serverStream(Health.method.watch, {})[Symbol.asyncIterator]());
    const outcomes = await Promise.allSettled(streams.map((stream) => stream.next()));
    const refused = outcomes.flatMap((outcome) => (outcome.status === 'rejected' ? [outcome.reason as ConnectError] : []));
    expect(refused).toHaveLength(1);
    expect(refused[0]).toMatchObject({ code: Code.ResourceExhausted });
    expect(refused[0]?.findDetails(ErrorInfoSchema)).toMatchObject([{ reason: 'RATE_LIMITED' }]);
    client.close();
  });
});
