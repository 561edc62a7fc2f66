import { execFile } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { takeFileLock } from './file-lock.ts';

const run = promisify(execFile);

/** How long one step of a download may take, in milliseconds, so that a mirror that hangs does not block the start for ever. */
const stepLimitMs = 180_000;

/** Options of {@link fetchPackages}. */
interface PackagesToFetch {
  /** The names of the packages; their dependencies are included. */
  readonly packages: readonly string[];
  /** The folder to unpack them into, which is created atomically. */
  readonly into: string;
  /**
   * A suite of Debian, such as `sid`, from which all packages are taken, also the C library. By default those that are not
   * installed are taken from the machine's distribution.
   */
  readonly suite?: string;
  /** Prefixes of the file names of dependencies that are not needed and not unpacked. */
  readonly skip?: RegExp;
  /** The one folder of the packages that is wanted; they come without their dependencies. */
  readonly folder?: string;
}

/**
 * Downloads packages of the distribution and unpacks them into a folder. It needs `apt-get` and `dpkg`, but not root: apt uses
 * private state beside the folder, and does not change the machine. Of two processes that fetch the same, one waits for the
 * other. An interrupted download is started over.
 *
 * @throws {Error} with the last lines that the failed program printed.
 */
export async function fetchPackages(wanted: PackagesToFetch): Promise<void> {
  const into = resolve(wanted.into);
  await mkdir(dirname(into), { recursive: true });
  const lock = await takeFileLock(`${into}.lock`, 2 * stepLimitMs);
  try {
    if (existsSync(into)) return;
    await removeFoldersLike(`${into}.partial-`);
    const work = await mkdtemp(`${into}.partial-`);
    try {
      const root = join(work, 'root');
      await mkdir(root);
      for (const archive of await download(wanted, work)) await step('dpkg-deb', ['--extract', archive, root]);
      for (const name of ['doc', 'man', 'locale', 'lintian']) {
        await rm(join(root, 'usr/share', name), { recursive: true, force: true });
      }
      await rename(join(root, wanted.folder ?? ''), into);
    } finally {
      await rm(work, { recursive: true, force: true });
    }
  } finally {
    lock.release();
  }
}

/**
 * Removes the folders with a path prefix, which interrupted attempts left. A program of such an attempt may still write there, so
 * removing is retried, and a new attempt uses a folder of its own.
 */
export async function removeFoldersLike(start: string): Promise<void> {
  for (const name of await readdir(dirname(start))) {
    if (name.startsWith(basename(start))) await rm(join(dirname(start), name), { recursive: true, force: true, maxRetries: 5 });
  }
}

/** The command of a program in a folder of {@link fetchPackages}. */
export interface FetchedProgram {
  readonly command: readonly string[];
  readonly env: Readonly<Record<string, string>>;
}

/**
 * Makes the command for a program of a fetched folder. With a C library in the folder, the folder's loader runs the program,
 * since the machine's would mix the two. Otherwise the machine's libraries are used first, then the folder's.
 */
export function fetchedProgram(root: string, path: string): FetchedProgram {
  const libraries = ['usr/lib', 'lib']
    .map((folder) => join(root, folder))
    .filter(existsSync)
    .flatMap((folder) =>
      readdirSync(folder)
        .filter((name) => /-linux-gnu/.test(name))
        .map((name) => join(folder, name)),
    );
  const loader = libraries
    .flatMap((folder) => readdirSync(folder).map((name) => join(folder, name)))
    .find((file) => /\/ld-linux[^/]*\.so\.\d+$/.test(file));
  const program = join(root, path);
  return loader === undefined
    ? { command: [program], env: { LD_LIBRARY_PATH: libraries.join(':') } }
    : { command: [loader, '--library-path', libraries.join(':'), program], env: {} };
}

