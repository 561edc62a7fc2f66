import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import http, { type IncomingMessage, type OutgoingHttpHeaders, type Server } from 'node:http';
import https from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { getCACertificates, setDefaultCACertificates } from 'node:tls';
import { Registry } from 'prom-client';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { createLog } from '../../src/platform/log.ts';
import { createCertificates } from '../../src/transport/certificates.ts';
import { createClientAddress } from '../../src/transport/client-address.ts';
import { createCoderStreams, streamLimits } from '../../src/transport/coder/coder-streams.ts';
import { makeAuthority } from '../support/certificates.ts';
import { freePort } from '../support/free-port.ts';
import { describeBehind, type ProxyName, type RunningProxy } from '../support/proxies.ts';
import { StandInCoder, textFrame } from '../support/stand-in-coder.ts';
import { goodToken, signedIn, startTestServer, type TestServer, until } from '../support/test-server.ts';

const logs = '/api/v2/workspacebuilds/a7a27450-ca16-4553-a6c5-9d6f04808569/logs';

/** Asks for a WebSocket: its connection and the bytes that came with the answer, or the answer that opens none. */
async function open(
  web: string,
  { path = `${logs}?follow`, headers = {}, localAddress, ca }: OpenOptions = {},
): Promise<{
  readonly status: number | undefined;
  readonly answer: IncomingMessage;
  readonly socket: Duplex;
  readonly head: Buffer;
}> {
  const { request: send } = ca === undefined ? http : https;
  const request = send(`${ca === undefined ? 'http' : 'https'}://${web}${path}`, {
    agent: false,
    ...(ca === undefined ? {} : { ca }),
    ...(localAddress === undefined ? {} : { localAddress }),
    headers: {
      connection: 'Upgrade',
      upgrade: 'websocket',
      'sec-websocket-key': 'dGhlIHNhbXBsZSBub25jZQ==',
      'sec-websocket-version': '13',
      ...signedIn,
      ...headers,
    },
  });
  request.end();
  const [answer, socket, head] = (await Promise.race([once(request, 'upgrade'), once(request, 'response')])) as [
    IncomingMessage,
    Duplex | undefined,
    Buffer | undefined,
  ];
  (socket ?? answer).on('error', () => {});
  return { status: answer.statusCode, answer, socket: socket ?? answer.socket, head: head ?? Buffer.alloc(0) };
}

interface OpenOptions {
  readonly path?: string;
  readonly headers?: OutgoingHttpHeaders;
  readonly localAddress?: string;
  /** Over TLS, whose certificates are of this authority. */
  readonly ca?: Buffer;
}

/** Waits until the other end of a connection has ended it. */
const endOf = (socket: Duplex) => Promise.race([once(socket.resume(), 'end'), once(socket, 'close')]);

const textOf = async (answer: IncomingMessage): Promise<string> => (await answer.toArray()).join('');
const linesOf = ({ log }: TestServer) => log.filter(({ protocol }) => protocol === 'coder');

