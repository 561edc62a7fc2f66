import type { MessageInitShape } from '@bufbuild/protobuf';
import { Code } from '@connectrpc/connect';
import type { ListTasksRequestSchema } from '../../src/gen/tasks/v1/tasks_pb.ts';
import type { Bench, Check, Table } from '../bench.ts';
import { openClient, type TasksClient } from '../client.ts';
import type { Person } from '../data.ts';
import { median, quantile } from '../statistics.ts';

type Request = MessageInitShape<typeof ListTasksRequestSchema>;

/** A list that is measured at every size. */
interface List {
  readonly name: string;
  readonly person: Person;
  readonly request: Request;
  /** Whether it is served by an index, and must cost the same at every size. */
  readonly flat?: true;
  /** Whether it is a filter that finds next to nothing, which has a limit of its own. */
  readonly unlucky?: true;
}

/** The largest allowed ratio of the time at the largest size to that at the smallest. */
const flatRatio = 1.3;

/** The limit for a filter that finds next to nothing, at the largest size, in milliseconds. */
const unluckyMs = 20;

/** Whose tasks are asked for, by whom, and the query that says so. */
export const scopes = [
  ['one owner, 60 tasks', 'ordinary', ''],
  ['one owner, a seventh of all', 'busiest', ''],
  ['one organization', 'organizationAdmin', 'organization:org-01'],
  ['everyone, site owner', 'siteOwner', 'owner:*'],
] as const;

const lists: readonly List[] = [
  ...scopes.flatMap(([scope, person, query]) =>
    ['', 'status:running', 'waiting:true'].map(
      (filter): List => ({
        name: `${scope}: ${filter || 'all'}`,
        person,
        request: { query: `${query} ${filter}`.trim() },
        flat: true,
      }),
    ),
  ),
  ...scopes.flatMap(([scope, person, query]) =>
    ['', 'waiting:true'].map(
      (filter): List => ({
        name: `${scope}, by the time of the state: ${filter || 'all'}`,
        person,
        request: { query: `${query} ${filter}`.trim(), orderBy: 'current_state.timestamp' },
        flat: true,
      }),
    ),
  ),
  ...scopes.slice(1).flatMap(([scope, person, query]) =>
    [
      ['a status of hardly anybody', 'status:canceling'],
      ['a template with 12 tasks', 'template:rare-agent'],
      ['a name that many have', 'name:login'],
      ['a name that few have', 'name:-1-rr'],
      ['a name that nobody has', 'name:no-such-name'],
      ['a name of parts that many have, but nobody together', 'name:order-image'],
    ].map(
      ([what, filter]): List => ({
        name: `${scope}: ${what}`,
        person,
        request: { query: `${query} ${filter}`.trim() },
        unlucky: true,
      }),
    ),
  ),
  { name: 'a member of 50 groups: all that may be read', person: 'inManyGroups', request: { query: 'owner:*' }, unlucky: true },
  {
    name: 'a member of 50 groups: a status of hardly anybody',
    person: 'inManyGroups',
    request: { query: 'owner:* status:canceling' },
    unlucky: true,
  },
  {
    name: 'a member of 50 groups: shared by name',
    person: 'inManyGroups',
    request: { query: 'shared_with_user:me' },
    unlucky: true,
  },
  {
    name: 'everyone, site owner: shared with a group',
    person: 'siteOwner',
    request: { query: 'shared_with_group:org-01/crowd-7' },
    unlucky: true,
  },
  {
    name: 'one owner, a seventh of all: shared with a group',
    person: 'busiest',
    request: { query: 'owner:me shared_with_group:org-01/team-a' },
    unlucky: true,
  },
  { name: 'everyone, site owner: 200 tasks', person: 'siteOwner', request: { query: 'owner:*', pageSize: 200 } },
  { name: 'one owner, a seventh of all: and their number', person: 'busiest', request: { includeTotalSize: true } },
  { name: 'everyone, site owner: and their number', person: 'siteOwner', request: { query: 'owner:*', includeTotalSize: true } },
  { name: 'everyone, site owner: phase:error', person: 'siteOwner', request: { query: 'owner:* phase:error' } },
  { name: 'everyone, site owner: state:failed', person: 'siteOwner', request: { query: 'owner:* state:failed' } },
  {
    name: 'everyone, site owner: prompt that nobody has',
    person: 'siteOwner',
    request: { query: 'owner:* prompt:"no such prompt"' },
  },
];

/** Measures the latency of lists by filter and order at every size, one call at a time, with the sizes in turns. */
export async function listsBySize(bench: Bench): Promise<readonly Table[]> {
  using clients = clientsOf(bench);
  const largest = bench.sizes.at(-1) ?? 0;
  const rows: Record<string, string | number>[] = [];
  const checks: Check[] = [];
  for (const { name, person, request, flat, unlucky } of lists) {
    const row: Record<string, string | number> = { list: name };
    const times = await alternate(
      bench,
      await Promise.all(
        bench.sizes.map(async (size) => {
          const client = await clients.of(size, person);
          return () => tasksIn(client, request);
        }),
      ),
    );
    const p50s = fillRow(row, bench.sizes, times);
    const ratio = (p50s.at(-1) ?? Number.NaN) / (p50s[0] ?? Number.NaN);
    row['largest to smallest'] = ratio;
    rows.push(row);
    if (flat) {
      checks.push({
        what: `${name}: p50 at ${largest} tasks to ${bench.sizes[0] ?? 0}`,
        value: ratio,
        most: flatRatio,
        quickSlack: 0.5,
      });
    }
    if (unlucky)
      checks.push({ what: `${name}: p50 in ms at ${largest} tasks`, value: p50s.at(-1) ?? Number.NaN, most: unluckyMs });
  }
  const deep = await deepPages(bench, await clients.of(largest, 'siteOwner'));
  return [{ title: 'ListTasks, one call at a time, by number of tasks', rows, checks }, deep];
}

