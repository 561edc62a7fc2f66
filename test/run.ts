import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { release, tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { stripVTControlCharacters } from 'node:util';
import { acceptedImage, isAccepted } from '../tools/proto-image.ts';
import { cacheDir } from './support/engines.ts';

// `npm test`: every check of the project in one run. With arguments, vitest alone runs on the files or names they give. The last
// line is always `N passed, N failed, N skipped`, which counts the tests, the other steps, and as skipped what could NOT RUN.

/** What the parts of a run add up to. */
interface Counts {
  passed: number;
  failed: number;
  skipped: number;
}

/** What this runner reads of vitest's JSON report. */
interface VitestReport {
  readonly success: boolean;
  readonly testResults: readonly {
    readonly status: string;
    readonly assertionResults: readonly { readonly status: string }[];
  }[];
}

/** A step is told off by its message: a failure it has found itself. */
class StepError extends Error {
  override readonly name = 'StepError';
}

const filters = process.argv.slice(2);
const inCi = !['', 'false'].includes(process.env['CI'] ?? '');
const resultsFile = join(cacheDir, 'test-results.json');
const enginesFile = join(cacheDir, 'test-report.json');

const total: Counts = { passed: 0, failed: 0, skipped: 0 };
const failures: string[] = [];
const notRun = new Set<string>();

let child: ChildProcess | undefined;
let stopped = false;
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(signal, () => {
    stopped = true;
    // Ctrl-C at a terminal reaches the child without us, and a second one would cut short its cleaning up.
    if (signal !== 'SIGINT' || !process.stdin.isTTY) child?.kill(signal);
  });
}

const folder = mkdtempSync(join(tmpdir(), 'tasks-run-'));
try {
  mkdirSync(cacheDir, { recursive: true });
  for (const file of [resultsFile, enginesFile]) rmSync(file, { force: true });
  heading('Machine');
  console.log(`Node ${process.version}, npm ${npmVersion()}, ${systemName()}`);
  if (filters.length === 0) await runSteps();
  if (!stopped) await runTests();
  if (filters.length === 0) await step('Quick benchmark', () => run(process.execPath, 'bench/run.ts', '--quick'));
} finally {
  rmSync(folder, { recursive: true, force: true });
}
closeRun();

/** Everything but the tests, each on its own, so that one run tells all that is wrong. */
async function runSteps(): Promise<void> {
  await step('Generated code is up to date', checkGeneratedCode);
  await step('The contract keeps the rules (buf lint, buf format)', async () => {
    await run('buf', 'lint');
    await run('buf', 'format', 'proto', '--diff', '--exit-code');
  });
  await step('The contract breaks no client (buf breaking)', async () => {
    await run('buf', 'breaking', 'proto', '--against', acceptedImage);
    if (!isAccepted(folder)) {
      throw new StepError('the contract has changed: name the change in CHANGELOG.md, then run `npm run proto:accept`');
    }
  });
  await step('Format and lint', () => run('npm', 'run', '--silent', 'lint'));
  await step('Types', () => run('npm', 'run', '--silent', 'types'));
  await step('Build, and start what was built', async () => {
    await run('npm', 'run', '--silent', 'build');
    await run(process.execPath, 'dist/main.js', '--version');
  });
}

/** Runs one step under its heading and counts it. */
async function step(title: string, check: () => Promise<void>): Promise<void> {
  if (stopped) return;
  heading(title);
  const started = performance.now();
  try {
    await check();
    total.passed += 1;
    console.log(`ok (${((performance.now() - started) / 1000).toFixed(1)} s)`);
  } catch (error) {
    total.failed += 1;
    failures.push(title);
    console.log(`FAILED: ${error instanceof StepError ? error.message : String(error)}`);
  }
}

function heading(title: string): void {
  console.log(`\n== ${title} ==`);
}

/** Runs a program of the repository, its output shown. @throws {StepError} when it does not exit with 0. */
async function run(program: string, ...args: string[]): Promise<void> {
  const started = spawn(program, args, { stdio: ['ignore', 'inherit', 'inherit'] });
  const end = await ended(started);
  if (end !== 0) throw new StepError(`${[program, ...args].join(' ')}: ${end}`);
}

/** Waits for a process, which meanwhile is given our signals. Resolves to its exit code, or to what ended it otherwise. */
function ended(started: ChildProcess): Promise<number | string> {
  child = started;
  return new Promise<number | string>((resolve) => {
    started.once('error', (error) => resolve(error.message));
    started.once('close', (code, signal) => resolve(code ?? signal ?? 'ended'));
  }).finally(() => {
    child = undefined;
  });
}

