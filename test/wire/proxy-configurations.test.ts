import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import https from 'node:https';
import { BlockList } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { credentials } from '@grpc/grpc-js';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type IssuedCertificate, makeAuthority } from '../support/certificates.ts';
import { freePort } from '../support/free-port.ts';
import { describeBehind, type ProxyName, type RunningProxy } from '../support/proxies.ts';
import { callByGrpc, openGrpcClient, openWebClient, type PlainAnswer, type ServiceClient } from '../support/proxy-clients.ts';
import { ServedWatches } from '../support/served-watches.ts';
import { signedIn, startTestServer, type TestServer, until } from '../support/test-server.ts';

// The configurations of deploy/proxies that have a program here to run them, as they stand but for names, ports and files.

const folder = mkdtempSync(path.join(tmpdir(), 'proxy-configurations-'));
mkdirSync(path.join(folder, 'assets'));
writeFileSync(path.join(folder, 'index.html'), '<meta content="%SETTINGS%"><script src="./assets/main-1.js"></script>');
writeFileSync(path.join(folder, 'assets/main-1.js'), 'x');
const watches = new ServedWatches();
let server: TestServer;
let certificate: IssuedCertificate;
let ca: Buffer;

beforeAll(async () => {
  const authority = makeAuthority(folder, 'ours');
  certificate = authority.issue('proxy');
  writeFileSync(path.join(folder, 'both.pem'), Buffer.concat([certificate.cert, certificate.key]));
  ca = authority.cert;
  const trustedProxies = new BlockList();
  trustedProxies.addAddress('127.0.0.1');
  server = await startTestServer({
    trustedProxies,
    basePath: '/tasks/',
    page: { folder, imageOrigins: [] },
    handlers: { watchTasks: watches.handler },
  });
});
afterAll(async () => {
  await server.stop();
  rmSync(folder, { recursive: true, force: true });
});

const files: Readonly<Record<ProxyName, string>> = { nginx: 'nginx.conf', haproxy: 'haproxy.cfg' };

/** A configuration with what is ours here put in the place of what is everybody's own. Each must be there. */
function adapt(name: ProxyName, ports: { readonly web: number; readonly grpc: number }): string {
  const replaced: readonly (readonly [string, string])[] =
    name === 'nginx'
      ? [
          ['listen 443 ', `listen 127.0.0.1:${ports.web} `],
          ['listen 50051 ', `listen 127.0.0.1:${ports.grpc} `],
          ['/etc/ssl/tasks.example.com.pem', certificate.certFile],
          ['/etc/ssl/tasks.example.com-key.pem', certificate.keyFile],
        ]
      : [
          ['bind :443 ', `bind 127.0.0.1:${ports.web} `],
          ['bind :50051 ', `bind 127.0.0.1:${ports.grpc} `],
          ['/etc/haproxy/tasks.example.com.pem', path.join(folder, 'both.pem')],
        ];
  const own = [['tasks-service:8080', server.web] as const, ['tasks-service:50051', server.grpc] as const];
  let text = readFileSync(new URL(`../../deploy/proxies/${files[name]}`, import.meta.url), 'utf8');
  for (const [from, to] of [...replaced, ...own]) {
    expect(text).toContain(from);
    text = text.replaceAll(from, to);
  }
  return text;
}

for (const name of ['nginx', 'haproxy'] as const) {
  await describeBehind(name, `deploy/proxies/${files[name]}`, (start) => {
    let proxy: RunningProxy;
    let ports: { readonly web: number; readonly grpc: number };
    beforeAll(async () => {
      const [web, grpc] = await Promise.all([freePort(), freePort()]);
      ports = { web, grpc };
      proxy = await start(adapt(name, ports), [web, grpc]);
    });
    afterAll(() => proxy.stop());

    const get = (asked: string): Promise<PlainAnswer> =>
      new Promise((resolve, reject) => {
        const request = https.get({ host: '127.0.0.1', port: ports.web, path: asked, ca }, (response) => {
          let body = '';
          response.setEncoding('utf8').on('data', (chunk: string) => {
            body += chunk;
          });
          response.on('end', () => resolve({ status: response.statusCode ?? 0, headers: response.headers, body }));
        });
        request.on('error', reject);
      });

    test('shows the page under its path', async () => {
      for (const [asked, script] of [
        ['/tasks/', './assets/main-1.js'],
        ['/tasks/?q=a', './assets/main-1.js'],
        ['/tasks/tasks/a7a27450-ca16-4553-a6c5-9d6f04808569', '../assets/main-1.js'],
      ] as const) {
        const { status, body } = await get(asked);
        expect([status, body]).toEqual([200, expect.stringContaining(`src="${script}"`)]);
      }
      expect((await get('/tasks/assets/main-1.js')).body).toBe('x');
      const { status, headers } = await get('/tasks?q=a');
      expect([301, 307]).toContain(status); // nginx does it by itself
      const sentTo = new URL(headers.location ?? '', `https://127.0.0.1:${ports.web}/tasks?q=a`);
      expect(sentTo.pathname + sentTo.search).toBe('/tasks/?q=a');
      expect((await get('/elsewhere')).status).not.toBe(200);
    });

    const clients: readonly (readonly [string, () => ServiceClient])[] = [
      ['Connect over HTTP/1.1', () => openWebClient(`https://127.0.0.1:${ports.web}/tasks`, 'connect', '1.1', { ca })],
      ['Connect over HTTP/2', () => openWebClient(`https://127.0.0.1:${ports.web}/tasks`, 'connect', '2', { ca })],
      ['gRPC-Web over HTTP/2', () => openWebClient(`https://127.0.0.1:${ports.web}/tasks`, 'grpc-web', '2', { ca })],
      ['gRPC', () => openGrpcClient(`localhost:${ports.grpc}`, {}, credentials.createSsl(ca))],
    ];
    test.each(clients)('passes on calls and streams: %s', async (way, open) => {
      const client = open();
      expect((await client.list({ query: 'a' }, { headers: signedIn })).tasks[0]?.name).toBe('a');
      const stop = new AbortController();
      const received: string[] = [];
      const query = `${name} ${way}`;
      const ended = (async () => {
        for await (const { resumeToken } of client.watch({ query }, { headers: signedIn, signal: stop.signal })) {
          received.push(resumeToken);
        }
      })().catch(() => {});
      await until('first message', () => received.length === 1);
      watches.find(query)?.send('change');
      await until('change', () => received.length === 2);
      stop.abort();
      await ended;
      await until('end of the watch', () => watches.find(query)?.isLeft);
      client.close();
    });

    test('says who the client is, whatever that says itself', async () => {
      const connection = { ca, localAddress: '127.0.0.2' };
      const headers = (requestId: string) => ({
        ...signedIn,
        'x-request-id': requestId,
        'x-forwarded-for': '203.0.113.7, 127.0.0.1',
      });
      const client = openWebClient(`https://127.0.0.1:${ports.web}/tasks`, 'connect', '2', connection);
      await client.list({}, { headers: headers(`${name}-web`) });
      client.close();
      const method = '/tasks.v1.TasksService/ListTasks';
      expect(await callByGrpc(ports.grpc, method, headers(`${name}-grpc`), connection)).toBe('0');
      for (const port of ['web', 'grpc']) {
        const line = await until('line in the log', () => server.log.find((one) => one['requestId'] === `${name}-${port}`));
        expect(line['peer']).toBe('127.0.0.2');
      }
    });
  });
}
