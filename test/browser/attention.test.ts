import { create } from '@bufbuild/protobuf';
import type { BrowserContext, Page } from 'playwright-core';
import { beforeEach, expect, test } from 'vitest';
import {
  CountTasksResponseSchema,
  GetTaskResponseSchema,
  ListTasksResponseSchema,
  type Task,
  TaskPhase,
  TaskSchema,
  TaskState,
  WatchTasksResponseSchema,
} from '../../src/gen/tasks/v1/tasks_pb.ts';
import { pageFolder } from '../../src/transport/page/page.ts';
import { startTestServer, type TestServer } from '../support/test-server.ts';
import { describeInBrowser, openPage, setVisible, useSuitePage } from './browser.ts';

// How the page draws attention to tasks that wait. The service is one of the test's own, which says how many do.

/** What a page would have shown as notifications. */
interface Shown {
  readonly title: string;
  readonly body: string;
}

describeInBrowser('a task that waits', () => {
  let context: BrowserContext;
  let page: Page;
  let waiting: readonly Task[];
  /** The task that GetTask answers with; if there is none, the first that waits. */
  let opened: Task | undefined;
  /** How often the notifier has read the tasks that wait. */
  let noticed: number;
  /** When tasks were counted. */
  let counted: number[];
  let changesEveryMs: number | undefined;

  const task = (number: number, asked: string): Task =>
    create(TaskSchema, {
      id: `00000000-0000-4000-8000-00000000000${number}`,
      name: `task-${number}`,
      displayName: `Do thing ${number}`,
      phase: TaskPhase.ACTIVE,
      waitingSince: { seconds: 1_790_000_000n + BigInt(number) },
      currentState: { state: TaskState.IDLE, message: asked, timestamp: { seconds: 1_790_000_000n + BigInt(number) } },
    });

  const start = (): Promise<TestServer> =>
    startTestServer({
      page: { folder: pageFolder, imageOrigins: [] },
      handlers: {
        listTasks({ query, pageSize }) {
          if (query === 'waiting:true' && pageSize === 50) noticed += 1;
          return Promise.resolve(create(ListTasksResponseSchema, { tasks: [...waiting] }));
        },
        getTask: () => Promise.resolve(create(GetTaskResponseSchema, { task: opened ?? waiting[0] ?? task(0, '') })),
        countTasks({ query }) {
          if (query === '') counted.push(Date.now());
          return Promise.resolve(create(CountTasksResponseSchema, { waiting: { count: waiting.length } }));
        },
        async *watchTasks({ query }, call) {
          const isLeft = new Promise<void>((resolve) => call.signal.addEventListener('abort', () => resolve()));
          yield create(WatchTasksResponseSchema, { resumeToken: '1', event: { case: 'synced', value: {} } });
          while (!call.signal.aborted) {
            // The view of one task watches it alone.
            const isStill = changesEveryMs === undefined || query.includes('id:');
            const next = isStill ? isLeft : new Promise((resolve) => setTimeout(resolve, changesEveryMs));
            await Promise.race([next, isLeft]);
            const value = task(9, `change ${Date.now()}`);
            if (!call.signal.aborted)
              yield create(WatchTasksResponseSchema, { resumeToken: '2', event: { case: 'upserted', value } });
          }
        },
      },
    });
  // A browser without a screen shows none.
  const noteNotifications = async (context: BrowserContext): Promise<void> => {
    await context.addInitScript(() => {
      class Noted extends EventTarget {
        static permission = 'granted';
        static requestPermission = (): Promise<string> => Promise.resolve('granted');
        constructor(title: string, { body }: { body: string }) {
          super();
          const shown = JSON.parse(localStorage.getItem('shown') ?? '[]') as unknown[];
          localStorage.setItem('shown', JSON.stringify([...shown, { title, body }]));
        }
        close(): void {}
      }
      Object.assign(window, { Notification: Noted });
    });
  };
  const suite = useSuitePage(start, ['notifications'], noteNotifications);
  const { base, open } = suite;
  beforeEach(() => {
    waiting = [];
    opened = undefined;
    noticed = 0;
    counted = [];
    changesEveryMs = undefined;
    ({ page, context } = suite);
  });

  const notified = (): Promise<Shown[]> => page.evaluate(() => JSON.parse(localStorage.getItem('shown') ?? '[]') as Shown[]);
  const icon = () => page.locator('link[rel=icon]').getAttribute('href');

  test('is counted in the title and marked on the icon of every view, also of a tab that is not seen', async () => {
    await open(`/tasks/${task(0, '').id}`);
    await expect.poll(() => page.title()).toBe('Do thing 0 · Tasks');
    expect(await icon()).toMatch(/\/icon-(?!waiting)/);
    waiting = [task(1, 'Which port?'), task(2, 'Which color?')];
    await setVisible(page, false);
    await expect.poll(() => page.title(), { timeout: 50_000 }).toMatch(/^\(2\) Do thing \d · Tasks$/);
    expect(await icon()).toMatch(/\/icon-waiting-/);
    waiting = [];
    await setVisible(page, true);
    await expect.poll(() => page.title(), { timeout: 50_000 }).toMatch(/^Do thing/);
    expect(await icon()).toMatch(/\/icon-(?!waiting)/);
  });

  test('is counted while changes never pause, and not more often than every few seconds', async () => {
    changesEveryMs = 10;
    await open('/');
    await expect.poll(() => counted.length, { timeout: 40_000 }).toBeGreaterThanOrEqual(5);
    // The first is of the sign-in, the second of the list.
    const distances = counted.slice(2).map((at, index) => at - (counted[index + 1] ?? 0));
    for (const distance of distances) expect(distance).toBeGreaterThan(2500);
  });

  test('is told of by one notification with what it asks, if that is switched on, in whatever tabs', async () => {
    waiting = [task(1, 'An old question')];
    changesEveryMs = 500; // while tasks change, waiting ones are read every five seconds
    await open('/');
    await page.getByRole('button', { name: 'Notifications are off' }).click();
    await page.getByRole('button', { name: 'Notifications are on' }).waitFor();
    await expect.poll(() => noticed, { timeout: 30_000 }).toBeGreaterThan(0); // so that the next question is a new one
    const second = await openPage(context);
    await second.page.goto(base());
    await second.page.locator('.row').first().waitFor();
    waiting = [task(3, 'Which port?'), ...waiting];
    await expect.poll(notified, { timeout: 30_000 }).toEqual([{ title: 'Do thing 3 waits for input', body: 'Which port?' }]);
    // Another question of the same task is another notification; one that a person looks at needs none.
    const looked = task(4, 'You see this one');
    opened = looked;
    await second.page.goto(`${base()}/tasks/${looked.id}`);
    await second.page.getByRole('article').waitFor();
    const locks = () => second.page.evaluate(async () => ((await navigator.locks.query()).held ?? []).map(({ name }) => name));
    await expect.poll(locks, { timeout: 30_000 }).toContainEqual(expect.stringContaining(looked.id));
    waiting = [task(5, 'And now?'), looked];
    await expect
      .poll(async () => (await notified()).map(({ body }) => body), { timeout: 30_000 })
      .toEqual(['Which port?', 'And now?']);
    await page.getByRole('button', { name: 'Notifications are on' }).click();
    await page.getByRole('button', { name: 'Notifications are off' }).waitFor();
    expect(second.misdeeds.errors).toEqual([]);
  });
});
