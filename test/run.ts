import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { on } from 'node:events';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { release, tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { createInterface } from 'node:readline';
import { PassThrough } from 'node:stream';
import { stripVTControlCharacters } from 'node:util';
import { takesEscapes } from '../src/commands/takes-escapes.ts';
import { acceptedImage, isAccepted } from '../tools/proto-image.ts';
import { changedFiles, chooseTests } from './support/changed-tests.ts';
import { cacheDir } from './support/engines.ts';

// `npm test`: every check of the project in one run. `npm test -- --changed [COMMIT]` runs what a change needs while one works on it.
// With other arguments, vitest alone runs on the files or names they give. The last line is always `N passed, N failed, N skipped`,
// which counts the tests, the other steps, and as skipped what could NOT RUN.

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
    readonly name: string;
    readonly status: string;
    readonly message: string;
    readonly assertionResults: readonly {
      readonly status: string;
      readonly fullName: string;
      readonly failureMessages: readonly string[];
    }[];
  }[];
}

/** A step is told off by its message: a failure it has found itself. */
class StepError extends Error {
  override readonly name = 'StepError';
}

const [option, ...rest] = process.argv.slice(2);
const kind = option === undefined ? 'whole' : option === '--changed' ? 'changed' : 'some';
const changed = kind === 'changed' ? changedFiles(rest[0]) : [];
const tests = kind === 'changed' ? chooseTests(changed) : undefined;
const filters = tests?.chosen ?? process.argv.slice(2);
const inCi = !['', 'false'].includes(process.env['CI'] ?? '');
const resultsFile = join(cacheDir, 'test-results.json');
const enginesFile = join(cacheDir, 'test-report.json');

/** Of programs that are started: a change is tested on one engine, unless others are asked for. */
const env: NodeJS.ProcessEnv = {
  ...(kind === 'changed' ? { TEST_ENGINES: 'mariadb' } : {}),
  ...process.env,
  ...(takesEscapes(process.stdout) ? { FORCE_COLOR: '1' } : {}),
};

const total: Counts = { passed: 0, failed: 0, skipped: 0 };
const failures: string[] = [];
const failedTests: string[] = [];
const notRun = new Set<string>();

const children = new Set<ChildProcess>();
let stopped = false;
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(signal, () => {
    stopped = true;
    // Ctrl-C at a terminal reaches the children without us, and a second one would cut short their cleaning up.
    if (signal === 'SIGINT' && process.stdin.isTTY) return;
    for (const child of children) child.kill(signal);
  });
}

const folder = mkdtempSync(join(tmpdir(), 'tasks-run-'));
try {
  mkdirSync(cacheDir, { recursive: true });
  for (const file of [resultsFile, enginesFile]) rmSync(file, { force: true });
  heading('Machine');
  console.log(`Node ${process.version}, npm ${npmVersion()}, ${systemName()}`);
  // The tests build the page if it is not, and two that build it at once would be in each other's way.
  if (kind === 'whole') await step('Build, and start what was built', build);
  const steps = runSteps();
  await Promise.all([steps, tests?.chosen.length === 0 ? undefined : runTests(steps)]);
  if (kind === 'whole') await step('The database without what distributed engines lack', checkDistributed);
  if (kind === 'whole') await step('Quick benchmark', (run) => run(process.execPath, 'bench/run.ts', '--quick'));
} finally {
  rmSync(folder, { recursive: true, force: true });
}
closeRun();

/** Runs a program of the repository. Rejects when it does not exit with 0. */
type Run = (program: string, ...args: string[]) => Promise<void>;

/** Everything but the tests, each on its own, so that one run tells all that is wrong; they run beside the tests. */
async function runSteps(): Promise<void> {
  if (kind === 'some') return;
  if (kind === 'whole') await step('Generated code is up to date', checkGeneratedCode);
  if (kind === 'whole' || changed.some((file) => file.startsWith('proto/'))) {
    await step('The contract keeps the rules (buf lint, buf format)', async (run) => {
      await run('buf', 'lint');
      await run('buf', 'format', 'proto', '--diff', '--exit-code');
    });
    await step('The contract breaks no client (buf breaking)', async (run) => {
      await run('buf', 'breaking', 'proto', '--against', acceptedImage);
      if (!isAccepted(folder)) {
        throw new StepError('the contract has changed: name the change in CHANGELOG.md, then run `npm run proto:accept`');
      }
    });
  }
  await step('Format and lint', (run) => run('npm', 'run', '--silent', 'lint'));
  await step('Types', (run) => run('npm', 'run', '--silent', 'types'));
}

async function build(run: Run): Promise<void> {
  await run('npm', 'run', '--silent', 'build');
  await run(process.execPath, 'dist/main.js', '--version');
}

