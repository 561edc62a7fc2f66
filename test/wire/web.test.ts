import { once } from 'node:events';
import http from 'node:http';
import { connect as connectHttp2 } from 'node:http2';
import net from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { gunzipSync, gzipSync } from 'node:zlib';
import { create, toBinary } from '@bufbuild/protobuf';
import { createClient, type Transport } from '@connectrpc/connect';
import { createConnectTransport, createGrpcTransport, createGrpcWebTransport } from '@connectrpc/connect-node';
import { pino } from 'pino';
import { Registry } from 'prom-client';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createCallMetrics } from '../../src/call/call-metrics.ts';

import { createCalls } from '../../src/call/calls.ts';

import { unaryWithResult } from '../../src/call/method.ts';
import { ListTasksRequestSchema, ListTasksResponseSchema, TasksService } from '../../src/gen/tasks/v1/tasks_pb.ts';
import { detectHttpVersion } from '../../src/transport/detect-http-version.ts';
import { httpLimits } from '../../src/transport/http.ts';
import { listen } from '../../src/transport/listener.ts';
import { createWebListener } from '../../src/transport/web-listener.ts';
import { makeGrpcClient } from '../support/clients.ts';
import {
  authenticateForTests,
  goodToken,
  type LogLine,
  signedIn,
  startTestServer,
  type TestServer,
  until,
} from '../support/test-server.ts';

const allowed = 'https://tasks.example.com';
let server: TestServer;

beforeAll(async () => {
  server = await startTestServer({
    webOrigins: [allowed],
    handlers: {
      listTasks: ({ query, pageSize }) =>
        Promise.resolve(create(ListTasksResponseSchema, { count: pageSize, tasks: [{ name: query }] })),
    },
  });
});

afterAll(async () => {
  await server.stop();
});

const listPath = '/tasks.v1.TasksService/ListTasks';
const listUrl = () => `http://${server.web}${listPath}`;
const json = { 'content-type': 'application/json', ...signedIn } as const;

function list(headers: Record<string, string> = {}, init: RequestInit = {}): Promise<Response> {
  return fetch(listUrl(), { method: 'POST', body: '{"pageSize":1}', ...init, headers: { ...json, ...headers } });
}

/** A connection whose bytes the test writes itself. */
class RawConnection {
  readonly socket: net.Socket;
  text = '';
  closed = false;

  constructor(address = server.web) {
    const { hostname, port } = new URL(`http://${address}`);
    this.socket = net.connect(Number(port), hostname);
    this.socket.setNoDelay(true);
    this.socket.on('error', () => {});
    this.socket.on('data', (chunk: Buffer) => {
      this.text += chunk.toString('latin1');
    });
    this.socket.on('close', () => {
      this.closed = true;
    });
  }
}

const rawRequest = [
  `POST ${listPath} HTTP/1.1`,
  'host: localhost',
  'content-type: application/json',
  'content-length: 14',
  `coder-session-token: ${goodToken}`,
  '',
  '{"pageSize":7}',
].join('\r\n');

