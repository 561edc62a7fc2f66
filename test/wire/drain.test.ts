import http from 'node:http';
import { connect as connectHttp2 } from 'node:http2';
import net from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { create } from '@bufbuild/protobuf';
import { Code, ConnectError, createClient } from '@connectrpc/connect';
import { createConnectTransport, createGrpcTransport, Http2SessionManager } from '@connectrpc/connect-node';
import { describe, expect, test } from 'vitest';
import { ErrorInfoSchema } from '../../src/gen/google/rpc/error_details_pb.ts';
import { Health } from '../../src/gen/grpc/health/v1/health_pb.ts';
import { ListTasksResponseSchema, TasksService } from '../../src/gen/tasks/v1/tasks_pb.ts';
import { listClients, makeGrpcClient } from '../support/clients.ts';
import { goodToken, signedIn, startTestServer, until } from '../support/test-server.ts';

const listPath = '/tasks.v1.TasksService/ListTasks';

/**
 * A server whose stop takes a minute if it waits for a time limit instead of for its connections, so that a busy machine is told
 * from a wait.
 */
const patient = { drainMs: 60_000, hangUpMs: 60_000 };

/** Less than any time limit of a stop, in milliseconds: clients have 3,000 for their last answers. */
const atOnceMs = 2500;

/** How long something took, in milliseconds. */
async function timed(work: Promise<unknown>): Promise<number> {
  const started = performance.now();
  await work;
  return performance.now() - started;
}

function reasonOf(error: unknown): string | undefined {
  return error instanceof ConnectError ? error.findDetails(ErrorInfoSchema)[0]?.reason : String(error);
}

describe('an idle server stops at once', () => {
  test('that nobody called', async () => {
    const server = await startTestServer(patient);
    expect(await timed(server.stop())).toBeLessThan(atOnceMs);
  });

  test('with idle connections of all kinds', async () => {
    const server = await startTestServer(patient);
    const clients = listClients.map(([, open]) => open(server));
    for (const client of clients) await client.list({}, { headers: signedIn });
    const ops = new http.Agent({ keepAlive: true });
    await new Promise((resolve) => {
      http.get(`http://${server.ops}/healthz`, { agent: ops }, (response) => response.resume().once('end', resolve));
    });
    const silent = net.connect(Number(server.web.split(':')[1]), '127.0.0.1');
    silent.on('error', () => {});
    const halfPreface = net.connect(Number(server.web.split(':')[1]), '127.0.0.1');
    halfPreface.on('error', () => {});
    halfPreface.write('PRI *');
    const idleHttp2 = [server.grpc, server.web].map((address) => connectHttp2(`http://${address}`));
    for (const session of idleHttp2) session.on('error', () => {});
    await sleep(50);
    expect(await timed(server.stop())).toBeLessThan(atOnceMs);
    for (const client of clients) client.close();
    ops.destroy();
  });

  test('with clients that watch', async () => {
    const server = await startTestServer(patient);
    const client = makeGrpcClient(server.grpc);
    let seen = 0;
    const watching = (async () => {
      for await (const _ of client.serverStream(Health.method.watch, {})) seen += 1;
    })().catch((error: unknown) => error);
    await until('first answer', () => seen > 0);
    expect(await timed(server.stop())).toBeLessThan(atOnceMs);
    expect(reasonOf(await watching)).toBe('SHUTTING_DOWN');
    client.close();
  });

  test('twice is once', async () => {
    const server = await startTestServer();
    const first = server.server.stop();
    expect(server.server.stop()).toBe(first);
    await first;
  });
});

describe.each(listClients)('over %s', (_name, open) => {
  test('a running call is answered, and then there is no server', async () => {
    const release = Promise.withResolvers<void>();
    let entered = false;
    const server = await startTestServer({
      ...patient,
      handlers: {
        async listTasks({ pageSize }) {
          entered = true;
          await release.promise;
          return create(ListTasksResponseSchema, { count: pageSize });
        },
      },
    });
    const client = open(server);
    const call = client.list({ pageSize: 9 }, { headers: signedIn });
    await until('call', () => entered);
    const stopped = server.stop();
    await sleep(50);
    release.resolve();
    const took = timed(stopped);
    expect((await call).message.count).toBe(9);
    expect(await took).toBeLessThan(atOnceMs);
    const later = await client.list({}, { headers: signedIn }).catch((error: unknown) => error);
    expect(later).toBeInstanceOf(ConnectError);
    client.close();
  });

  test('a call that takes too long is told that the server stops', async () => {
    let reason: unknown;
    let entered = false;
    const server = await startTestServer({
      drainMs: 200,
      handlers: {
        // It hears that it should end, and does not.
        listTasks: (_request, { signal }) =>
          new Promise(() => {
            entered = true;
            signal.addEventListener('abort', () => {
              reason = signal.reason;
            });
          }),
      },
    });
    const client = open(server);
    const call = client.list({}, { headers: signedIn }).catch((error: unknown) => error);
    await until('call', () => entered);
    const took = await timed(server.stop());
    expect(took).toBeGreaterThan(190);
    expect(took).toBeLessThan(1000);
    const error = await call;
    expect(error instanceof ConnectError ? Code[error.code] : error).toBe('Unavailable');
    expect(reasonOf(error)).toBe('SHUTTING_DOWN');
    expect(reasonOf(reason)).toBe('SHUTTING_DOWN');
    client.close();
  });
});

