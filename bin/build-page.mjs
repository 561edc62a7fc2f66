// @ts-check
// Builds the page of web/ into dist-web/, where the service finds it:
//
//   node bin/build-page.mjs
//
// The launcher asks here whether the page is built from the present sources, before it starts the service.
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, realpathSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const built = join(root, 'dist-web');
/** Holds the fingerprint of the sources that the page was built from. */
const stampFile = join(built, '.sources');

/** What the page is made from, as one word: it changes with its sources, the generated code and the packages. */
function fingerprint() {
  const hash = createHash('sha256').update(readFileSync(join(root, 'package-lock.json')));
  for (const file of ['web', join('src', 'gen'), join('packages', 'client', 'src')].flatMap(filesIn)) {
    hash.update(`\0${file}\0`).update(readFileSync(join(root, file)));
  }
  return hash.digest('hex');
}

/** @param {string} folder @returns {string[]} The files under a folder, always in the same order. */
function filesIn(folder) {
  const entries = readdirSync(join(root, folder), { withFileTypes: true });
  const files = entries.flatMap((entry) => {
    const path = join(folder, entry.name);
    return entry.isDirectory() ? filesIn(path) : [path];
  });
  return files.sort();
}

/** Whether the page is there, and made from what is in web/ now. It takes some milliseconds. */
export function isPageBuilt() {
  return existsSync(stampFile) && readFileSync(stampFile, 'utf8') === fingerprint();
}

/**
 * Builds the page. What is in its place is replaced only when that has succeeded.
 *
 * @param {(args: readonly string[], env: NodeJS.ProcessEnv) => Promise<number | null>} runNode Runs Node in the repository's folder.
 */
export async function buildPage(runNode) {
  const partial = `${built}.partial-${process.pid}`;
  const sources = fingerprint();
  const vite = join('node_modules', 'vite', 'bin', 'vite.js');
  try {
    const code = await runNode([vite, 'build', 'web', '--outDir', partial, '--emptyOutDir', '--logLevel', 'warn'], {
      ...process.env,
      NODE_ENV: 'production', // or libraries would be those for development
    });
    if (code !== 0) throw new Error('the page could not be built, see above');
    writeFileSync(join(partial, '.sources'), sources);
    rmSync(built, { recursive: true, force: true });
    renameSync(partial, built);
  } catch (error) {
    if (!isPageBuilt()) throw error; // else another process has built it meanwhile
  } finally {
    rmSync(partial, { recursive: true, force: true });
  }
}

if (process.argv[1] !== undefined && realpathSync(process.argv[1]) === realpathSync(fileURLToPath(import.meta.url))) {
  await buildPage(
    (args, env) =>
      new Promise((resolve, reject) => {
        spawn(process.execPath, args, { cwd: root, env, stdio: ['ignore', 'inherit', 'inherit'] })
          .once('error', reject)
          .once('exit', resolve);
      }),
  );
}
