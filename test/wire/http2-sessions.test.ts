import { once } from 'node:events';
import { type ClientHttp2Session, connect, createServer, type Http2Server, type ServerHttp2Session } from 'node:http2';
import type net from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Http2Sessions, type SessionLimits } from '../../src/transport/http2-limits.ts';

const never = 60_000;
const limits: SessionLimits = { idle: never, age: never, ageGrace: never, stalled: never };

let server: Http2Server;
let sessions: ServerHttp2Session[];
const clients: ClientHttp2Session[] = [];

beforeEach(() => {
  sessions = [];
  server = createServer((request, response) => {
    if (request.url === '/') response.end('done');
    else response.write('never ends');
  });
  server.on('session', (session) => sessions.push(session));
});

afterEach(async () => {
  for (const client of clients.splice(0)) client.destroy();
  const closed = once(server, 'close');
  server.close();
  for (const session of sessions) session.destroy();
  await closed;
});

async function open(changes: Partial<SessionLimits>): Promise<ClientHttp2Session> {
  const kept = new Http2Sessions({ ...limits, ...changes });
  server.on('session', (session) => kept.add(session));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const client = connect(`http://127.0.0.1:${(server.address() as net.AddressInfo).port}`);
  client.on('error', () => {});
  clients.push(client);
  await once(client, 'connect');
  return client;
}

async function call(client: ClientHttp2Session, path: string): Promise<string> {
  const stream = client.request({ ':path': path });
  stream.on('error', () => {});
  const [chunk] = (await once(stream, 'data')) as [Buffer];
  return chunk.toString();
}

test('a connection in use stays', async () => {
  const client = await open({ idle: 1000 });
  for (let i = 0; i < 10; i++) {
    expect(await call(client, '/')).toBe('done');
    await sleep(200);
  }
  expect(client.closed).toBe(false);
});

test('a connection with a quiet call stays', async () => {
  const client = await open({ idle: 1000 });
  await call(client, '/');
  await call(client, '/endless');
  await sleep(2000);
  expect(client.closed).toBe(false);
});

test('an idle connection is closed', async () => {
  const client = await open({ idle: 100 });
  await call(client, '/');
  const started = performance.now();
  await once(client, 'close');
  expect(performance.now() - started).toBeGreaterThan(80);
});

test('an old connection is asked to leave, while its calls go on until they are cut', async () => {
  const client = await open({ age: 100, ageGrace: 200 });
  await call(client, '/endless');
  await once(client, 'goaway');
  expect(client.destroyed).toBe(false);
  const started = performance.now();
  await once(client, 'close');
  expect(performance.now() - started).toBeGreaterThan(150);
});
