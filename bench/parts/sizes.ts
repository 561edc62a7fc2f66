import { formatUuid } from '../../src/db/uuid.ts';
import type { Bench, Table } from '../bench.ts';
import type { DataSet, Person } from '../data.ts';
import { createWriter } from '../writer.ts';
import { clientsOf, scopes } from './lists.ts';

const kib = 1024;
const pageBytes = 16_384;

/** What of the server's counters is shown, and under which name. */
const counters = {
  statements: ['Questions'],
  'rows read': ['Handler_read_first', 'Handler_read_key', 'Handler_read_next', 'Handler_read_prev', 'Handler_read_rnd'],
  'pages asked for': ['Innodb_buffer_pool_read_requests'],
  'KiB sent': ['Bytes_sent'],
  'KiB of redo log': ['Innodb_os_log_written'],
} as const;
type Counter = keyof typeof counters;

/** Measures what a task takes up on the disk, by table and by index, and what a call and a change cost the database. */
export async function sizes(bench: Bench): Promise<readonly Table[]> {
  const size = bench.sizes.at(-1) ?? 0;
  const data = await bench.dataSet(size);
  await data.projected();
  const stored = await tablesOf(data);
  return [...stored, await callsOf(bench, data, size), await changesOf(bench, data, size)];
}

async function tablesOf({ database, tasks }: DataSet): Promise<Table[]> {
  const [names] = (await database.raw(
    "select `t`.`table_name` as `name` from `information_schema`.`tables` as `t` where `t`.`table_schema` = database() and `t`.`table_type` = 'BASE TABLE'",
  )) as [{ name: string }[]];
  for (const { name } of names) await database.raw('analyze table ??', [name]);
  const [tables] = (await database.raw(
    'select `t`.`table_name` as `name`, `t`.`table_rows` as `rows`, `t`.`data_length` as `data`, `t`.`index_length` as `keys` ' +
      'from `information_schema`.`tables` as `t` where `t`.`table_schema` = database()',
  )) as [{ name: string; rows: number; data: number; keys: number }[]];
  const large = tables
    .filter(({ data, keys }) => data + keys > 8 * pageBytes)
    .toSorted((a, b) => b.data + b.keys - a.data - a.keys);
  const [indexes] = (await database.raw(
    'select `s`.`index_name` as `name`, `s`.`stat_value` as `pages` from `mysql`.`innodb_index_stats` as `s` ' +
      "where `s`.`database_name` = database() and `s`.`table_name` = 'workspace_tasks' and `s`.`stat_name` = 'size' order by `s`.`stat_value` desc",
  )) as [{ name: string; pages: number }[]];
  const kibPerTask = (bytes: number): number => bytes / kib / tasks;
  const sum = (part: 'data' | 'keys'): number => tables.reduce((all, table) => all + table[part], 0);
  return [
    {
      title: `What a task takes up, ${tasks.toLocaleString('en')} tasks`,
      rows: [
        ...large.map(({ name, rows, data, keys }) => ({
          table: name,
          'rows a task': rows / tasks,
          'KiB of rows': kibPerTask(data),
          'KiB of indexes': kibPerTask(keys),
        })),
        { table: 'all', 'rows a task': '', 'KiB of rows': kibPerTask(sum('data')), 'KiB of indexes': kibPerTask(sum('keys')) },
      ],
    },
    {
      title: 'The indexes of workspace_tasks',
      rows: indexes.map(({ name, pages }) => ({ index: name, 'KiB a task': kibPerTask(pages * pageBytes) })),
    },
  ];
}