describe('one port', () => {
  test('answers HTTP/1.1', async () => {
    const connection = new RawConnection();
    connection.socket.write(rawRequest);
    await until('answer', () => connection.text.includes('"count":7'));
    expect(connection.text).toMatch(/^HTTP\/1\.1 200 OK/);
    connection.socket.destroy();
  });

  test('answers HTTP/2', async () => {
    const session = connectHttp2(`http://${server.web}`);
    const stream = session.request({ ':method': 'POST', ':path': listPath, ...json });
    stream.end('{"pageSize":7}');
    let text = '';
    for await (const chunk of stream) text += String(chunk);
    expect(JSON.parse(text)).toMatchObject({ count: 7 });
    session.destroy();
  });

  test('answers HTTP/1.1 that comes a byte at a time, and goes on on the same connection', async () => {
    const connection = new RawConnection();
    for (const byte of Buffer.from(rawRequest)) {
      connection.socket.write(Uint8Array.of(byte));
      await sleep(1);
    }
    await until('answer', () => connection.text.includes('"count":7'));
    connection.text = '';
    connection.socket.write(rawRequest);
    await until('second answer', () => connection.text.includes('"count":7'));
    connection.socket.destroy();
  });

  test('answers HTTP/2 that comes a byte at a time', async () => {
    // A client of Node writes through a relay that cuts all it sends into single bytes.
    const relay = net.createServer((from) => {
      const { hostname, port } = new URL(`http://${server.web}`);
      const to = net.connect(Number(port), hostname);
      to.setNoDelay(true);
      to.pipe(from);
      from.on('data', (chunk: Buffer) => {
        from.pause();
        void (async () => {
          for (const byte of chunk) {
            to.write(Uint8Array.of(byte));
            await new Promise(setImmediate);
          }
          from.resume();
        })();
      });
      for (const socket of [from, to]) socket.on('error', () => {});
    });
    relay.listen(0, '127.0.0.1');
    await once(relay, 'listening');
    const client = makeGrpcClient(`127.0.0.1:${(relay.address() as net.AddressInfo).port}`);
    const { message } = await client.unary(TasksService.method.listTasks, { pageSize: 7 }, { headers: signedIn });
    expect(message.count).toBe(7);
    client.close();
    relay.close();
  });

  test.each([
    'P',
    'PR',
    'PRI',
    'PRI *',
    'PRI * HTTP/2.',
    'PRI * HTTP/1.1\r\n\r\n',
    '\r\n\r\n',
    '\0\0\0\0',
    '\x16\x03\x01\x02\x00',
    'nonsense\r\n\r\n',
  ])('survives a client that sends %j and leaves', async (bytes) => {
    const connection = new RawConnection();
    connection.socket.write(Buffer.from(bytes, 'latin1'));
    await sleep(20);
    connection.socket.end();
    await until('end of the connection', () => connection.closed);
    expect(connection.text).toMatch(/^$|^HTTP\/1\.1 400 /);
    expect((await list()).status).toBe(200);
  });

  test('survives connections that are reset at any moment', async () => {
    for (const bytes of ['', 'P', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 'POST / HTTP/1.1\r\n', rawRequest]) {
      for (const wait of [0, 5, 30]) {
        const connection = new RawConnection();
        await once(connection.socket, 'connect');
        connection.socket.write(bytes);
        await sleep(wait);
        connection.socket.resetAndDestroy();
      }
    }
    expect((await list()).status).toBe(200);
  });

  test.concurrent('closes a connection that says nothing', { timeout: 20_000 }, async () => {
    const connection = new RawConnection();
    const started = performance.now();
    await once(connection.socket, 'close');
    expect(performance.now() - started).toBeGreaterThan(httpLimits.headersTimeout - 100);
    expect(performance.now() - started).toBeLessThan(httpLimits.headersTimeout + 3000);
    expect(connection.text).toBe('');
  });

  test.concurrent('closes a connection whose request headers never end', { timeout: 20_000 }, async () => {
    const connection = new RawConnection();
    connection.socket.write('GET / HTTP/1.1\r\nhost: localhost\r\n');
    const started = performance.now();
    await once(connection.socket, 'close');
    const limit = httpLimits.headersTimeout + httpLimits.connectionsCheckingInterval;
    expect(performance.now() - started).toBeLessThan(limit + 2000);
    expect(connection.text).toMatch(/^HTTP\/1\.1 408 /);
  });
});

