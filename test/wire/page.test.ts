import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import { connect as connectHttp2 } from 'node:http2';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { brotliCompressSync, brotliDecompressSync, gunzipSync, gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startTestServer, type TestServer } from '../support/test-server.ts';

const folder = mkdtempSync(path.join(tmpdir(), 'page-'));
const script = 'console.log("the page");\n'.repeat(50);
const index = '<!doctype html><meta name="tasks-service" content="%SETTINGS%"><script src="./assets/main-1.js"></script>';
const secret = 'q83vEjRWeJCrze8SNFZ4kA';
const tokens = { developer: 'abcdefghij-aaaaaaaaaaaaaaaaaaaaaa' };
const imageOrigins = ['https://coder.example.com', 'https://avatars.example.com'];
let server: TestServer;
let demo: TestServer;

beforeAll(async () => {
  mkdirSync(path.join(folder, 'assets'));
  writeFileSync(path.join(folder, 'index.html'), index);
  writeFileSync(path.join(folder, '.sources'), 'secret');
  writeFileSync(path.join(folder, 'assets/main-1.js'), script);
  writeFileSync(path.join(folder, 'assets/main-1.js.br'), brotliCompressSync(script));
  writeFileSync(path.join(folder, 'assets/main-1.js.gz'), gzipSync(script));
  writeFileSync(path.join(folder, 'assets/icon-1.svg'), '<svg/>');
  writeFileSync(path.join(folder, 'assets/other.exe'), 'MZ');
  server = await startTestServer({ page: { folder, imageOrigins } });
  demo = await startTestServer({
    page: { folder, imageOrigins: [], demo: { tokens, secret } },
    webOrigins: ['https://listed.example.com'],
  });
});

afterAll(async () => {
  await Promise.all([server.stop(), demo.stop()]);
  rmSync(folder, { recursive: true, force: true });
});

interface Answer {
  readonly status: number;
  readonly headers: http.IncomingHttpHeaders;
  readonly body: Buffer;
}

/** A request with exactly these headers, which `fetch` would not let a test choose. */
function ask(at: TestServer, asked: string, headers: http.OutgoingHttpHeaders = {}, method = 'GET'): Promise<Answer> {
  const { hostname, port } = new URL(`http://${at.web}`);
  return new Promise((resolve, reject) => {
    const request = http.request(
      { hostname, port, path: asked, method, headers, setHost: headers['host'] === undefined },
      (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('end', () => {
          resolve({ status: response.statusCode ?? 0, headers: response.headers, body: Buffer.concat(chunks) });
        });
      },
    );
    request.on('error', reject);
    request.end();
  });
}