describe('a WebSocket to Coder', () => {
  const coder = new StandInCoder();
  const registry = new Registry();
  let server: TestServer;
  beforeAll(async () => {
    const coderUrl = `http://127.0.0.1:${await coder.open()}/below/`;
    server = await startTestServer({ coderUrl, registry, basePath: '/base/' });
  });
  afterEach(() => coder.reset());
  afterAll(async () => {
    await server.stop();
    coder.close();
  });

  const streams = async (): Promise<number | undefined> =>
    (await registry.getSingleMetric('tasks_coder_streams')?.get())?.values[0]?.value;
  const counted = async (status: string): Promise<number | undefined> =>
    (await registry.getSingleMetric('tasks_coder_requests_total')?.get())?.values.find(
      ({ labels }) => labels['status'] === status && labels['route'] === 'GET /api/v2/workspacebuilds/*/logs',
    )?.value;

  test('carries messages both ways, as a client of the standard sees it', async () => {
    const socket = new WebSocket(`ws://${server.web}${logs}?follow&after=3`);
    const [message] = (await once(socket, 'message')) as [MessageEvent];
    expect(message.data).toBe('{"id":1}');
    expect(coder.lastOpened.url).toBe(`/below${logs}?follow=&after=3`);
    coder.lastOpened.socket.write(textFrame('{"id":2}'), 'latin1');
    const [next] = (await once(socket, 'message')) as [MessageEvent];
    expect(next.data).toBe('{"id":2}');
    const asked = once(coder.lastOpened.socket, 'data');
    socket.send('hello');
    expect(((await asked) as [Buffer])[0]).toHaveLength(2 + 4 + 5);
    socket.close();
  });

  test('begins with the token of the caller and no other header that is not needed', async () => {
    const { status, answer, head } = await open(server.web, {
      path: `${logs}?follow&coder_session_token=a`,
      headers: {
        cookie: 'coder_session_token=x',
        origin: 'https://evil.example.com',
        'x-forwarded-for': '10.1.2.3',
        'x-secret': '1',
      },
    });
    expect([status, head.toString('latin1')]).toEqual([101, textFrame('{"id":1}')]);
    expect(Object.keys(answer.headers).toSorted()).toEqual(['connection', 'sec-websocket-accept', 'upgrade', 'x-request-id']);
    expect(coder.lastOpened.url).toBe(`/below${logs}?follow=`);
    expect(coder.lastOpened.headers).toEqual({
      host: coder.host,
      connection: 'Upgrade',
      upgrade: 'websocket',
      'sec-websocket-key': 'dGhlIHNhbXBsZSBub25jZQ==',
      'sec-websocket-version': '13',
      'coder-session-token': goodToken,
      'x-forwarded-for': '127.0.0.1',
    });
  });

  test('is counted, and in the access log with its request id when it has ended', async () => {
    await until('an end of all streams', async () => (await streams()) === 0);
    const before = (await counted('101')) ?? 0;
    const { socket } = await open(server.web, { headers: { 'x-request-id': 'mine' } });
    await until('an open stream', async () => (await streams()) === 1);
    socket.destroy();
    await until('an end of the stream', async () => (await streams()) === 0);
    expect(await counted('101')).toBe(before + 1);
    expect(linesOf(server).at(-1)).toMatchObject({
      method: 'GET /api/v2/workspacebuilds/*/logs',
      status: 101,
      requestId: 'mine',
      peer: expect.stringContaining('127.0.0.1:'),
      durationMs: expect.any(Number),
    });
    expect(JSON.stringify(server.log)).not.toContain(goodToken);
  });

  test('is found below the base path, too', async () => {
    expect((await open(server.web, { path: `/base${logs}?follow` })).status).toBe(101);
    expect(coder.lastOpened.url).toBe(`/below${logs}?follow=`);
  });

  test.each([
    ['of another route', { path: '/api/v2/workspaceagents/me/rpc' }],
    ['of a route that is no stream', { path: '/api/v2/tasks/me/x/pause' }],
    ['that steps elsewhere', { path: '/api/v2/workspacebuilds/%2e%2e/logs' }],
  ])('%s is none', async (_what, options) => {
    const { status } = await open(server.web, options);
    expect(status).toBeGreaterThanOrEqual(400);
    expect(coder.opened).toEqual([]);
  });

  test('of another protocol is a request like any other', async () => {
    coder.answer = (_got, response) => response.writeHead(418).end();
    expect((await open(server.web, { headers: { upgrade: 'h2c' } })).status).toBe(418);
    expect(coder.got.at(-1)?.headers).not.toHaveProperty('upgrade');
    expect(coder.opened).toEqual([]);
  });

  test("that Coder refuses has Coder's answer, and no redirect", async () => {
    const body = '{"message":"You are signed out."}';
    coder.answerHandshake = () =>
      `HTTP/1.1 401 Unauthorized\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`;
    const refused = await open(server.web);
    expect([refused.status, await textOf(refused.answer)]).toEqual([401, body]);
    coder.answerHandshake = () =>
      'HTTP/1.1 307 Temporary Redirect\r\nlocation: https://elsewhere.example.com\r\ncontent-length: 0\r\n\r\n';
    const redirected = await open(server.web);
    expect([redirected.status, JSON.parse(await textOf(redirected.answer))]).toEqual([
      502,
      { message: 'Coder answers with a redirect.' },
    ]);
    await until('both lines', () => [401, 502].every((status) => linesOf(server).some((line) => line['status'] === status)));
  });

  test('with a body, which could be read in two ways, is refused', async () => {
    const { status } = await open(server.web, { headers: { 'content-length': '3' } });
    expect(status).toBe(400);
    expect(coder.opened).toEqual([]);
  });

  test('hands on much, no faster than it is taken', async () => {
    const { socket, head } = await open(server.web);
    const sent = randomBytes(8 * 1024 * 1024);
    coder.lastOpened.socket.end(sent);
    await until('a full way', () => (coder.lastOpened.socket.writableLength ?? 0) > 0);
    const received = Buffer.concat([head, ...((await socket.toArray()) as Buffer[])]).subarray(textFrame('{"id":1}').length);
    expect(createHash('sha1').update(received).digest('hex')).toBe(createHash('sha1').update(sent).digest('hex'));
  });

  test('ends on one side when the other ends', async () => {
    const first = await open(server.web);
    const gone = endOf(coder.lastOpened.socket);
    first.socket.destroy();
    await gone;
    const second = await open(server.web);
    const ended = endOf(second.socket);
    coder.lastOpened.socket.destroy();
    await ended;
  });

  test('has a place among so many, of one network and in all', async () => {
    const { total, perNetwork } = streamLimits;
    const from = async (localAddress: string, count: number) => {
      for (let i = 0; i < count; i++) expect((await open(server.web, { localAddress })).status).toBe(101);
    };
    await from('127.0.0.1', perNetwork);
    const refused = await open(server.web);
    expect([refused.status, JSON.parse(await textOf(refused.answer))]).toEqual([
      503,
      { message: 'Too many streams of Coder at once, try again.' },
    ]);
    await from('127.0.0.2', total - perNetwork);
    expect((await open(server.web, { localAddress: '127.0.0.3' })).status).toBe(503);
    for (const { socket } of coder.opened) socket.destroy();
    await until('a free place', async () => (await open(server.web)).status === 101);
  });
});

