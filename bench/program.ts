import { spawn } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync, truncateSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { databaseUrl } from '../test/support/service.ts';
import type { DataSet, Person } from './data.ts';
import type { FloorOptions } from './floor.ts';
import { ourStatements } from './our-statements.ts';
import type { TextbookOptions } from './textbook.ts';

/** A server under test, in a process of its own. Its log goes straight to a file, as in production, and not through this process. */
export interface Program {
  readonly pid: number;
  /** `host:port` of each port it listens on. */
  readonly ports: { readonly grpc: string; readonly web?: string; readonly ops?: string };
  /** Reads the processor time and the memory of the process. */
  usage(): Usage;
  /** Empties its log, which grows by megabytes a second under load. */
  forgetLog(): void;
  stop(signal?: NodeJS.Signals): Promise<void>;
}

/** Processor time and memory of a process. The numbers are NaN except on Linux. */
interface Usage {
  readonly cpuMs: number;
  readonly rssMiB: number;
  /** The largest resident size since the process started. */
  readonly peakRssMiB: number;
}

/** Connections to the database of each server under test. */
export const connections = 10;

const root = resolve(import.meta.dirname, '..');

/** As in bin/launch.mjs. */
const heapFlags = ['--max-semi-space-size=16', '--heap-growing-percent=75', '--no-parallel-scavenge'];

/** Starts our service on a data set: as in production, with authentication, scope, log, metrics and projector. */
export function startOurs({ address }: Pick<DataSet, 'address'>, env: Readonly<Record<string, string>> = {}): Promise<Program> {
  return startProgram([...heapFlags, 'src/main.ts', 'serve'], {
    DATABASE_URL: databaseUrl(address),
    DATABASE_POOL_SIZE: String(connections),
    HOST: '127.0.0.1',
    GRPC_PORT: '0',
    WEB_PORT: '0',
    OPS_PORT: '0',
    RATE_LIMIT_PER_MINUTE: '0',
    ...env,
  });
}

/** Starts the floor for a caller. It sends the statements that our service sends for that caller, and answers of the same sizes. */
export async function startFloor(
  data: DataSet,
  person: Person,
  taskId: string,
  sizes: Pick<FloorOptions, 'getBytes' | 'listBytes'>,
): Promise<Program> {
  const statements = await ourStatements(data, person, taskId);
  const options: FloorOptions = { ...common(data), ...statements, taskId: taskId.replaceAll('-', ''), ...sizes };
  return startProgram(['bench/floor.ts'], { FLOOR: JSON.stringify(options) });
}

/** Starts the textbook. */
export function startTextbook(data: DataSet, owner: Buffer): Promise<Program> {
  const options: TextbookOptions = { ...common(data), owner: owner.toString('hex') };
  return startProgram(['bench/textbook.ts'], { TEXTBOOK: JSON.stringify(options) });
}

function common({ address }: DataSet) {
  const { socketPath = '', user, database } = address;
  return { socketPath, user, database, connections };
}

/** Starts a program of the repository and waits until it logs its addresses. */
async function startProgram(args: readonly string[], env: Readonly<Record<string, string>>): Promise<Program> {
  const folder = mkdtempSync(join(tmpdir(), 'tasks-bench-'));
  const logFile = join(folder, 'log');
  const log = openSync(logFile, 'a');
  const child = spawn(process.execPath, args, {
    cwd: root,
    env: { PATH: process.env['PATH'] ?? '', ...env },
    stdio: ['ignore', log, log],
  });
  closeSync(log);
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  const killWithUs = (): void => void child.kill('SIGKILL');
  process.once('exit', killWithUs);
  const stop = async (signal: NodeJS.Signals = 'SIGTERM'): Promise<void> => {
    child.kill(signal);
    const late = setTimeout(() => child.kill('SIGKILL'), 15_000);
    await ended;
    clearTimeout(late);
    process.off('exit', killWithUs);
    rmSync(folder, { recursive: true, force: true });
  };
  for (;;) {
    const printed = readFileSync(logFile, 'utf8');
    const line = printed.split('\n').find((text) => text.includes('"msg":"listening"') && text.endsWith('}'));
    if (line !== undefined && child.pid !== undefined) {
      const { pid } = child;
      const ports = JSON.parse(line) as Program['ports'];
      return { pid, ports, usage: () => usageOf(pid), forgetLog: () => truncateSync(logFile), stop };
    }
    if (child.exitCode !== null || child.signalCode !== null) {
      rmSync(folder, { recursive: true, force: true });
      throw new Error(`${args.join(' ')} ended: ${printed}`);
    }
    await sleep(20);
  }
}

/** Linux counts processor time in hundredths of a second, whatever the machine. */
const msPerTick = 10;

function usageOf(pid: number): Usage {
  try {
    // The name of the program, in brackets, may hold anything; behind it the fields are numbers.
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
      .replace(/^.*\) /s, '')
      .split(' ');
    const status = readFileSync(`/proc/${pid}/status`, 'utf8');
    const mebibytes = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(status)?.[1]) / 1024;
    return {
      cpuMs: (Number(fields[11]) + Number(fields[12])) * msPerTick,
      rssMiB: mebibytes('VmRSS'),
      peakRssMiB: mebibytes('VmHWM'),
    };
  } catch {
    return { cpuMs: Number.NaN, rssMiB: Number.NaN, peakRssMiB: Number.NaN };
  }
}

/** The processor time of a process and its children, in milliseconds: PostgreSQL has one for each connection. */
export function familyProcessorMs(pid: number): number {
  const children = readdirSync('/proc').filter((name) => /^\d+$/.test(name) && parentOf(Number(name)) === pid);
  return processorMs(pid) + children.reduce((sum, child) => sum + processorMs(Number(child)), 0);
}

function parentOf(pid: number): number {
  try {
    return Number(/^.*\) \S (\d+)/s.exec(readFileSync(`/proc/${pid}/stat`, 'utf8'))?.[1]);
  } catch {
    return Number.NaN; // it has ended
  }
}

/** The processor time of a process with all threads that it has or had, in milliseconds. */
export function processorMs(pid: number): number {
  return usageOf(pid).cpuMs;
}
