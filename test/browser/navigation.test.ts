import { create } from '@bufbuild/protobuf';
import type { BrowserContext, Page } from 'playwright-core';
import { beforeEach, expect, test } from 'vitest';
import { invalidArgument, taskNotFound } from '../../src/call/errors.ts';
import {
  type GetTaskRequest,
  GetTaskResponseSchema,
  ListTasksResponseSchema,
  type Task,
  TaskPhase,
  TaskSchema,
  TaskState,
  type WatchTasksRequest,
  WatchTasksResponseSchema,
} from '../../src/gen/tasks/v1/tasks_pb.ts';
import { pageFolder } from '../../src/transport/page/page.ts';
import { startTestServer, type TestServer } from '../support/test-server.ts';
import { axeViolations } from './axe.ts';
import { describeInBrowser, type Misdeeds, openPage, useSuitePage } from './browser.ts';

// Ways around the page: addresses, links, keys, and what it says when there is no way. The service is one of the test's own.

describeInBrowser('the ways of the page', () => {
  let context: BrowserContext;
  let page: Page;
  let misdeeds: Misdeeds;
  /** Which methods were called, with the query or the task that was asked for. */
  let called: string[];
  /** Ends when GetTask may answer. */
  let mayGet: Promise<void>;

  const tasks: readonly Task[] = Array.from({ length: 60 }, (_, index) =>
    create(TaskSchema, {
      id: `00000000-0000-4000-8000-0000000000${String(index).padStart(2, '0')}`,
      name: `task-${index}`,
      displayName: `Do thing ${index}`,
      initialPrompt: `Do thing ${index}`,
      ownerName: 'developer',
      workspaceName: index === 1 ? '' : `workspace-${index}`, // one has no workspace yet
      phase: TaskPhase.ACTIVE,
      currentState: { state: TaskState.WORKING, message: 'Working', uri: 'https://github.com/example/repository/pull/1' },
    }),
  );
  const handlers = {
    listTasks({ query, includeResumeToken }: { query: string; includeResumeToken: boolean }) {
      called.push(`list ${query}`);
      if (query.includes('nonsense')) {
        return Promise.reject(invalidArgument([{ field: 'status', description: 'is wrong' }], 'INVALID_QUERY'));
      }
      return Promise.resolve(
        create(ListTasksResponseSchema, { tasks: [...tasks], resumeToken: includeResumeToken ? 'list' : '' }),
      );
    },
    async getTask({ identifier }: Pick<GetTaskRequest, 'identifier'>) {
      called.push(`get ${identifier.case}`);
      await mayGet;
      const found =
        identifier.case === 'id'
          ? tasks.find(({ id }) => id === identifier.value)
          : tasks.find(({ name }) => identifier.case === 'name' && name === identifier.value.name);
      if (found === undefined) throw taskNotFound();
      return create(GetTaskResponseSchema, { task: found });
    },
    async *watchTasks({ query, resumeToken }: WatchTasksRequest, { signal }: { signal: AbortSignal }) {
      called.push(`watch ${query}${resumeToken === '' ? '' : ` from ${resumeToken}`}`);
      if (query.includes('nonsense')) throw invalidArgument([{ field: 'status', description: 'is wrong' }], 'INVALID_QUERY');
      yield create(WatchTasksResponseSchema, { resumeToken: '1', event: { case: 'synced', value: {} } });
      await new Promise((resolve) => signal.addEventListener('abort', resolve));
    },
  };
  const start = (ports?: { readonly web: number }): Promise<TestServer> =>
    startTestServer({
      page: { folder: pageFolder, imageOrigins: [], coderUrl: 'https://coder.example.com/dev/' },
      handlers,
      ...(ports && { ports: { grpc: 0, ops: 0, ...ports } }),
    });

  called = [];
  const suite = useSuitePage(start, ['clipboard-read', 'clipboard-write']);
  const { base, open } = suite;
  beforeEach(() => {
    called = [];
    mayGet = Promise.resolve();
    ({ page, context, misdeeds } = suite);
  });
  const status = () => page.locator('.live-indicator').textContent();
  const focused = () => page.evaluate(() => document.activeElement?.closest<HTMLElement>('[data-id]')?.dataset['id']);
  const heading = (index: number) => page.getByRole('heading', { level: 1, name: `Do thing ${index}`, exact: true });

  test('a list is loaded once, at the sign-in as after it, and its stream starts where it was read', async () => {
    await open('/');
    await page.locator('.row').first().waitFor();
    await expect.poll(status).toBe('Live');
    await page.getByRole('link', { name: /^Paused/ }).click();
    await expect
      .poll(() => called.filter((call) => call.startsWith('watch')))
      .toEqual(['watch  from list', 'watch phase:paused from list']);
    await expect.poll(status).toBe('Live');
    await page.waitForTimeout(500); // a second loading would come when the stream has begun
    expect(called.filter((call) => call.startsWith('list'))).toEqual(['list ', 'list phase:paused']);

    const other = await openPage(context);
    await other.page.goto(`${base()}/?q=phase:paused`);
    await expect.poll(() => other.page.locator('.live-indicator').textContent()).toBe('Live');
    await other.page.locator('.row').first().waitFor();
    await other.page.waitForTimeout(500);
    expect(called.filter((call) => call.endsWith('phase:paused'))).toEqual(['list phase:paused', 'list phase:paused']);
    expect(called.filter((call) => call.startsWith('watch'))).toHaveLength(2);
    expect(other.misdeeds.errors).toEqual([]);
  });

  test('keys lead through a list, to a task, from it to the next, and back to that one', async () => {
    await open('/');
    await page.locator('.row').first().waitFor();
    await page.keyboard.press('G');
    await expect.poll(focused).toBe(tasks.at(-1)?.id);
    await page.keyboard.press('g');
    await expect.poll(focused).toBe(tasks[0]?.id);
    await page.keyboard.press('j');
    await expect.poll(focused).toBe(tasks[1]?.id);
    await page.keyboard.press('y');
    expect(await page.evaluate(() => navigator.clipboard.readText())).toBe(`${base()}/tasks/${tasks[1]?.id}`);
    await page.keyboard.press('Enter');
    await heading(1).waitFor();
    await page.keyboard.press('j');
    await heading(2).waitFor();
    await page.keyboard.press('k');
    await page.getByRole('button', { name: 'Next' }).click();
    await heading(2).waitFor();
    await page.keyboard.press('y');
    expect(await page.evaluate(() => navigator.clipboard.readText())).toBe(`${base()}/tasks/${tasks[2]?.id}`);
    await page.keyboard.press('Escape');
    await expect.poll(focused).toBe(tasks[2]?.id);
    await page.keyboard.press('w');
    await page.locator('.tab[aria-current=page]').getByText('Waiting').waitFor();
    expect(new URL(page.url()).searchParams.get('q')).toBe('waiting:true');
    await page.keyboard.press('w');
    await expect.poll(() => new URL(page.url()).searchParams.get('q')).toBeNull();
  });

  test('all keys are shown by ?, and some of them always, as is whether the page is live', async () => {
    await open('/');
    await page.locator('.row').first().waitFor();
    await page.keyboard.press('G');
    await expect.poll(() => page.evaluate(() => scrollY)).toBeGreaterThan(500);
    const inView = (selector: string): Promise<boolean> =>
      page.locator(selector).evaluate((element) => {
        const { top, bottom } = element.getBoundingClientRect();
        return top >= 0 && bottom <= innerHeight;
      });
    expect(await inView('.keys')).toBe(true);
    expect(await inView('.live-indicator')).toBe(true);
    await page.keyboard.press('?');
    await page.getByRole('dialog').getByText('copy the link').first().waitFor();
    expect(await axeViolations(page)).toEqual([]);
    await page.keyboard.press('Escape');
    await page.getByRole('dialog').waitFor({ state: 'detached' });
  });

  test('a task of the list opens at once', async () => {
    await open('/');
    await page.locator('.row').first().waitFor();
    let answer = (): void => {};
    mayGet = new Promise((resolve) => {
      answer = resolve;
    });
    await page.locator('.row a.title').first().click();
    await heading(0).waitFor();
    await expect.poll(() => called).toContain('get id');
    answer();
  });

  test.each(['/tasks/developer/task-7', `/tasks/someone/00000000-0000-4000-8000-000000000007`])(
    'a task is found where Coder’s links have it: %s',
    async (path) => {
      await open(path);
      await heading(7).waitFor();
      await expect.poll(status).toBe('Live');
    },
  );

  test('links lead out of the row and the view of a task', async () => {
    await open('/');
    const row = page.locator('.row').first();
    const id = tasks[0]?.id;
    const expected = [
      'https://github.com/example/repository/pull/1',
      `https://coder.example.com/dev/tasks/developer/${id}`,
      'https://coder.example.com/dev/@developer/workspace-0',
    ];
    await row.waitFor();
    const hrefs = (from: ReturnType<Page['locator']>) =>
      from.getByRole('link').evaluateAll((links) => links.map((link) => link.getAttribute('href')));
    expect(await hrefs(row.locator('.links'))).toEqual(expected);
    expect(await hrefs(page.locator('.row').nth(1).locator('.links'))).toEqual([
      expected[0],
      `https://coder.example.com/dev/tasks/developer/${tasks[1]?.id}`,
    ]);
    await row.locator('a.title').click();
    await heading(0).waitFor();
    expect(await hrefs(page.getByRole('article'))).toEqual(expected);
  });

  test('an address that the page does not have is its own "not found"', async () => {
    const response = await page.goto(`${base()}/no/such/place`);
    expect(response?.status()).toBe(404);
    await page.getByText('There is nothing here').waitFor();
    expect(await axeViolations(page)).toEqual([]);
    misdeeds.clear(); // the browser logs the 404
    await page.getByRole('link', { name: 'To the tasks' }).click();
    await page.getByLabel('Session token').waitFor();
  });

  test.each(['/?q=status:nonsense', '/tasks/absent'])('%s is not said to be connecting', async (path) => {
    await open(path);
    await page.getByRole('alert').waitFor();
    await expect.poll(status).toBe('Not live');
    misdeeds.clear(); // the browser logs the error
  });

  test('a service that is away is said to be so, since when, and when it is tried again', async () => {
    await open('/');
    await page.locator('.row').first().waitFor();
    await expect.poll(status).toBe('Live');
    const { web } = suite.server;
    await suite.server.stop();
    const banner = page.locator('.away');
    await banner.getByText('The service cannot be reached since').waitFor();
    await expect.poll(() => banner.textContent()).toMatch(/\d\d? [AP]M\..*(?:Next try in \d+ s|Trying now)\.$/);
    expect(await axeViolations(page)).toEqual([]);
    // What one needs meanwhile is not beneath the banner, and a list that cannot be loaded does not show the tasks of another.
    const [below, box] = [await banner.boundingBox(), await page.getByRole('combobox', { name: 'Query' }).boundingBox()];
    expect(below?.y).toBeGreaterThan((box?.y ?? 0) + (box?.height ?? 0));
    await page.getByRole('link', { name: /^Paused/ }).click();
    await expect.poll(() => page.locator('.row').count()).toBe(0);
    suite.server = await start({ web: Number(new URL(`http://${web}`).port) });
    await banner.waitFor({ state: 'detached' });
    await expect.poll(status).toBe('Live');
    misdeeds.clear(); // the browser logs that nobody answered
  });
});
