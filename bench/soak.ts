import { readdirSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { Code, ConnectError } from '@connectrpc/connect';
import { ErrorInfoSchema } from '../src/gen/google/rpc/error_details_pb.ts';
import { TasksService } from '../src/gen/tasks/v1/tasks_pb.ts';
import { type GrpcClient, makeGrpcClient } from '../test/support/clients.ts';
import { openDataSet } from './data.ts';
import { startOurs } from './program.ts';
import { median, quantile } from './statistics.ts';

// Keeps the service under a steady load and says whether its memory, its open files and its latency stay where they are:
// `node bin/launch.mjs bench/soak.ts [minutes]`, 30 by default. Exits with 1 when one of them grows.

const minutes = Number(process.argv[2] ?? 30);

/** Calls per second, one in twenty of which is canceled, and open watches: well below what a laptop can do. */
const callsPerSecond = 60;
const watchers = 20;

/** The time after which a client is replaced by a new one, in milliseconds, so that connections come and go. */
const clientLifeMs = 2000;

/** The time between two changes of tasks, in milliseconds, so that the projector and the watches have work. */
const writeEveryMs = 200;

/** A sample of the measurements. */
interface Sample {
  readonly rssMiB: number;
  readonly files: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly calls: number;
  readonly failed: number;
}
const sampleEveryMs = 15_000;

const data = await openDataSet(10_000);
const program = await startOurs(data);
const headers = { 'coder-session-token': data.tokens.ordinary };
const until = performance.now() + minutes * 60_000;
const samples: Sample[] = [];
const failures: Record<string, number> = {};
let latencies: number[] = [];
let failed = 0;
let changes = 0;

const clients = Array.from({ length: 4 }, () => makeGrpcClient(program.ports.grpc));
await Promise.all([call(), watch(), write(), replaceClients(), sample()]);
for (const client of clients) client.close();
await program.stop();
await data.stop();
judge();

async function call(): Promise<void> {
  const began = performance.now();
  let started = 0;
  const running = new Set<Promise<void>>();
  while (performance.now() < until) {
    for (const due = ((performance.now() - began) / 1000) * callsPerSecond; started < due; started++) {
      const one = makeCall(started).finally(() => running.delete(one));
      running.add(one);
    }
    await sleep(5);
  }
  await Promise.all(running);
}

async function makeCall(number: number): Promise<void> {
  const client = clients[number % clients.length] as GrpcClient;
  const leaving = new AbortController();
  const leaves = number % 20 === 0;
  if (leaves) setTimeout(() => leaving.abort(), Math.random() * 5);
  const options = { headers, timeoutMs: 5000, signal: leaving.signal };
  const began = performance.now();
  try {
    await (number % 2 === 0
      ? client.unary(TasksService.method.listTasks, { pageSize: 25 }, options)
      : client.unary(TasksService.method.listTasks, { query: 'status:running', pageSize: 5, includeTotalSize: true }, options));
    latencies.push(performance.now() - began);
  } catch (error) {
    const failure = ConnectError.from(error);
    if (leaves && failure.code === Code.Canceled) return;
    failed += 1;
    const reason = failure.findDetails(ErrorInfoSchema)[0]?.reason ?? Code[failure.code];
    failures[reason] = (failures[reason] ?? 0) + 1;
  }
}

async function watch(): Promise<void> {
  const client = makeGrpcClient(program.ports.grpc);
  const leaving = new AbortController();
  setTimeout(() => leaving.abort(), until - performance.now());
  const one = async (): Promise<void> => {
    while (performance.now() < until) {
      try {
        const stream = client.serverStream(TasksService.method.watchTasks, {}, { headers, signal: leaving.signal });
        for await (const _ of stream) changes += 1;
      } catch (error) {
        const code = Code[ConnectError.from(error).code];
        if (code === 'Canceled') return;
        if (code !== 'Unavailable') failures[`watch: ${code}`] = (failures[`watch: ${code}`] ?? 0) + 1;
        await sleep(1000);
      }
    }
  };
  await Promise.all(Array.from({ length: watchers }, one));
  client.close();
}

async function write(): Promise<void> {
  const { id } = data.people.ordinary;
  for (let favorite = true; performance.now() < until; favorite = !favorite) {
    await data.database('workspaces').where('workspaces.owner_id', id).limit(1).update({ favorite });
    await sleep(writeEveryMs);
  }
}

/** Replaces a client for new calls, and closes it when its calls have ended. */
async function replaceClients(): Promise<void> {
  for (let turn = 0; performance.now() < until; turn++) {
    await sleep(clientLifeMs);
    const old = clients[turn % clients.length];
    clients[turn % clients.length] = makeGrpcClient(program.ports.grpc);
    await sleep(100);
    old?.close();
  }
}

async function sample(): Promise<void> {
  while (performance.now() < until) {
    await sleep(Math.min(sampleEveryMs, Math.max(0, until - performance.now())));
    program.forgetLog();
    if (latencies.length === 0) continue;
    const one: Sample = {
      rssMiB: program.usage().rssMiB,
      files: readdirSync(`/proc/${program.pid}/fd`).length,
      p50Ms: median(latencies),
      p99Ms: quantile(latencies, 0.99),
      calls: latencies.length,
      failed,
    };
    samples.push(one);
    latencies = [];
    failed = 0;
    console.log(
      `${String(samples.length).padStart(4)}  ${one.rssMiB.toFixed(0)} MiB  ${one.files} files  ` +
        `p50 ${one.p50Ms.toFixed(1)} ms  p99 ${one.p99Ms.toFixed(1)} ms  ${one.calls} calls  ${one.failed} failed`,
    );
  }
}

/** Compares the last third with the second one; the first one is for warming up. */
function judge(): void {
  const third = Math.floor(samples.length / 3);
  const grew = (of: keyof Sample): number =>
    median(samples.slice(2 * third).map((one) => one[of])) / median(samples.slice(third, 2 * third).map((one) => one[of]));
  const growth = { memory: grew('rssMiB'), files: grew('files'), p50: grew('p50Ms'), p99: grew('p99Ms') };
  console.log('growth from the second third to the last:', growth);
  console.log('failures:', failures, 'messages to watches:', changes);
  // Latency also depends on the machine, so it gets more slack than what can leak.
  const { OVERLOADED: refused, ...others } = failures; // when the machine has much else to do
  const flat = growth.memory <= 1.1 && growth.files <= 1.1 && growth.p50 <= 2 && Object.keys(others).length === 0;
  if (refused !== undefined) console.log(`${refused} calls were refused`);
  console.log(flat ? 'flat' : 'NOT FLAT');
  process.exitCode = flat ? 0 : 1;
}
