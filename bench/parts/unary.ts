import { createApiKeyRepository } from '../../src/auth/api-key-repository.ts';
import { formatUuid } from '../../src/db/uuid.ts';
import { TasksService } from '../../src/gen/tasks/v1/tasks_pb.ts';
import { type Bench, type Check, type Contestant, type Round, type Table, takeTurns } from '../bench.ts';
import { grpcFrame, methodPath, openClient } from '../client.ts';
import { type DataSet, tokenSeconds } from '../data.ts';
import type { Variation } from '../load.ts';
import { connections, startFloor, startOurs, startTextbook } from '../program.ts';
import { median } from '../statistics.ts';

/** Connections of the client and concurrent calls on each: enough to keep every server busy all the time. */
const clientConnections = 4;
const streams = 8;

/** The size at which ours is compared with the textbook, which gets slower as the tables grow. */
const comparedSize = 100_000;

/** Measures GetTask and ListTasks over gRPC: ours, the floor and the textbook in turns. */
export async function unaryCalls(bench: Bench): Promise<readonly Table[]> {
  const tables: Table[] = [];
  for (const size of bench.quick ? bench.sizes.slice(-1) : bench.sizes)
    tables.push(await compare(bench, await bench.dataSet(size)));
  return tables;
}

async function compare(bench: Bench, data: DataSet): Promise<Table> {
  const { id: owner } = data.people.ordinary;
  const ids = await tasksOf(data, owner);
  await using programs = new AsyncDisposableStack();
  const ours = await startOurs(data);
  programs.defer(() => ours.stop());
  const client = openClient(ours.ports.grpc, data.tokens.ordinary);
  programs.defer(() => client.close());
  const { getTask, listTasks } = TasksService.method;
  const get = { identifier: { case: 'id' as const, value: ids[0] ?? '' } };
  const bytes = { get: await client.answerBytes(getTask, get), list: await client.answerBytes(listTasks, {}) };
  const floor = await startFloor(data, 'ordinary', ids[0] ?? '', { getBytes: bytes.get, listBytes: bytes.list });
  programs.defer(() => floor.stop());
  const textbook = await startTextbook(data, owner);
  programs.defer(() => textbook.stop());
  await verify(data, ours.ports.grpc, textbook.ports.grpc, ids);

  const tutorial = openClient(textbook.ports.grpc);
  programs.defer(() => tutorial.close());
  const servers = [
    { name: 'ours', program: ours, listBytes: bytes.list },
    { name: 'floor', program: floor, listBytes: bytes.list },
    { name: 'textbook', program: textbook, listBytes: await tutorial.answerBytes(listTasks, {}) },
  ];
  const tokens = await tokensOf(data, clientConnections * streams);
  const calls = [
    { name: 'GetTask', method: getTask, inTurns: requestsFor(ids, tokens.slice(0, 1)) },
    { name: `GetTask by ${tokens.length} callers`, method: getTask, inTurns: requestsFor(ids, tokens) },
    { name: 'ListTasks(25)', method: listTasks, body: grpcFrame(listTasks, {}) },
  ];
  const rows: Record<string, string | number>[] = [];
  const checks: Check[] = [];
  for (const { name, method, inTurns, body } of calls) {
    const contestants = servers.map(({ name: server, program, listBytes }): Contestant => {
      const headers = { 'content-type': 'application/grpc', te: 'trailers', 'coder-session-token': tokens[0] ?? '' };
      const load = { host: program.ports.grpc, path: methodPath(method), headers, connections: clientConnections, streams };
      if (inTurns === undefined) return { name: server, program, load: { ...load, body }, status: 200, bytes: listBytes };
      // The floor sends the same bytes for every task.
      const asked = server === 'floor' ? inTurns.map((request) => ({ ...request, contains: '' })) : inTurns;
      return { name: server, program, load: { ...load, inTurns: asked }, status: 200 };
    });
    const results = await takeTurns(bench, contestants, bench.quick ? 3 : 7, bench.quick ? 0.7 : 1.5);
    const [oursRounds = [], floorRounds = [], textbookRounds = []] = results;
    const toFloor = ratio(oursRounds, floorRounds);
    const toTextbook = ratio(oursRounds, textbookRounds);
    for (const [index, { name: server }] of servers.entries()) {
      const rounds = results[index] ?? [];
      rows.push({
        call: name,
        server,
        'calls/s': Math.round(of(rounds, 'callsPerSecond')),
        'p50 ms': of(rounds, 'p50Ms'),
        'p99 ms': of(rounds, 'p99Ms'),
        'CPU ms/call': of(rounds, 'cpuMsPerCall'),
        'RSS MiB': Math.round(of(rounds, 'rssMiB')),
        'of the floor': ratio(rounds, floorRounds),
        'times textbook': ratio(rounds, textbookRounds),
      });
    }
    // The comparison with the floor counts at every size, that with the textbook at one, since larger tables slow the textbook alone.
    checks.push({ what: `${name} at ${data.tasks} tasks, of the floor`, value: toFloor, least: 0.8, quickSlack: 0.5 });
    if (bench.quick || data.tasks === comparedSize) {
      checks.push({ what: `${name} at ${data.tasks} tasks, times textbook`, value: toTextbook, least: 3, quickSlack: 0.5 });
    }
  }
  const title = `gRPC, ${data.tasks} tasks, ${clientConnections} connections of ${streams} calls, ${connections} connections to the database`;
  return { title, rows, checks };
}