describe('the page', () => {
  test.each([
    ['/', './'],
    ['/?q=owner:*', './'],
    ['/?q=a/b', './'],
    ['/tasks/a7a27450-ca16-4553-a6c5-9d6f04808569', '../'],
    ['/tasks/a7a27450-ca16-4553-a6c5-9d6f04808569/', '../../'],
    ['/tasks/anything%2F', '../'],
    ['/tasks/developer/fix-login', '../../'],
    ['/tasks/developer/fix-login/', '../../../'],
  ])('is served at %s, and finds its files from there', async (asked, root) => {
    const { status, headers, body } = await ask(server, asked);
    expect(status).toBe(200);
    expect(headers['content-type']).toBe('text/html; charset=utf-8');
    expect(body.toString()).toContain(`src="${root}assets/main-1.js"`);
    expect(body.toString()).toContain(`&quot;root&quot;:&quot;${root}&quot;`);
    expect(new URL(`${root}assets/main-1.js`, `http://host${asked}`).pathname).toBe('/assets/main-1.js');
  });

  test.each([
    ['/no/such/place', '../../'],
    ['/tasks/a/b/c', '../../../'],
    ['/elsewhere', './'],
  ])('is its own "not found" for a browser that asks for %s', async (asked, root) => {
    const { status, headers, body } = await ask(server, asked, { accept: 'text/html,*/*' });
    expect(status).toBe(404);
    expect(headers['content-type']).toBe('text/html; charset=utf-8');
    expect(headers['content-security-policy']).toContain("default-src 'none'");
    expect(body.toString()).toContain(`src="${root}assets/main-1.js"`);
    const deep = await ask(server, asked + '/a'.repeat(1000), { accept: 'text/html' });
    expect(deep.headers['content-type']).toContain('application/json');
    for (const [method, accept] of [
      ['GET', 'application/json'],
      ['POST', 'text/html'],
    ] as const) {
      const other = await ask(server, asked, { accept }, method);
      expect(other.status).toBe(404);
      expect(other.headers['content-type']).toContain('application/json');
    }
  });

  test('carries its settings, and offers no demo without one', async () => {
    const { body } = await ask(server, '/');
    const [, content = ''] = /content="([^"]*)"/.exec(body.toString()) ?? [];
    expect(JSON.parse(content.replaceAll('&quot;', '"'))).toEqual({
      root: './',
      imageOrigins,
      grpc: { port: Number(new URL(`http://${server.grpc}`).port), secure: false },
      demo: false,
    });
  });

  test('may load its own files and pictures of the listed origins alone, and may not be framed', async () => {
    const { headers } = await ask(server, '/');
    expect(headers['content-security-policy']).toBe(
      "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; " +
        "img-src 'self' data: https://coder.example.com https://avatars.example.com; " +
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; " +
        "require-trusted-types-for 'script'; trusted-types 'none'",
    );
    expect(headers).toMatchObject({
      'x-content-type-options': 'nosniff',
      'referrer-policy': 'no-referrer',
      'cross-origin-resource-policy': 'same-origin',
      'cross-origin-opener-policy': 'same-origin',
    });
  });

  test('is asked about each time, and sent once', async () => {
    const { headers } = await ask(server, '/');
    const { etag = '' } = headers;
    expect(headers['cache-control']).toBe('no-cache');
    for (const condition of [etag, `W/${etag}`, `"x", ${etag}`]) {
      const again = await ask(server, '/', { 'if-none-match': condition });
      expect(again).toMatchObject({ status: 304, body: Buffer.alloc(0) });
      expect(again.headers['content-security-policy']).toBeDefined();
    }
    expect((await ask(server, '/', { 'if-none-match': '"other"' })).status).toBe(200);
  });

  test.each<[accepted: string, encoding: string | undefined, decode: (body: Buffer) => Buffer]>([
    ['gzip, deflate, br', 'br', brotliDecompressSync],
    ['gzip', 'gzip', gunzipSync],
    ['br;q=0, gzip;q=0.5', 'gzip', gunzipSync],
    ['identity', undefined, (body) => body],
    ['br;q=0.0', undefined, (body) => body],
  ])('has assets for ever, for one who accepts %j', async (accepted, encoding, decode) => {
    const { status, headers, body } = await ask(server, '/assets/main-1.js', { 'accept-encoding': accepted });
    expect(status).toBe(200);
    expect(headers['content-encoding']).toBe(encoding);
    expect(headers).toMatchObject({
      'cache-control': 'public, max-age=31536000, immutable',
      'content-type': 'text/javascript; charset=utf-8',
      'content-length': String(body.length),
      vary: 'accept-encoding',
      'x-content-type-options': 'nosniff',
    });
    expect(decode(body).toString()).toBe(script);
  });

  test('is there over HTTP/2, too', async () => {
    const session = connectHttp2(`http://${server.web}`);
    const stream = session.request({ ':path': '/assets/icon-1.svg' });
    let text = '';
    for await (const chunk of stream) text += String(chunk);
    session.destroy();
    expect(text).toBe('<svg/>');
  });

  test.each([
    '/.sources',
    '/index.html',
    '/assets/',
    '/assets/main-1.js.br',
    '/assets/other.exe',
    '/assets/../.sources',
    '/assets/%2e%2e/.sources',
    '/tasks/',
    '/tasks/a/b/c',
    '/demo/tokens',
    '//',
  ])('does not have %s', async (asked) => {
    expect((await ask(server, asked)).status).toBe(404);
  });

  test('is only read', async () => {
    expect(await ask(server, '/', {}, 'POST')).toMatchObject({ status: 405, headers: { allow: 'GET, HEAD' } });
    const head = await ask(server, '/', {}, 'HEAD');
    expect(head).toMatchObject({ status: 200, body: Buffer.alloc(0) });
    expect(Number(head.headers['content-length'])).toBeGreaterThan(0);
  });

  test('says how to build it where it is not built', async () => {
    const bare = await startTestServer({ page: { folder: path.join(folder, 'nowhere'), imageOrigins: [] } });
    const { status, body } = await ask(bare, '/');
    await bare.stop();
    expect(status).toBe(404);
    expect(body.toString()).toContain('npm run build');
  });
});