describe('a new call while the server stops', () => {
  test('is refused on an old connection, or the client is told to leave it', async () => {
    const release = Promise.withResolvers<void>();
    let entered = 0;
    const server = await startTestServer({
      handlers: {
        async listTasks() {
          entered += 1;
          await release.promise;
          return create(ListTasksResponseSchema);
        },
      },
    });
    // HTTP/1.1 has no way of telling the client before its next request.
    const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
    const http1 = createClient(
      TasksService,
      createConnectTransport({ baseUrl: `http://${server.web}`, httpVersion: '1.1', nodeOptions: { agent } }),
    );
    const manager = new Http2SessionManager(`http://${server.grpc}`);
    const http2 = createClient(TasksService, createGrpcTransport({ baseUrl: `http://${server.grpc}`, sessionManager: manager }));
    const running = [http1.listTasks({}, { headers: signedIn }), http2.listTasks({}, { headers: signedIn })];
    await until('calls', () => entered === 2);
    const late = http1.listTasks({}, { headers: signedIn }).catch((error: unknown) => error); // waits for the connection
    const stopped = server.stop();
    await sleep(20);
    const refused = await http2.listTasks({}, { headers: signedIn }).catch((error: unknown) => error);
    expect(refused instanceof ConnectError ? Code[refused.code] : refused).toBe('Unavailable');
    release.resolve();
    await Promise.all(running);
    expect(await late).toBeInstanceOf(ConnectError);
    expect(entered).toBe(2);
    await stopped;
    agent.destroy();
    manager.abort();
  });

  test('is not read on a connection of HTTP/1.1, which is told to close, while probes see what happens', async () => {
    const release = Promise.withResolvers<void>();
    let entered = false;
    const server = await startTestServer({
      handlers: {
        async listTasks() {
          entered = true;
          await release.promise;
          return create(ListTasksResponseSchema);
        },
      },
    });
    // Two requests at once on one connection: the second would be read when the first is answered.
    const socket = net.connect(Number(server.web.split(':')[1]), '127.0.0.1');
    let text = '';
    socket.on('data', (chunk: Buffer) => {
      text += chunk.toString();
    });
    const request = (path: string) =>
      `POST ${path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 2\r\ncoder-session-token: ${goodToken}\r\n\r\n{}`;
    socket.write(request(listPath) + request(listPath));
    await until('call', () => entered);
    const ready = await fetch(`http://${server.ops}/readyz`);
    expect(ready.status).toBe(200);
    const stopped = server.stop();
    await sleep(20);
    const draining = await fetch(`http://${server.ops}/readyz`);
    expect([draining.status, ((await draining.json()) as { parts: object }).parts]).toEqual([503, { server: 'shutting down' }]);
    release.resolve();
    await stopped;
    await until('end of the connection', () => socket.destroyed);
    expect(text.match(/HTTP\/1\.1 \d+/g)).toEqual(['HTTP/1.1 200']);
    expect(text.toLowerCase()).toContain('connection: close');
  });
});

test('under load no call that was taken is lost', async () => {
  let taken = 0;
  const server = await startTestServer({
    handlers: {
      async listTasks({ pageSize }) {
        taken += 1;
        await sleep(Math.random() * 20);
        return create(ListTasksResponseSchema, { count: pageSize });
      },
    },
  });
  const clients = listClients.map(([, open]) => open(server));
  let answered = 0;
  let refused = 0;
  const wrong: unknown[] = [];
  let stopping = false;
  const load = clients.flatMap((client) =>
    Array.from({ length: 5 }, async () => {
      for (let i = 1; ; i++) {
        try {
          const { message } = await client.list({ pageSize: i }, { headers: signedIn });
          if (message.count !== i) wrong.push(message);
          answered += 1;
        } catch (error) {
          // Before the server stops nothing may fail; after, a call is refused or finds no server.
          if (!stopping) wrong.push(error);
          refused += 1;
          return;
        }
      }
    }),
  );
  await until('load', () => answered > 500);
  stopping = true;
  expect(await timed(server.stop())).toBeLessThan(2000);
  await Promise.all(load);
  expect(wrong).toEqual([]);
  expect(answered).toBe(taken);
  expect(refused).toBe(load.length);
  for (const client of clients) client.close();
});

describe('a port that is taken', () => {
  test.each(['grpc', 'web', 'ops'] as const)('%s: the error says which variable to set, and nothing stays open', async (name) => {
    const other = net.createServer();
    await new Promise<void>((resolve) => {
      other.listen(0, '127.0.0.1', resolve);
    });
    const { port } = other.address() as net.AddressInfo;
    const error = await startTestServer({ ports: { grpc: 0, web: 0, ops: 0, [name]: port } }).catch((reason: unknown) => reason);
    expect(error).toMatchObject({
      name: 'PortError',
      message: `port ${port} of 127.0.0.1 is in use: stop what uses it, or set ${name.toUpperCase()}_PORT to another port`,
    });
    await new Promise((resolve) => {
      other.close(resolve);
    });
    // The port is free again, and so is every other one that was taken.
    const server = await startTestServer({ ports: { grpc: 0, web: 0, ops: 0, [name]: port } });
    expect(server[name]).toBe(`127.0.0.1:${port}`);
    await server.stop();
  });

  test('a host that is not this machine', async () => {
    const error = await startTestServer({ host: '192.0.2.1' }).catch((reason: unknown) => reason);
    expect(error).toMatchObject({
      name: 'PortError',
      message: '192.0.2.1 is no address of this machine: set HOST to one that is, or to 0.0.0.0 for all',
    });
  });

  test('all addresses are told as one that can be called', async () => {
    const server = await startTestServer({ host: '0.0.0.0' });
    expect(server.grpc).toMatch(/^127\.0\.0\.1:\d+$/);
    expect((await fetch(`http://${server.ops}/healthz`)).status).toBe(200);
    await server.stop();
  });
});
