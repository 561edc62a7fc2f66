import { once } from 'node:events';
import { connect } from 'node:http2';
import { createRequire } from 'node:module';
import { setTimeout as sleep } from 'node:timers/promises';
import { create } from '@bufbuild/protobuf';
import { Registry } from 'prom-client';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { databaseUnavailable, taskNotFound } from '../../src/call/errors.ts';
import { ListTasksResponseSchema, TasksService } from '../../src/gen/tasks/v1/tasks_pb.ts';
import { listClients, makeGrpcClient } from '../support/clients.ts';
import { goodToken, signedIn, startTestServer, type TestServer } from '../support/test-server.ts';

let server: TestServer;
let parts: Record<string, () => Promise<string | void>>;
const registry = new Registry();

beforeAll(async () => {
  parts = { database: () => Promise.resolve(), projector: () => Promise.resolve() };
  server = await startTestServer({
    registry,
    readiness: {
      database: () => parts['database']?.() ?? Promise.resolve(),
      projector: () => parts['projector']?.() ?? Promise.resolve(),
    },
    handlers: {
      async listTasks({ query, pageSize }, { log }) {
        if (query.startsWith('absent')) throw taskNotFound();
        if (query.startsWith('away')) throw databaseUnavailable(new Error('connection refused'));
        if (query.startsWith('talk')) log.warn('the handler talks');
        return create(ListTasksResponseSchema, { count: pageSize });
      },
    },
  });
});

afterAll(async () => {
  await server.stop();
});

const get = (path: string, init?: RequestInit) => fetch(`http://${server.ops}${path}`, init);

describe('/healthz', () => {
  test('the process lives', async () => {
    const response = await get('/healthz');
    expect([response.status, await response.json()]).toEqual([200, { status: 'ok' }]);
    expect(response.headers.get('cache-control')).toBe('no-store');
  });
});

describe('/readyz', () => {
  test('ready', async () => {
    const response = await get('/readyz');
    expect([response.status, await response.json()]).toEqual([
      200,
      { status: 'ready', parts: { database: 'ok', projector: 'ok' } },
    ]);
  });

  test('says which part is not, and why', async () => {
    parts['database'] = () => Promise.reject(new Error('connect ECONNREFUSED'));
    parts['projector'] = () => new Promise(() => {});
    const started = performance.now();
    const response = await get('/readyz');
    expect([response.status, await response.json()]).toEqual([
      503,
      { status: 'not ready', parts: { database: 'connect ECONNREFUSED', projector: 'no answer within 900 ms' } },
    ]);
    expect(performance.now() - started).toBeLessThan(1500);
    expect((await get('/healthz')).status).toBe(200);
    parts = {};
    await sleep(10);
    expect((await get('/readyz')).status).toBe(200);
  });

  test('what the service can do without is said, and does not make it unready', async () => {
    parts['database'] = () => Promise.resolve('not used: it is 12.0 s behind');
    const response = await get('/readyz');
    expect([response.status, await response.json()]).toEqual([
      200,
      { status: 'ready', parts: { database: 'not used: it is 12.0 s behind', projector: 'ok' } },
    ]);
    parts = {};
  });

  test('a check that throws at once is a part that is not ready', async () => {
    parts['database'] = () => {
      throw new Error('a bug');
    };
    expect(await (await get('/readyz')).json()).toMatchObject({ parts: { database: 'a bug' } });
    parts = {};
  });
});

test.each(['/', '/metrics/', '/healthz/x', '/tasks.v1.TasksService/ListTasks', '//'])('%s is 404', async (path) => {
  const response = await get(path);
  expect([response.status, response.headers.get('content-type')]).toEqual([404, 'application/json']);
});

test.each(['POST', 'PUT', 'DELETE', 'OPTIONS'])('%s is 405', async (method) => {
  const response = await get('/healthz', { method });
  expect([response.status, response.headers.get('allow')]).toEqual([405, 'GET, HEAD']);
});

test('HEAD is a GET without the body', async () => {
  for (const path of ['/healthz', '/readyz', '/metrics']) {
    const response = await get(path, { method: 'HEAD' });
    expect([response.status, await response.text()]).toEqual([200, '']);
  }
});