describe('the tokens of the demo', () => {
  const host = () => demo.web.replace('127.0.0.1', 'localhost');
  const knowing = { 'demo-secret': secret };

  test.each<[who: string, headers: () => http.OutgoingHttpHeaders]>([
    ['the page by name', () => ({ host: host(), 'sec-fetch-site': 'same-origin' })],
    ['the page by address', () => ({ host: demo.web, origin: `http://${demo.web}`, 'sec-fetch-site': 'same-origin' })],
    ['a script on this machine', () => ({})],
  ])('are for %s', async (_, headers) => {
    const { status, body, headers: answered } = await ask(demo, '/demo/tokens', { ...knowing, ...headers() });
    expect(status).toBe(200);
    expect(JSON.parse(body.toString())).toEqual({ tokens });
    expect(answered['cache-control']).toBe('no-store');
  });

  test.each<[who: string, headers: () => http.OutgoingHttpHeaders]>([
    ['a name that was made to mean this machine', () => ({ host: 'evil.example.com' })],
    ['such a name with the port', () => ({ host: demo.web.replace('127.0.0.1', 'evil.example.com') })],
    ['a name that begins like ours', () => ({ host: 'localhost.evil.example.com' })],
    ['an address that begins like ours', () => ({ host: '127.0.0.1.evil.example.com' })],
    ['no host', () => ({ host: '' })],
    ['another site', () => ({ host: host(), 'sec-fetch-site': 'cross-site' })],
    ['another port of this machine', () => ({ host: host(), 'sec-fetch-site': 'same-site' })],
    ['an address that was typed', () => ({ host: host(), 'sec-fetch-site': 'none' })],
    ['another origin', () => ({ host: host(), origin: 'http://localhost:1' })],
    ['a sandboxed frame', () => ({ host: host(), origin: 'null' })],
    ['a listed origin', () => ({ host: host(), origin: 'https://listed.example.com' })],
    ['who guesses', () => ({ 'demo-secret': `${secret.slice(0, -1)}B` })],
    ['who knows nothing', () => ({ 'demo-secret': '' })],
    ...[
      ['forwarded', 'for=203.0.113.7'],
      ['via', '1.1 proxy'],
      ['x-real-ip', '203.0.113.7'],
      ['x-forwarded-for', '127.0.0.1'],
      ['X-Forwarded-Proto', 'http'],
      ['x-forwarded', 'yes'],
    ].map(([name = '', value = '']): [string, () => http.OutgoingHttpHeaders] => [
      `who comes by a proxy that says so in ${name}`,
      () => ({ [name]: value }),
    ]),
  ])('are not for %s', async (_, headers) => {
    const { status, body } = await ask(demo, '/demo/tokens', { ...knowing, ...headers() });
    expect(status).toBe(403);
    expect(body.toString()).not.toContain(tokens.developer);
  });

  // What the page would send, come through a proxy on this machine that calls us by our own name and says nothing of it.
  test('are not for who does not know the secret', async () => {
    const { status, body } = await ask(demo, '/demo/tokens', { host: host(), 'sec-fetch-site': 'same-origin' });
    expect(status).toBe(403);
    expect(body.toString()).not.toContain(tokens.developer);
  });

  test('and the secret is in nothing that the service sends', async () => {
    for (const asked of ['/', '/demo/tokens', '/nowhere']) {
      const { body, headers } = await ask(demo, asked);
      expect(body.toString() + JSON.stringify(headers)).not.toContain(secret);
    }
    expect(JSON.stringify(demo.log)).not.toContain(secret);
  });
});
