import { once } from 'node:events';
import net from 'node:net';
import { create, toBinary } from '@bufbuild/protobuf';
import { Code, createClient } from '@connectrpc/connect';
import { createConnectTransport, createGrpcTransport, createGrpcWebTransport } from '@connectrpc/connect-node';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Health } from '../../src/gen/grpc/health/v1/health_pb.ts';
import { TasksService, WatchTasksRequestSchema } from '../../src/gen/tasks/v1/tasks_pb.ts';
import { envelope } from '../support/raw-call.ts';
import { ServedWatches } from '../support/served-watches.ts';
import { goodToken, signedIn, startTestServer, type TestServer, until } from '../support/test-server.ts';

// What an answer that comes bit by bit says to those on its way, and how it comes over HTTP/1.0, which nginx speaks by default.

const watches = new ServedWatches();
let server: TestServer;
beforeAll(async () => {
  server = await startTestServer({ handlers: { watchTasks: watches.handler } });
});
afterAll(() => server.stop());

describe('a stream of the web port is not to be buffered or changed on its way', () => {
  const base = () => `http://${server.web}`;
  test.each([
    ['Connect, HTTP/1.1', () => createConnectTransport({ baseUrl: base(), httpVersion: '1.1' })],
    ['Connect, HTTP/2', () => createConnectTransport({ baseUrl: base(), httpVersion: '2' })],
    ['gRPC-Web, HTTP/1.1', () => createGrpcWebTransport({ baseUrl: base(), httpVersion: '1.1' })],
    ['gRPC-Web, HTTP/2', () => createGrpcWebTransport({ baseUrl: base(), httpVersion: '2' })],
    ['gRPC', () => createGrpcTransport({ baseUrl: base() })],
  ] as const)('over %s', async (_, open) => {
    for (const of of ['WatchTasks', 'Watch of Health'] as const) {
      const stop = new AbortController();
      let headers = new Headers();
      const options = { headers: signedIn, signal: stop.signal, onHeader: (received: Headers) => void (headers = received) };
      const stream =
        of === 'WatchTasks'
          ? createClient(TasksService, open()).watchTasks({ query: 'x' }, options)
          : createClient(Health, open()).watch({ service: TasksService.typeName }, options);
      await expect(
        (async () => {
          for await (const _message of stream) stop.abort();
        })(),
      ).rejects.toMatchObject({ code: Code.Canceled });
      expect(headers.get('x-accel-buffering'), of).toBe('no');
      expect(headers.get('cache-control'), of).toBe('no-store, no-transform');
    }
  });

  test('and what is no stream says nothing of buffers', async () => {
    const { headers } = await fetch(`${base()}/tasks.v1.TasksService/ListTasks`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...signedIn },
      body: '{}',
    });
    expect([headers.get('x-accel-buffering'), headers.get('cache-control')]).toEqual([null, 'no-store']);
  });
});

test('a stream over HTTP/1.0 comes message by message, and ends with its connection', async () => {
  const { hostname, port } = new URL(`http://${server.web}`);
  const socket = net.connect(Number(port), hostname);
  const body = envelope(toBinary(WatchTasksRequestSchema, create(WatchTasksRequestSchema, { query: 'old' })));
  socket.write(
    [
      'POST /tasks.v1.TasksService/WatchTasks HTTP/1.0',
      'host: upstream',
      'connection: close',
      'content-type: application/connect+proto',
      `coder-session-token: ${goodToken}`,
      `content-length: ${body.length}`,
      '\r\n',
    ].join('\r\n'),
  );
  socket.write(body);
  let received = '';
  socket.on('data', (chunk: Buffer) => {
    received += chunk.toString('latin1');
  });
  const watch = await until('watch', () => watches.find('old'));
  await until('first message', () => received.includes('first'));
  const [head = ''] = received.split('\r\n\r\n');
  expect(head).toMatch(/^HTTP\/1\.1 200 /);
  expect(head.toLowerCase()).not.toContain('transfer-encoding');
  watch.send('second');
  await until('second message', () => received.includes('second'));
  const closed = once(socket, 'close');
  watch.end();
  await closed;
  expect(received.endsWith(envelope(Buffer.from('{}'), 2).toString('latin1'))).toBe(true);
});
