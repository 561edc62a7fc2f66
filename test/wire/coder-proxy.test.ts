import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import http, { type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { connect as connectHttp2 } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { getCACertificates, setDefaultCACertificates } from 'node:tls';
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { createClientAddress } from '../../src/transport/client-address.ts';
import { createCoderProxy, proxyLimits } from '../../src/transport/coder/coder-proxy.ts';
import { createWebRequests } from '../../src/transport/web-requests.ts';
import { makeAuthority } from '../support/certificates.ts';
import { StandInCoder } from '../support/stand-in-coder.ts';
import { signedIn, startTestServer, type TestServer } from '../support/test-server.ts';

const send = '/api/v2/tasks/me/a7a27450-ca16-4553-a6c5-9d6f04808569/send';

describe('with CODER_URL', () => {
  const coder = new StandInCoder();
  let server: TestServer;
  beforeAll(async () => {
    server = await startTestServer({ coderUrl: `http://127.0.0.1:${await coder.open()}/below/` });
  });
  afterEach(() => coder.reset());
  afterAll(async () => {
    await server.stop();
    coder.close();
  });

  const ask = (path: string, init: RequestInit = {}) =>
    fetch(`http://${server.web}${path}`, { ...init, headers: { ...signedIn, ...init.headers } });

  test.each([
    ['POST', '/api/v2/tasks/me', '{"input":"é 🚀"}'],
    ['DELETE', '/api/v2/tasks/me/a7a27450-ca16-4553-a6c5-9d6f04808569', undefined],
    ['PATCH', '/api/v2/tasks/me/x/input', '{"input":"a"}'],
    ['POST', '/api/v2/tasks/alice/x/send', '{"input":"a"}'],
    ['GET', '/api/v2/tasks/me/x/logs', undefined],
    ['POST', '/api/v2/tasks/me/x/pause', undefined],
    ['POST', '/api/v2/tasks/me/x/resume', undefined],
    ['POST', '/api/experimental/tasks/me', '{}'],
    ['DELETE', '/api/experimental/tasks/me/x', undefined],
    ['POST', '/api/v2/users/me/keys', undefined],
    ['POST', '/api/v2/users/logout', undefined],
    ['GET', '/api/v2/users/me', undefined],
    ['GET', '/api/v2/templates?q=a%20b&x=1', undefined],
  ])('%s %s is passed on as it is', async (method, path, body) => {
    coder.answer = (_got, response) =>
      response.writeHead(202, { 'content-type': 'application/json', 'x-coder-build-version': 'v2.34.0' }).end('{"answer":"é"}');
    const response = await ask(path, {
      method,
      ...(body === undefined ? {} : { body, headers: { 'content-type': 'application/json' } }),
    });
    expect([response.status, await response.json()]).toEqual([202, { answer: 'é' }]);
    expect(Object.fromEntries(response.headers)).toMatchObject({
      'content-type': 'application/json',
      'x-coder-build-version': 'v2.34.0',
      'cache-control': 'no-store',
      'x-content-type-options': 'nosniff',
    });
    expect(coder.got).toEqual([expect.objectContaining({ method, url: `/below${path.replace('%20', '+')}`, body: body ?? '' })]);
    expect(coder.got[0]?.headers['coder-session-token']).toBe(signedIn['coder-session-token']);
  });

  test('what is served here is not passed on, nor what is no route of a task', async () => {
    for (const path of ['/api/v2/tasks', '/api/experimental/tasks', '/api/experimental/tasks/me'])
      expect((await ask(path)).status).toBe(200);
    for (const [method, path] of [
      ['PUT', '/api/v2/tasks/me/x'],
      ['POST', '/api/v2/tasks/me/x/other'],
      ['POST', '/api/v2/users/me'],
      ['GET', '/api/v2/users/me/keys/tokens'],
      ['GET', '/api/v2/tasks/me/%2e%2e/logs'],
      ['GET', '/api/v2/tasks/me/..%2f..%2fusers/logs'],
      ['POST', '/api/v2/users'],
      ['POST', '/api/v2/users/alice/keys'],
      ['POST', '/api/v2/users/me/keys/tokens'],
    ] as const) {
      expect((await ask(path, { method })).status, `${method} ${path}`).toBeGreaterThanOrEqual(404);
    }
    expect(coder.got).toEqual([]);
  });

  test('the token of the caller alone is passed on, and no header that is not needed', async () => {
    const request = http.request(`http://${server.web}${send}?coder_session_token=a&access_token=b&c=d`, {
      method: 'POST',
      headers: {
        authorization: 'Bearer abcdefghij-0123456789012345678901',
        cookie: 'coder_session_token=from-a-cookie; other=1',
        'x-forwarded-for': '10.1.2.3',
        'x-forwarded-host': 'evil.example.com',
        forwarded: 'for=1.2.3.4',
        'proxy-authorization': 'Basic x',
        te: 'trailers',
        connection: 'keep-alive, x-secret',
        'x-secret': '1',
        'x-request-id': 'mine',
        'user-agent': 'coder/v2',
        'transfer-encoding': 'chunked',
      },
    });
    request.end('abc');
    const [response] = (await once(request, 'response')) as [IncomingMessage];
    response.resume();
    expect(response.statusCode).toBe(204);
    const [got] = coder.got;
    expect(got).toMatchObject({ url: `/below${send}?c=d`, body: 'abc' });
    expect(got?.headers).toEqual({
      host: coder.host,
      connection: 'close',
      'content-length': '3',
      'coder-session-token': 'abcdefghij-0123456789012345678901',
      'user-agent': 'coder/v2',
      'x-forwarded-for': '127.0.0.1',
    });
  });

  test('a JSON Web Token is for this service alone, and a cookie for its page', async () => {
    const response = await fetch(`http://${server.web}${send}`, {
      method: 'POST',
      headers: { authorization: 'Bearer aaaa.bbbb.cccc', cookie: 'coder_session_token=x' },
    });
    expect(response.status).toBe(204);
    expect(coder.got[0]?.headers).not.toHaveProperty('authorization');
    expect(coder.got[0]?.headers).not.toHaveProperty('coder-session-token');
    expect(coder.got[0]?.headers).not.toHaveProperty('cookie');
  });

  test("Coder's errors come as they are, its cookies and its other headers do not", async () => {
    coder.answer = (_got, response) =>
      response
        .writeHead(409, {
          'content-type': 'application/json',
          'set-cookie': 'a=b',
          server: 'x',
          'www-authenticate': 'Bearer',
          'retry-after': '3',
        })
        .end('{"message":"Task is paused."}');
    const response = await ask(send, { method: 'POST' });
    expect([response.status, await response.json()]).toEqual([409, { message: 'Task is paused.' }]);
    expect(response.headers.get('set-cookie')).toBeNull();
    expect(response.headers.get('server')).toBeNull();
    expect([response.headers.get('retry-after'), response.headers.get('www-authenticate')]).toEqual(['3', 'Bearer']);
  });

  test('a long answer is streamed, over HTTP/2 too', async () => {
    const held = Promise.withResolvers<void>();
    coder.answer = (_got, response) => {
      response.writeHead(200, { 'content-type': 'application/json' }).write('[1');
      void held.promise.then(() => response.end(']'));
    };
    const session = connectHttp2(`http://${server.web}`);
    const stream = session.request({ ':path': '/api/v2/tasks/me/x/logs', ...signedIn });
    const [first] = (await once(stream, 'data')) as [Buffer];
    expect(first.toString()).toBe('[1');
    held.resolve();
    const [second] = (await once(stream, 'data')) as [Buffer];
    expect(second.toString()).toBe(']');
    session.close();
  });

  test('a request that is too long is refused, with and without a length, and Coder does not get it', async () => {
    const body = 'x'.repeat(proxyLimits.bodyBytes + 1);
    const refused = await ask(send, { method: 'POST', body });
    expect([refused.status, await refused.json()]).toEqual([413, { message: 'A request may have 1048576 bytes at most.' }]);
    expect((await ask(send, { method: 'POST', body: 'x'.repeat(proxyLimits.bodyBytes) })).status).toBe(204);
    expect(coder.got.map((got) => got.body.length)).toEqual([proxyLimits.bodyBytes]);
  });

  test.each([
    'content-length: 3\r\ntransfer-encoding: chunked',
    'content-length: 3\r\ncontent-length: 4',
    'transfer-encoding: gzip, chunked\r\ntransfer-encoding: identity',
    'content-length: +3',
  ])('a request with %j, which two could read in two ways, ends here', async (headers) => {
    const [host, port] = server.web.split(':');
    const socket = connect(Number(port), host);
    socket.write(`POST ${send} HTTP/1.1\r\nhost: x\r\n${headers}\r\n\r\nabcGET /api/v2/users/me HTTP/1.1\r\nhost: x\r\n\r\n`);
    socket.resume();
    await once(socket, 'close');
    expect(coder.got.filter(({ url }) => url?.includes('users'))).toEqual([]);
  });

  test('a redirect, which would leave it, is 502', async () => {
    coder.answer = (_got, response) => response.writeHead(307, { location: 'https://elsewhere.example.com' }).end();
    const response = await ask(send, { method: 'POST', redirect: 'manual' });
    expect([response.status, await response.json()]).toEqual([502, { message: 'Coder answers with a redirect.' }]);
  });

  test('an answer that breaks off breaks off', async () => {
    coder.answer = (_got, response) => {
      response.writeHead(200, { 'content-length': '10' });
      response.write('abc', () => response.destroy());
    };
    await expect(ask('/api/v2/tasks/me/x/logs').then((response) => response.text())).rejects.toThrow('terminated');
  });

  test('a client that hangs up ends the request to Coder', async () => {
    const ended = Promise.withResolvers<void>();
    const arrived = Promise.withResolvers<void>();
    coder.answer = (_got, response) => {
      response.once('close', () => ended.resolve());
      arrived.resolve();
    };
    const gone = new AbortController();
    const asking = ask(send, { method: 'POST', signal: gone.signal }).catch(() => {});
    await arrived.promise;
    gone.abort();
    await ended.promise;
    await asking;
  });

  test('there are at most so many at once, of one network and in all', async () => {
    const held: ServerResponse[] = [];
    coder.answer = (_got, response) => void held.push(response);
    const askFrom = async (localAddress: string): Promise<IncomingMessage> => {
      const options = { method: 'POST', headers: signedIn, localAddress, agent: false };
      const [answer] = await once(http.request(`http://${server.web}${send}`, options).end(), 'response');
      return answer as IncomingMessage;
    };
    const { requests, perNetwork } = proxyLimits;
    const refusal = { message: 'Too many requests to Coder at once, try again.' };
    const first = Array.from({ length: perNetwork }, () => ask(send, { method: 'POST' }));
    await vi.waitUntil(() => held.length === perNetwork, { timeout: 20_000 });
    const refused = await ask(send, { method: 'POST' });
    expect([refused.status, refused.headers.get('retry-after')]).toEqual([503, '1']);
    expect(await refused.json()).toEqual(refusal);
    const others = Array.from({ length: requests - perNetwork }, () => askFrom('127.0.0.2'));
    await vi.waitUntil(() => held.length === requests, { timeout: 20_000 });
    const late = await askFrom('127.0.0.3');
    expect(late.statusCode).toBe(503);
    expect(JSON.parse((await late.toArray()).join(''))).toEqual(refusal);
    for (const response of held) response.writeHead(204).end();
    for (const answer of await Promise.all(first)) expect(answer.status).toBe(204);
    for (const answer of await Promise.all(others)) expect(answer.resume().statusCode).toBe(204);
  });

  test('nothing of a request is in the log', async () => {
    coder.answer = (_got, response) => response.destroy();
    const response = await ask(`${send}?not-in-the-log=1`, { method: 'POST', body: 'not-in-the-log' });
    expect([response.status, await response.json()]).toEqual([502, { message: 'Coder cannot be reached.' }]);
    const text = JSON.stringify(server.log);
    expect(text).toContain('could not be passed on to Coder');
    expect(text).not.toContain('not-in-the-log');
    expect(text).not.toContain(signedIn['coder-session-token']);
  });

  test('each request is counted, has a line in the access log, and its id in both and in the answer', async () => {
    const given = await ask(send, { method: 'POST', headers: { 'x-request-id': 'mine' } });
    expect(given.headers.get('x-request-id')).toBe('mine');
    const made = await ask('/api/v2/users/me', { headers: { 'x-request-id': 'no id: it has spaces' } });
    const id = made.headers.get('x-request-id');
    expect(id).toMatch(/^[\w-]+$/);
    const session = connectHttp2(`http://${server.web}`);
    const stream = session.request({ ':path': '/api/v2/tasks/me/x/logs', ...signedIn });
    await once(stream.resume(), 'end');
    session.close();
    const gone = new AbortController();
    coder.answer = () => gone.abort();
    await ask('/api/v2/tasks/me/x/pause', { method: 'POST', signal: gone.signal }).catch(() => {});

    const lines = () => server.log.filter(({ protocol }) => protocol === 'coder');
    const pause = 'POST /api/v2/tasks/*/*/pause';
    await vi.waitUntil(() => lines().some(({ method, status }) => method === pause && status === 499), { timeout: 20_000 });
    const peer = expect.stringContaining('127.0.0.1:') as unknown;
    expect(lines()).toEqual(
      expect.arrayContaining([
        expect.objectContaining({ method: 'POST /api/v2/tasks/*/*/send', status: 204, requestId: 'mine', peer }),
        expect.objectContaining({ method: 'GET /api/v2/users/*', status: 204, requestId: id, peer }),
        expect.objectContaining({ method: 'GET /api/v2/tasks/*/*/logs', status: 204, peer }),
        expect.objectContaining({ method: pause, status: 499, peer }),
      ]),
    );
    const metrics = await (await fetch(`http://${server.ops}/metrics`)).text();
    expect(metrics).toMatch(/^tasks_coder_requests_total\{route="POST \/api\/v2\/tasks\/\*\/\*\/pause",status="499"\} 1$/m);
    expect(metrics).not.toMatch(/\/tasks\/me\/|\/users\/me"/); // nothing of what was asked for
  });
});

describe('a proxy whose Coder', () => {
  const servers: Server[] = [];
  afterEach(() => {
    for (const server of servers.splice(0)) {
      server.closeAllConnections();
      server.close();
    }
  });

  /** Asks through a proxy with other limits. */
  async function through(address: string, limits: { timeoutMs?: number; bodyTimeoutMs?: number } = {}): Promise<string> {
    const coderProxy = createCoderProxy({ address, clientAddress: createClientAddress(), ...limits });
    const front = http.createServer(createWebRequests({ methods: () => undefined, coderProxy, isDraining: () => false }));
    servers.push(front);
    front.listen(0, '127.0.0.1');
    await once(front, 'listening');
    return `127.0.0.1:${(front.address() as AddressInfo).port}`;
  }

  test('is away is 502', async () => {
    const coder = new StandInCoder();
    const port = await coder.open();
    coder.close();
    const web = await through(`http://127.0.0.1:${port}`);
    const response = await fetch(`http://${web}${send}`, { method: 'POST' });
    expect([response.status, await response.json()]).toEqual([502, { message: 'Coder cannot be reached.' }]);
  });

  test('does not answer is 504', async () => {
    const coder = new StandInCoder();
    coder.answer = () => {};
    const web = await through(`http://127.0.0.1:${await coder.open()}`, { timeoutMs: 100 });
    const response = await fetch(`http://${web}${send}`, { method: 'POST' });
    expect([response.status, await response.json()]).toEqual([504, { message: 'Coder did not answer in time.' }]);
    coder.close();
  });

  test('shows a certificate that no authority of Node has signed is 502, and one that has is good', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'coder-proxy-'));
    const before = getCACertificates('default');
    const authority = makeAuthority(folder, 'authority');
    const issued = authority.issue('coder');
    const coder = new StandInCoder({ cert: issued.cert, key: issued.key });
    try {
      const web = await through(`https://localhost:${await coder.open()}`);
      const ask = async () => (await fetch(`http://${web}${send}`, { method: 'POST' })).status;
      expect(await ask()).toBe(502);
      setDefaultCACertificates([...before, authority.cert.toString()]);
      expect(await ask()).toBe(204);
      expect(coder.got).toHaveLength(1);
    } finally {
      setDefaultCACertificates(before);
      coder.close();
      rmSync(folder, { recursive: true });
    }
  });

  test('is never told of a request that is not sent in time', async () => {
    const coder = new StandInCoder();
    const web = await through(`http://127.0.0.1:${await coder.open()}`, { bodyTimeoutMs: 100 });
    const request = http.request(`http://${web}${send}`, { method: 'POST', headers: { 'content-length': 10 } });
    request.on('error', () => {});
    request.write('abc');
    const [response] = (await once(request, 'response')) as [IncomingMessage];
    response.resume();
    expect(response.statusCode).toBe(408);
    expect(coder.got).toEqual([]);
    request.destroy();
    coder.close();
  });
});
