import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect as connectHttp2 } from 'node:http2';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ask } from '../support/proxy-clients.ts';
import { signedIn, startTestServer, type TestServer } from '../support/test-server.ts';

const json = { ...signedIn, 'content-type': 'application/json' };
const folder = mkdtempSync(path.join(tmpdir(), 'base-path-'));
mkdirSync(path.join(folder, 'assets'));
writeFileSync(path.join(folder, 'index.html'), '<meta content="%SETTINGS%"><script src="./assets/main-1.js"></script>');
writeFileSync(path.join(folder, 'assets/main-1.js'), 'x');
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe.each(['/tasks/', '/a/b.c/'])('with BASE_PATH=%s', (basePath) => {
  let server: TestServer;
  let port: number;
  beforeAll(async () => {
    server = await startTestServer({ basePath, page: { folder, imageOrigins: [] } });
    port = Number(new URL(`http://${server.web}`).port);
  });
  afterAll(() => server.stop());

  // The second is what a proxy asks for that takes the base path off.
  describe.each([
    ['under it', basePath],
    ['at the root', '/'],
  ])('%s', (_, base) => {
    test.each([
      ['', './'],
      ['?q=a', './'],
      ['tasks/a7a27450-ca16-4553-a6c5-9d6f04808569', '../'],
      ['tasks/a7a27450-ca16-4553-a6c5-9d6f04808569/', '../../'],
      ['tasks/owner/name', '../../'],
    ])('the page is at %j, and finds its files', async (asked, root) => {
      const { status, body, headers } = await ask(port, base + asked);
      expect(status).toBe(200);
      expect(headers['content-type']).toBe('text/html; charset=utf-8');
      const [, src = ''] = /src="([^"]*)"/.exec(body) ?? [];
      expect(src).toBe(`${root}assets/main-1.js`);
      const { pathname } = new URL(src, `http://host${base}${asked}`);
      expect(pathname).toBe(`${base}assets/main-1.js`);
      expect((await ask(port, pathname)).body).toBe('x');
    });

    test('calls are answered', async () => {
      const options = { method: 'POST', headers: json };
      const list = await ask(port, `${base}tasks.v1.TasksService/ListTasks`, options, '{"query":"a"}');
      expect(JSON.parse(list.body)).toMatchObject({ tasks: [{ name: 'a' }] });
      const get = await ask(port, `${base}tasks.v1.TasksService/ListTasks?encoding=json&message=%7B%22query%22%3A%22b%22%7D`, {
        headers: signedIn,
      });
      expect(JSON.parse(get.body)).toMatchObject({ tasks: [{ name: 'b' }] });
      expect(get.headers['etag']).toBeDefined();
      const health = await ask(port, `${base}grpc.health.v1.Health/Check`, options, '{}');
      expect(JSON.parse(health.body)).toEqual({ status: 'SERVING' });
      expect((await ask(port, `${base}api/experimental/tasks`, { headers: signedIn })).status).toBe(200);
    });

    test('also over HTTP/2', async () => {
      const session = connectHttp2(`http://${server.web}`);
      const stream = session.request({ ':method': 'POST', ':path': `${base}tasks.v1.TasksService/ListTasks`, ...json });
      stream.end('{"query":"a"}');
      let text = '';
      for await (const chunk of stream) text += String(chunk);
      session.destroy();
      expect(JSON.parse(text)).toMatchObject({ tasks: [{ name: 'a' }] });
    });

    test.each(['no/where', 'assets/other.js', 'demo/tokens', 'tasks/a/b/c'])('there is no %s', async (asked) => {
      const { status, body } = await ask(port, base + asked);
      // Below a base path /tasks/ it may also be a task by its owner and name, of a proxy that has taken the base path off.
      const isTask = base === '/tasks/' && asked.split('/').length === 2;
      expect(status).toBe(isTask ? 200 : 404);
      expect(body.includes('main-1.js')).toBe(isTask);
    });
  });

  test('who leaves out its last slash is sent to it, by a relative address', async () => {
    const bare = basePath.slice(0, -1);
    for (const [asked, location] of [
      [bare, basePath],
      [`${bare}?q=a/b`, `${basePath}?q=a/b`],
    ] as const) {
      const { status, headers } = await ask(port, asked);
      expect(status).toBe(307);
      expect(headers.location).not.toMatch(/^\//);
      expect(new URL(headers.location ?? '', `http://host${asked}`).href).toBe(`http://host${location}`);
    }
    expect((await ask(port, bare, { method: 'POST', headers: json }, '{}')).status).toBe(404);
  });
});