/** Downloads the archives into `work` and returns their paths. */
async function download(wanted: PackagesToFetch, work: string): Promise<string[]> {
  const archives = join(work, 'cache/archives');
  await mkdir(join(work, 'lists/partial'), { recursive: true });
  await mkdir(join(archives, 'partial'), { recursive: true });
  const settings: Record<string, string> = {
    'Dir::Etc::Main': '/dev/null',
    'Dir::Etc::Parts': '/dev/null',
    'Dir::State': work,
    'Dir::State::lists': join(work, 'lists'),
    'Dir::State::status': '/var/lib/dpkg/status',
    'Dir::Cache': join(work, 'cache'),
    'Dir::Cache::archives': archives,
    // As root, apt downloads as the user _apt, who may not enter these folders.
    'APT::Sandbox::User': 'root',
    // The machine's lock belongs to root, and protects state that is not used here.
    'Debug::NoLocking': 'true',
    'APT::Keep-Downloaded-Packages': 'true',
    'Acquire::Languages': 'none',
    'Acquire::Retries': '2',
    'Acquire::http::Timeout': '15',
    'Acquire::https::Timeout': '15',
  };
  if (wanted.suite !== undefined) {
    await writeFile(join(work, 'status'), '');
    await writeFile(join(work, 'sources.list'), `deb [signed-by=${debianKeys}] ${debianMirror()} ${wanted.suite} main\n`);
    settings['Dir::State::status'] = join(work, 'status');
    settings['Dir::Etc::sourcelist'] = join(work, 'sources.list');
    settings['Dir::Etc::sourceparts'] = '/dev/null';
    settings['Dir::Etc::preferencesparts'] = '/dev/null';
  }
  const lines = Object.entries(settings).map(([name, value]) => `${name} "${value}";`);
  // The configuration of the machine's apt for mirrors, such as a proxy, is used. The rest of it is not, above all its hooks and
  // its
  // additional indexes.
  const acquire = await step('apt-config', ['dump', '--format', '%F "%v";%n', 'Acquire']).catch(() => '');
  const inherited = acquire.split('\n').filter((line) => !line.startsWith('Acquire::IndexTargets'));
  await writeFile(join(work, 'apt.conf'), [...inherited, ...lines].join('\n'));
  const env = { ...process.env, APT_CONFIG: join(work, 'apt.conf') };
  // An unreachable source fails the update but may not be needed: the install will fail if it is.
  const update = await step('apt-get', ['-qq', 'update'], env).catch((error: unknown) => error);
  const fetch =
    wanted.folder === undefined ? ['-y', '--no-install-recommends', '--reinstall', '--download-only', 'install'] : ['download'];
  try {
    await step('apt-get', ['-qq', ...fetch, ...wanted.packages], env, archives);
  } catch (error) {
    throw update instanceof Error ? update : error;
  }
  const names = (await readdir(archives)).filter((name) => name.endsWith('.deb') && !wanted.skip?.test(name));
  return names.map((name) => join(archives, name));
}

const debianKeys = '/usr/share/keyrings/debian-archive-keyring.gpg';

/** The Debian mirror of the machine's apt. */
function debianMirror(): string {
  for (const [file, pattern] of [
    ['/etc/apt/sources.list.d/debian.sources', /^URIs: *(\S+)/m],
    ['/etc/apt/sources.list', /^deb +(?:\[[^\]]*\] *)?(\S*debian\S*) /m],
  ] as const) {
    const mirror = existsSync(file) ? pattern.exec(readFileSync(file, 'utf8'))?.[1] : undefined;
    if (mirror !== undefined) return mirror;
  }
  throw new Error('this machine does not take its packages from a Debian mirror');
}

/** Runs a program, and returns what it prints. */
async function step(program: string, args: string[], env: NodeJS.ProcessEnv = process.env, cwd?: string): Promise<string> {
  try {
    const { stdout } = await run(program, args, { env, cwd, timeout: stepLimitMs, maxBuffer: 16 * 1024 * 1024 });
    return stdout;
  } catch (error) {
    const { code, stderr } = error as { code?: unknown; stderr?: string };
    if (code === 'ENOENT') throw new Error(`this machine has no ${program}`, { cause: error });
    const lines = (stderr ?? '').trim().split('\n').slice(-3).join(' ');
    throw new Error(`${program} ${args[0] === '-qq' ? args.at(-1) : ''} failed: ${lines || String(error)}`, { cause: error });
  }
}