/** Generates into a temporary folder and compares, so that a check changes nothing. */
async function checkGeneratedCode(): Promise<void> {
  await run('buf', 'generate', '--output', folder);
  await run('buf', 'generate', '--template', 'test/conformance/buf.gen.yaml', '--output', folder);
  for (const place of ['src/gen', 'test/conformance/gen']) {
    const committed = filesIn(place);
    const generated = filesIn(join(folder, place));
    const differing = [...new Set([...committed.keys(), ...generated.keys()])].filter(
      (name) => committed.get(name) !== generated.get(name),
    );
    if (differing.length > 0) throw new StepError(`${place} differs in ${differing.join(', ')}: run \`npm run generate\``);
  }
}

/** The contents of the files under a folder, by their path in it. */
function filesIn(root: string): Map<string, string> {
  const files = readdirSync(root, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  return new Map(
    files.map((entry) => {
      const path = join(entry.parentPath, entry.name);
      return [path.slice(root.length + 1), readFileSync(path, 'utf8')];
    }),
  );
}

/** Runs vitest, collects its lines that say what could not run, and counts its tests. */
async function runTests(): Promise<void> {
  heading('Tests');
  const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${resultsFile}`];
  // A forgotten `.only` would hide every other test of a whole run.
  const only = `--allowOnly=${filters.length > 0 && !inCi}`;
  const vitest = spawn('vitest', ['run', ...reporters, only, ...filters], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, ...(process.stdout.isTTY ? { FORCE_COLOR: '1' } : {}) },
  });
  const end = ended(vitest);
  for await (const line of createInterface({ input: vitest.stdout })) {
    console.log(line);
    const match = /^NOT RUN: (.+)$/.exec(stripVTControlCharacters(line).trim());
    if (match?.[1] !== undefined) notRun.add(match[1]);
  }
  const code = await end;
  const tests = countTests();
  total.passed += tests.passed;
  total.failed += tests.failed;
  total.skipped += tests.skipped;
  if (tests.failed > 0) failures.push('Tests');
  else if (code !== 0) fail(`Tests: vitest ended with ${code}`);
  else if (inCi && tests.passed === 0) fail('Tests: none ran');
}

function fail(reason: string): void {
  total.failed += 1;
  failures.push(reason);
}

/** Counts vitest's tests; a file of tests that could not even be loaded is one that failed. */
function countTests(): Counts {
  const counts: Counts = { passed: 0, failed: 0, skipped: 0 };
  const report = readReport(resultsFile) as VitestReport | undefined;
  for (const file of report?.testResults ?? []) {
    const statuses = file.assertionResults.map(({ status }) => status);
    const failed = statuses.filter((status) => status === 'failed').length;
    const passed = statuses.filter((status) => status === 'passed').length;
    counts.passed += passed;
    counts.failed += file.status === 'failed' ? Math.max(failed, 1) : failed;
    counts.skipped += statuses.length - failed - passed;
  }
  return counts;
}

/** The JSON file that a part of the run has written, or undefined. */
function readReport(file: string): unknown {
  try {
    return JSON.parse(readFileSync(file, 'utf8'));
  } catch {
    return undefined;
  }
}

/** Says what the run was worth, and ends with its closing line. */
function closeRun(): void {
  heading('Result');
  const { engines } = (readReport(enginesFile) ?? { engines: [] }) as { engines: readonly { name: string; version?: string }[] };
  const versions = engines.flatMap(({ name, version }) => (version === undefined ? [] : [`${name} ${version}`]));
  if (versions.length > 0) console.log(`Databases: ${versions.join(', ')}`);
  for (const reason of notRun) console.log(`NOT RUN: ${reason}`);
  if (stopped) fail('stopped by a signal');
  for (const failure of failures) console.log(`FAILED: ${failure}`);
  total.skipped += notRun.size;
  const incomplete = inCi && notRun.size > 0;
  if (incomplete && total.failed === 0) console.log('FAILED: with CI set, everything has to run');
  process.exitCode = total.failed > 0 || incomplete ? 1 : 0;
  console.log(`\n${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped`);
}

function npmVersion(): string {
  return spawnSync('npm', ['--version'], { encoding: 'utf8' }).stdout?.trim() || 'unknown';
}

/** Such as `Debian GNU/Linux 12 (bookworm) (linux 6.1.0, x64)`. */
function systemName(): string {
  let name = process.platform as string;
  try {
    name = /^PRETTY_NAME="?([^"\n]*)"?$/m.exec(readFileSync('/etc/os-release', 'utf8'))?.[1] ?? name;
  } catch {
    // Not a Linux.
  }
  return `${name} (${process.platform} ${release()}, ${process.arch})`;
}
