import { create } from '@bufbuild/protobuf';
import { type Browser, type BrowserContext, chromium, type Page } from 'playwright-core';
import {
  ListTasksResponseSchema,
  type Task,
  TaskPhase,
  TaskSchema,
  TaskState,
  WatchTasksResponseSchema,
  WorkspaceStatus,
} from '../../src/gen/tasks/v1/tasks_pb.ts';
import { pageFolder } from '../../src/transport/page/page.ts';
import { findChromium } from '../support/chromium.ts';
import { goodToken, startTestServer, type TestServer } from '../support/test-server.ts';

// Measures the built page in Chromium, with answers from memory, and prints the figures as JSON; `npm run bench -- --only page` runs
// it, and says what they are:
//
//   node test/browser/page-figures.ts ROUNDS

/** Tasks of the list, and changes of them in a second. */
const listed = 10_000;
const changesPerSecond = 100;

/** The slow phone and network of the first row: a processor four times slower, and bytes in a second. */
const slowdown = 4;
const bytesPerSecond = 1_600_000 / 8;

/** Seconds that a list is scrolled, and is left alone. */
const scrolledSeconds = 5;
const idleSeconds = 5;

const { path, env } = await findChromium();
const browser = await chromium.launch({ executablePath: path, env: { ...process.env, ...env }, args: ['--no-sandbox'] });
const server = await startServer();
try {
  const firstRow = async (latency: number): Promise<number[]> => {
    const times: number[] = [];
    for (let round = 0; round < Number(process.argv[2] ?? 3); round++) times.push(await firstRowMs(browser, server, latency));
    return times;
  };
  const figures = {
    firstRow: await firstRow(0),
    firstRowAfar: await firstRow(150),
    frames: await scrollOurs(browser, server),
    plainFrames: await scrollPlain(browser),
    idleShare: await idleShare(browser, server),
  };
  console.log(JSON.stringify(figures));
} finally {
  await browser.close();
  await server.stop();
}

/** The service with a list in memory, of whose first tasks one after another changes. */
function startServer(): Promise<TestServer> {
  const tasks = Array.from({ length: listed }, (_, index) => task(index, 0));
  return startTestServer({
    page: { folder: pageFolder, imageOrigins: [] },
    handlers: {
      listTasks({ query, pageSize, pageToken }) {
        const from = Number(pageToken);
        const to = from + (query === 'many' ? 500 : pageSize);
        const nextPageToken = to < listed ? String(to) : '';
        return Promise.resolve(
          create(ListTasksResponseSchema, { tasks: tasks.slice(from, to), nextPageToken, resumeToken: '0' }),
        );
      },
      async *watchTasks({ query }, { signal }) {
        const left = new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve()));
        yield create(WatchTasksResponseSchema, { resumeToken: '0', event: { case: 'synced', value: {} } });
        if (query !== 'many') await left;
        for (let change = 1; !signal.aborted; change++) {
          await Promise.race([left, new Promise((resolve) => setTimeout(resolve, 1000 / changesPerSecond))]);
          const value = task((change * 7919) % listed, change);
          yield create(WatchTasksResponseSchema, { resumeToken: String(change), event: { case: 'upserted', value } });
        }
      },
    },
  });
}

function task(index: number, change: number): Task {
  return create(TaskSchema, {
    id: `00000000-0000-4000-8000-${String(index).padStart(12, '0')}`,
    name: `task-${index}`,
    displayName: `Do the thing number ${index}`,
    initialPrompt: `Do the thing number ${index}, and then write tests for it that fail without it. `.repeat(5),
    ownerName: `owner-${index % 20}`,
    templateName: 'docker',
    status: WorkspaceStatus.RUNNING,
    phase: TaskPhase.ACTIVE,
    createdAt: { seconds: BigInt(1_790_000_000 - index) },
    currentState: { state: TaskState.WORKING, message: `Wrote ${change} tests`, timestamp: { seconds: 1_790_000_000n } },
  });
}

/** Opens the page signed in. */
async function open(context: BrowserContext, server: TestServer, query: string): Promise<Page> {
  const tab = await context.newPage();
  await tab.addInitScript((token) => sessionStorage.setItem('tasks-service.token/', token), goodToken);
  await tab.goto(`http://${server.web}/?q=${query}`, { waitUntil: 'commit' });
  return tab;
}

