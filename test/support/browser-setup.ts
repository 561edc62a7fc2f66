import { spawn } from 'node:child_process';
import path from 'node:path';
import type { TestProject } from 'vitest/node';
import { buildPage, isPageBuilt } from '../../bin/build-page.mjs';
import { type Chromium, findChromium } from './chromium.ts';

declare module 'vitest' {
  interface ProvidedContext {
    /** The browser of the tests, or the reason why there is no browser. */
    chromium: Chromium | { readonly notRun: string };
  }
}

/** Builds the page if it is not, and finds a browser. Without one the tests are skipped, with a line that says so. */
export default async function setup(project: TestProject): Promise<void> {
  const root = path.resolve(import.meta.dirname, '../..');
  if (!isPageBuilt()) {
    await buildPage(
      (args, env) =>
        new Promise((resolve, reject) => {
          const vite = spawn(process.execPath, args, { cwd: root, env, stdio: ['ignore', 'inherit', 'inherit'] });
          vite.once('error', reject).once('exit', resolve);
        }),
    );
  }
  const chromium = await findChromium().catch((error: unknown) => ({
    notRun: error instanceof Error ? error.message : String(error),
  }));
  console.log('notRun' in chromium ? `NOT RUN: the page in Chromium: ${chromium.notRun}` : `Chromium ${chromium.version}`);
  project.provide('chromium', chromium);
}