describe('the version of HTTP is known', () => {
  async function tell(chunks: readonly string[], timeoutMs = 1000): Promise<{ version: number | undefined; read: string }> {
    const told = Promise.withResolvers<{ version: number | undefined; read: string }>();
    const port = net.createServer((socket) => {
      socket.once('close', () => told.resolve({ version: undefined, read: '' }));
      detectHttpVersion(socket, timeoutMs, (version) => {
        told.resolve({ version, read: String(socket.read()) });
        socket.destroy();
      });
    });
    port.listen(0, '127.0.0.1');
    await once(port, 'listening');
    const client = net.connect((port.address() as net.AddressInfo).port, '127.0.0.1');
    client.setNoDelay(true);
    client.on('error', () => {});
    for (const chunk of chunks) {
      client.write(chunk);
      await sleep(10);
    }
    const result = await told.promise;
    client.destroy();
    port.close();
    return result;
  }

  test.each<[readonly string[], number, string]>([
    [['GET / HTTP/1.1\r\n'], 1, 'GET / HTTP/1.1\r\n'],
    [['G'], 1, 'G'],
    [['P', 'O'], 1, 'PO'],
    [['P', 'R', 'O'], 1, 'PRO'],
    [['PRI * HTTP/1.1'], 1, 'PRI * HTTP/1.1'],
    [['PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'], 2, 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'],
    [['PRI *', ' HTTP/2.', '0'], 2, 'PRI * HTTP/2.0'],
    [[...'PRI * HTTP/2.0'], 2, 'PRI * HTTP/2.0'],
  ])('%j: %d', async (chunks, version, read) => {
    expect(await tell(chunks)).toEqual({ version, read });
  });

  test('or the connection is closed', async () => {
    const started = performance.now();
    expect(await tell(['PRI * H'], 100)).toEqual({ version: undefined, read: '' });
    expect(performance.now() - started).toBeLessThan(1000);
  });
});

describe('Connect GET', () => {
  const get = (query: string, headers: Record<string, string> = signedIn) => fetch(`${listUrl()}?${query}`, { headers });

  test('takes JSON and base64', async () => {
    expect(await (await get('encoding=json&message=%7B%22pageSize%22%3A7%7D')).json()).toMatchObject({ count: 7 });
    expect(await (await get('connect=v1&encoding=proto&base64=1&message=CAc')).arrayBuffer()).toHaveProperty('byteLength', 4);
  });

  test.each(['!!!', 'A', 'CAc!'])('of a message that is no base64 is refused: %s', async (message) => {
    const response = await get(`connect=v1&encoding=proto&base64=1&message=${encodeURIComponent(message)}`);
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({ code: 'invalid_argument', details: expect.any(Array) });
  });

  test('may carry a query of 4 KiB, each byte of it percent-encoded', async () => {
    const query = 'ä'.repeat(2048);
    const response = await get(`encoding=json&message=${encodeURIComponent(JSON.stringify({ query }))}`);
    expect(await response.json()).toMatchObject({ tasks: [{ name: query }] });
  });

  test('of a page without an encoding is 415', async () => {
    expect((await get('message=%7B%7D')).status).toBe(415);
  });

  test.each([
    ['json', '%7B%22pageSize%22%3A7%7D', '%7B%22pageSize%22%3A8%7D'],
    ['proto', '%08%07', '%08%08'],
  ])('of %s whose answer the client has already is 304, by its entity tag', async (encoding, message, other) => {
    const query = `encoding=${encoding}&message=${message}`;
    const first = await get(query);
    const tag = first.headers.get('etag') ?? '';
    expect(tag).toMatch(/^"[\w-]{22}"$/);
    expect((await first.arrayBuffer()).byteLength).toBeGreaterThan(0);
    for (const tags of [tag, `W/${tag}`, `"other", ${tag}`, '*']) {
      const again = await get(query, { ...signedIn, 'if-none-match': tags });
      expect({ status: again.status, bytes: (await again.arrayBuffer()).byteLength }).toEqual({ status: 304, bytes: 0 });
      for (const name of ['etag', 'cache-control', 'vary']) expect(again.headers.get(name)).toBe(first.headers.get(name));
    }
    const changed = await get(`encoding=${encoding}&message=${other}`, { ...signedIn, 'if-none-match': tag });
    expect({ status: changed.status, same: changed.headers.get('etag') === tag }).toEqual({ status: 200, same: false });
  });

  test('over HTTP/2 can be 304, too', async () => {
    const connection = connectHttp2(`http://${server.web}`);
    const path = `${listPath}?encoding=json&message=%7B%7D`;
    const ask = async (tags: string) => {
      const stream = connection.request({ ':path': path, ...signedIn, 'if-none-match': tags });
      const [headers] = (await once(stream, 'response')) as [Record<string, string>];
      stream.resume();
      await once(stream, 'end');
      return headers;
    };
    const { etag = '' } = await ask('"none"');
    expect(await ask(etag)).toMatchObject({ ':status': 304, etag });
    connection.destroy();
  });

  test('may be kept by the browser alone, for the same caller, and only after asking', async () => {
    const { headers } = await get('encoding=json&message=%7B%7D');
    expect(headers.get('cache-control')).toBe('private, no-cache');
    const varies = headers.get('vary')?.toLowerCase().split(', ');
    expect(varies?.sort()).toEqual(['accept-encoding', 'authorization', 'coder-session-token', 'cookie', 'origin']);
  });

  test('of a stranger is answered like any other call, whatever tags the stranger has', async () => {
    const first = await get('encoding=json&message=%7B%7D');
    const refused = await get('encoding=json&message=%7B%7D', { 'if-none-match': first.headers.get('etag') ?? '' });
    expect([refused.status, refused.headers.get('etag'), refused.headers.get('cache-control')]).toEqual([401, null, 'no-store']);
  });

  test('is for methods that change nothing: others are 405', async () => {
    const response = await fetch(`http://${server.web}/grpc.health.v1.Health/Check?encoding=json&message=%7B%7D`);
    expect(response.status).toBe(405);
  });

  test('over 32 KiB of address is 431', async () => {
    const connection = new RawConnection();
    connection.socket.write(`GET ${listPath}?message=${'x'.repeat(33 * 1024)} HTTP/1.1\r\nhost: x\r\n\r\n`);
    await until('answer', () => connection.closed);
    expect(connection.text).toMatch(/^HTTP\/1\.1 431 /);
  });
});

describe('CORS', () => {
  const preflight = (origin: string) =>
    fetch(listUrl(), {
      method: 'OPTIONS',
      headers: {
        origin,
        'access-control-request-method': 'POST',
        'access-control-request-headers': 'content-type,coder-session-token',
      },
    });

  test('a preflight of a listed origin is allowed', async () => {
    const { status, headers } = await preflight(allowed);
    expect(status).toBe(204);
    expect(headers.get('access-control-allow-origin')).toBe(allowed);
    expect(headers.get('access-control-allow-methods')?.split(', ')).toEqual(expect.arrayContaining(['GET', 'POST']));
    const names = headers.get('access-control-allow-headers')?.toLowerCase().split(', ');
    for (const name of [
      'content-type',
      'authorization',
      'coder-session-token',
      'connect-protocol-version',
      'connect-timeout-ms',
      'grpc-timeout',
      'x-grpc-web',
      'x-user-agent',
      'x-request-id',
    ])
      expect(names).toContain(name);
    expect(headers.get('access-control-max-age')).toBe('7200');
    expect(headers.get('vary')).toBe('Origin');
    expect(headers.get('access-control-allow-credentials')).toBeNull();
  });

  test.each([
    'https://evil.example.com',
    'http://tasks.example.com',
    'https://tasks.example.com:8443',
    'https://tasks.example.com.evil.com',
    'https://TASKS.example.com',
    'null',
    '*',
  ])('a preflight of %s is refused', async (origin) => {
    const { status, headers } = await preflight(origin);
    expect(status).toBe(403);
    expect([...headers.keys()].filter((name) => name.startsWith('access-control'))).toEqual([]);
    expect(headers.get('vary')).toBe('Origin');
  });

  test('an answer to a listed origin can be read with its metadata, an error too', async () => {
    for (const response of [await list({ origin: allowed }), await list({ origin: allowed, 'coder-session-token': 'wrong' })]) {
      expect(response.headers.get('access-control-allow-origin')).toBe(allowed);
      const exposed = response.headers.get('access-control-expose-headers')?.toLowerCase().split(', ');
      for (const name of ['grpc-status', 'grpc-message', 'grpc-status-details-bin', 'x-request-id'])
        expect(exposed).toContain(name);
      expect(response.headers.get('vary')).toBe('Origin');
    }
  });

  test('an answer to another origin, or none, has no such headers', async () => {
    for (const response of [await list({ origin: 'https://evil.example.com' }), await list()]) {
      expect(response.status).toBe(200);
      expect([...response.headers.keys()].filter((name) => name.startsWith('access-control'))).toEqual([]);
    }
  });

  test('without a list of origins no such header is sent', async () => {
    const other = await startTestServer();
    const response = await fetch(`http://${other.web}${listPath}`, {
      method: 'POST',
      body: '{}',
      headers: { ...json, origin: allowed },
    });
    expect(response.status).toBe(200);
    expect([...response.headers.keys()].filter((name) => name.startsWith('access-control') || name === 'vary')).toEqual([]);
    await other.stop();
  });
});

describe('a cookie', () => {
  test('is a token on the web port', async () => {
    const response = await fetch(listUrl(), {
      method: 'POST',
      body: '{}',
      headers: { 'content-type': 'application/json', cookie: `coder_session_token=${goodToken}` },
    });
    expect(response.status).toBe(200);
  });

  /** The status of a list over each version of HTTP, and of Coder's list, with the cookie and these headers. */
  const statuses = async (headers: Record<string, string>): Promise<unknown[]> => {
    const given = { 'content-type': 'application/json', cookie: `coder_session_token=${goodToken}`, ...headers };
    const session = connectHttp2(`http://${server.web}`);
    const stream = session.request({ ':method': 'POST', ':path': listPath, ...given });
    stream.end('{}');
    const [answer] = (await once(stream, 'response')) as [Record<string, unknown>];
    session.destroy();
    // fetch() sets the headers of its own that are tried here.
    const ask = async (method: string, path: string): Promise<number | undefined> => {
      const { hostname, port } = new URL(`http://${server.web}`);
      const request = http.request({ method, path, hostname, port, headers: given, agent: false });
      request.end(method === 'POST' ? '{}' : undefined);
      const [response] = (await once(request, 'response')) as [http.IncomingMessage];
      response.resume();
      return response.statusCode;
    };
    return [answer[':status'], await ask('POST', listPath), await ask('GET', '/api/experimental/tasks')];
  };

  test.each([
    ['a program', () => ({})],
    ['a page of the service', () => ({ 'sec-fetch-site': 'same-origin', origin: 'http://proxied.example' })],
    ['somebody who typed the address', () => ({ 'sec-fetch-site': 'none' })],
    ['a page of the service in an old browser', () => ({ origin: `http://${server.web}` })],
    ['the same behind a proxy for TLS', () => ({ origin: `https://${server.web}` })],
  ])('counts when it comes from %s', async (_, headers) => {
    expect(await statuses(headers())).toEqual([200, 200, 200]);
  });

  test.each([
    ['another site', { 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'no-cors' }],
    ['a link on another site', { 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'navigate' }],
    ['a neighbour of the same site', { 'sec-fetch-site': 'same-site' }],
    ['a page of a listed origin', { 'sec-fetch-site': 'cross-site', origin: allowed }],
    ['another site in an old browser', { origin: 'https://evil.example.com' }],
    ['a listed origin in an old browser', { origin: allowed }],
    ['a sandboxed page in an old browser', { origin: 'null' }],
    ['a liar', { 'sec-fetch-site': 'same-origin, cross-site' }],
  ])('is nobody when %s makes a browser send it', async (_, headers) => {
    expect(await statuses(headers)).toEqual([401, 401, 401]);
  });

  test('of another site does not hide a token that the page itself sends', async () => {
    expect(await statuses({ 'sec-fetch-site': 'cross-site', ...signedIn })).toEqual([200, 200, 200]);
  });

  test('is not accepted on the gRPC port', async () => {
    const client = makeGrpcClient(server.grpc);
    const call = client.unary(TasksService.method.listTasks, {}, { headers: { cookie: `coder_session_token=${goodToken}` } });
    await expect(call).rejects.toThrow('signed out');
    client.close();
  });
});

test('no answer is stored, sniffed, framed, embedded or told of', async () => {
  const { web } = server;
  const answers = [
    await list(),
    await list({}, { body: 'nonsense' }),
    await list({ 'coder-session-token': 'wrong' }),
    await fetch(`http://${web}/api/experimental/tasks`, { headers: signedIn }),
    await fetch(`http://${web}/api/experimental/tasks`),
    await fetch(`http://${web}/api/experimental/tasks`, { method: 'POST' }),
    await fetch(`http://${web}/nowhere`),
  ];
  for (const response of answers) {
    expect(Object.fromEntries(response.headers), `${response.status} of ${response.url}`).toMatchObject({
      'cache-control': 'no-store',
      'content-security-policy': "default-src 'none'; frame-ancestors 'none'",
      'cross-origin-resource-policy': 'same-origin',
      'referrer-policy': 'no-referrer',
      'x-content-type-options': 'nosniff',
    });
    expect(response.headers.get('strict-transport-security')).toBeNull(); // it is not ours to say without TLS
    expect(response.headers.get('x-powered-by')).toBeNull();
    expect(response.headers.get('server')).toBeNull();
  }
});

test('requests and answers may be compressed', async () => {
  const query = 'long '.repeat(1000);
  const connection = connectHttp2(`http://${server.web}`);
  const stream = connection.request({
    ':method': 'POST',
    ':path': listPath,
    ...json,
    'content-encoding': 'gzip',
    'accept-encoding': 'br, gzip',
  });
  stream.end(gzipSync(JSON.stringify({ query })));
  const [headers] = (await once(stream, 'response')) as [Record<string, string>];
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk as Buffer);
  connection.destroy();
  expect(headers['content-encoding']).toBe('gzip');
  expect(JSON.parse(gunzipSync(Buffer.concat(chunks)).toString())).toMatchObject({ tasks: [{ name: query }] });
});

