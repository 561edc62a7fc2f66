import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { type FetchedProgram, fetchedProgram, fetchPackages } from '../dev/engine/fetch-packages.ts';
import { cacheDir } from './data.ts';
import { median, quantile } from './statistics.ts';

const run = promisify(execFile);

/** A request that is made many times. */
export interface Load {
  /** `host:port`. */
  readonly host: string;
  /** The path, with its query string. */
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  /** Absent for a GET. */
  readonly body?: Uint8Array;
  readonly http1?: boolean;
  readonly connections: number;
  /** Concurrent calls on each connection. */
  readonly streams: number;
  readonly requests: number;
  /** The variations of the request, in turns. With them, our own client makes the load. */
  readonly inTurns?: readonly Variation[];
}

/** A variation of a request. */
export interface Variation {
  /** Headers beside those of all requests. */
  readonly headers?: Readonly<Record<string, string>>;
  readonly body: Uint8Array;
  /** A text that the body of a right answer contains. */
  readonly contains?: string;
}

/** The result of a load. */
export interface LoadResult {
  readonly callsPerSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** The number of answers by HTTP status. */
  readonly statuses: Readonly<Record<string, number>>;
  /** The size of all bodies together. */
  readonly bodyBytes: number;
  /** The number of answers that did not contain the expected text. */
  readonly wrong: number;
}

/** The input of our own load generator. */
export interface OwnLoad extends Pick<Load, 'host' | 'http1' | 'connections' | 'streams'> {
  readonly calls: number;
  readonly requests: readonly OwnRequest[];
}

/** A request of our own load generator, with its body in base64. */
export interface OwnRequest extends Pick<Load, 'path' | 'headers'>, Pick<Variation, 'contains'> {
  readonly body?: string;
}

/** Sends the requests as fast as the server answers them. */
export type LoadClient = (load: Load) => Promise<LoadResult>;

/**
 * Finds the load generator: h2load, which is fetched like the engine, for requests that are all the same; our own for others, and
 * where h2load cannot be had.
 */
export async function findLoadClient(): Promise<{ readonly name: string; readonly client: LoadClient }> {
  const installed: FetchedProgram = { command: ['h2load'], env: {} };
  const version = await versionOf(installed);
  if (version !== undefined) return { name: version, client: clientWith(installed) };
  try {
    const root = join(cacheDir, `nghttp2-client-${process.arch}`);
    await fetchPackages({ packages: ['nghttp2-client'], into: root });
    const fetched = fetchedProgram(root, 'usr/bin/h2load');
    const name = await versionOf(fetched);
    if (name === undefined) throw new Error('h2load does not run here');
    return { name, client: clientWith(fetched) };
  } catch (error) {
    console.error(`\n!!! NO h2load (${String(error)}): our own client makes the load. It takes more of the processors, so that`);
    console.error('!!! every server looks slower than it is, and the fastest looks worst: the ratios are too near to 1.\n');
    return { name: 'our own client on Node, which takes more of the machine than h2load', client: ownClient };
  }
}

function clientWith(program: FetchedProgram): LoadClient {
  return (load) => (load.inTurns === undefined ? h2load(program, load) : ownClient(load));
}

async function versionOf({ command: [file = '', ...args], env }: FetchedProgram): Promise<string | undefined> {
  try {
    const { stdout } = await run(file, [...args, '--version'], { env: { ...process.env, ...env } });
    return stdout.trim();
  } catch {
    return undefined;
  }
}

async function h2load({ command: [file = '', ...first], env }: FetchedProgram, load: Load): Promise<LoadResult> {
  const folder = mkdtempSync(join(tmpdir(), 'tasks-load-'));
  try {
    const log = join(folder, 'log');
    const args = [...first, '-n', load.requests, '-c', load.connections, '-m', load.streams, '-t', 1, `--log-file=${log}`];
    for (const [name, value] of Object.entries(load.headers)) args.push('-H', `${name}: ${value}`);
    if (load.http1 === true) args.push('--h1');
    if (load.body !== undefined) {
      writeFileSync(join(folder, 'body'), load.body);
      args.push('-d', join(folder, 'body'));
    }
    args.push(`http://${load.host}${load.path}`);
    const { stdout } = await run(file, args.map(String), { env: { ...process.env, ...env } });
    // A line a request: when it began, the status, and how long it took, in microseconds.
    const lines = readFileSync(log, 'latin1')
      .trimEnd()
      .split('\n')
      .map((line) => line.split('\t'));
    const micros = lines.map(([, , micro]) => Number(micro));
    return {
      callsPerSecond: Number(/finished in [^,]+, ([\d.]+) req\/s/.exec(stdout)?.[1]),
      p50Ms: median(micros) / 1000,
      p99Ms: quantile(micros, 0.99) / 1000,
      statuses: count(lines.map(([, status]) => status ?? '')),
      bodyBytes: Number(/\((\d+)\) data$/m.exec(stdout)?.[1]),
      wrong: 0, // it does not look into them
    };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function count(words: readonly string[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const word of words) counts[word] = (counts[word] ?? 0) + 1;
  return counts;
}

/** Makes the load with our own load generator, in a process of its own. */
async function ownClient({ path, headers, body, requests, inTurns, ...how }: Load): Promise<LoadResult> {
  const base64 = (bytes: Uint8Array | undefined) => (bytes === undefined ? {} : { body: Buffer.from(bytes).toString('base64') });
  const load: OwnLoad = {
    ...how,
    calls: requests,
    requests: inTurns?.map((variation) => ({
      path,
      headers: { ...headers, ...variation.headers },
      ...base64(variation.body),
      ...(variation.contains === undefined ? {} : { contains: variation.contains }),
    })) ?? [{ path, headers, ...base64(body) }],
  };
  const client = run(process.execPath, [join(import.meta.dirname, 'load-client.ts')]);
  client.child.stdin?.end(JSON.stringify(load));
  return JSON.parse((await client).stdout) as LoadResult;
}
