import { setTimeout as sleep } from 'node:timers/promises';
import type { WatchTasksResponse } from '../../src/gen/tasks/v1/tasks_pb.ts';
import type { Bench, Table } from '../bench.ts';
import { openClient, type TasksClient } from '../client.ts';
import type { Person } from '../data.ts';
import { startOurs } from '../program.ts';
import { median, quantile } from '../statistics.ts';
import { createWriter, writeSteadily } from '../writer.ts';

/** Changes a second. */
const perSecond = 100;

/** Streams on one connection, as a mesh would carry them. */
const streamsOnConnection = 100;

/** The limit for the last change to reach the last watcher, in milliseconds. */
const patienceMs = 30_000;

/** The watches: a few of everyone's tasks, nearly half of a user with a seventh of all changes, and half of one with hardly any. */
function watchersOf(count: number): readonly (readonly [person: Person, query: string, watchers: number])[] {
  const everyone = Math.ceil(count / 100);
  const busiest = Math.floor(count / 2) - everyone;
  return [
    ['siteOwner', 'owner:*', everyone],
    ['busiest', 'owner:me', busiest],
    ['ordinary', 'owner:me', count - everyone - busiest],
  ];
}

/** Measures the time from a commit to the event at a client, with many watchers. */
export async function watch(bench: Bench): Promise<readonly Table[]> {
  const size = bench.sizes[Math.min(1, bench.sizes.length - 1)] ?? 0;
  const data = await bench.dataSet(size);
  const watchers = bench.quick ? 100 : 1000;
  const program = await startOurs(data, { WATCHES_PER_CALLER: String(watchers) });
  const clients: TasksClient[] = [];
  const writer = await createWriter(data);
  try {
    const committed = new Map<string, number>();
    const seen: { readonly message: string; readonly at: number }[] = [];
    let seenByOne = 0;
    const onMessage = ({ event }: WatchTasksResponse): string | undefined => {
      if (event.case !== 'upserted') return undefined;
      const message = event.value.currentState?.message ?? '';
      seen.push({ message, at: performance.now() });
      return message;
    };
    for (const [person, query, count] of watchersOf(watchers)) {
      let client: TasksClient | undefined;
      for (let stream = 0; stream < count; stream++) {
        if (stream % streamsOnConnection === 0) {
          client = openClient(program.ports.grpc, data.tokens[person]);
          clients.push(client);
        }
        const isFirst = clients.length === 1 && stream === 0;
        await client?.watchTasks({ query }, (message) => {
          if (onMessage(message) !== undefined && isFirst) seenByOne += 1;
        });
      }
    }
    const before = program.usage();
    const seconds = bench.quick ? 4 : 15;
    let reports = 0;
    await writeSteadily(writer, perSecond, seconds, ({ message, committedAt }) => {
      committed.set(message, committedAt);
      reports += 1;
    });
    for (let waited = 0; seenByOne < reports; waited += 50) {
      if (waited > patienceMs) throw new Error(`a watcher of everyone's tasks was told of ${seenByOne} of ${reports} changes`);
      await sleep(50);
    }
    await sleep(1000); // what the others are still to be told
    const usage = program.usage();
    const lags = seen.flatMap(({ message, at }) => {
      const committedAt = committed.get(message);
      return committedAt === undefined ? [] : [Math.max(0, at - committedAt)];
    });
    return [
      {
        title: `${watchers} watchers, ${perSecond} changes a second, ${size.toLocaleString('en')} tasks`,
        rows: [
          {
            'events/s': Math.round(lags.length / seconds),
            'commit to event p50 ms': median(lags),
            'p99 ms': quantile(lags, 0.99),
            'max ms': Math.round(Math.max(...lags.slice(0, 100_000))),
            'CPU of a processor': (usage.cpuMs - before.cpuMs) / (seconds * 1000),
            'RSS MiB': Math.round(usage.rssMiB),
          },
        ],
        checks: [
          {
            what: `commit to event p99 in ms with ${watchers} watchers`,
            value: quantile(lags, 0.99),
            most: 1000,
            quickSlack: 0.2,
          },
        ],
      },
    ];
  } finally {
    for (const client of clients) client.close();
    await writer.cleanUp(); // its projector is still needed
    await program.stop('SIGKILL');
  }
}