describe('bytes that a method makes in place of a message', () => {
  const request = create(ListTasksRequestSchema, { query: 'long '.repeat(1000) });
  const message = create(ListTasksResponseSchema, { count: 1, tasks: [{ name: 'message' }] });
  const bytesFor = (query: string) => create(ListTasksResponseSchema, { count: 2, tasks: [{ name: 'bytes' }, { name: query }] });
  const method = unaryWithResult({
    desc: TasksService.method.listTasks,
    handle: ({ query }) => Promise.resolve(query),
    toMessage: () => message,
    toBinary: (query) => (query === '' ? new Uint8Array() : toBinary(ListTasksResponseSchema, bytesFor(query))),
  });
  let own: TestServer;

  beforeAll(async () => {
    own = await startTestServer({ methods: [method] });
  });
  afterAll(() => own.stop());

  type Options = { baseUrl: string; httpVersion: '1.1' | '2'; useBinaryFormat: boolean };
  const over = (transport: (options: Options) => Transport, port: 'grpc' | 'web' = 'web') => {
    return (useBinaryFormat: boolean) =>
      createClient(TasksService, transport({ baseUrl: `http://${own[port]}`, httpVersion: '1.1', useBinaryFormat }));
  };

  test.each([
    ['Connect', over(createConnectTransport)],
    ['gRPC-Web', over(createGrpcWebTransport)],
    ['gRPC', over((options) => createGrpcTransport(options))],
    ['Connect GET', over((options) => createConnectTransport({ ...options, useHttpGet: true }))],
  ])('are sent as they are over %s, but not as JSON', async (_protocol, client) => {
    expect(await client(true).listTasks(request, { headers: signedIn })).toEqual(bytesFor(request.query));
    expect(await client(true).listTasks({}, { headers: signedIn })).toEqual(create(ListTasksResponseSchema));
    expect(await client(false).listTasks(request, { headers: signedIn })).toEqual(message);
  });

  test('are sent as they are on the gRPC port', async () => {
    const client = over((options) => createGrpcTransport(options), 'grpc')(true);
    expect(await client.listTasks(request, { headers: signedIn })).toEqual(bytesFor(request.query));
    expect(await client.listTasks({}, { headers: signedIn })).toEqual(create(ListTasksResponseSchema));
  });
});

