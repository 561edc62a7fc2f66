import { setTimeout as sleep } from 'node:timers/promises';
import { TasksService } from '../../src/gen/tasks/v1/tasks_pb.ts';
import { type Bench, type Contestant, type Table, takeTurns } from '../bench.ts';
import { grpcFrame, methodPath, openClient } from '../client.ts';
import type { DataSet } from '../data.ts';
import type { Load } from '../load.ts';
import { type Program, startOurs } from '../program.ts';
import { median, quantile } from '../statistics.ts';
import { createWriter, visibleAfter, writeSteadily } from '../writer.ts';

const { listTasks } = TasksService.method;
const body = grpcFrame(listTasks, {});
const poolSizes = [2, 5, 10, 20, 40];

/** Several processes on one database, one that is killed while it projects, and sizes of the pool. */
export async function scale(bench: Bench): Promise<readonly Table[]> {
  const data = await bench.dataSet(bench.sizes[Math.min(1, bench.sizes.length - 1)] ?? 0);
  return [await twoAgainstOne(bench, data), await failover(bench, data), await pools(bench, data)];
}

function loadOf({ ports }: Program, data: DataSet, connections: number): Omit<Load, 'requests'> {
  const headers = { 'content-type': 'application/grpc', te: 'trailers', 'coder-session-token': data.tokens.ordinary };
  return { host: ports.grpc, path: methodPath(listTasks), headers, body, connections, streams: 8 };
}

/** The share of a processor that each process gets, in slices of so many milliseconds: two processes and the database fit on two processors. */
const share = 0.25;
const periodMs = 20;

/**
 * Measures the same load on one process and on two, in turns: first without limits, so that they share the machine with client and
 * database, then with a limit of processor time for each that leaves room for all.
 */
async function twoAgainstOne(bench: Bench, data: DataSet): Promise<Table> {
  await using programs = new AsyncDisposableStack();
  const [a, b] = await Promise.all([startOurs(data), startOurs(data)]);
  programs.defer(() => a.stop());
  programs.defer(() => b.stop());
  const rows: Record<string, string | number>[] = [];
  for (const [processor, limit] of [
    [`${share} of one each`, true],
    ['shared by all', false],
  ] as const) {
    const requests = (bench.quick ? 500 : 4000) * (limit ? share : 1);
    const throughput = async (processes: readonly Program[]): Promise<number> => {
      const unlimit = limit ? processes.map(limitProcessor) : [];
      const results = await Promise.all(
        processes.map((program) =>
          bench.load({ ...loadOf(program, data, 4 / processes.length), requests: requests / processes.length }),
        ),
      );
      await Promise.all(unlimit.map((end) => end()));
      for (const program of processes) program.forgetLog();
      return results.reduce((sum, { callsPerSecond }) => sum + callsPerSecond, 0);
    };
    await throughput([a]);
    await throughput([a, b]);
    const rounds: [one: number, two: number][] = [];
    for (let round = 0; round < (bench.quick ? 2 : 7); round++) rounds.push([await throughput([a]), await throughput([a, b])]);
    for (const [index, processes] of ['one', 'two'].entries()) {
      rows.push({
        processor,
        processes,
        'ListTasks(25)/s': Math.round(median(rounds.map((round) => round[index] ?? 0))),
        'times one': median(rounds.map((round) => (round[index] ?? 0) / round[0])),
      });
    }
  }
  return { title: 'Processes on one database', rows };
}

/** Limits a program to its share of processor time, as a container's limit does, until it is told to stop. */
function limitProcessor({ pid }: Program): () => Promise<void> {
  let isOver = false;
  const limiting = (async () => {
    while (!isOver) {
      process.kill(pid, 'SIGSTOP');
      await sleep((1 - share) * periodMs);
      process.kill(pid, 'SIGCONT');
      await sleep(share * periodMs);
    }
  })();
  return () => {
    isOver = true;
    return limiting;
  };
}

/** Reports written per second while the projector is killed; one of every so many is followed until a client sees it. */
const perSecond = 100;
const watchedShare = 5;

/** Kills the process whose projector is active, and measures how long the other takes to show what is written meanwhile. */
async function failover(bench: Bench, data: DataSet): Promise<Table> {
  const active = await startOurs(data);
  const survivor = await startOurs(data);
  const client = openClient(survivor.ports.grpc, data.tokens.siteOwner);
  const writer = await createWriter(data);
  try {
    await client.listTasks({});
    const lags: Promise<number>[] = [];
    let reports = 0;
    const writing = writeSteadily(writer, perSecond, bench.quick ? 4 : 10, (report) => {
      reports += 1;
      if (reports % watchedShare === 0) lags.push(visibleAfter(client, report));
    });
    setTimeout(() => void active.stop('SIGKILL'), 1000);
    await writing;
    const seen = await Promise.all(lags);
    return {
      title: `Reports at ${perSecond} a second while the process with the active projector is killed`,
      rows: [
        {
          reports: seen.length,
          'commit to GetTask p50 ms': median(seen),
          'p99 ms': quantile(seen, 0.99),
          'max ms': Math.max(...seen),
        },
      ],
    };
  } finally {
    client.close();
    await writer.cleanUp();
    await survivor.stop();
    await active.stop('SIGKILL');
  }
}

/** The default page with pools of several sizes, in turns. */
async function pools(bench: Bench, data: DataSet): Promise<Table> {
  await using programs = new AsyncDisposableStack();
  const contestants: Contestant[] = [];
  for (const size of bench.quick ? [2, 10] : poolSizes) {
    const program = await startOurs(data, { DATABASE_POOL_SIZE: String(size), PROJECTOR: 'false' });
    programs.defer(() => program.stop());
    const client = openClient(program.ports.grpc, data.tokens.ordinary);
    contestants.push({
      name: String(size),
      program,
      load: loadOf(program, data, 4),
      status: 200,
      bytes: await client.answerBytes(listTasks, {}),
    });
    client.close();
  }
  const results = await takeTurns(bench, contestants, bench.quick ? 2 : 5, bench.quick ? 0.4 : 1);
  return {
    title: 'DATABASE_POOL_SIZE, 32 calls of ListTasks(25) under way',
    rows: contestants.map(({ name }, index) => ({
      connections: name,
      'calls/s': Math.round(median((results[index] ?? []).map(({ callsPerSecond }) => callsPerSecond))),
      'p50 ms': median((results[index] ?? []).map(({ p50Ms }) => p50Ms)),
      'p99 ms': median((results[index] ?? []).map(({ p99Ms }) => p99Ms)),
    })),
  };
}
