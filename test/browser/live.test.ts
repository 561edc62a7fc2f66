import type { Browser, BrowserContext, Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { createApiKeyRepository } from '../../src/auth/api-key-repository.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { insertOrganization, insertTemplate, insertUser } from '../support/people.ts';
import { type RunningService, startService } from '../support/service.ts';
import { insertRunningTask, insertSource, now, type SourceTaskIds } from '../support/source-writer.ts';
import { describeInBrowser, type Misdeeds, openContext, openPage, setVisible, startBrowser } from './browser.ts';

// What changes in a real database while the page is open.

/** From a committed change to its being seen, in milliseconds. */
const promisedMs = 2000;

/** As long as it may take where the time is not what is tested. */
const patienceMs = 10_000;

describeInBrowser('the page, without a reload,', () => {
  let db: TestDatabase;
  let service: RunningService;
  let browser: Browser;
  let context: BrowserContext;
  let page: Page;
  let misdeeds: Misdeeds;
  let owner: Buffer;
  let organization: Buffer;
  let template: Buffer;
  let token: string;
  const base = () => `http://${service.web}`;

  const portOf = (address: string): string => new URL(`http://${address}`).port;
  const insertTask = (name: string): Promise<SourceTaskIds> =>
    insertRunningTask(db.database, { owner_id: owner, organization_id: organization, template_id: template, name });
  const report = async ({ workspace, agent, app }: SourceTaskIds, state: string, message: string): Promise<void> => {
    const ids = { workspace_id: workspace, agent_id: agent, app_id: app };
    await insertSource(db.database, 'workspace_app_statuses', { ...ids, state, message, created_at: now() });
  };
  const rename = async ({ workspace }: SourceTaskIds, name: string): Promise<void> => {
    await db.database('workspaces').where('workspaces.id', workspace).update({ name });
  };
  const status = (tab: Page = page) => tab.locator('.live-indicator');
  const whenLive = (tab: Page = page) => expect.poll(() => status(tab).textContent(), { timeout: 15_000 }).toBe('Live');
  const row = (name: string, tab: Page = page) => tab.locator('.row').filter({ has: tab.getByText(name, { exact: true }) });
  const names = () => page.locator('.row .name').allTextContents();

  /** Opens a view, signed in. */
  async function open(path = '/', tab: Page = page): Promise<void> {
    await tab.goto(base() + path);
    const field = tab.getByLabel('Session token');
    await field.or(tab.getByRole('banner')).waitFor();
    if ((await field.count()) === 0) return;
    await field.fill(token);
    await tab.getByRole('button', { name: 'Sign in' }).click();
    await tab.getByRole('banner').waitFor();
    await tab.mouse.move(0, 0); // where the button was, there may be a row now
  }

  /** Streams that are open at the service. */
  async function watchers(): Promise<number> {
    const text = await (await fetch(`http://${service.ops}/metrics`)).text();
    return Number(/^tasks_watchers (\d+)$/m.exec(text)?.[1] ?? Number.NaN);
  }

  /** Makes a tab one that cannot be seen, or one that can, as the browser would tell it. */

  beforeAll(async () => {
    db = await createTestDatabase('mariadb');
    organization = await insertOrganization(db.database, 'atlas');
    template = await insertTemplate(db.database, { organizationId: organization, name: 'docker' });
    owner = await insertUser(db.database, { username: 'developer', memberships: [[organization]] });
    token = (await createApiKeyRepository(db.database).create('developer', { lifetimeSeconds: 3600, name: 'test' })) ?? '';
    [service, browser] = await Promise.all([startService(db.address, { AUTH_CACHE_SECONDS: '1' }), startBrowser()]);
  });
  afterAll(async () => {
    await browser?.close();
    await service?.stop();
    await db?.drop();
  });
  beforeEach(async () => {
    await db.database('workspaces').where('workspaces.owner_id', owner).update({ deleted: true });
    context = await openContext(browser);
    ({ page, misdeeds } = await openPage(context));
  });
  afterEach(async () => {
    expect(misdeeds.errors).toEqual([]);
    await context.close();
    await expect.poll(watchers).toBe(0);
  });

  test('shows what an agent reports, where the row stands', async () => {
    const first = await insertTask('aaa-first');
    await insertTask('bbb-second');
    await open();
    await row('bbb-second').waitFor();
    await whenLive();
    await page.evaluate(() => Object.assign(window, { notReloaded: true }));
    await row('aaa-first').hover();
    const place = await row('aaa-first').boundingBox();

    await report(first, 'idle', 'Which port shall I use?');
    await row('aaa-first').getByText('Which port shall I use?').waitFor({ timeout: promisedMs });
    await row('aaa-first').getByText('Waiting for input').waitFor();
    await rename(first, 'zzz-last'); // its place would be another one
    await row('zzz-last').waitFor({ timeout: promisedMs });
    expect(await row('zzz-last').boundingBox()).toEqual(place);
    expect(await names()).toEqual(['zzz-last', 'bbb-second']);
    await expect
      .poll(
        () =>
          page
            .getByRole('link', { name: /^Waiting/ })
            .locator('.count')
            .textContent(),
        { timeout: 10_000 },
      )
      .toBe('1');
    expect(await page.evaluate(() => 'notReloaded' in window)).toBe(true);
  });

  test('shows new tasks and takes out old ones, but moves no row under the pointer', async () => {
    const leaving = await insertTask('bbb');
    await open('/?q=owner:me+b');
    await row('bbb').waitFor();
    await whenLive();

    await insertTask('abc');
    await row('abc').waitFor({ timeout: patienceMs });
    expect(await names()).toEqual(['abc', 'bbb']);

    await row('bbb').hover();
    const place = await row('bbb').boundingBox();
    await insertTask('aab');
    await page.getByRole('button', { name: '1 new task' }).waitFor({ timeout: patienceMs });
    await rename(leaving, 'no-match');
    await page.getByText('Not in this list any more').waitFor({ timeout: patienceMs });
    expect(await page.locator('.row').nth(1).boundingBox()).toEqual(place);
    expect(await page.locator('.row').count()).toBe(2);

    // On its way to the button the pointer leaves the rows, and the button must not vanish under it.
    await page.getByRole('button', { name: '1 new task' }).hover();
    await page.waitForTimeout(100);
    await page.getByRole('button', { name: '1 new task' }).click();
    await page.mouse.move(0, 0);
    await expect.poll(names).toEqual(['aab', 'abc']);
  });

  test('follows a task in its own view', async () => {
    const task = await insertTask('mine');
    await open();
    await row('mine').click();
    await page.getByRole('article').waitFor();
    await whenLive();
    await report(task, 'complete', 'All tests pass');
    await page.getByRole('article').getByText('All tests pass').waitFor({ timeout: patienceMs });
    await page.goBack();
    await row('mine').getByText('All tests pass').waitFor();
    await whenLive();
    await report(task, 'idle', 'Anything else?');
    await row('mine').getByText('Anything else?').waitFor({ timeout: patienceMs });
  });

  test('goes on where it was after the service was started again', async () => {
    const task = await insertTask('patient');
    await open();
    await row('patient').waitFor();
    await whenLive();
    const { web, ops } = service;
    await service.stop();
    await expect.poll(() => status().textContent(), { timeout: 10_000 }).toBe('Reconnecting');
    await report(task, 'failure', 'It broke meanwhile');
    service = await startService(db.address, { AUTH_CACHE_SECONDS: '1', WEB_PORT: portOf(web), OPS_PORT: portOf(ops) });
    await whenLive();
    await row('patient').getByText('It broke meanwhile').waitFor({ timeout: patienceMs });
    await report(task, 'working', 'On it again');
    await row('patient').getByText('On it again').waitFor({ timeout: patienceMs });
    misdeeds.clear(); // the browser logs that nobody answered
  });

  test('says that there is no network, and goes on when there is', async () => {
    const task = await insertTask('patient');
    await open();
    await row('patient').waitFor();
    await whenLive();
    await context.setOffline(true);
    await service.stop(); // what is offline only for the browser would keep its stream
    await expect.poll(() => status().textContent(), { timeout: patienceMs }).toBe('Offline');
    await report(task, 'idle', 'Anybody there?');
    service = await startService(db.address, {
      AUTH_CACHE_SECONDS: '1',
      WEB_PORT: portOf(service.web),
      OPS_PORT: portOf(service.ops),
    });
    await context.setOffline(false);
    await whenLive();
    await row('patient').getByText('Anybody there?').waitFor({ timeout: patienceMs });
    misdeeds.clear(); // the browser logs that nobody answered
  });

  test('asks for another token when the one it has is revoked', async () => {
    const brief = (await createApiKeyRepository(db.database).create('developer', { lifetimeSeconds: 3600, name: 'brief' })) ?? '';
    await insertTask('mine');
    await page.goto(`${base()}/?q=mine`);
    await page.getByLabel('Session token').fill(brief);
    await page.getByRole('button', { name: 'Sign in' }).click();
    await whenLive();
    await db.database('api_keys').where('api_keys.token_name', 'brief').delete();
    await page.getByText('Your session has ended').waitFor({ timeout: 10_000 });
    expect(page.url()).toBe(`${base()}/?q=mine`);
    misdeeds.clear(); // the browser logs the 401
  });

  test('asks again every few seconds where a query depends on the clock', async () => {
    await open('/?q=healthy:true');
    await expect.poll(() => status().textContent()).toBe('Every 10 s');
    expect(await watchers()).toBe(0);
  });

  describe('with many tabs', () => {
    test('has one stream, which the next tab takes over', async () => {
      const task = await insertTask('shared');
      await open();
      await whenLive();
      const others = [await openPage(context), await openPage(context)];
      for (const { page: tab } of others) {
        await open('/', tab);
        await whenLive(tab);
      }
      expect(await watchers()).toBe(1);
      await report(task, 'idle', 'one');
      for (const tab of [page, ...others.map((other) => other.page)]) {
        await row('shared', tab).getByText('one', { exact: true }).waitFor({ timeout: patienceMs });
      }

      await page.close();
      await report(task, 'working', 'two');
      for (const { page: tab } of others)
        await row('shared', tab).getByText('two', { exact: true }).waitFor({ timeout: patienceMs });
      expect(await watchers()).toBe(1);
      for (const other of others) expect(other.misdeeds.errors).toEqual([]);
    });

    test('a hidden one has no stream, and catches up when it is seen again', async () => {
      const task = await insertTask('hidden');
      await open();
      await row('hidden').waitFor();
      await whenLive();
      expect(await watchers()).toBe(1);
      await setVisible(page, false);
      await expect.poll(watchers).toBe(0);
      await report(task, 'idle', 'while nobody looked');
      await setVisible(page, true);
      await row('hidden').getByText('while nobody looked').waitFor({ timeout: patienceMs });
      await whenLive();
      expect(await watchers()).toBe(1);
    });

    test('a browser has at most three streams, whatever its tabs show', async () => {
      const tabs = [page];
      while (tabs.length < 5) tabs.push((await openPage(context)).page);
      for (const [index, tab] of tabs.entries()) await open(`/?q=name-${index}`, tab);
      for (const tab of tabs.slice(0, 3)) await whenLive(tab);
      for (const tab of tabs.slice(3)) await expect.poll(() => status(tab).textContent()).toBe('Every 10 s');
      expect(await watchers()).toBe(3);
      await page.close();
      await expect
        .poll(async () => new Set(await Promise.all(tabs.slice(3).map((tab) => status(tab).textContent()))))
        .toEqual(new Set(['Every 10 s', 'Live']));
    });
  });
});