test('half a surrogate pair is refused over gRPC, which cannot repeat it', async () => {
  const message = Buffer.from('"\\ud92f"');
  const head = Buffer.alloc(5);
  head.writeUInt32BE(message.length, 1);
  const session = connectHttp2(`http://${server.web}`);
  const stream = session.request({
    ':method': 'POST',
    ':path': listPath,
    'content-type': 'application/grpc+json',
    te: 'trailers',
    ...signedIn,
  });
  stream.end(Buffer.concat([head, message]));
  const [headers] = (await once(stream, 'response')) as [Record<string, string>];
  expect([headers[':status'], headers['grpc-status']]).toEqual([200, '3']);
  session.destroy();
  expect(server.log.filter(({ level }) => level === 'error')).toEqual([]);
});

describe('other paths', () => {
  test.each(['/', '/tasks', '/tasks.v1.TasksService', '/tasks.v1.TasksService/', '//', '/%', '/../etc/passwd', `${listPath}/`])(
    '%s is 404 in JSON',
    async (path) => {
      const connection = new RawConnection();
      connection.socket.write(`GET ${path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n`);
      await until('answer', () => connection.closed);
      expect(connection.text).toMatch(/^HTTP\/1\.1 404 /);
      expect(connection.text).toContain('content-type: application/json');
      expect(connection.text).toContain('"code":"unimplemented"');
    },
  );

  test.each([
    ['without a host', `GET ${listPath} HTTP/1.0\r\n\r\n`],
    ['with an invalid host', `GET ${listPath} HTTP/1.1\r\nhost: [\r\n\r\n`],
    ['with another', `GET ${listPath} HTTP/1.1\r\nhost: a b\r\n\r\n`],
    ['with an invalid port', `GET ${listPath} HTTP/1.1\r\nhost: x:99999999\r\n\r\n`],
  ])('a request %s is 400', async (_what, request) => {
    const connection = new RawConnection();
    connection.socket.write(request);
    await until('answer', () => connection.text.includes('\r\n\r\n'));
    expect(connection.text).toMatch(/^HTTP\/1\.1 400 /);
    connection.socket.destroy();
    expect((await list()).status).toBe(200);
  });
});

