import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chownSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { startEngine } from '../../dev/engine/engine.ts';
import { fetchedProgram, fetchPackages } from '../../dev/engine/fetch-packages.ts';
import { findEngine } from '../../dev/engine/find-engine.ts';
import { hasOrdinaryUser, ordinaryUser } from '../support/ordinary-user.ts';

const run = promisify(execFile);
const hasApt = existsSync('/usr/bin/apt-get') && existsSync('/var/lib/dpkg/status');
const engine = join(import.meta.dirname, '../../dev/engine');
/** What apt says when there is no network. */
const unreachable = /Failed to fetch|Could not resolve|Temporary failure|Unable to locate package|no apt-get|Unable to connect/;
let home: string;

beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'fetch-test-'));
});
afterEach(() => rmSync(home, { recursive: true, force: true }));

describe.runIf(hasApt)('fetching packages', () => {
  const log = { info() {}, warn() {}, error() {} };
  let cacheDir: string;
  /** Why these tests cannot run: there is no mirror to fetch from. */
  let offline: string | undefined;

  beforeAll(async () => {
    const folder = mkdtempSync(join(tmpdir(), 'fetch-test-'));
    cacheDir = join(folder, 'a cache');
    // Not as root: whoever starts the service must be able to fetch.
    if (hasOrdinaryUser) chownSync(folder, ordinaryUser.uid, ordinaryUser.gid);
    const code = `import { findEngine } from ${JSON.stringify(join(engine, 'find-engine.ts'))};
      await findEngine({ cacheDir: ${JSON.stringify(cacheDir)}, log: console, folders: [] });`;
    await run(process.execPath, ['--input-type=module-typescript', '-e', code], hasOrdinaryUser ? ordinaryUser : {}).catch(
      (error: Error) => {
        if (!unreachable.test(error.message)) throw error;
        offline = /EngineError: (.*)/.exec(error.message)?.[1] ?? error.message;
        console.log(`NOT RUN: fetching packages: ${offline}`);
      },
    );
  });
  afterAll(() => rmSync(join(cacheDir, '..'), { recursive: true, force: true }));
  beforeEach(({ skip }) => skip(offline !== undefined, offline));

  test('an engine fetched into a path with blanks runs, and is found again', async () => {
    const engine = await startEngine({ dataDir: join(home, 'data'), cacheDir, log, programFolders: [] });
    await engine.stop();
    const again = await findEngine({ cacheDir, log, folders: [] });
    expect(again.version).toBe(engine.version);
    expect(again.baseDir.startsWith(cacheDir)).toBe(true);
  });

  test('two at once after one that was killed: both have it, complete, and nothing else is left', async () => {
    const into = join(home, 'cache/fetched');
    const code = `import { fetchPackages } from ${JSON.stringify(join(engine, 'fetch-packages.ts'))};
      await fetchPackages({ packages: ['mysql-common'], into: ${JSON.stringify(into)} });`;
    const command = ['--input-type=module-typescript', '-e', code];
    const killed = spawn(process.execPath, command, { stdio: 'inherit' });
    while (!existsSync(`${into}.lock`)) await sleep(10);
    await sleep(300);
    killed.kill('SIGKILL'); // its apt-get goes on for a while
    await once(killed, 'exit');
    await Promise.all([run(process.execPath, command), run(process.execPath, command)]);
    expect(existsSync(join(into, 'etc/mysql/my.cnf.fallback'))).toBe(true);
    expect(readdirSync(join(home, 'cache')).filter((name) => !name.includes('.partial-'))).toEqual(['fetched']);
  });

  test('a package that does not exist is an error with what apt says, and leaves nothing', async () => {
    const into = join(home, 'cache/fetched');
    await expect(fetchPackages({ packages: ['no-such-package-at-all'], into })).rejects.toThrow(
      /apt-get .*no-such-package-at-all/,
    );
    expect(readdirSync(join(home, 'cache'))).toEqual([]);
  });
});

describe('a fetched program', () => {
  test('uses the libraries beside it', () => {
    mkdirSync(join(home, 'usr/lib/aarch64-linux-gnu'), { recursive: true });
    mkdirSync(join(home, 'lib/aarch64-linux-gnu'), { recursive: true });
    expect(fetchedProgram(home, 'usr/sbin/x')).toEqual({
      command: [join(home, 'usr/sbin/x')],
      env: { LD_LIBRARY_PATH: `${join(home, 'usr/lib/aarch64-linux-gnu')}:${join(home, 'lib/aarch64-linux-gnu')}` },
    });
  });

  test('is run by the loader beside it', () => {
    const libraries = join(home, 'usr/lib/x86_64-linux-gnu');
    mkdirSync(libraries, { recursive: true });
    writeFileSync(join(libraries, 'ld-linux-x86-64.so.2'), '');
    expect(fetchedProgram(home, 'usr/sbin/x')).toEqual({
      command: [join(libraries, 'ld-linux-x86-64.so.2'), '--library-path', libraries, join(home, 'usr/sbin/x')],
      env: {},
    });
  });
});