/** Runs one step and counts it. What it prints comes under its heading when it has ended. */
async function step(title: string, check: (run: Run) => Promise<void>): Promise<void> {
  if (stopped) return;
  const started = performance.now();
  const printed: string[] = [];
  const seconds = (): string => ((performance.now() - started) / 1000).toFixed(1);
  let result: string;
  try {
    await check((program, ...args) => run(printed, program, args));
    total.passed += 1;
    result = `ok (${seconds()} s)`;
  } catch (error) {
    total.failed += 1;
    failures.push(title);
    result = `FAILED: ${error instanceof StepError ? error.message : String(error)} (${seconds()} s)`;
  }
  heading(title);
  process.stdout.write(printed.join(''));
  console.log(result);
}

function heading(title: string): void {
  console.log(`\n== ${title} ==`);
}

/** Runs a program of the repository, and keeps what it prints. @throws {StepError} when it does not exit with 0. */
async function run(printed: string[], program: string, args: readonly string[]): Promise<void> {
  const started = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'], env });
  for (const stream of [started.stdout, started.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => void printed.push(text));
  }
  const end = await ended(started);
  if (end !== 0) throw new StepError(`${[program, ...args].join(' ')}: ${end}`);
}

/** Waits for a process, which meanwhile is given our signals. Resolves to its exit code, or to what ended it otherwise. */
function ended(child: ChildProcess): Promise<number | string> {
  children.add(child);
  return new Promise<number | string>((resolve) => {
    child.once('error', (error) => resolve(error.message));
    child.once('close', (code, signal) => resolve(code ?? signal ?? 'ended'));
  }).finally(() => children.delete(child));
}

/** Runs a file of tests in the mode of docs/distributed.md; all of them take too long for each run. */
async function checkDistributed(run: Run): Promise<void> {
  if (process.env['TEST_MARIADB_URL'] !== undefined) return; // it reads the log of a private server
  await run('env', 'TEST_DISTRIBUTED=true', 'vitest', 'run', '--project', 'db', 'test/db/own-tasks.test.ts');
}

/** Generates into a temporary folder and compares, so that a check changes nothing. */
async function checkGeneratedCode(run: Run): Promise<void> {
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

/**
 * Runs vitest, collects its lines that say what could not run, and counts its tests.
 *
 * @param steps what runs beside it, and is shown first.
 */
async function runTests(steps: Promise<void>): Promise<void> {
  const started = performance.now();
  const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${resultsFile}`];
  // A forgotten `.only` would hide every other test of a whole run.
  const only = `--allowOnly=${kind !== 'whole' && !inCi}`;
  const vitest = spawn('vitest', ['run', ...reporters, only, ...filters], { stdio: ['ignore', 'pipe', 'pipe'], env });
  const end = ended(vitest);
  const output = new PassThrough();
  for (const stream of [vitest.stdout, vitest.stderr]) stream.pipe(output, { end: false });
  void end.then(() => output.end());
  const lines = on(createInterface(output), 'line', { close: ['close'] }); // keeps them from now on
  await steps;
  heading('Tests');
  for await (const [line] of lines as AsyncIterable<[string]>) {
    console.log(line);
    const match = /^NOT RUN: (.+)$/.exec(stripVTControlCharacters(line).trim());
    if (match?.[1] !== undefined) notRun.add(match[1]);
  }
  const code = await end;
  const counts = countTests();
  console.log(`(${((performance.now() - started) / 1000).toFixed(1)} s)`);
  total.passed += counts.passed;
  total.failed += counts.failed;
  total.skipped += counts.skipped;
  if (counts.failed > 0) failures.push('Tests');
  else if (code !== 0) fail(`Tests: vitest ended with ${code}`);
  else if (inCi && counts.passed === 0) fail('Tests: none ran');
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
    const path = relative('.', file.name);
    if (file.status === 'failed' && file.message !== '') failedTests.push(`${path}\n${firstLines(file.message)}`);
    for (const { status, fullName, failureMessages } of file.assertionResults) {
      if (status === 'failed') failedTests.push(`${path} > ${fullName}\n${firstLines(failureMessages.join('\n'))}`);
    }
    const statuses = file.assertionResults.map(({ status }) => status);
    const failed = statuses.filter((status) => status === 'failed').length;
    const passed = statuses.filter((status) => status === 'passed').length;
    counts.passed += passed;
    counts.failed += file.status === 'failed' ? Math.max(failed, 1) : failed;
    counts.skipped += statuses.length - failed - passed;
  }
  return counts;
}

/** The beginning of a message, as long as one reads at the end of a run. */
function firstLines(message: string): string {
  const lines = stripVTControlCharacters(message).split('\n').slice(0, 12);
  return lines.map((line) => `  ${line.slice(0, 300)}`).join('\n');
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
  if (tests !== undefined && tests.left.length > 0) console.log(`Left to the whole run: ${tests.left.join(', ')}`);
  if (stopped) fail('stopped by a signal');
  for (const failure of failures) console.log(`FAILED: ${failure}`);
  for (const test of failedTests) console.log(`FAILED: ${test}`);
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
