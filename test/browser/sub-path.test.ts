import { create } from '@bufbuild/protobuf';
import type { Browser, BrowserContext, Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { GetTaskResponseSchema, ListTasksResponseSchema, TaskSchema, WorkspaceStatus } from '../../src/gen/tasks/v1/tasks_pb.ts';
import { pageFolder } from '../../src/transport/page/page.ts';
import { freePort } from '../support/free-port.ts';
import { describeBehind, type RunningProxy } from '../support/proxies.ts';
import { ServedWatches } from '../support/served-watches.ts';
import { goodToken, startTestServer, type TestServer, until } from '../support/test-server.ts';
import { describeInBrowser, type Misdeeds, openContext, openPage, startBrowser } from './browser.ts';

// The page under a path of another host, behind nginx with its defaults: HTTP/1.0, buffers, and a host of its own in each request.

const task = create(TaskSchema, {
  id: '00000000-0000-4000-8000-000000000001',
  name: 'task-one',
  displayName: 'Do the thing',
  initialPrompt: 'Do the thing',
  ownerName: 'developer',
  status: WorkspaceStatus.RUNNING,
  createdAt: { seconds: 1_789_000_000n },
});
const secret = 'q83vEjRWeJCrze8SNFZ4kA';

await describeBehind('nginx', 'the page under a path, behind nginx', (start) => {
  describeInBrowser('in a browser', () => {
    const watches = new ServedWatches();
    let servers: readonly TestServer[];
    let proxy: RunningProxy;
    let port: number;
    let browser: Browser;
    let context: BrowserContext;
    let page: Page;
    let misdeeds: Misdeeds;

    beforeAll(async () => {
      const parts = {
        page: { folder: pageFolder, imageOrigins: [], demo: { tokens: { developer: goodToken }, secret } },
        handlers: {
          listTasks: () => Promise.resolve(create(ListTasksResponseSchema, { tasks: [task], totalSize: 1 })),
          getTask: () => Promise.resolve(create(GetTaskResponseSchema, { task })),
          watchTasks: watches.handler,
        },
      };
      const [kept, bare] = [await startTestServer({ ...parts, basePath: '/tasks/' }), await startTestServer(parts)];
      servers = [kept, bare];
      port = await freePort();
      // The first passes on the path, the second takes it off.
      const config = `server {
      listen 127.0.0.1:${port};
      location /tasks/ { proxy_pass http://${kept.web}; }
      location /some/where/ { proxy_pass http://${bare.web}/; }
    }`;
      [proxy, browser] = await Promise.all([start(config, [port]), startBrowser()]);
    });
    afterAll(async () => {
      await browser?.close();
      await proxy?.stop();
      await Promise.all(servers?.map((server) => server.stop()) ?? []);
    });
    beforeEach(async () => {
      context = await openContext(browser);
      ({ page, misdeeds } = await openPage(context));
    });
    afterEach(async () => {
      expect(misdeeds.errors).toEqual([]);
      await context.close();
    });

    describe.each(['/tasks/', '/some/where/'])('%s', (base) => {
      const url = (path: string) => `http://127.0.0.1:${port}${base}${path}`;
      const status = (tab: Page = page) => tab.locator('.live-indicator');
      const whenLive = () => expect.poll(() => status().textContent()).toBe('Live');
      const row = () => page.locator('.row').first();

      async function signIn(path: string): Promise<void> {
        await page.goto(url(path));
        await page.getByLabel('Session token').fill(goodToken);
        await page.getByRole('button', { name: 'Sign in' }).click();
        await page.getByRole('banner').waitFor();
      }

      test('is live, goes to a task and back, and can be reloaded anywhere', async () => {
        await signIn('?q=a');
        await row().waitFor();
        await whenLive();
        await row().click();
        await page.getByRole('article').waitFor();
        expect(page.url()).toBe(url(`tasks/${task.id}`));
        await whenLive();
        await page.reload();
        await page.getByRole('article').waitFor();
        expect(page.url()).toBe(url(`tasks/${task.id}`));
        expect(await page.locator('a.home').getAttribute('href')).toBe(base);
        await page.locator('a.home').click();
        await row().waitFor();
        expect(page.url()).toBe(url(''));
        await page.goBack();
        await page.getByRole('article').waitFor();
      });

      test('is told by the stream what changes', async () => {
        await signIn('?q=told');
        await whenLive();
        const watch = await until('watch', () => watches.find('told'));
        watch.send('second', create(TaskSchema, { ...task, displayName: 'Do another thing' }));
        await row().getByText('Do another thing').waitFor();
        await page.close();
        await until('end of the watch', () => watch.isLeft);
      });
    });

    test('keeps the sessions of two services on one host apart', async () => {
      await page.goto(`http://127.0.0.1:${port}/tasks/`);
      await page.getByLabel('Session token').fill(goodToken);
      await page.getByRole('button', { name: 'Sign in' }).click();
      await page.getByRole('banner').waitFor();
      await page.goto(`http://127.0.0.1:${port}/some/where/`);
      await page.getByLabel('Session token').waitFor();
    });

    test('whom the proxy has let in from outside is offered no demo', async () => {
      await page.goto(`http://127.0.0.1:${port}/tasks/`);
      await page.getByText('open the whole address').waitFor();
    });
  });
});