describe('/metrics', () => {
  async function metric(name: string, labels: Record<string, string>): Promise<number | undefined> {
    const text = await (await get('/metrics')).text();
    const line = text
      .split('\n')
      .find(
        (each) =>
          each.startsWith(`${name}{`) && Object.entries(labels).every(([key, value]) => each.includes(`${key}="${value}"`)),
      );
    return line === undefined ? undefined : Number(line.split(' ').at(-1));
  }
  const labels = { grpc_type: 'unary', grpc_service: 'tasks.v1.TasksService', grpc_method: 'ListTasks' };

  test('every code of every method is there from the start', async () => {
    const text = await (await get('/metrics')).text();
    expect(text).toContain(
      'grpc_server_handled_total{grpc_type="server_stream",grpc_service="tasks.v1.TasksService",grpc_method="WatchTasks",grpc_code="Unavailable"} 0',
    );
    expect(text.match(/^grpc_server_handled_total\{[^}]*grpc_method="ListTasks"/gm)?.length).toBe(17);
  });

  test('calls are counted the same over every transport', async () => {
    const before = {
      started: (await metric('grpc_server_started_total', labels)) ?? 0,
      ok: (await metric('grpc_server_handled_total', { ...labels, grpc_code: 'OK' })) ?? 0,
      absent: (await metric('grpc_server_handled_total', { ...labels, grpc_code: 'NotFound' })) ?? 0,
      refused: (await metric('grpc_server_handled_total', { ...labels, grpc_code: 'Unauthenticated' })) ?? 0,
      received: (await metric('grpc_server_msg_received_total', labels)) ?? 0,
      sent: (await metric('grpc_server_msg_sent_total', labels)) ?? 0,
      timed: (await metric('grpc_server_handling_seconds_count', labels)) ?? 0,
    };
    for (const [, open] of listClients) {
      const client = open(server);
      await client.list({}, { headers: signedIn });
      await client.list({ query: 'absent' }, { headers: signedIn }).catch(() => {});
      await client.list({}).catch(() => {});
      client.close();
    }
    const n = listClients.length;
    expect(await metric('grpc_server_started_total', labels)).toBe(before.started + 3 * n);
    expect(await metric('grpc_server_handled_total', { ...labels, grpc_code: 'OK' })).toBe(before.ok + n);
    expect(await metric('grpc_server_handled_total', { ...labels, grpc_code: 'NotFound' })).toBe(before.absent + n);
    expect(await metric('grpc_server_handled_total', { ...labels, grpc_code: 'Unauthenticated' })).toBe(before.refused + n);
    expect(await metric('grpc_server_msg_received_total', labels)).toBe(before.received + 2 * n);
    expect(await metric('grpc_server_msg_sent_total', labels)).toBe(before.sent + n);
    expect(await metric('grpc_server_handling_seconds_count', labels)).toBe(before.timed + 3 * n);
  });

  test('no label holds what a client says', async () => {
    const client = makeGrpcClient(server.grpc);
    await client.bytes({ ...TasksService.method.listTasks, name: 'Invented' }, new Uint8Array()).catch(() => {});
    await fetch(`http://${server.web}/tasks.v1.Invented/Method`).catch(() => {});
    client.close();
    expect(await (await get('/metrics')).text()).not.toContain('Invented');
  });

  test('the process and the program are there', async () => {
    const { version } = createRequire(import.meta.url)('../../package.json') as { version: string };
    const text = await (await get('/metrics')).text();
    for (const name of [
      'process_cpu_seconds_total',
      'process_resident_memory_bytes',
      'nodejs_eventloop_lag_p99_seconds',
      'tasks_calls_in_flight',
    ])
      expect(text).toMatch(new RegExp(`^${name}`, 'm'));
    expect(text).toContain(`tasks_build_info{version="${version}",node="${process.version}"} 1`);
    expect((await get('/metrics')).headers.get('content-type')).toMatch(/^text\/plain; version=0\.0\.4/);
  });
});

describe('the log', () => {
  test.each(listClients)('has one line a call, without the query and the token, over %s', async (_name, open) => {
    const client = open(server);
    const seen = server.log.length;
    await client.list({ query: 'my secret words' }, { headers: signedIn });
    await client.list({ query: 'absent secret words' }, { headers: signedIn }).catch(() => {});
    await client.list({ query: 'away secret words' }, { headers: signedIn }).catch(() => {});
    await sleep(20);
    client.close();
    const lines = server.log.slice(seen);
    expect(lines).toMatchObject([
      { level: 'info', method: 'tasks.v1.TasksService/ListTasks', code: 'OK', caller: '9e9b9475-0fc0-47b2-9170-a5b7b9a075ee' },
      { level: 'info', code: 'NOT_FOUND', reason: 'TASK_NOT_FOUND' },
      { level: 'warn', code: 'UNAVAILABLE', reason: 'DATABASE_UNAVAILABLE', cause: { message: 'connection refused' } },
    ]);
    for (const line of lines) {
      expect(line['peer']).toMatch(/^127\.0\.0\.1:\d+$/);
      expect(line['requestId']).toMatch(/^[A-Za-z0-9_-]{14,30}$/);
      expect(line['durationMs']).toBeGreaterThan(0);
      expect(['grpc', 'grpc-web', 'connect']).toContain(line['protocol']);
    }
    expect(JSON.stringify(lines)).not.toMatch(new RegExp(`secret|${goodToken}`));
  });

  test('what a handler logs has the request id', async () => {
    const client = makeGrpcClient(server.grpc);
    const seen = server.log.length;
    await client.unary(TasksService.method.listTasks, { query: 'talk' }, { headers: { ...signedIn, 'x-request-id': 'talking' } });
    client.close();
    expect(server.log.slice(seen)).toMatchObject([
      { level: 'warn', requestId: 'talking', msg: 'the handler talks' },
      { code: 'OK', requestId: 'talking' },
    ]);
  });

  test('a token that is mistyped is printed nowhere', async () => {
    const printed: unknown[] = [];
    const { error } = console;
    console.error = (...words: unknown[]) => printed.push(words);
    try {
      const session = connect(`http://${server.grpc}`);
      const stream = session.request({
        ':method': 'POST',
        ':path': '/tasks.v1.TasksService/ListTasks',
        'content-type': 'application/grpc',
        'coder-session-token': `${goodToken}\u00e4`,
      });
      stream.end(Buffer.alloc(5));
      const [headers] = (await once(stream, 'response')) as [Record<string, string>];
      expect(headers['grpc-status']).toBe('16');
      session.destroy();
    } finally {
      console.error = error;
    }
    expect(printed).toEqual([]);
    expect(JSON.stringify(server.log)).not.toContain(goodToken);
  });
});
