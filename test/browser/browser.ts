import { type Browser, type BrowserContext, type BrowserContextOptions, chromium, type Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, inject } from 'vitest';
import { goodToken, type TestServer } from '../support/test-server.ts';

/** What a page has done that it must not do. */
export interface Misdeeds {
  /** Errors and warnings in the console, exceptions, and violations of the Content-Security-Policy. */
  readonly errors: readonly string[];
  /** Forgets those that a test has provoked. */
  clear(): void;
}

/** A page of the browser and what it has done wrong. */
export interface WatchedPage {
  readonly page: Page;
  readonly misdeeds: Misdeeds;
}

/** Defines tests that need the browser; where there is none they are skipped. */
export function describeInBrowser(name: string, define: () => void): void {
  describe.skipIf('notRun' in inject('chromium'))(name, define);
}

/** Starts the browser. */
export async function startBrowser(): Promise<Browser> {
  const found = inject('chromium');
  if ('notRun' in found) throw new Error(found.notRun);
  return chromium.launch({
    executablePath: found.path,
    env: { ...process.env, ...found.env },
    // As root, as in containers, Chromium's sandbox cannot be used. The tests load our own page alone.
    args: ['--no-sandbox'],
  });
}

/** A person's browser: tabs of it share what browsers share. */
export function openContext(browser: Browser, options: BrowserContextOptions = {}): Promise<BrowserContext> {
  return browser.newContext({ viewport: { width: 1280, height: 800 }, reducedMotion: 'reduce', locale: 'en-US', ...options });
}

/** Opens a tab whose misdeeds are noted from its first moment on. */
export async function openPage(context: BrowserContext): Promise<WatchedPage> {
  const page = await context.newPage();
  const errors: string[] = [];
  page.on('console', (message) => {
    if (message.type() === 'error' || message.type() === 'warning') errors.push(message.text());
  });
  page.on('pageerror', (error) => errors.push(String(error)));
  await page.addInitScript(() => {
    document.addEventListener('securitypolicyviolation', (event) => {
      console.error(`policy violated: ${event.violatedDirective} by ${event.blockedURI}`);
    });
  });
  return { page, misdeeds: { errors, clear: () => void errors.splice(0) } };
}

/** A page for each test of a suite, and the server of them all. */
interface SuitePage extends WatchedPage {
  readonly context: BrowserContext;
  /** The present server; a test that starts another one puts it here. */
  server: TestServer;
  /** The address of the server. */
  base(): string;
  /** Goes to a path, signs in, and waits until the page is there. */
  open(path: string): Promise<void>;
}

/**
 * Starts a server and a browser for the suite that is being defined, and gives each of its tests a page in a context of its own. A
 * test whose page has done something wrong fails.
 *
 * @param prepare what each context needs before its first page.
 */
export function useSuitePage(
  start: () => Promise<TestServer>,
  permissions: readonly string[],
  prepare: (context: BrowserContext) => Promise<void> = () => Promise.resolve(),
): SuitePage {
  let browser: Browser | undefined;
  const suite = {
    base: () => `http://${suite.server.web}`,
    async open(path) {
      await suite.page.goto(suite.base() + path);
      await suite.page.getByLabel('Session token').fill(goodToken);
      await suite.page.getByRole('button', { name: 'Sign in' }).click();
      await suite.page.getByRole('banner').waitFor();
    },
  } as SuitePage;
  beforeAll(async () => {
    [suite.server, browser] = await Promise.all([start(), startBrowser()]);
  });
  afterAll(async () => {
    await browser?.close();
    await suite.server?.stop();
  });
  beforeEach(async () => {
    if (browser === undefined) throw new Error('the browser has not started');
    const context = await openContext(browser, { permissions: [...permissions] });
    await prepare(context);
    Object.assign(suite, await openPage(context), { context });
  });
  afterEach(async () => {
    expect(suite.misdeeds.errors).toEqual([]);
    await suite.context.close();
  });
  return suite;
}

/** Makes a tab look as if it were in front, or behind another one. */
export function setVisible(tab: Page, visible: boolean): Promise<void> {
  return tab.evaluate(
    (state) => {
      Object.defineProperty(document, 'visibilityState', { value: state, configurable: true });
      document.dispatchEvent(new Event('visibilitychange'));
    },
    visible ? 'visible' : 'hidden',
  );
}