async function firstRowMs(browser: Browser, server: TestServer, latency: number): Promise<number> {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 } });
  try {
    const tab = await context.newPage();
    const devtools = await context.newCDPSession(tab);
    await devtools.send('Emulation.setCPUThrottlingRate', { rate: slowdown });
    const uploadThroughput = bytesPerSecond;
    await devtools.send('Network.enable');
    await devtools.send('Network.emulateNetworkConditions', {
      offline: false,
      latency,
      downloadThroughput: bytesPerSecond,
      uploadThroughput,
    });
    await tab.addInitScript((token) => {
      sessionStorage.setItem('tasks-service.token/', token);
      const observer = new MutationObserver(() => {
        if (document.querySelector('.row') === null) return;
        observer.disconnect();
        requestAnimationFrame(() => performance.mark('first-row'));
      });
      observer.observe(document, { childList: true, subtree: true });
    }, goodToken);
    await tab.goto(`http://${server.web}/`, { waitUntil: 'commit' });
    await tab.waitForFunction(() => performance.getEntriesByName('first-row').length > 0);
    return await tab.evaluate(() => performance.getEntriesByName('first-row')[0]?.startTime ?? Number.NaN);
  } finally {
    await context.close();
  }
}

async function scrollOurs(browser: Browser, server: TestServer): Promise<readonly number[]> {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 } });
  try {
    const tab = await open(context, server, 'many');
    const end = tab.locator('.end', { hasText: `${listed.toLocaleString('en')} tasks` });
    while ((await end.count()) === 0) await tab.evaluate(() => scrollTo(0, document.documentElement.scrollHeight));
    return await framesOf(tab);
  } finally {
    await context.close();
  }
}

/** The same with nothing but HTML: a row has the same texts, and as many change. */
async function scrollPlain(browser: Browser): Promise<readonly number[]> {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 } });
  try {
    const tab = await context.newPage();
    await tab.evaluate(
      ({ rows, perSecond }) => {
        for (let index = 0; index < rows; index++) {
          const row = document.createElement('div');
          row.style.cssText = 'height:56px;border-bottom:1px solid #ccc;display:grid;grid-template-columns:3fr 3fr 1fr 1fr 1fr';
          for (const text of [`Do the thing number ${index}`, 'Working', 'Running', 'owner', 'docker']) {
            row.appendChild(document.createElement('span')).textContent = text;
          }
          document.body.append(row);
        }
        let change = 0;
        setInterval(() => {
          const text = document.body.children[(++change * 7919) % rows]?.children[1];
          if (text !== undefined) text.textContent = `Wrote ${change} tests`;
        }, 1000 / perSecond);
      },
      { rows: listed, perSecond: changesPerSecond },
    );
    return await framesOf(tab);
  } finally {
    await context.close();
  }
}

/** Scrolls through a page, and measures the time from frame to frame in milliseconds. */
function framesOf(tab: Page): Promise<readonly number[]> {
  return tab.evaluate(async (seconds) => {
    const nextFrame = (): Promise<number> => new Promise((resolve) => requestAnimationFrame(resolve));
    const frames: number[] = [];
    let last = await nextFrame();
    const end = last + 1000 * seconds;
    for (let top = 0; last < end; top += 400) {
      scrollTo(0, top % document.documentElement.scrollHeight);
      const now = await nextFrame();
      frames.push(now - last);
      last = now;
    }
    return frames;
  }, scrolledSeconds);
}

/** The share of the time that the page computes or draws while nothing changes. */
async function idleShare(browser: Browser, server: TestServer): Promise<number> {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 } });
  try {
    const tab = await open(context, server, '');
    await tab.locator('.live-indicator.live').waitFor();
    await tab.waitForTimeout(2000); // for what comes after the start
    const devtools = await context.newCDPSession(tab);
    await devtools.send('Performance.enable', { timeDomain: 'threadTicks' });
    const busySeconds = async (): Promise<number> => {
      const { metrics } = await devtools.send('Performance.getMetrics');
      return metrics.find(({ name }) => name === 'TaskDuration')?.value ?? Number.NaN;
    };
    const before = await busySeconds();
    await tab.waitForTimeout(1000 * idleSeconds);
    return ((await busySeconds()) - before) / idleSeconds;
  } finally {
    await context.close();
  }
}