test('a server that stops ends its WebSockets', async () => {
  const coder = new StandInCoder();
  const server = await startTestServer({ coderUrl: `http://127.0.0.1:${await coder.open()}` });
  const { socket } = await open(server.web);
  const ended = endOf(socket);
  const left = endOf(coder.lastOpened.socket);
  await server.stop();
  await Promise.all([ended, left]);
  coder.close();
});

test('over TLS, to the service and to Coder, it carries messages, and no certificate of nobody', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'coder-streams-'));
  const before = getCACertificates('default');
  const authority = makeAuthority(folder, 'authority');
  const issued = authority.issue('localhost');
  const coder = new StandInCoder({ cert: issued.cert, key: issued.key });
  const { certFile: cert, keyFile: key } = issued;
  const certificates = createCertificates({ cert, key }, createLog('silent'));
  const server = await startTestServer({ certificates, coderUrl: `https://localhost:${await coder.open()}` });
  const ca = authority.cert;
  try {
    expect((await open(server.web, { ca })).status).toBe(502);
    setDefaultCACertificates([...before, ca.toString()]);
    const { status, socket, head } = await open(server.web, { ca });
    expect(status).toBe(101);
    const [first] = head.length > 0 ? [head] : ((await once(socket, 'data')) as [Buffer]);
    expect(first.toString('latin1')).toBe(textFrame('{"id":1}'));
  } finally {
    setDefaultCACertificates(before);
    await server.stop();
    certificates.close();
    coder.close();
    rmSync(folder, { recursive: true });
  }
});

