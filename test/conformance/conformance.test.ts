import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { describe, expect, test } from 'vitest';

// The Connect conformance suite (https://github.com/connectrpc/conformance) against both listeners. The suite's own lists of known
// failures hold whole cases, in which every later fault would stay unseen; ours hold what is said of a case (known-failing-*.txt).

/** A case of the suite that did not go as expected, and all that the suite says of it. */
interface Failure {
  readonly name: string;
  readonly complaints: string;
}

/** What is known to be said of some cases. */
interface Known {
  readonly line: string;
  /** Whether it is said in some runs and not in others. */
  readonly sometimes: boolean;
  readonly cases: RegExp;
  readonly complaint: RegExp;
}

const program = ['connectconformance', join(import.meta.dirname, '../../.cache/bin/connectconformance')].find(
  (name) => spawnSync(name, ['--version']).status === 0,
);

if (program === undefined && process.env['CONFORMANCE_REQUIRED'] !== '1') {
  console.log('NOT RUN: the Connect conformance suite, whose command `connectconformance` is not on the PATH');
}

describe.runIf(program !== undefined || process.env['CONFORMANCE_REQUIRED'] === '1')('the Connect conformance suite', () => {
  test.each([
    { port: 'web', atLeast: 3100 },
    { port: 'grpc', atLeast: 450 },
  ])('finds nothing on the $port port that is not known', async ({ port, atLeast }) => {
    const output = await runSuite(program ?? 'connectconformance', port);
    const known = readKnown(port);
    const failures = readFailures(output);
    const unknown = failures.map((failure) => ({ ...failure, complaints: withoutKnown(failure, known) }));
    expect(unknown.filter(({ complaints }) => complaints !== '')).toEqual([]);

    const unused = known.filter(
      ({ sometimes, cases, complaint }) =>
        !sometimes && !failures.some(({ name, complaints }) => cases.test(name) && complaints.search(complaint) !== -1),
    );
    expect(unused.map(({ line }) => line)).toEqual([]);

    const [, passed, failed] = /^(\d+) passed, (\d+) failed$/m.exec(output) ?? [];
    expect(Number(failed)).toBe(failures.length);
    expect(Number(passed) + Number(failed)).toBeGreaterThan(atLeast);
    expect(output).not.toContain('could not be run');
  });
});

/** Runs all cases that the configuration of a port chooses, and gives what the suite prints. */
async function runSuite(command: string, port: string): Promise<string> {
  const here = (name: string): string => join(import.meta.dirname, name);
  const options = ['--mode', 'server', '--conf', here(`${port}.yaml`), '--parallel', '4', '--max-servers', '2'];
  const suite = spawn(command, [...options, '--', process.execPath, here('adapter.ts'), port], {
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: 100_000,
    killSignal: 'SIGINT',
  });
  const [stdout, stderr] = await Promise.all([text(suite.stdout), text(suite.stderr), once(suite, 'close')]);
  return `${stdout}\n${stderr}`;
}

function readKnown(port: string): Known[] {
  return readFileSync(join(import.meta.dirname, `known-failing-${port}.txt`), 'utf8')
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'))
    .map((line) => {
      const [, sometimes, cases = '', complaint = ''] = /^(sometimes )?(.+?) :: (.+)$/.exec(line) ?? [];
      const pattern = cases.split('**').map((part) => part.replaceAll(/[.+?^${}()|[\]\\]/g, '\\$&'));
      return {
        line,
        sometimes: sometimes !== undefined,
        cases: new RegExp(`^${pattern.join('.*')}$`),
        complaint: new RegExp(complaint, 'g'),
      };
    });
}

/** Takes the failed cases out of the output: `FAILED: name:`, and below it, indented, what is wrong. */
function readFailures(output: string): Failure[] {
  return [...output.matchAll(/^FAILED: (.+):\n((?:\t.*\n|\s*\n)*)/gm)].map(([, name = '', lines = '']) => ({
    name,
    complaints: lines.replaceAll(/^\t/gm, '').trim(),
  }));
}

/** What is said of a case besides what is known. Complaints are separated by `;` and by lines. */
function withoutKnown({ name, complaints }: Failure, known: readonly Known[]): string {
  let rest = complaints;
  for (const { cases, complaint } of known) if (cases.test(name)) rest = rest.replaceAll(complaint, '');
  return rest.replaceAll(/^[;\s]+|[;\s]+$/g, '');
}