// On the gRPC port a connection is asked to leave after 250, since Node's own limit cannot be set there.
test.each([
  ['grpc', 200],
  ['web', 3000],
] as const)('calls that are canceled at once do not end the connection on the port %s: %i of them', async (port, count) => {
  const session = connectHttp2(`http://${server[port]}`);
  const problems: unknown[] = [];
  session.on('error', (error) => problems.push(error));
  session.on('goaway', (code) => problems.push(code));
  const headers = { ':method': 'POST', ':path': listPath, 'content-type': 'application/grpc', te: 'trailers', ...signedIn };
  for (let i = 0; i < count; i++) {
    const stream = session.request(headers);
    stream.on('error', () => {});
    stream.close(8);
    if (i % 100 === 0) await sleep(1);
  }
  const last = session.request(headers);
  last.end(Buffer.alloc(5));
  last.resume();
  const [trailers] = (await once(last, 'trailers')) as [Record<string, string>];
  expect(trailers['grpc-status']).toBe('0');
  expect(problems).toEqual([]);
  session.destroy();
});

test('a fault of ours outside of calls is logged, and its connection does not hang', async () => {
  const lines: LogLine[] = [];
  const log = pino({ base: null }, { write: (line) => void lines.push(JSON.parse(line) as LogLine) });
  const calls = createCalls({ authenticate: authenticateForTests, log, metrics: createCallMetrics(new Registry()) });
  const broken = createWebListener([], calls, { log, coderJson: () => Promise.reject(new Error('a bug')) });
  const address = await listen(broken.port, '127.0.0.1', 0, 'WEB_PORT');
  await expect(fetch(`http://${address}/anything`)).rejects.toThrow('fetch failed');
  expect(lines).toMatchObject([{ level: 50, err: { message: 'a bug' } }]);
  const drained = broken.drain();
  broken.destroy();
  await drained;
});