/** The clients of a part, one for each size and person, until the part ends. */
export function clientsOf(bench: Bench): { of(size: number, person: Person): Promise<TasksClient> } & Disposable {
  const clients = new Map<string, TasksClient>();
  return {
    async of(size, person) {
      const known = clients.get(`${size} ${person}`);
      if (known !== undefined) return known;
      const data = await bench.dataSet(size);
      const client = openClient((await bench.ours(size)).ports.grpc, data.tokens[person]);
      clients.set(`${size} ${person}`, client);
      return client;
    },
    [Symbol.dispose]() {
      for (const client of clients.values()) client.close();
    },
  };
}

/** Writes the figures of each size into a row, and returns the medians. */
export function fillRow(
  row: Record<string, string | number>,
  sizes: readonly number[],
  times: readonly (readonly number[])[],
): readonly number[] {
  const p50s = times.map((list) => median(list));
  for (const [index, size] of sizes.entries()) {
    const list = times[index] ?? [];
    row[`p50 ms, ${size.toLocaleString('en')}`] = list.length === 0 ? 'too expensive' : (p50s[index] ?? Number.NaN);
    row[`p99 ms, ${size.toLocaleString('en')}`] = list.length === 0 ? '' : quantile(list, 0.99);
  }
  return p50s;
}

/** The number of calls of each request, and the time after which fewer are enough, in milliseconds. */
const calls = 150;
const limitMs = 1500;

/** The number of first calls of each request that do not count, if there are enough others. */
const warmUp = 5;

/**
 * Measures requests in turns, call by call. Every answer must be the same as the first one.
 *
 * @param contestants each sends its request, and says what was answered.
 * @returns the milliseconds of each request's calls; none of a request that the service refused as too expensive.
 */
export async function alternate(
  bench: Bench,
  contestants: readonly (() => Promise<string | undefined>)[],
): Promise<readonly number[][]> {
  const times = contestants.map((): number[] => []);
  const expected: (string | undefined)[] = [];
  const spent = contestants.map(() => 0);
  for (let turn = 0; turn < (bench.quick ? calls / 5 : calls); turn++) {
    for (const [index, ask] of contestants.entries()) {
      if ((spent[index] ?? 0) > limitMs) continue;
      const from = performance.now();
      const seen = await ask();
      const took = performance.now() - from;
      spent[index] = seen === undefined ? Number.POSITIVE_INFINITY : (spent[index] ?? 0) + took;
      if (seen === undefined) continue;
      expected[index] ??= seen;
      if (seen !== expected[index]) throw new Error(`contestant ${index} was answered ${seen}, and ${expected[index]} before`);
      times[index]?.push(took);
    }
  }
  return times.map((list) => (list.length > 2 * warmUp ? list.slice(warmUp) : list));
}

async function tasksIn(client: TasksClient, request: Request): Promise<string | undefined> {
  try {
    const { tasks, count, totalSize } = await client.listTasks(request);
    if (count !== tasks.length) throw new Error(`the count is ${count} for ${tasks.length} tasks`);
    return `${totalSize} ${tasks.map(({ id }) => id).join()}`;
  } catch (error) {
    if ((error as { code?: Code }).code === Code.ResourceExhausted) return undefined;
    throw error;
  }
}

/** The page that is compared with the first one, and the page size. */
const deepPage = 10_000;
const pageSize = 25;

/** Compares a page far down the list of everyone with the first page. The pages before it are read in the largest size. */
async function deepPages(bench: Bench, client: TasksClient): Promise<Table> {
  const request = { query: 'owner:*', pageSize };
  let pageToken = '';
  let page = 1;
  const step = 200;
  while (page < deepPage) {
    const { nextPageToken } = await client.listTasks({
      ...request,
      pageToken,
      pageSize: Math.min(step, (deepPage - page) * pageSize),
    });
    if (nextPageToken === '') break;
    pageToken = nextPageToken;
    page += step / pageSize;
  }
  const [first = [], deep = []] = await alternate(bench, [
    () => tasksIn(client, request),
    () => tasksIn(client, { ...request, pageToken }),
  ]);
  const ratio = median(deep) / median(first);
  const row = (name: string, times: readonly number[]) => ({
    page: name,
    'p50 ms': median(times),
    'p99 ms': quantile(times, 0.99),
  });
  return {
    title: `Pages of everyone's tasks, ${(bench.sizes.at(-1) ?? 0).toLocaleString('en')} tasks`,
    rows: [row('1', first), row(page.toLocaleString('en'), deep)],
    checks: [{ what: `page ${page} to page 1, p50`, value: ratio, most: 1.3, quickSlack: 0.5 }],
  };
}
