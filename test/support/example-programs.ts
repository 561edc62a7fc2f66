import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { mkdir, rename, rm } from 'node:fs/promises';
import { delimiter, join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { fetchedProgram, fetchPackages } from '../../dev/engine/fetch-packages.ts';
import { takeFileLock } from '../../dev/engine/file-lock.ts';
import { cacheDir } from './engines.ts';

const run = promisify(execFile);

const root = resolve(import.meta.dirname, '../..');

/** Compiling all of gRPC on a busy machine takes minutes. */
const stepLimitMs = 400_000;

/** An example in another language, with all that it needs to be built. */
export interface ExampleProgram {
  /** Such as `go1.26.8`. */
  readonly version: string;
  /** Generates the code of the contract and builds the program, as the README of the example says. */
  build(): Promise<void>;
  /** How it is run when it is built. */
  readonly command: readonly string[];
  readonly env: NodeJS.ProcessEnv;
}

/** The examples that tests build and run, each with what finds or fetches its tools and libraries. */
export const exampleLanguages = { Go: findGoExample, Python: findPythonExample } as const;

/** The oldest Go that the example takes, and its package in Debian, for machines without. */
const goVersion = { oldest: 26, package: 'golang-1.26-go', suite: 'trixie-backports', path: 'usr/lib/go-1.26/bin' } as const;

/** @throws {Error} that says why Go or the modules cannot be had. */
async function findGoExample(): Promise<ExampleProgram> {
  const folder = join(root, 'examples/go');
  // What compiles C is not everywhere, and not needed.
  const env: NodeJS.ProcessEnv = { ...process.env, GOTOOLCHAIN: 'local', GOFLAGS: '-modcacherw', CGO_ENABLED: '0' };
  let version = await goVersionOf(env);
  if (version === undefined) {
    const into = join(cacheDir, `${goVersion.package}-${process.arch}`);
    if (!existsSync(into)) {
      console.log(`fetching Go from the packages of Debian ${goVersion.suite}`);
      await fetchPackages({ packages: [goVersion.package], suite: goVersion.suite, into });
    }
    env['PATH'] = `${join(into, goVersion.path)}${delimiter}${env['PATH'] ?? ''}`;
    version = await goVersionOf(env);
    if (version === undefined) throw new Error(`the Go that was fetched into ${into} does not run`);
  }
  await step('go', ['mod', 'download'], folder, env);
  const program = join(cacheDir, 'examples', 'tasks-go');
  // `go generate` runs buf, and buf runs go.
  const building = { ...env, PATH: `${join(root, 'node_modules/.bin')}${delimiter}${env['PATH'] ?? ''}` };
  return {
    version,
    async build() {
      await step('go', ['generate'], folder, building);
      await step('go', ['build', '-o', program], folder, building);
    },
    command: [program],
    env: {},
  };
}

/** The version of the Go on the PATH, if it is new enough. */
async function goVersionOf(env: NodeJS.ProcessEnv): Promise<string | undefined> {
  const version = await run('go', ['env', 'GOVERSION'], { env }).then(
    ({ stdout }) => stdout.trim(),
    () => '',
  );
  return Number(/^go1\.(\d+)/.exec(version)?.[1] ?? 0) >= goVersion.oldest ? version : undefined;
}

/** @throws {Error} that says why Python or the packages cannot be had. */
async function findPythonExample(): Promise<ExampleProgram> {
  const folder = join(root, 'examples/python');
  const { version, command, pip, env } = await findPython();
  const [python = '', ...before] = command;
  const requirements = join(folder, 'requirements.txt');
  const digest = createHash('sha256').update(version).update(readFileSync(requirements)).digest('hex').slice(0, 8);
  const packages = join(cacheDir, `python-packages-${process.arch}-${digest}`);
  await mkdir(cacheDir, { recursive: true });
  const lock = await takeFileLock(`${packages}.lock`, stepLimitMs);
  try {
    if (!existsSync(packages)) {
      console.log('fetching the packages of the example in Python');
      const partial = `${packages}.partial`;
      await rm(partial, { recursive: true, force: true });
      const options = ['--quiet', '--no-compile', '--only-binary', ':all:', '--target', partial, '--requirement', requirements];
      await step(python, [...before, ...pip, 'install', ...options], folder, env);
      await rename(partial, packages);
    }
  } finally {
    lock.release();
  }
  const running = { ...env, PYTHONPATH: packages };
  const protos = ['--proto_path', '../../proto', '--python_out=.', '--pyi_out=.', '--grpc_python_out=.', 'tasks/v1/tasks.proto'];
  return {
    version,
    build: () => step(python, [...before, '-m', 'grpc_tools.protoc', ...protos], folder, running),
    command: [...command, join(folder, 'main.py')],
    env: running,
  };
}

interface Python {
  readonly version: string;
  readonly command: readonly string[];
  /** The arguments that run pip. */
  readonly pip: readonly string[];
  readonly env: NodeJS.ProcessEnv;
}

/** The Python of the machine, or that of Debian bookworm, with a pip. */
async function findPython(): Promise<Python> {
  let program = { command: ['python3'] as readonly string[], env: {} as NodeJS.ProcessEnv };
  let version = await pythonVersionOf(program);
  if (version === undefined) {
    const into = join(cacheDir, `python-${process.arch}`);
    if (!existsSync(into)) {
      console.log('fetching Python from the packages of Debian bookworm');
      await fetchPackages({ packages: ['python3', 'libstdc++6'], suite: 'bookworm', into });
    }
    program = fetchedProgram(into, 'usr/bin/python3');
    version = await pythonVersionOf(program);
    if (version === undefined) throw new Error(`the Python that was fetched into ${into} is not 3.10 or newer, or does not run`);
  }
  const env = { ...process.env, ...program.env };
  const [python = '', ...before] = program.command;
  const hasPip = await run(python, [...before, '-m', 'pip', '--version'], { env }).then(
    () => true,
    () => false,
  );
  return { version, command: program.command, env, pip: hasPip ? ['-m', 'pip'] : [await fetchPip()] };
}

/** The version of a Python, if it is new enough for gRPC. */
async function pythonVersionOf({ command, env }: Pick<Python, 'command' | 'env'>): Promise<string | undefined> {
  const [python = '', ...before] = command;
  const script = 'import platform, ssl, sys; print(platform.python_version(), sys.version_info >= (3, 10))';
  const printed = await run(python, [...before, '-c', script], { env: { ...process.env, ...env } }).then(
    ({ stdout }) => stdout.trim(),
    () => '',
  );
  const [version, isNewEnough] = printed.split(' ');
  return isNewEnough === 'True' ? version : undefined;
}

/** Fetches pip as the wheel that Debian has of it, and returns what Python runs without installing it. */
async function fetchPip(): Promise<string> {
  const into = join(cacheDir, 'pip');
  if (!existsSync(into)) {
    await fetchPackages({ packages: ['python3-pip-whl'], into, folder: 'usr/share/python-wheels' });
  }
  const wheel = readdirSync(into).find((name) => /^pip-.*\.whl$/.test(name));
  if (wheel === undefined) throw new Error(`there is no pip in ${into}`);
  return join(into, wheel, 'pip');
}

/** @throws {Error} with the last lines that the program printed, when it does not exit with 0. */
async function step(program: string, args: readonly string[], cwd: string, env: NodeJS.ProcessEnv): Promise<void> {
  try {
    await run(program, args, { cwd, env, timeout: stepLimitMs });
  } catch (error) {
    const printed = (error as { stderr?: string }).stderr?.trim().split('\n').slice(-5).join('\n');
    throw new Error(`${program} ${args.slice(0, 2).join(' ')}: ${printed || String(error)}`, { cause: error });
  }
}
