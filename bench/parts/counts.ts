import { toJsonString } from '@bufbuild/protobuf';
import { CountTasksResponseSchema } from '../../src/gen/tasks/v1/tasks_pb.ts';
import type { Bench, Check, Table } from '../bench.ts';
import { alternate, clientsOf, fillRow, scopes } from './lists.ts';

/** The limit at the largest size, in milliseconds. */
const mostMs = 10;

/** Measures the latency of CountTasks by scope and filter at every size, one call at a time, with the sizes in turns. */
export async function countsBySize(bench: Bench): Promise<readonly Table[]> {
  using clients = clientsOf(bench);
  const largest = bench.sizes.at(-1) ?? 0;
  const rows: Record<string, string | number>[] = [];
  const checks: Check[] = [];
  for (const [scope, person, whose] of scopes) {
    for (const filter of ['', 'status:running', 'waiting:true', 'state:failed']) {
      const name = `${scope}: ${filter || 'all'}`;
      const row: Record<string, string | number> = { counted: name };
      const query = `${whose} ${filter}`.trim();
      const asking = bench.sizes.map(async (size) => {
        const client = await clients.of(size, person);
        return async () => toJsonString(CountTasksResponseSchema, await client.countTasks({ query }));
      });
      const p50s = fillRow(row, bench.sizes, await alternate(bench, await Promise.all(asking)));
      rows.push(row);
      checks.push({
        what: `count of ${name}: p50 in ms at ${largest} tasks`,
        value: p50s.at(-1) ?? Number.NaN,
        most: mostMs,
        quickSlack: 0.5,
      });
    }
  }
  return [{ title: 'CountTasks, one call at a time, by number of tasks', rows, checks }];
}