describe('a WebSocket whose Coder', () => {
  const coder = new StandInCoder();
  const fronts: Server[] = [];
  let address = '';
  beforeAll(async () => {
    address = `http://127.0.0.1:${await coder.open()}`;
  });
  afterEach(() => {
    for (const front of fronts.splice(0)) front.close();
  });
  afterAll(() => coder.close());

  /** A server with other limits. */
  async function front(to: string, limits: { openTimeoutMs?: number; idleMs?: number }): Promise<string> {
    const coderStreams = createCoderStreams({ address: to, clientAddress: createClientAddress(), ...limits });
    const server = http.createServer({ shouldUpgradeCallback: (request) => coderStreams.accepts(request) });
    server.on('upgrade', (...upgrade) => coderStreams.open(...upgrade));
    fronts.push(server.listen(0, '127.0.0.1'));
    await once(server, 'listening');
    return `127.0.0.1:${(server.address() as AddressInfo).port}`;
  }

  test('is away is 502', async () => {
    const { status, answer } = await open(await front(`http://127.0.0.1:${await freePort()}`, {}));
    expect([status, JSON.parse(await textOf(answer))]).toEqual([502, { message: 'Coder cannot be reached.' }]);
  });

  test('does not answer is 504', async () => {
    coder.answerHandshake = undefined;
    const { status, answer } = await open(await front(address, { openTimeoutMs: 100 }));
    expect([status, JSON.parse(await textOf(answer))]).toEqual([504, { message: 'Coder did not answer in time.' }]);
    coder.reset();
  });

  test('says nothing for long is closed, on both sides', async () => {
    const { socket } = await open(await front(address, { idleMs: 100 }));
    await Promise.all([endOf(socket), endOf(coder.lastOpened.socket)]);
  });
});

const setups: Readonly<Record<ProxyName, (web: string, port: number) => string>> = {
  nginx: (web, port) => `
    map $http_upgrade $tasks_connection { default upgrade; "" ""; }
    server {
      listen 127.0.0.1:${port};
      location / {
        proxy_pass http://${web};
        proxy_http_version 1.1;
        proxy_set_header Upgrade $http_upgrade;
        proxy_set_header Connection $tasks_connection;
      }
    }`,
  haproxy: (web, port) => `
defaults
  mode http
  timeout connect 5s
  timeout client 50s
  timeout server 50s
listen web
  bind 127.0.0.1:${port}
  server one ${web}
`,
};

for (const name of ['nginx', 'haproxy'] as const) {
  await describeBehind(name, `a WebSocket to Coder, behind ${name}`, (start) => {
    const coder = new StandInCoder();
    let server: TestServer;
    let proxy: RunningProxy;
    let port = 0;
    beforeAll(async () => {
      server = await startTestServer({ coderUrl: `http://127.0.0.1:${await coder.open()}` });
      port = await freePort();
      proxy = await start(setups[name](server.web, port), [port]);
    });
    afterAll(async () => {
      await proxy.stop();
      await server.stop();
      coder.close();
    });

    test('carries messages both ways', async () => {
      const { status, socket, head } = await open(`127.0.0.1:${port}`);
      expect(status).toBe(101);
      if (head.length === 0) await once(socket, 'data'); // the first message
      const told = once(coder.lastOpened.socket, 'data');
      socket.write('to Coder');
      expect(String((await told)[0])).toBe('to Coder');
      const heard = once(socket, 'data');
      coder.lastOpened.socket.write('from Coder');
      expect(String((await heard)[0])).toContain('from Coder');
      socket.destroy();
    });
  });
}
