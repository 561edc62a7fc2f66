import { BlockList } from 'node:net';
import { create } from '@bufbuild/protobuf';
import { Code, ConnectError } from '@connectrpc/connect';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { taskNotFound } from '../../src/call/errors.ts';
import { ErrorInfoSchema } from '../../src/gen/google/rpc/error_details_pb.ts';
import { GetTaskResponseSchema, ListTasksResponseSchema } from '../../src/gen/tasks/v1/tasks_pb.ts';
import { freePort } from '../support/free-port.ts';
import { describeBehind, type ProxyName, type RunningProxy } from '../support/proxies.ts';
import { ask, callByGrpc, openGrpcClient, openWebClient, type ServiceClient } from '../support/proxy-clients.ts';
import { ServedWatches } from '../support/served-watches.ts';
import { goodToken, signedIn, startTestServer, type TestServer, until } from '../support/test-server.ts';

// The service behind the real programs, set up as people do who have read nothing of ours.

const watches = new ServedWatches();
const prompt = 'what is asked for, at length; '.repeat(1000);
const bigPage = create(ListTasksResponseSchema, {
  tasks: Array.from({ length: 95 }, (_, index) => ({ name: `task-${index}`, initialPrompt: prompt })),
});
let server: TestServer;
let aborted = 0;

beforeAll(async () => {
  const trustedProxies = new BlockList();
  trustedProxies.addAddress('127.0.0.1');
  server = await startTestServer({
    trustedProxies,
    page: { folder: '/nowhere', imageOrigins: [], demo: { tokens: { developer: goodToken }, secret: 'q83vEjRWeJCrze8SNFZ4kA' } },
    handlers: {
      async listTasks({ query }, { signal }) {
        if (query === 'big') return bigPage;
        if (query === 'slow') {
          await new Promise((resolve) => signal.addEventListener('abort', resolve));
          aborted += 1;
          throw signal.reason;
        }
        return create(ListTasksResponseSchema, { tasks: [{ name: query }] });
      },
      getTask: ({ identifier }) =>
        identifier.value === 'nothing'
          ? Promise.reject(taskNotFound())
          : Promise.resolve(create(GetTaskResponseSchema, { task: { id: String(identifier.value) } })),
      watchTasks: watches.handler,
    },
  });
});
afterAll(() => server.stop());

/** Where a proxy listens: for the web protocols over HTTP/1.1 and HTTP/2, for gRPC, and where it says who its client is. */
interface Ports {
  readonly web: number;
  readonly http2: number;
  readonly grpc: number;
  readonly named: number;
  readonly namedGrpc: number;
}

const setups: Readonly<Record<ProxyName, (server: TestServer, ports: Ports) => string>> = {
  nginx: ({ web, grpc }, ports) => `
    server { listen 127.0.0.1:${ports.web}; location / { proxy_pass http://${web}; } }
    server { listen 127.0.0.1:${ports.http2} http2; location / { proxy_pass http://${web}; } }
    server { listen 127.0.0.1:${ports.grpc} http2; location / { grpc_pass grpc://${grpc}; } }
    server {
      listen 127.0.0.1:${ports.named};
      location / { proxy_pass http://${web}; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; }
    }
    server {
      listen 127.0.0.1:${ports.namedGrpc} http2;
      location / { grpc_pass grpc://${grpc}; grpc_set_header X-Forwarded-For $proxy_add_x_forwarded_for; }
    }`,
  haproxy: ({ web, grpc }, ports) => `
defaults
  mode http
  timeout connect 5s
  timeout client 50s
  timeout server 50s
listen web
  bind 127.0.0.1:${ports.web}
  server one ${web}
listen http2
  bind 127.0.0.1:${ports.http2} proto h2
  server one ${web}
listen grpc
  bind 127.0.0.1:${ports.grpc} proto h2
  server one ${grpc} proto h2
listen named
  bind 127.0.0.1:${ports.named}
  option forwardfor
  server one ${web}
listen named_grpc
  bind 127.0.0.1:${ports.namedGrpc} proto h2
  option forwardfor
  server one ${grpc} proto h2
`,
};

