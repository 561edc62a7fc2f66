import { createClient } from '@connectrpc/connect';
import { createConnectTransport } from '@connectrpc/connect-node';
import type { Browser, BrowserContext, Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { loadDemo } from '../../dev/demo/demo.ts';
import { createApiKeyRepository } from '../../src/auth/api-key-repository.ts';
import { type Task, TasksService } from '../../src/gen/tasks/v1/tasks_pb.ts';
import { projectAll } from '../../src/projection/rebuild.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { type RunningService, startService } from '../support/service.ts';
import { describeInBrowser, type Misdeeds, openContext, openPage, startBrowser } from './browser.ts';

// The service as a process, on a real database with the demo data.

describeInBrowser('the page', () => {
  let db: TestDatabase;
  let service: RunningService;
  let browser: Browser;
  let context: BrowserContext;
  let page: Page;
  let misdeeds: Misdeeds;
  const tokens: Record<string, string> = {};
  const base = () => `http://${service.web}`;

  /** All tasks of a query as the service lists them. */
  async function listed(user: string, query: string, orderBy = ''): Promise<Task[]> {
    const client = createClient(TasksService, createConnectTransport({ baseUrl: base(), httpVersion: '1.1' }));
    const tasks: Task[] = [];
    let pageToken = '';
    do {
      const answer = await client.listTasks(
        { query, orderBy, pageSize: 200, pageToken },
        { headers: { 'coder-session-token': tokens[user] ?? '' } },
      );
      tasks.push(...answer.tasks);
      pageToken = answer.nextPageToken;
    } while (pageToken !== '');
    return tasks;
  }
  async function signIn(user: string, path = '/'): Promise<void> {
    await page.goto(base() + path);
    await page.getByLabel('Session token').fill(tokens[user] ?? '');
    await page.getByRole('button', { name: 'Sign in' }).click();
    await page.getByRole('banner').waitFor();
  }
  const names = () => page.locator('.row .name').allTextContents();
  const box = () => page.getByRole('combobox', { name: 'Query' });
  const shown = (tasks: readonly Task[], count: number) =>
    tasks.slice(0, count).map((task) => (task.favorite ? `Favorite${task.name}` : task.name));
  const asked = () => new URL(page.url()).searchParams.get('q') ?? '';

  beforeAll(async () => {
    db = await createTestDatabase('mariadb');
    await loadDemo(db.database, { now: new Date() });
    await projectAll(db.database);
    const keys = createApiKeyRepository(db.database);
    for (const user of ['admin', 'developer', 'teammate', 'outsider']) {
      tokens[user] = (await keys.create(user, { lifetimeSeconds: 3600, name: 'test' })) ?? '';
    }
    [service, browser] = await Promise.all([startService(db.address, { AUTH_CACHE_SECONDS: '0' }), startBrowser()]);
  });
  afterAll(async () => {
    await browser?.close();
    await service?.stop();
    await db?.drop();
  });
  beforeEach(async () => {
    context = await openContext(browser);
    ({ page, misdeeds } = await openPage(context));
  });
  afterEach(async () => {
    expect(misdeeds.errors).toEqual([]);
    await context.close();
  });

  describe('the sign-in', () => {
    test('takes a token, which stays in the session storage of the browser', async () => {
      await signIn('developer');
      await page.locator('.row').first().waitFor();
      expect(page.url()).toBe(`${base()}/`);
      const kept = await page.evaluate(() => [JSON.stringify(sessionStorage), JSON.stringify(localStorage), document.cookie]);
      expect(kept.map((text) => text.includes(tokens['developer'] ?? '-'))).toEqual([true, false, false]);
    });

    test.each(['nonsense', 'abcdefghij-aaaaaaaaaaaaaaaaaaaaaa', 'a\u{1f41f}b'])('refuses %j, and says so', async (token) => {
      await page.goto(base());
      await page.getByLabel('Session token').fill(token);
      await page.getByRole('button', { name: 'Sign in' }).click();
      await page.getByRole('alert').getByText('not accepted').waitFor();
      expect(await page.evaluate(() => sessionStorage.length)).toBe(0);
      misdeeds.clear(); // the browser logs the 401
    });

    test('offers no demo where there is none', async () => {
      await page.goto(base());
      await page.getByLabel('Session token').waitFor();
      expect(await page.getByText('Look around as').count()).toBe(0);
    });

    test('is left alone by a new tab, which goes on with the token of the first', async () => {
      await signIn('developer');
      const second = await openPage(context);
      await second.page.goto(base());
      await second.page.locator('.row').first().waitFor();
      await page.getByRole('button', { name: 'Sign out' }).click();
      // Signing out is for both.
      for (const tab of [page, second.page]) await tab.getByLabel('Session token').waitFor();
      expect(second.misdeeds.errors).toEqual([]);
    });
  });

  describe('the list', () => {
    test('shows one’s own tasks as the service orders them', async () => {
      await signIn('developer');
      await page.locator('.row').first().waitFor();
      expect(await names()).toEqual(shown(await listed('developer', ''), (await names()).length));
      const [first] = await listed('developer', '');
      const row = page.locator('.row').first();
      await expectText(row.locator('.title'), first?.displayName ?? '');
      // All of them are hers.
      expect(await row.locator('.owner').count()).toBe(0);
      expect(await row.locator('time').getAttribute('title')).toMatch(/\d{4}/);
    });

    test('shows everyone’s, those that wait, and an order, all kept in the address', async () => {
      await signIn('admin');
      await page.getByRole('button', { name: 'All tasks' }).click();
      const all = await listed('admin', 'owner:*');
      await expectNames(shown(all, 5));
      expect(asked()).toBe('owner:*');

      expect(await page.locator('.row .owner bdi').first().textContent()).toBe(all[0]?.ownerName);

      // The oldest question comes first.
      const waiting = await listed('admin', 'owner:* waiting:true', 'current_state.timestamp');
      const tab = page.getByRole('link', { name: /^Waiting/ });
      await expectText(tab.locator('.count'), String(waiting.length));
      await tab.click();
      await expectNames(shown(waiting, 5));
      expect(asked()).toBe('owner:* waiting:true');
      expect(new Set(await page.locator('.row .label').allTextContents())).toEqual(new Set(['Waiting for input']));
      expect(await page.locator('.row .state-mark time').first().textContent()).toMatch(/^for (?:a moment|\d+ (?:min|h|d))$/);
      await expectText(page.locator('.total'), `${waiting.length} tasks`);
      await expect.poll(() => page.title()).toBe(`(${waiting.length}) Tasks`);

      const oldest = await listed('admin', 'owner:* waiting:true', 'created_at');
      await page.locator('.order select').selectOption('Oldest first');
      await expectNames(shown(oldest, 5));
      await page.getByRole('columnheader', { name: 'Created' }).waitFor();
      await page.reload();
      await expectNames(shown(oldest, 5));
      await page.goBack();
      await expectNames(shown(waiting, 5));
      await page.getByRole('columnheader', { name: 'Asked' }).waitFor();
      await page.goBack();
      await expectNames(shown(all, 5));
      await page.goBack();
      expect(asked()).toBe('');
    });

    test('has tabs, each with the number of its tasks', async () => {
      await signIn('admin', '/?q=owner:*');
      for (const [name, query, orderBy] of [
        ['Waiting', 'owner:* waiting:true', 'current_state.timestamp'],
        ['Working', 'owner:* state:working phase:active', ''],
        ['Failed', 'owner:* state:failed', 'current_state.timestamp desc'],
        ['Error', 'owner:* phase:error', ''],
        ['Complete', 'owner:* state:complete', 'current_state.timestamp desc'],
        ['Paused', 'owner:* phase:paused', ''],
        ['All', 'owner:*', ''],
      ] as const) {
        const tab = page.getByRole('link', { name: new RegExp(`^${name}`) });
        const tasks = await listed('admin', query, orderBy);
        await expectText(tab.locator('.count'), String(tasks.length));
        await tab.click();
        expect(asked()).toBe(query);
        await page.locator(`.tab[aria-current=page]`).getByText(name).waitFor();
        await expectNames(shown(tasks, 3));
      }
      // What does not run now is not said to work, or to wait.
      const { length } = await listed('admin', 'owner:* waiting:true');
      expect(length).toBeLessThan((await listed('admin', 'owner:* state:idle')).length);
    });

    test('is filtered by a query, with completion of keys and values', async () => {
      await signIn('admin');
      await page.keyboard.press('/');
      await page.keyboard.type('sta');
      await page.getByRole('option', { name: 'status:' }).waitFor();
      await page.keyboard.press('ArrowDown');
      await page.keyboard.press('Tab');
      await page.keyboard.type('sto');
      await page.keyboard.press('ArrowDown');
      await page.keyboard.press('ArrowDown');
      await page.keyboard.press('Enter');
      expect(asked()).toBe('status:stopped');
      await box().fill('owner:* status:stopped te');
      await page.getByRole('option', { name: 'template:' }).click();
      const templates = await page.getByRole('option').allTextContents();
      expect(templates.length).toBeGreaterThan(0);
      await box().fill('owner:* status:stopped');
      await page.keyboard.press('Enter');
      await expectNames(shown(await listed('admin', 'owner:* status:stopped'), 5));
    });

    test('says what is wrong with a query at its place', async () => {
      await signIn('developer', '/?q=status:nonsense+login+waiting:maybe');
      const problems = page.getByRole('alert');
      await problems.getByText('is not a valid value').waitFor();
      // Each is said once, and the list says nothing beside them.
      expect(await problems.count()).toBe(1);
      expect(await problems.getByRole('listitem').count()).toBe(2);
      expect(await page.locator('.query-marks mark').allTextContents()).toEqual(['status:nonsense', 'waiting:maybe']);
      await problems.getByRole('button', { name: 'waiting:maybe' }).click();
      expect(await page.evaluate(() => String(getSelection()))).toBe('waiting:maybe');
      await box().fill('login');
      await page.keyboard.press('Enter');
      await problems.waitFor({ state: 'detached' });
      expect(asked()).toBe('login');
      misdeeds.clear(); // the browser logs the 400
    });

    test('knows what may be meant by a misspelled query', async () => {
      await signIn('developer', '/?q=status:runing+login');
      await page.getByText('Did you mean').getByRole('button', { name: 'status:running' }).click();
      expect(asked()).toBe('status:running login');
      await page.getByRole('alert').waitFor({ state: 'detached' });
      misdeeds.clear(); // the browser logs the 400
    });

    test('loads page after page while one scrolls', async () => {
      await signIn('admin', '/?q=owner:*');
      const all = await listed('admin', 'owner:*');
      expect(all.length).toBeGreaterThan(100);
      await page.locator('.row').first().waitFor();
      const seen = new Set<string>();
      for (let i = 0; i < 100 && seen.size < all.length; i++) {
        for (const name of await names()) seen.add(name);
        await page.mouse.wheel(0, 600);
        await page.waitForTimeout(20); // for the browser to scroll
      }
      expect([...seen]).toEqual(shown(all, all.length));
      await page.locator('.end').getByText(`${all.length} tasks`).waitFor();
    });

    test('says what to do when nothing matches', async () => {
      await signIn('developer', '/?q=no-such-name');
      await page.getByText('No task matches').waitFor();
      await page.getByRole('link', { name: 'Look among all tasks' }).click();
      expect(asked()).toBe('no-such-name owner:*');
      await page.getByRole('link', { name: 'Clear the query' }).click();
      await page.locator('.row').first().waitFor();
    });

    test('holds nothing that one may not see', async () => {
      await signIn('outsider', '/?q=owner:*');
      await page.locator('.row').first().waitFor();
      await expectNames(shown(await listed('outsider', 'owner:*'), 5));
      expect(await page.getByText('developer', { exact: true }).count()).toBe(0);
    });
  });

  describe('a task', () => {
    test('shows all that is known of it, and leads back to where the list was', async () => {
      await signIn('admin', '/?q=owner:*');
      const all = await listed('admin', 'owner:*');
      await page.locator('.row').first().waitFor();
      await page.keyboard.press('j');
      for (let i = 0; i < 30; i++) await page.keyboard.press('j');
      const task = all[30];
      if (task === undefined) throw new Error('the demo has too few tasks');
      await expectFocus(task.id);
      const scrolled = await page.evaluate(() => scrollY);
      expect(scrolled).toBeGreaterThan(500);

      await page.keyboard.press('Enter');
      await page.getByRole('heading', { level: 1 }).getByText(task.displayName).waitFor();
      expect(page.url()).toBe(`${base()}/tasks/${task.id}`);
      for (const id of [task.id, task.ownerId, task.organizationId, task.templateId, task.templateVersionId]) {
        expect(await page.getByRole('article').getByText(id).count()).toBeGreaterThan(0);
      }
      await page
        .getByText(task.initialPrompt.split('\n')[0] ?? '')
        .first()
        .waitFor();
      const command = await page.getByLabel('Command', { exact: true }).textContent();
      expect(command).toContain(`'{"id":"${task.id}"}'`);
      expect(command).toContain(` ${service.grpc} tasks.v1.TasksService/GetTask`);
      expect(command).not.toContain(tokens['admin']);

      await page.keyboard.press('Escape');
      await expectFocus(task.id);
      expect(await page.evaluate(() => scrollY)).toBe(scrolled);
    });

    test('has ids that can be copied', async () => {
      await context.grantPermissions(['clipboard-read', 'clipboard-write'], { origin: base() });
      const [task] = await listed('developer', '');
      await signIn('developer', `/tasks/${task?.id}`);
      await page.getByRole('button', { name: 'Copy the id: Task', exact: true }).click();
      await page.getByText('Copied').waitFor();
      expect(await page.evaluate(() => navigator.clipboard.readText())).toBe(task?.id);
    });

    test.each(['5c8b9b1e-0000-4000-8000-000000000000', 'nonsense', '..%2f..'])(
      'that is absent, %s, is said to be so',
      async (id) => {
        await signIn('developer', `/tasks/${id}`);
        await page.getByText('There is no such task, or you may not see it').waitFor();
        misdeeds.clear(); // the browser logs the 404
      },
    );

    test('of someone else looks like an absent one', async () => {
      const [task] = await listed('developer', '');
      await signIn('outsider', `/tasks/${task?.id}`);
      await page.getByText('There is no such task, or you may not see it').waitFor();
      misdeeds.clear();
      await page.getByRole('link', { name: 'To your tasks' }).click();
      await page.locator('.row').first().waitFor();
    });
  });

  test('a session that has ended leads to the sign-in, and from there back', async () => {
    const keys = createApiKeyRepository(db.database);
    tokens['brief'] = (await keys.create('developer', { lifetimeSeconds: 3600, name: 'brief' })) ?? '';
    await signIn('brief', '/?q=status:running');
    await page.locator('.row').first().waitFor();
    await db.database('api_keys').where('api_keys.token_name', 'brief').update({ expires_at: '2020-01-01 00:00:00' });
    await page.getByText('Your session has ended').waitFor({ timeout: 20_000 });
    expect(asked()).toBe('status:running');
    misdeeds.clear(); // the browser logs the 401
    await page.getByLabel('Session token').fill(tokens['developer'] ?? '');
    await page.getByRole('button', { name: 'Sign in' }).click();
    await page.locator('.row').first().waitFor();
    expect(asked()).toBe('status:running');
  });

  async function expectText(locator: ReturnType<Page['locator']>, text: string): Promise<void> {
    await expect.poll(() => locator.textContent(), { timeout: 5000 }).toBe(text);
  }
  async function expectNames(expected: readonly string[]): Promise<void> {
    await expect.poll(async () => (await names()).slice(0, expected.length), { timeout: 5000 }).toEqual(expected);
  }
  async function expectFocus(id: string): Promise<void> {
    await expect
      .poll(() => page.evaluate(() => document.activeElement?.closest<HTMLElement>('[data-id]')?.dataset['id']), {
        timeout: 5000,
      })
      .toBe(id);
  }
});
