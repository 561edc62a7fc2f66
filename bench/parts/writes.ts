import type { Bench, Table } from '../bench.ts';
import { openClient } from '../client.ts';
import { median, quantile } from '../statistics.ts';
import { createWriter, visibleAfter, writeSteadily } from '../writer.ts';

/** The rate of the target. */
const perSecond = 200;

/** The number of writers that write without a pause, to find the projector's highest rate. */
const writers = 4;

/** Measures the time from a commit to a client that sees it, at a steady rate, and the projector's highest rate. */
export async function writes(bench: Bench): Promise<readonly Table[]> {
  const size = bench.sizes[Math.min(1, bench.sizes.length - 1)] ?? 0;
  const data = await bench.dataSet(size);
  const program = await bench.ours(size);
  await data.projected();
  const client = openClient(program.ports.grpc, data.tokens.siteOwner);
  const writer = await createWriter(data);
  try {
    const lags: number[] = [];
    // One report at a time is followed until the client sees it: polling for many would be a load of its own.
    let watching: Promise<void> | undefined;
    await writeSteadily(writer, perSecond, bench.quick ? 4 : 20, (report) => {
      watching ??= visibleAfter(client, report).then((lag) => {
        lags.push(lag);
        watching = undefined;
      });
    });
    await watching;

    const began = performance.now();
    const until = began + (bench.quick ? 2000 : 6000);
    let burst = 0;
    await Promise.all(
      Array.from({ length: writers }, async () => {
        while (performance.now() < until) {
          await writer.write();
          burst += 1;
        }
      }),
    );
    const written = performance.now();
    await data.projected();
    const done = performance.now();
    return [
      {
        title: `Reports of agents through the projector, ${size.toLocaleString('en')} tasks`,
        rows: [
          {
            writes: `${perSecond} a second`,
            'writes/s': perSecond,
            'projected/s': perSecond,
            'commit to GetTask p50 ms': median(lags),
            'p99 ms': quantile(lags, 0.99),
            'max ms': Math.max(...lags),
          },
          {
            writes: `${writers} writers without a pause`,
            'writes/s': Math.round((1000 * burst) / (written - began)),
            'projected/s': Math.round((1000 * burst) / (done - began)),
            'commit to GetTask p50 ms': '',
            'p99 ms': '',
            'max ms': Math.round(done - written),
          },
        ],
        checks: [{ what: `commit to GetTask p99 in ms at ${perSecond} writes/s`, value: quantile(lags, 0.99), most: 150 }],
      },
    ];
  } finally {
    client.close();
    await writer.cleanUp();
  }
}