for (const name of ['nginx', 'haproxy'] as const) {
  await describeBehind(name, `behind ${name} with its defaults`, (start) => {
    let proxy: RunningProxy;
    let ports: Ports;
    beforeAll(async () => {
      const [web, http2, grpc, named, namedGrpc] = [
        await freePort(),
        await freePort(),
        await freePort(),
        await freePort(),
        await freePort(),
      ];
      ports = { web, http2, grpc, named, namedGrpc };
      proxy = await start(setups[name](server, ports), Object.values(ports));
    });
    afterAll(() => proxy.stop());

    const at = (port: 'web' | 'http2' | 'grpc') => `http://127.0.0.1:${ports[port]}`;
    const ways: readonly (readonly [string, () => ServiceClient])[] = [
      ['Connect', () => openWebClient(at('web'), 'connect', '1.1')],
      ['Connect, by GET', () => openWebClient(at('web'), 'connect-get', '1.1')],
      ['gRPC-Web', () => openWebClient(at('web'), 'grpc-web', '1.1')],
      ['Connect over HTTP/2', () => openWebClient(at('http2'), 'connect', '2')],
      ['gRPC-Web over HTTP/2', () => openWebClient(at('http2'), 'grpc-web', '2')],
      ['gRPC', () => openGrpcClient(`127.0.0.1:${ports.grpc}`)],
    ];

    describe.each(ways)('%s', (way, open) => {
      let client: ServiceClient;
      beforeAll(() => {
        client = open();
      });
      afterAll(() => client.close());
      const options = { headers: signedIn };

      test('lists and gets', async () => {
        expect((await client.list({ query: 'ä b' }, options)).tasks.map(({ name }) => name)).toEqual(['ä b']);
        const { task } = await client.get({ identifier: { case: 'id', value: 'something' } }, options);
        expect(task?.id).toBe('something');
      });

      test('gets a page of almost 3 MiB whole', async () => {
        const { tasks } = await client.list({ query: 'big' }, options);
        expect(tasks).toHaveLength(bigPage.tasks.length);
        expect(tasks.every(({ initialPrompt }) => initialPrompt === prompt)).toBe(true);
      });

      test('reads an error with its details', async () => {
        const error = ConnectError.from(await failureOf(client.get({ identifier: { case: 'id', value: 'nothing' } }, options)));
        expect([error.code, error.findDetails(ErrorInfoSchema)[0]?.reason]).toEqual([Code.NotFound, 'TASK_NOT_FOUND']);
        const stranger = ConnectError.from(await failureOf(client.list({}, {})));
        expect([stranger.code, stranger.findDetails(ErrorInfoSchema)[0]?.reason]).toEqual([
          Code.Unauthenticated,
          'UNAUTHENTICATED',
        ]);
      });

      test('has its deadline kept by the service', async () => {
        const before = aborted;
        const headers = { ...signedIn, ...client.deadline };
        const error = ConnectError.from(await failureOf(client.list({ query: 'slow' }, { headers })));
        expect([error.code, error.findDetails(ErrorInfoSchema)[0]?.reason]).toEqual([
          Code.DeadlineExceeded,
          way === 'gRPC' ? undefined : 'DEADLINE_EXCEEDED', // on the gRPC port grpc-js says it, which gives no reason
        ]);
        expect(aborted).toBe(before + 1);
      });

      test('watches: each message comes when it is sent, and the service notices that the client has left', async () => {
        const stop = new AbortController();
        const query = `watched by ${way}`;
        const received: string[] = [];
        const ended = (async () => {
          for await (const { resumeToken } of client.watch({ query }, { ...options, signal: stop.signal }))
            received.push(resumeToken);
        })().then(
          () => undefined,
          (error: unknown) => ConnectError.from(error).code,
        );
        await until('first message', () => received.length === 1);
        const watch = watches.find(query) ?? expect.unreachable('the service has no such watch');
        watch.send('change');
        await until('change', () => received.length === 2);
        expect(received).toEqual(['first', 'change']);
        expect(watch.isLeft).toBe(false);
        stop.abort();
        expect(await ended).toBe(Code.Canceled);
        // Over HTTP/1.1 HAProxy looks for its client only when it has something for it, unless it is told to (`abortonclose`).
        const isSlow = name === 'haproxy' && !/HTTP\/2|gRPC$/.test(way);
        await until('end of the watch', () => {
          if (isSlow) watch.send('more');
          return watch.isLeft;
        });
      });

      test('sees the end of a watch that the service ends', async () => {
        const query = `ended for ${way}`;
        const received: string[] = [];
        const watching = (async () => {
          for await (const { resumeToken } of client.watch({ query }, options)) received.push(resumeToken);
        })();
        await until('first message', () => received.length === 1);
        watches.find(query)?.send('last');
        watches.find(query)?.end();
        await watching;
        expect(received).toEqual(['first', 'last']);
      });
    });

    test('a stranger is given no token of the demo', async () => {
      for (const port of [ports.web, ports.named]) {
        for (const host of ['tasks.example.com', `localhost:${port}`]) {
          const { status, body } = await ask(port, '/demo/tokens', { headers: { host, 'sec-fetch-site': 'same-origin' } });
          expect(status).toBe(403);
          expect(body).not.toContain(goodToken);
        }
      }
    });

    describe('the client in the log, where the proxy is trusted and', () => {
      const method = '/tasks.v1.TasksService/ListTasks';
      const peers = (requestId: string) =>
        until('line in the log', () => server.log.find((line) => line['requestId'] === requestId)?.['peer']);
      const asks = { method: 'POST', from: '127.0.0.2' };
      const headers = (requestId: string, more: Readonly<Record<string, string>> = {}) => ({
        ...signedIn,
        'x-request-id': requestId,
        ...more,
      });
      const json = { 'content-type': 'application/json' };

      test('names it, is that client, whatever it says itself', async () => {
        const forged = { 'x-forwarded-for': '203.0.113.7, 127.0.0.1' };
        for (const [what, more] of Object.entries({ plain: {}, forged })) {
          const id = `${name}-${what}`;
          const { status } = await ask(ports.named, method, { ...asks, headers: headers(id, { ...json, ...more }) }, '{}');
          expect(status).toBe(200);
          expect(await peers(id)).toBe('127.0.0.2');
          expect(await callByGrpc(ports.namedGrpc, method, headers(`${id}-grpc`, more), { localAddress: '127.0.0.2' })).toBe('0');
          expect(await peers(`${id}-grpc`)).toBe('127.0.0.2');
        }
      });

      test('does not, is the proxy', async () => {
        const id = `${name}-unnamed`;
        await ask(ports.web, method, { ...asks, headers: headers(id, json) }, '{}');
        expect(await peers(id)).toMatch(/^127\.0\.0\.1:\d+$/);
      });
    });
  });
}

async function failureOf(call: Promise<unknown>): Promise<unknown> {
  return call.then(
    () => expect.unreachable('the call has not failed'),
    (error: unknown) => error,
  );
}
