import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, expect, test, vi } from 'vitest';

// Processes are started, on machines that may be busy.
vi.setConfig({ testTimeout: 30_000 });

const file = resolve(import.meta.dirname, '../../src/platform/stop-signal.ts');
/** Drains for two seconds once it is asked to stop, or for so many milliseconds. */
const program = `
import { aborted, stopSignal } from ${JSON.stringify(file)};
const stop = stopSignal();
console.log('ready ' + process.pid);
const work = setInterval(() => {}, 1000);
await aborted(stop);
console.log('draining');
await new Promise((resolve) => setTimeout(resolve, Number(process.env['DRAIN_MS'] ?? 2000)));
clearInterval(work);
console.log('drained');
`;
const node = [process.execPath, '--input-type=module-typescript', '--eval', program];

const running = new Set<ChildProcess>();
afterEach(() => {
  for (const child of running) child.kill('SIGKILL');
});

function start(command: readonly string[], env: NodeJS.ProcessEnv = {}) {
  const child = spawn(command[0] ?? '', command.slice(1), {
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  running.add(child);
  let output = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (output += text));
  const says = (text: string): Promise<void> => expect.poll(() => output, { timeout: 20_000 }).toContain(text);
  const end = once(child, 'close').then(([code]) => ({ code: code as number | null, output }));
  return { child, says, end, output: () => output };
}

test.each(['SIGINT', 'SIGTERM', 'SIGHUP'] as const)('%s drains, also when it arrives twice', async (signal) => {
  const { child, says, end } = start(node);
  await says('ready');
  child.kill(signal);
  await says('draining');
  child.kill(signal);
  const { code, output } = await end;
  expect(code).toBe(0);
  expect(output).toContain('drained');
});

test('a signal more than a second after the first ends the program at once', async () => {
  const { child, says, end } = start(node, { DRAIN_MS: '60000' });
  await says('ready');
  child.kill('SIGINT');
  await says('draining');
  await sleep(1100);
  child.kill('SIGINT');
  const { code, output } = await end;
  expect(code).toBe(1);
  expect(output).not.toContain('drained');
});

test('a launcher that is killed stops the program', async () => {
  const launcher = `
    const { spawn } = require('node:child_process');
    const env = { ...process.env, LAUNCHER_PID: String(process.pid) };
    spawn(${JSON.stringify(node[0])}, ${JSON.stringify(node.slice(1))}, { env, stdio: 'inherit' });
    setInterval(() => {}, 1000);`;
  const { child, says, end } = start([process.execPath, '--eval', launcher]);
  await says('ready');
  child.kill('SIGKILL');
  await says('drained');
  await end;
});

test('the death of a parent that is not the launcher changes nothing', async () => {
  const parent = `
    const { spawn } = require('node:child_process');
    spawn(${JSON.stringify(node[0])}, ${JSON.stringify(node.slice(1))}, { stdio: 'inherit' });
    setInterval(() => {}, 1000);`;
  const { child, says, output } = start([process.execPath, '--eval', parent], { LAUNCHER_PID: '1' });
  await says('ready');
  child.kill('SIGKILL');
  await sleep(1200);
  const pid = Number(/ready (\d+)/.exec(output())?.[1]);
  expect(() => process.kill(pid, 'SIGKILL')).not.toThrow();
  expect(output()).not.toContain('draining');
});
