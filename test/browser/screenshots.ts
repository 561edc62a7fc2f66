import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { type Browser, type BrowserContextOptions, chromium, type Page } from 'playwright-core';
import type { DemoFile } from '../../dev/demo/demo-file.ts';
import { findChromium } from '../support/chromium.ts';

// The pictures of the page in docs/images, from the demo, on its usual ports:
//
//   node bin/launch.mjs test/browser/screenshots.ts
//
// The fonts are those of this machine; Inter and JetBrains Mono are what base.css asks for first.

const root = path.resolve(import.meta.dirname, '../..');
const images = path.join(root, 'docs/images');

/** A picture that is larger, in bytes, is no good in a README. */
const maxBytes = 200_000;

const desktop = { viewport: { width: 1280, height: 800 } };
const phone = { viewport: { width: 390, height: 780 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true };

const dataDir = mkdtempSync(path.join(tmpdir(), 'screenshots-'));
const service = spawn(process.execPath, ['bin/launch.mjs', 'serve'], {
  cwd: root,
  env: { ...process.env, DATA_DIR: dataDir },
  stdio: ['ignore', 'pipe', 'inherit'],
});
try {
  await new Promise<void>((resolve, reject) => {
    let output = '';
    service.stdout.on('data', (chunk: Buffer) => {
      output += chunk.toString();
      if (output.includes('Ctrl-C stops it')) resolve();
    });
    service.once('exit', () => reject(new Error(`the service did not start:\n${output}`)));
  });
  mkdirSync(images, { recursive: true });
  const { page: printed } = JSON.parse(readFileSync(path.join(dataDir, 'demo.json'), 'utf8')) as DemoFile;
  const { path: executablePath, env } = await findChromium();
  const browser = await chromium.launch({ executablePath, env: { ...process.env, ...env }, args: ['--no-sandbox'] });
  const at = (query: string): string => printed.replace('#', `${query}#`);
  await take(browser, at(''), 'list-light', { ...desktop, colorScheme: 'light' }, 'developer');
  await take(browser, at('?q=owner:*+status:running'), 'list-dark', { ...desktop, colorScheme: 'dark' }, 'admin');
  await take(browser, at(''), 'phone', { ...phone, colorScheme: 'light' }, 'developer');
  const open = async (page: Page): Promise<void> => {
    await page.locator('.row a.title').first().click();
    await page.getByRole('article').waitFor();
  };
  await take(browser, at('?q=waiting:true'), 'task', { ...desktop, colorScheme: 'light' }, 'developer', open);
  await browser.close();
} finally {
  const ended = new Promise((resolve) => service.once('exit', resolve));
  service.kill();
  await ended;
  rmSync(dataDir, { recursive: true, force: true });
}

/** Signs in at an address, does what is to be done first, and takes the picture once the page is live. */
async function take(
  browser: Browser,
  address: string,
  name: string,
  options: BrowserContextOptions,
  user: string,
  prepare: (page: Page) => Promise<void> = async () => {},
): Promise<void> {
  const context = await browser.newContext({ ...options, locale: 'en-US', reducedMotion: 'reduce' });
  const page = await context.newPage();
  await page.goto(address);
  await page.getByRole('button', { name: user }).click();
  await page.locator('.row').first().waitFor();
  await prepare(page);
  await page.locator('.live-indicator.live').waitFor();
  await page.mouse.move(0, 0);
  const file = path.join(images, `${name}.png`);
  await page.screenshot({ path: file });
  await context.close();
  const { size } = statSync(file);
  console.log(`${path.relative(root, file)}: ${Math.round(size / 1000)} kB`);
  if (size > maxBytes) throw new Error(`${name} is larger than ${maxBytes / 1000} kB`);
}