async function callsOf(bench: Bench, data: DataSet, size: number): Promise<Table> {
  using clients = clientsOf(bench);
  const rows: Record<string, string | number>[] = [];
  const measure = async (
    call: string,
    person: Person,
    work: (client: Awaited<ReturnType<typeof clients.of>>) => Promise<unknown>,
  ) => {
    const client = await clients.of(size, person);
    await work(client); // the caller is known from now on, the statement prepared, and its pages in memory
    const costs = await costOf(data, bench.quick ? 20 : 200, () => work(client));
    rows.push({ call, ...pick(costs, ['statements', 'rows read', 'pages asked for', 'KiB sent']) });
  };
  const [first] = (await data
    .database('workspace_tasks')
    .where({ 'workspace_tasks.owner_id': data.people.ordinary.id, 'workspace_tasks.live': 1 })
    .limit(1)
    .select('workspace_tasks.id')) as { id: Buffer }[];
  const id = formatUuid(first?.id ?? Buffer.alloc(16));
  await measure('GetTask', 'ordinary', (client) => client.getTask({ identifier: { case: 'id', value: id } }));
  for (const [scope, person, query] of scopes)
    await measure(`ListTasks(25): ${scope}`, person, (client) => client.listTasks({ query }));
  await measure('ListTasks(25): everyone, a part of a name', 'siteOwner', (client) =>
    client.listTasks({ query: 'owner:* name:login' }),
  );
  for (const [scope, person, query] of scopes)
    await measure(`CountTasks: ${scope}`, person, (client) => client.countTasks({ query }));
  return { title: `What a call costs the database, ${size.toLocaleString('en')} tasks`, rows };
}

async function changesOf(bench: Bench, data: DataSet, size: number): Promise<Table> {
  await bench.ours(size); // it projects
  const writer = await createWriter(data);
  try {
    const reports = bench.quick ? 100 : 1000;
    const oneByOne = await costOf(data, reports, async () => {
      await writer.write();
      await data.projected();
    });
    const together = await costOf(data, 1, async () => {
      for (let i = 0; i < reports; i++) await writer.write();
      await data.projected();
    });
    const share = Object.fromEntries(Object.entries(together).map(([name, cost]) => [name, cost / reports])) as typeof together;
    const shown = (costs: typeof together) => pick(costs, ['rows read', 'pages asked for', 'KiB of redo log']);
    return {
      title: `What a report of an agent costs the database, with its projection, ${size.toLocaleString('en')} tasks`,
      rows: [
        { reports: 'one after the other', ...shown(oneByOne) },
        { reports: 'as fast as one writer can', ...shown(share) },
      ],
    };
  } finally {
    await writer.cleanUp();
  }
}

/** What one run of some work costs, without what the server does in the same time anyway. */
async function costOf({ database }: DataSet, times: number, work: () => Promise<unknown>): Promise<Record<Counter, number>> {
  const began = performance.now();
  const first = await read(database);
  for (let i = 0; i < times; i++) await work();
  const second = await read(database);
  const worked = performance.now();
  await new Promise((resolve) => setTimeout(resolve, 1000));
  const third = await read(database);
  const idle = (worked - began) / (performance.now() - worked);
  const cost = (name: Counter): number => Math.max(0, second[name] - first[name] - idle * (third[name] - second[name])) / times;
  return Object.fromEntries(Object.keys(counters).map((name) => [name, cost(name as Counter)])) as Record<Counter, number>;
}

async function read(database: DataSet['database']): Promise<Record<Counter, number>> {
  const [rows] = (await database.raw('show global status')) as [{ Variable_name: string; Value: string }[]];
  const values = new Map(rows.map((row) => [row.Variable_name, Number(row.Value)]));
  const isKib = (name: string): boolean => name.startsWith('KiB');
  return Object.fromEntries(
    Object.entries(counters).map(([name, of]) => [
      name,
      of.reduce((sum, one) => sum + (values.get(one) ?? 0), 0) / (isKib(name) ? kib : 1),
    ]),
  ) as Record<Counter, number>;
}

function pick(costs: Record<Counter, number>, names: readonly Counter[]): Record<string, number> {
  return Object.fromEntries(names.map((name) => [name, costs[name]]));
}
