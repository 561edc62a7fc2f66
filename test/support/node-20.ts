import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { cacheDir } from './engines.ts';

/** The oldest Node that the packages run on, as npm has it. */
const version = '20.20.2';

/**
 * The program of a Node 20: the one of the machine, or fetched from npm into the cache folder.
 *
 * @throws {Error} that says why there is none.
 */
export function findNode20(): string {
  const installed = (process.env['PATH'] ?? '')
    .split(delimiter)
    .map((folder) => join(folder, 'node'))
    .find((path) => existsSync(path) && execFileSync(path, ['--version'], { encoding: 'utf8' }).startsWith('v20.'));
  if (installed !== undefined) return installed;
  const name = `node-${process.platform}-${process.arch}`;
  const folder = join(cacheDir, `${name}-${version}`);
  if (!existsSync(folder)) {
    mkdirSync(cacheDir, { recursive: true });
    const partial = mkdtempSync(`${folder}.`);
    try {
      const quiet = ['--no-audit', '--no-fund', '--no-save', '--ignore-scripts', '--loglevel=error'];
      execFileSync('npm', ['install', ...quiet, '--prefix', partial, `${name}@${version}`], {
        stdio: ['ignore', 'ignore', 'pipe'],
      });
      renameSync(partial, folder);
    } finally {
      rmSync(partial, { recursive: true, force: true });
    }
  }
  return join(folder, 'node_modules', name, 'bin', 'node');
}
