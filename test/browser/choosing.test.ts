import { create } from '@bufbuild/protobuf';
import type { BrowserContext, Page } from 'playwright-core';
import { beforeEach, describe, expect, test } from 'vitest';
import {
  ListQueryValuesResponseSchema,
  ListTasksResponseSchema,
  QueryKey,
  type QueryValue,
  QueryValueSchema,
  type Task,
  TaskPhase,
  TaskSchema,
  TaskState,
  WatchTasksResponseSchema,
} from '../../src/gen/tasks/v1/tasks_pb.ts';
import { phaseWords, queryKeys, stateWords, statusWords } from '../../src/tasks/query-keys.ts';
import { pageFolder } from '../../src/transport/page/page.ts';
import { startTestServer } from '../support/test-server.ts';
import { axeViolations } from './axe.ts';
import { describeInBrowser, useSuitePage } from './browser.ts';

// How people choose what they see: boxes of values, the help for queries, and the tasks they select. The service is one of the
// test's own.

describeInBrowser('what people choose', () => {
  let context: BrowserContext;
  let page: Page;
  /** The prefixes that values were asked for with. */
  let asked: string[];

  const tasks: readonly Task[] = Array.from({ length: 60 }, (_, index) =>
    create(TaskSchema, {
      id: `00000000-0000-4000-8000-0000000000${String(index).padStart(2, '0')}`,
      name: `task-${index}`,
      displayName: `Do thing ${index}`,
      ownerName: 'developer',
      templateName: 'docker',
      phase: TaskPhase.ACTIVE,
      currentState: { state: TaskState.WORKING, message: 'Working' },
    }),
  );
  const valueOf = (value: string, displayName = ''): QueryValue => create(QueryValueSchema, { value, displayName });
  const owners = [
    valueOf('ada', 'Ada Lovelace'),
    ...Array.from({ length: 120 }, (_, index) => valueOf(`person-${String(index).padStart(3, '0')}`)),
  ];
  const templates = [valueOf('docker', 'Docker containers'), valueOf('k8s', 'Kubernetes'), valueOf('windows')];
  const handlers = {
    listTasks: () => Promise.resolve(create(ListTasksResponseSchema, { tasks: [...tasks] })),
    listQueryValues({ key, prefix }: { key: QueryKey; prefix: string }) {
      asked.push(`${key === QueryKey.OWNER ? 'owner' : 'template'} ${prefix}`);
      const all = (key === QueryKey.OWNER ? owners : templates).filter(({ value }) => value.startsWith(prefix));
      return Promise.resolve(create(ListQueryValuesResponseSchema, { values: all.slice(0, 100), incomplete: all.length > 100 }));
    },
    async *watchTasks(_: unknown, { signal }: { signal: AbortSignal }) {
      yield create(WatchTasksResponseSchema, { resumeToken: '1', event: { case: 'synced', value: {} } });
      await new Promise((resolve) => signal.addEventListener('abort', resolve));
    },
  };

  const settings = { folder: pageFolder, imageOrigins: [], coderUrl: undefined };
  const suite = useSuitePage(() => startTestServer({ page: settings, handlers }), ['clipboard-read', 'clipboard-write']);
  const { base } = suite;
  beforeEach(() => {
    asked = [];
    ({ page, context } = suite);
  });
  const open = async (path: string): Promise<void> => {
    await suite.open(path);
    await page.locator('.row').first().waitFor();
  };
  const query = () => new URL(page.url()).searchParams.get('q') ?? '';
  const box = (name: string) => page.getByRole('combobox', { name, exact: true });
  const options = () => page.getByRole('option').filter({ visible: true });

  describe('a box of values', () => {
    test('has all owners, by the names that people know them by, also those that no loaded task has', async () => {
      await open('/?q=owner:*+status:running');
      await box('Owner').click();
      await expect.poll(() => options().first().textContent()).toBe('adaAda Lovelace');
      expect(await axeViolations(page)).toEqual([]);
      await box('Owner').pressSequentially('lovel');
      await expect.poll(() => options().allTextContents()).toEqual(['adaAda Lovelace']);
      await page.keyboard.press('Enter');
      expect(query()).toBe('owner:ada status:running');
      expect(await box('Owner').inputValue()).toBe('ada');

      // What was not told the first time is asked for.
      await box('Owner').fill('person-11');
      await expect.poll(() => options().count()).toBe(10);
      expect(asked).toContain('owner person-11');
      await options().getByText('person-119').click();
      expect(query()).toBe('owner:person-119 status:running');
      await box('Owner').click();
      await options().first().click();
      expect(query()).toBe('owner:* status:running');
    });

    test('has all templates, asked for once', async () => {
      await open('/');
      expect(asked).toEqual([]);
      await box('Template').click();
      await expect.poll(() => options().allTextContents()).toEqual(['dockerDocker containers', 'k8sKubernetes', 'windows']);
      await page.keyboard.press('ArrowDown');
      await page.keyboard.press('Enter');
      expect(query()).toBe('template:k8s');
      await box('Template').fill('nothing');
      await expect.poll(() => options().allTextContents()).toEqual(['Nothing of that name']);
      await page.keyboard.press('Escape');
      expect(await options().count()).toBe(0);
      expect(await box('Template').inputValue()).toBe('k8s');
      expect(asked).toEqual(['template ']);
    });

    test('has the words of a status and of a state', async () => {
      await open('/?q=owner:*');
      const words = (map: ReadonlyMap<string, number>) => [...map.keys()].filter((word) => word !== 'failure').toSorted();
      for (const [name, map] of [['Status', statusWords] as const, ['State', stateWords] as const]) {
        const shown = await box(name).locator('option').allTextContents();
        expect(
          shown
            .slice(1)
            .map((word) => word.toLowerCase())
            .toSorted(),
        ).toEqual(words(map));
      }
      await box('Status').selectOption('stopped');
      await box('State').selectOption('complete');
      expect(query()).toBe('owner:* status:stopped state:complete');
      await box('Status').selectOption('');
      expect(query()).toBe('owner:* state:complete');
    });
  });

  describe('selected tasks', () => {
    const bar = () => page.getByRole('region', { name: 'Selected tasks' });
    const clipboard = () => page.evaluate(() => navigator.clipboard.readText());
    const check = (index: number) => page.getByRole('checkbox', { name: `Select task-${index}`, exact: true });
    const selected = () => page.locator('.row.selected .name').allTextContents();

    test('are chosen with the mouse, one by one and up to one, and their names and links are copied', async () => {
      await open('/');
      expect(await bar().count()).toBe(0);
      await check(1).click();
      await check(4).click({ modifiers: ['Shift'] });
      await check(2).click();
      expect(await selected()).toEqual(['task-1', 'task-3', 'task-4']);
      await expectText('3 selected');
      expect(new URL(page.url()).pathname).toBe('/');
      expect(await axeViolations(page)).toEqual([]);
      await bar().getByRole('button', { name: 'Copy names' }).click();
      await expectText('3 names copied');
      expect(await clipboard()).toBe('task-1\ntask-3\ntask-4');
      await bar().getByRole('button', { name: 'Copy links' }).click();
      await expectText('3 links copied');
      expect(await clipboard()).toBe([1, 3, 4].map((index) => `${base()}/tasks/${tasks[index]?.id}`).join('\n'));
      // The keys of the list work on.
      await page.keyboard.press('j');
      await page.keyboard.press('x');
      expect(await selected()).toEqual(['task-1', 'task-4']);
    });

    test('are chosen with the keyboard, and Escape lets them go', async () => {
      await open('/');
      await page.keyboard.press('j');
      await page.keyboard.press('x');
      for (let i = 0; i < 3; i++) await page.keyboard.press('j');
      await page.keyboard.press('X');
      await expect.poll(selected).toEqual(['task-0', 'task-1', 'task-2', 'task-3']);
      await page.keyboard.press('Escape');
      expect(await bar().count()).toBe(0);
      await check(2).focus();
      await page.keyboard.press('Space');
      expect(await selected()).toEqual(['task-2']);
    });

    test('are opened, each in a tab', async () => {
      await open('/');
      await check(0).click();
      await check(1).click();
      const opened: string[] = [];
      context.on('page', (tab) => void tab.waitForURL(/tasks/).then(() => opened.push(new URL(tab.url()).pathname)));
      await bar().getByRole('button', { name: 'Open' }).click();
      await expect.poll(() => opened.toSorted()).toEqual([0, 1].map((index) => `/tasks/${tasks[index]?.id}`));
    });

    const expectText = (text: string) => expect.poll(() => bar().textContent()).toContain(text);
  });

  test('the query is completed by owners and templates that no loaded task has', async () => {
    await open('/');
    await box('Query').fill('owner:love');
    await options().getByText('owner:ada').click();
    expect(query()).toBe('owner:ada');
    await box('Query').fill('owner:ada template:k');
    await expect.poll(() => options().allTextContents()).toEqual(['template:k8sKubernetes']);
  });

  test('the whole language of queries is at hand', async () => {
    await open('/');
    await page.getByRole('button', { name: 'How to write a query' }).click();
    const help = page.getByRole('dialog', { name: 'How to write a query' });
    expect((await help.locator('tbody th').allTextContents()).toSorted()).toEqual([...queryKeys.keys()].toSorted());
    // From its beginning on, though it is longer than the window.
    expect(await help.evaluate((dialog) => [dialog.scrollTop, dialog.scrollHeight > dialog.clientHeight])).toEqual([0, true]);
    const text = (await help.textContent()) ?? '';
    for (const word of [...statusWords.keys(), ...phaseWords.keys(), ...stateWords.keys()]) expect(text).toContain(word);
    expect(await axeViolations(page)).toEqual([]);
    await page.keyboard.press('Escape');
    expect(await help.isVisible()).toBe(false);
  });
});
