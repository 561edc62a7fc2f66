import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { fetchPackages } from '../../dev/engine/fetch-packages.ts';
import { cacheDir, type Engine, mariadbs } from './engines.ts';

/**
 * The folder with the plugins of MariaDB by which accounts sign in, which are not in the package of the server that the tests run:
 * fetched into the cache folder. MySQL has its own beside the server. None, with the reason printed, where they cannot be had.
 */
export async function authPluginFolder(engine: Engine): Promise<string | undefined> {
  if (engine === 'mysql') return undefined;
  const { suite } = mariadbs[engine];
  const into = join(cacheDir, `mariadb-plugins-${suite}-${process.arch}`);
  // Only the package of MariaDB's own tests has a plugin that asks for the password in clear text and needs nothing of the machine.
  const packages = engine === 'mariadb' ? ['mariadb-server', 'mariadb-test'] : ['mariadb-server'];
  try {
    if (!existsSync(into)) await fetchPackages({ packages, suite, into, folder: 'usr/lib/mysql/plugin' });
    return into;
  } catch (error) {
    console.log(`NOT RUN: accounts by plugins of ${engine}: ${error instanceof Error ? error.message : String(error)}`);
    return undefined;
  }
}