/** The median of the ratios of rounds that followed each other. */
function ratio(some: readonly Round[], others: readonly Round[]): number {
  return median(some.map(({ callsPerSecond }, round) => callsPerSecond / (others[round]?.callsPerSecond ?? Number.NaN)));
}

function of(rounds: readonly Round[], figure: 'callsPerSecond' | 'p50Ms' | 'p99Ms' | 'cpuMsPerCall' | 'rssMiB'): number {
  return median(rounds.map((round) => round[figure]));
}

/** Makes session tokens of one user. To the service each is a caller of its own. */
async function tokensOf({ database, people }: DataSet, count: number): Promise<string[]> {
  const keys = createApiKeyRepository(database);
  const tokens = Array.from({ length: count }, () =>
    keys.create(people.ordinary.username, { lifetimeSeconds: tokenSeconds, name: 'bench' }),
  );
  return (await Promise.all(tokens)).filter((token) => token !== undefined);
}

/** A GetTask request for each task, with the callers' tokens in turns. */
function requestsFor(ids: readonly string[], tokens: readonly string[]): Variation[] {
  const { getTask } = TasksService.method;
  return ids.map((id, turn) => ({
    headers: { 'coder-session-token': tokens[turn % tokens.length] ?? '' },
    body: grpcFrame(getTask, { identifier: { case: 'id', value: id } }),
    contains: id,
  }));
}

/** The ids of a user's tasks. */
async function tasksOf(data: DataSet, owner: Buffer): Promise<string[]> {
  const rows = await data
    .database('workspace_tasks')
    .where({ 'workspace_tasks.owner_id': owner, 'workspace_tasks.live': 1 })
    .orderBy('workspace_tasks.own_key')
    .select<{ id: Buffer }[]>('workspace_tasks.id');
  return rows.map(({ id }) => formatUuid(id));
}

/** Checks that ours and the textbook give the same answers, so that the comparison is fair. */
async function verify(data: DataSet, ours: string, textbook: string, ids: readonly string[]): Promise<void> {
  const clients = [openClient(ours, data.tokens.ordinary), openClient(textbook)] as const;
  try {
    const lists = await Promise.all(clients.map((client) => client.listTasks({})));
    for (const list of lists) {
      const same = list.tasks.every(({ id }, index) => id === ids[index]);
      if (!same || list.tasks.length !== Math.min(25, ids.length)) throw new Error('a list has other tasks than the database');
    }
    for (const id of ids.slice(0, 50)) {
      const [a, b] = await Promise.all(clients.map((client) => client.getTask({ identifier: { case: 'id', value: id } })));
      for (const field of ['id', 'name', 'status', 'ownerName', 'templateName', 'workspaceBuildNumber'] as const) {
        if (a === undefined || a[field] !== b?.[field])
          throw new Error(`${id}: ${field} is ${String(a?.[field])} and ${String(b?.[field])}`);
      }
    }
  } finally {
    for (const client of clients) client.close();
  }
}
