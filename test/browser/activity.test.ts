import { create } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import type { Browser, BrowserContext, Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import {
  CountTasksOverTimeResponseSchema,
  ListTasksResponseSchema,
  TaskPhase,
  TaskSchema,
  TaskState,
  WatchTasksResponseSchema,
} from '../../src/gen/tasks/v1/tasks_pb.ts';
import { pageFolder } from '../../src/transport/page/page.ts';
import { goodToken, startTestServer, type TestServer } from '../support/test-server.ts';
import { axeViolations } from './axe.ts';
import { describeInBrowser, type Misdeeds, openContext, openPage, setVisible, startBrowser } from './browser.ts';

// The plot above the list. The service is one of the test's own, which says what has been.

const quarter = 15 * 60_000;

describeInBrowser('the plot of the last 24 hours', () => {
  let server: TestServer;
  let browser: Browser;
  let context: BrowserContext;
  let page: Page;
  let misdeeds: Misdeeds;
  /** The queries that were asked for. */
  let asked: string[];
  /** How many points there are, of which the last has so many failed tasks. */
  let known: number;
  let failed: number;

  beforeAll(async () => {
    server = await startTestServer({
      page: { folder: pageFolder, imageOrigins: [] },
      handlers: {
        listTasks: () =>
          Promise.resolve(
            create(ListTasksResponseSchema, {
              tasks: [
                create(TaskSchema, {
                  id: '00000000-0000-4000-8000-000000000001',
                  name: 'task-1',
                  displayName: 'Do it',
                  phase: TaskPhase.ACTIVE,
                  currentState: { state: TaskState.WORKING },
                }),
              ],
            }),
          ),
        countTasksOverTime({ query }) {
          asked.push(query);
          const now = Date.now();
          const last = Math.floor(now / quarter) * quarter;
          const times = [...Array.from({ length: known - 1 }, (_, i) => last - (known - 2 - i) * quarter), now];
          return Promise.resolve(
            create(CountTasksOverTimeResponseSchema, {
              points: times.map((at, i) => ({
                time: timestampFromMs(at),
                waiting: i % 5,
                working: 10_000,
                failed: i === known - 1 ? failed : 1,
              })),
              ...(known < 97 ? { startTime: timestampFromMs(times[0] ?? now) } : {}),
              workingCapped: true,
            }),
          );
        },
        async *watchTasks(_request, call) {
          yield create(WatchTasksResponseSchema, { resumeToken: '1', event: { case: 'synced', value: {} } });
          await new Promise<void>((resolve) => call.signal.addEventListener('abort', () => resolve()));
        },
      },
    });
    browser = await startBrowser();
  });
  afterAll(async () => {
    await browser?.close();
    await server?.stop();
  });
  beforeEach(() => {
    asked = [];
    known = 97;
    failed = 3;
  });
  afterEach(async () => {
    expect(misdeeds.errors).toEqual([]);
    await context.close();
  });

  async function open(path = '/', options: Parameters<typeof openContext>[1] = {}): Promise<void> {
    context = await openContext(browser, options);
    ({ page, misdeeds } = await openPage(context));
    await page.clock.install();
    await page.goto(`http://${server.web}${path}`);
    await page.getByLabel('Session token').fill(goodToken);
    await page.getByRole('button', { name: 'Sign in' }).click();
    await page.locator('.row').waitFor();
  }
  const plot = () => page.getByRole('img', { name: 'Tasks over the last 24 hours' });

  test.each([
    ['a desk, light', { colorScheme: 'light' }],
    ['a desk, dark', { colorScheme: 'dark' }],
    ['a phone', { viewport: { width: 390, height: 780 }, isMobile: true, hasTouch: true }],
  ] as const)('is small, named, told without colors, and has a table: on %s', async (_name, options) => {
    await open('/?q=owner:*+state:failed', options);
    await plot().waitFor();
    expect(await plot().textContent()).toBe(
      'Tasks over the last 24 hours. waiting: 1 now, at most 4; working: 10,000+ now, at most 10,000+; failed: 3 now, at most 3',
    );
    // What a tab adds to the query is not plotted alone.
    expect([...new Set(asked)]).toEqual(['owner:*']);
    expect(await page.locator('.activity-legend li').allTextContents()).toEqual(['1 waiting', '10,000+ working', '3 failed']);
    const { width = 0, height = 0 } = (await plot().boundingBox()) ?? {};
    expect(height).toBeGreaterThanOrEqual(40);
    expect(height).toBeLessThanOrEqual(60);
    expect(width).toBeGreaterThan(300);
    const dashes = await plot()
      .locator('polyline')
      .evaluateAll((lines) => lines.map((line) => getComputedStyle(line).strokeDasharray));
    expect(new Set(dashes).size).toBe(3);
    expect(await page.evaluate(() => document.documentElement.scrollWidth - innerWidth)).toBeLessThanOrEqual(0);
    expect(await axeViolations(page)).toEqual([]);

    const [head, legend] = await Promise.all([
      page.locator('.activity > summary').boundingBox(),
      page.locator('.activity-legend').boundingBox(),
    ]);
    const isBeside = (head?.x ?? 0) + (head?.width ?? 0) <= (legend?.x ?? 0);
    const isAbove = (head?.y ?? 0) + (head?.height ?? 0) <= (legend?.y ?? 0);
    expect(isBeside || isAbove).toBe(true);
    await page.getByText('As a table').click();
    const rows = page.getByRole('table').getByRole('row');
    await expect.poll(() => rows.count()).toBeGreaterThanOrEqual(25);
    expect(await rows.nth(1).locator('td').allTextContents()).toEqual(['1', '10,000+', '3']);
    expect(await page.evaluate(() => document.documentElement.scrollWidth - innerWidth)).toBeLessThanOrEqual(0);
    expect(await axeViolations(page)).toEqual([]);
  });

  test('says since when it is known', async () => {
    known = 5;
    await open();
    await page.getByText('Known since').waitFor();
    const points = (await plot().locator('polyline').first().getAttribute('points')) ?? '';
    expect(points.split(' ')).toHaveLength(5);
    // It begins where it is known, and not a day ago.
    expect(Number(points.split(',')[0])).toBeGreaterThan(900);
  });

  test('is asked for once a minute, not while the tab is hidden, and not while it is folded', async () => {
    await open();
    await plot().waitFor();
    expect(asked).toEqual(['']);
    failed = 7;
    await page.clock.fastForward(61_000);
    await page.getByText('7 failed').waitFor();
    expect(asked).toHaveLength(2);

    await setVisible(page, false);
    failed = 8;
    await page.clock.fastForward(61_000);
    await page.clock.fastForward(61_000);
    expect(await page.getByText('7 failed').count()).toBe(1);
    expect(asked).toHaveLength(2);
    await setVisible(page, true);
    await page.clock.fastForward(61_000);
    await page.getByText('8 failed').waitFor();

    await page.getByText('Last 24 hours', { exact: true }).click();
    await plot().waitFor({ state: 'detached' });
    const before = asked.length;
    await page.clock.fastForward(61_000);
    await page.reload();
    await page.locator('.row').waitFor();
    await page.clock.fastForward(61_000);
    expect(await page.locator('.activity').getAttribute('open')).toBeNull();
    expect(asked).toHaveLength(before);
    await page.getByText('Last 24 hours', { exact: true }).click();
    await plot().waitFor();
    expect(asked.length).toBeGreaterThan(before);
  });
});
