import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { gzipSync } from 'node:zlib';
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { Code, ConnectError } from '@connectrpc/connect';
import { pino } from 'pino';
import type { Browser, BrowserContext, Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { databaseUnavailable, invalidArgument, taskNotFound } from '../../src/call/errors.ts';
import {
  AgentLifecycle,
  CountTasksResponseSchema,
  GetTaskResponseSchema,
  ListTasksResponseSchema,
  type Task,
  TaskPhase,
  TaskSchema,
  TaskState,
  WorkspaceStatus,
} from '../../src/gen/tasks/v1/tasks_pb.ts';
import { createCertificates } from '../../src/transport/certificates.ts';
import { pageFolder } from '../../src/transport/page/page.ts';
import { makeAuthority } from '../support/certificates.ts';
import { goodToken, startTestServer, type TestServer } from '../support/test-server.ts';
import { axeViolations } from './axe.ts';
import { describeInBrowser, type Misdeeds, openContext, openPage, startBrowser } from './browser.ts';

// The service with answers of the test's own: what a database can hardly be brought to say.

/** What the page must know to be given the tokens of the demo. */
const secret = 'q83vEjRWeJCrze8SNFZ4kA';

type TaskFields = Exclude<MessageInitShape<typeof TaskSchema>, Task>;

/** A task with something in every field. */
function task(index: number, fields: TaskFields = {}): Task {
  const digits = String(index).padStart(12, '0');
  const states = [TaskState.WORKING, TaskState.IDLE, TaskState.COMPLETE, TaskState.FAILED];
  const statuses = Object.values(WorkspaceStatus).filter((status) => status !== WorkspaceStatus.UNSPECIFIED);
  return create(TaskSchema, {
    id: `00000000-0000-4000-8000-${digits}`,
    name: `task-${digits}`,
    displayName: `Do the thing number ${index}`,
    initialPrompt: `Do the thing number ${index}`,
    ownerName: 'developer',
    ownerId: '9e9b9475-0fc0-47b2-9170-a5b7b9a075ee',
    organizationName: 'atlas',
    organizationId: '241e869f-1a61-42c9-ae1e-9d46df874058',
    templateName: 'docker',
    templateDisplayName: 'Docker',
    templateId: '4b2ad3a5-8f9a-4d6b-9a3f-1d6f2d2f8d11',
    templateVersionId: '4b2ad3a5-8f9a-4d6b-9a3f-1d6f2d2f8d12',
    workspaceId: `00000000-0000-4000-8000-${digits}`,
    workspaceName: `task-${digits}`,
    workspaceBuildNumber: 3,
    workspaceAgentId: '4b2ad3a5-8f9a-4d6b-9a3f-1d6f2d2f8d13',
    workspaceAgentLifecycle: AgentLifecycle.READY,
    workspaceAgentHealth: { healthy: index % 2 === 0, reason: 'it is not connected' },
    workspaceAppId: '4b2ad3a5-8f9a-4d6b-9a3f-1d6f2d2f8d14',
    status: statuses[index % statuses.length] ?? WorkspaceStatus.RUNNING,
    phase: TaskPhase.ACTIVE,
    favorite: index === 0,
    currentState: {
      timestamp: { seconds: 1_790_000_000n },
      state: states[index % states.length] ?? TaskState.WORKING,
      message: `Wrote ${index} tests`,
      uri: 'https://github.com/example/repository/pull/1',
    },
    createdAt: { seconds: 1_789_000_000n - BigInt(index) },
    updatedAt: { seconds: 1_789_500_000n },
    lastUsedAt: { seconds: 1_789_600_000n },
    dormantAt: { seconds: 1_789_700_000n },
    ...fields,
  });
}

describeInBrowser('the page, whatever the service answers,', () => {
  let server: TestServer;
  let browser: Browser;
  let context: BrowserContext;
  let page: Page;
  let misdeeds: Misdeeds;
  let tasks: readonly Task[];
  let failure: ConnectError | undefined;
  /** Fewest tasks in a page of the list. */
  let fewest: number;
  const imageRequests: string[] = [];
  const images = [1, 2].map(() =>
    http.createServer((request, response) => {
      imageRequests.push(`http://${request.headers.host}${request.url} ${request.headers.referer ?? 'no referrer'}`);
      response.setHeader('content-type', 'image/svg+xml');
      response.end('<svg xmlns="http://www.w3.org/2000/svg" width="1" height="1"/>');
    }),
  );
  const imageOrigins: string[] = [];
  const base = () => `http://${server.web}`;
  const demoAddress = (path = '/') => `${base()}${path}#demo=${secret}`;

  beforeAll(async () => {
    for (const images_ of images) {
      images_.listen(0, '127.0.0.1');
      await once(images_, 'listening');
      imageOrigins.push(`http://127.0.0.1:${(images_.address() as AddressInfo).port}`);
    }
    server = await startTestServer({
      page: {
        folder: pageFolder,
        imageOrigins: imageOrigins.slice(0, 1),
        demo: { tokens: { developer: goodToken, admin: 'other' }, secret },
      },
      handlers: {
        listTasks({ query, pageSize, pageToken, includeTotalSize }) {
          if (failure !== undefined) return Promise.reject(failure);
          if (query.includes('nonsense')) {
            const description = '"nonsense" is not a valid value (at position 0)';
            return Promise.reject(invalidArgument([{ field: 'status', description }], 'INVALID_QUERY'));
          }
          const from = Number(pageToken || 0);
          const upTo = from + Math.max(pageSize, fewest);
          return Promise.resolve(
            create(ListTasksResponseSchema, {
              tasks: tasks.slice(from, upTo),
              nextPageToken: upTo < tasks.length ? String(upTo) : '',
              ...(includeTotalSize ? { totalSize: 10_000, totalSizeCapped: true } : {}),
            }),
          );
        },
        countTasks({ query }) {
          if (failure !== undefined) return Promise.reject(failure);
          const isPart = query.includes('state:');
          const total = { count: isPart ? 0 : 1000, capped: !isPart };
          return Promise.resolve(create(CountTasksResponseSchema, { total, waiting: { count: 999 } }));
        },
        getTask({ identifier }) {
          const found = tasks.find(({ id }) => id === identifier.value);
          return found === undefined
            ? Promise.reject(taskNotFound())
            : Promise.resolve(create(GetTaskResponseSchema, { task: found }));
        },
      },
    });
    browser = await startBrowser();
  });
  afterAll(async () => {
    await browser?.close();
    await server?.stop();
    for (const images_ of images) images_.close();
  });
  beforeEach(async () => {
    tasks = Array.from({ length: 30 }, (_, index) => task(index));
    failure = undefined;
    fewest = 0;
    context = await openContext(browser);
    ({ page, misdeeds } = await openPage(context));
  });
  afterEach(async () => {
    expect(misdeeds.errors).toEqual([]);
    await context.close();
  });

  async function signIn(address = '/'): Promise<void> {
    await page.goto(demoAddress(address));
    await page.getByRole('button', { name: 'developer' }).click();
    await page.getByRole('banner').waitFor();
  }
  const row = () => page.locator('.row').first();

  test('signs in to the demo by a click', async () => {
    await signIn();
    await row().waitFor();
    await expect.poll(() => page.locator('.count').allTextContents()).toEqual(['1,000+', '999', '0', '0', '0', '0', '0']);
  });

  test('offers the demo to a tab that was opened with its secret, also after a reload, and leaves the secret in no address', async () => {
    const developer = page.getByRole('button', { name: 'developer' });
    const asked: string[] = [];
    page.on('request', (request) => asked.push(request.url()));
    await page.goto(`${base()}/?q=a`);
    await page.getByText('open the whole address').waitFor();
    expect(await developer.count()).toBe(0);
    await page.goto(demoAddress('/?q=a')); // into the same tab, which does not load it again
    await developer.waitFor();
    expect(page.url()).toBe(`${base()}/?q=a`);
    await page.reload();
    await developer.waitFor();
    await developer.click();
    await row().waitFor();
    await page.getByRole('button', { name: 'Sign out' }).click();
    await developer.waitFor();
    expect(asked.filter((address) => address.includes(secret))).toEqual([]);

    const other = await openPage(context);
    await other.page.goto(`${base()}/#demo=${'a'.repeat(22)}`);
    await other.page.getByText('open the whole address').waitFor();
    expect(other.misdeeds.errors).toEqual([expect.stringContaining('403')]);
  });

  test('scrolls through 10,000 tasks with few of them in the document', async () => {
    tasks = Array.from({ length: 10_000 }, (_, index) => task(index));
    fewest = 500;
    await signIn();
    await row().waitFor();
    let most = 0;
    const end = page.locator('.end').getByText('10,000 tasks');
    while ((await end.count()) === 0) {
      most = Math.max(most, await page.evaluate(() => document.querySelectorAll('*').length));
      await page.evaluate(() => scrollTo(0, document.documentElement.scrollHeight));
    }
    await page.evaluate(() => scrollTo(0, document.documentElement.scrollHeight));
    await page.locator('.row').getByText('Do the thing number 9999').waitFor();
    expect(await page.locator('.row').count()).toBeLessThan(60);
    expect(most).toBeLessThan(3000);

    // What a frame costs is counted in processor time: other programs may drop frames, too.
    const devtools = await context.newCDPSession(page);
    await devtools.send('Performance.enable', { timeDomain: 'threadTicks' });
    const processorMs = async (): Promise<number> => {
      const { metrics } = await devtools.send('Performance.getMetrics');
      return 1000 * (metrics.find(({ name }) => name === 'TaskDuration')?.value ?? Number.NaN);
    };
    const before = await processorMs();
    await page.evaluate(async () => {
      for (let frame = 0, top = document.documentElement.scrollHeight; frame < 60; frame++, top -= 900) {
        scrollTo(0, top);
        await new Promise<number>((resolve) => requestAnimationFrame(resolve));
      }
    });
    // A page that renders all it has takes far longer.
    expect(((await processorMs()) - before) / 60).toBeLessThan(100);
  });

  describe('takes what others wrote as text:', () => {
    const hostile = [
      '<img src=x onerror="window.hacked=1">',
      '<script>window.hacked=1</script>',
      '"><svg onload=window.hacked=1>',
      "'+window.hacked+'",
      '{{constructor.constructor("window.hacked=1")()}}',
      '\u202Egnp.exe\u2066\u2069',
      'W'.repeat(4000),
      '\0\u0007\uFFFF\uD800 é 田中 🐟',
    ];

    test.each(hostile)('%#', async (text) => {
      const sent = text.toWellFormed();
      tasks = [
        task(0, {
          name: sent,
          displayName: sent,
          initialPrompt: sent,
          ownerName: sent,
          ownerAvatarUrl: sent,
          templateName: sent,
          templateDisplayName: sent,
          templateIcon: sent,
          organizationName: sent,
          workspaceName: sent,
          currentState: { state: TaskState.WORKING, message: sent, uri: sent },
          workspaceAgentHealth: { healthy: false, reason: sent },
        }),
      ];
      await signIn();
      await row().waitFor();
      const noElements = async (): Promise<void> => {
        const foreign =
          'img, iframe, object, embed, script:not([src^="./assets/"], [src^="../assets/"]), [onerror], [onload], a[href^="javascript"]';
        expect(await page.locator(foreign).count()).toBe(0);
        expect(await page.evaluate(() => 'hacked' in window)).toBe(false);
        expect(
          await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth),
        ).toBeLessThanOrEqual(0);
      };
      expect(await page.locator('.title').textContent()).toBe(sent);
      expect(await page.locator('.message').textContent()).toBe(sent);
      await noElements();
      await page.locator('.title').click();
      await page.locator('.prompt').waitFor();
      expect(await page.locator('.prompt').textContent()).toBe(sent);
      await noElements();
    });

    test.each([
      'javascript:window.hacked=1',
      'data:text/html,<script>1</script>',
      'file:///etc/passwd',
      'vbscript:x',
      '//example.com',
    ])('the link %s cannot be clicked', async (uri) => {
      tasks = [task(0, { currentState: { state: TaskState.IDLE, uri } })];
      await signIn(`/tasks/${task(0).id}`);
      await page.getByText(uri).waitFor();
      expect(await page.getByRole('article').getByRole('link').count()).toBe(0);
    });

    test('a link of the web can, and tells nobody where it was clicked', async () => {
      await signIn(`/tasks/${task(0).id}`);
      const link = page.getByRole('article').getByRole('link');
      expect(await link.getAttribute('href')).toBe('https://github.com/example/repository/pull/1');
      expect(await link.getAttribute('rel')).toBe('noopener noreferrer');
    });

    test('a prompt of a megabyte', async () => {
      tasks = [task(0, { initialPrompt: 'word '.repeat(200_000) })];
      await signIn(`/tasks/${task(0).id}`);
      await page.locator('.prompt').waitFor();
      const shown = await page.locator('.prompt').textContent();
      expect(shown).toBe('word '.repeat(4000));
      await page.getByRole('button', { name: 'Show all 1,000,000 characters' }).waitFor();
    });
  });

  test('works over TLS, whose port the grpcurl line then calls without -plaintext', async () => {
    const folder = mkdtempSync(path.join(tmpdir(), 'page-tls-'));
    const { certFile, keyFile } = makeAuthority(folder, 'ours').issue('page');
    const certificates = createCertificates({ cert: certFile, key: keyFile }, pino({ level: 'silent' }));
    const secure = await startTestServer({
      certificates,
      page: { folder: pageFolder, imageOrigins: [], demo: { tokens: { developer: goodToken }, secret } },
      handlers: { getTask: () => Promise.resolve(create(GetTaskResponseSchema, { task: task(1) })) },
    });
    const trusting = await openContext(browser, { ignoreHTTPSErrors: true });
    const tab = await openPage(trusting);
    await tab.page.goto(`https://${secure.web}/tasks/${task(1).id}#demo=${secret}`);
    await tab.page.getByRole('button', { name: 'developer' }).click();
    expect(await tab.page.getByLabel('Command', { exact: true }).textContent()).toContain(
      'grpcurl -H "coder-session-token: $TOKEN"',
    );
    expect(tab.misdeeds.errors).toEqual([]);
    await trusting.close();
    await secure.stop();
    certificates.close();
    rmSync(folder, { recursive: true, force: true });
  });

  test('loads pictures of listed origins alone', async () => {
    const [allowed = '', other = ''] = imageOrigins;
    tasks = [
      task(0, { ownerName: 'teammate', ownerAvatarUrl: `${allowed}/avatar.png`, templateIcon: '/icon/docker.png' }),
      task(1, { ownerAvatarUrl: `${other}/avatar.png`, templateIcon: `${allowed}.evil.example.com/x.png` }),
    ];
    imageRequests.length = 0;
    await signIn();
    await row().waitFor();
    await expect
      .poll(() => imageRequests.toSorted())
      .toEqual([`${allowed}/avatar.png no referrer`, `${allowed}/icon/docker.png no referrer`]);
    expect(await page.locator('.row').nth(1).locator('.picture').allTextContents()).toEqual(['DE', 'DO']);
  });

  describe('says what went wrong and what to do:', () => {
    test('while the service cannot answer, and goes on by itself when it can', async () => {
      await signIn();
      await row().waitFor();
      failure = databaseUnavailable(new Error('gone'));
      await page.locator('.order select').selectOption('Oldest first');
      await page.getByText('The service cannot be reached').waitFor({ timeout: 15_000 });
      failure = undefined;
      await row().waitFor({ timeout: 15_000 });
      misdeeds.clear(); // the browser logs the 503
    });

    test.each([
      [Code.ResourceExhausted, 'Narrow the query'],
      [Code.Internal, 'Tell its operators'],
      [Code.PermissionDenied, 'Tell its operators'],
      [Code.DeadlineExceeded, 'took too long'],
    ])('code %i', async (code, advice) => {
      await signIn();
      await row().waitFor();
      failure = new ConnectError('for a reason', code);
      await page.locator('.order select').selectOption('Oldest first');
      await page.getByRole('alert').getByText(advice).waitFor();
      failure = undefined;
      await page.getByRole('button', { name: 'Try again' }).click();
      await row().waitFor();
      misdeeds.clear(); // the browser logs the error
    });

    test('at the sign-in', async () => {
      await page.goto(demoAddress());
      await page.getByRole('button', { name: 'developer' }).waitFor();
      failure = databaseUnavailable(new Error('gone'));
      await page.getByRole('button', { name: 'developer' }).click();
      await page.getByRole('alert').getByText('cannot be reached').waitFor();
      misdeeds.clear(); // the browser logs the 503
    });
  });

  describe('is there for everyone: axe finds nothing, and nothing is wider than the screen,', () => {
    const states: readonly (readonly [name: string, show: () => Promise<void>])[] = [
      [
        'the sign-in',
        async () => {
          await page.goto(demoAddress());
          await page.getByRole('button', { name: 'developer' }).waitFor();
          await page.getByRole('button', { name: 'Sign in' }).click();
          await page.getByRole('alert').waitFor();
        },
      ],
      [
        'the sign-in of a demo whose secret is not known',
        async () => {
          await page.goto(base());
          await page.getByText('open the whole address').waitFor();
        },
      ],
      [
        'the list',
        async () => {
          await signIn('/?q=waiting:true');
          await row().waitFor();
          await page.keyboard.press('j');
        },
      ],
      [
        'the suggestions',
        async () => {
          await signIn();
          await row().waitFor();
          await page.getByRole('combobox', { name: 'Query' }).fill('status:');
          await page.keyboard.press('ArrowDown');
          await page.locator('.suggestions [aria-selected="true"]').waitFor();
        },
      ],
      [
        'a wrong query',
        async () => {
          await signIn('/?q=status:nonsense');
          await page.getByRole('alert').waitFor();
        },
      ],
      [
        'an empty list',
        async () => {
          tasks = [];
          await signIn('/?q=a');
          await page.getByText('No task matches').waitFor();
        },
      ],
      [
        'a task',
        async () => {
          await signIn(`/tasks/${task(1).id}`);
          await page.getByRole('article').waitFor();
        },
      ],
      [
        'an absent task',
        async () => {
          await signIn('/tasks/absent');
          await page.getByRole('alert').waitFor();
        },
      ],
      [
        'an error',
        async () => {
          await signIn();
          await row().waitFor();
          failure = new ConnectError('for a reason', Code.Internal);
          await page.locator('.order select').selectOption('Oldest first');
          await page.getByRole('alert').waitFor();
        },
      ],
    ];

    test.each(states)('%s', async (_, show) => {
      await show();
      for (const [colorScheme, width] of [
        ['light', 1280],
        ['dark', 1280],
        ['dark', 900],
        ['dark', 360],
        ['light', 360],
      ] as const) {
        await page.emulateMedia({ colorScheme });
        await page.setViewportSize({ width, height: 740 });
        expect(await axeViolations(page), `${colorScheme}, ${width} pixels`).toEqual([]);
        expect(
          await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth),
        ).toBeLessThanOrEqual(0);
      }
      misdeeds.clear(); // the browser logs the errors that were provoked
    });

    test('the colors that were chosen stay', async () => {
      await signIn();
      const ground = () => page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor);
      const light = await ground();
      await page.getByRole('button', { name: /^Colors: system/ }).click();
      await page.getByRole('button', { name: /^Colors: light/ }).click();
      await page.getByRole('button', { name: /^Colors: dark/ }).waitFor();
      expect(await ground()).not.toBe(light);
      await page.reload();
      await page.getByRole('button', { name: /^Colors: dark/ }).waitFor();
      expect(await ground()).not.toBe(light);
    });
  });
});

test('the page is at most 150 kB in all, as it is sent', () => {
  const assets = path.join(pageFolder, 'assets');
  const sizes = readdirSync(assets)
    .filter((name) => !/\.(?:br|gz)$/.test(name))
    .map((name) => gzipSync(readFileSync(path.join(assets, name)), { level: 9 }).length);
  const html = readFileSync(path.join(pageFolder, 'index.html')).length;
  expect(sizes.reduce((sum, size) => sum + size, html)).toBeLessThanOrEqual(150_000);
});
