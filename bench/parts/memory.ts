import { formatUuid } from '../../src/db/uuid.ts';
import { TasksService } from '../../src/gen/tasks/v1/tasks_pb.ts';
import type { Bench, Table } from '../bench.ts';
import { grpcFrame, methodPath, openClient } from '../client.ts';
import { startOurs } from '../program.ts';

const clientConnections = 100;

/** Measures resident memory with 100 connections after 100,000 and after 200,000 calls, half of them GetTask, half ListTasks. */
export async function memory(bench: Bench): Promise<readonly Table[]> {
  const size = bench.sizes[Math.min(1, bench.sizes.length - 1)] ?? 0;
  const data = await bench.dataSet(size);
  const program = await startOurs(data); // a fresh one: what went before must not count
  const { getTask, listTasks } = TasksService.method;
  const client = openClient(program.ports.grpc, data.tokens.ordinary);
  try {
    const { tasks } = await client.listTasks({ pageSize: 1 });
    const id = tasks[0]?.id ?? formatUuid(Buffer.alloc(16));
    const headers = { 'content-type': 'application/grpc', te: 'trailers', 'coder-session-token': data.tokens.ordinary };
    const common = { host: program.ports.grpc, headers, connections: clientConnections, streams: 1 };
    const atStart = program.usage();
    const calls = bench.quick ? 4000 : 100_000;
    const half = async (): Promise<number> => {
      for (const [path, body] of [
        [methodPath(getTask), grpcFrame(getTask, { identifier: { case: 'id', value: id } })],
        [methodPath(listTasks), grpcFrame(listTasks, {})],
      ] as const) {
        const { statuses } = await bench.load({ ...common, path, body, requests: calls / 2 });
        if (statuses['200'] !== calls / 2) throw new Error(`not all calls were answered: ${JSON.stringify(statuses)}`);
        program.forgetLog();
      }
      return program.usage().rssMiB;
    };
    const first = await half();
    const second = await half();
    const { peakRssMiB } = program.usage();
    return [
      {
        title: `Resident memory with ${clientConnections} connections, ${size.toLocaleString('en')} tasks`,
        rows: [
          { after: 'the start', MiB: Math.round(atStart.rssMiB) },
          { after: `${calls.toLocaleString('en')} calls`, MiB: Math.round(first) },
          { after: `${(2 * calls).toLocaleString('en')} calls`, MiB: Math.round(second) },
          { after: 'at most', MiB: Math.round(peakRssMiB) },
        ],
        checks: [
          { what: `resident MiB with ${clientConnections} connections, at most`, value: peakRssMiB, most: 300 },
          { what: `resident memory after ${2 * calls} calls to that after ${calls}`, value: second / first, most: 1.1 },
        ],
      },
    ];
  } finally {
    client.close();
    await program.stop();
  }
}
