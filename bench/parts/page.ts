import { execFile } from 'node:child_process';
import { resolve } from 'node:path';
import { promisify } from 'node:util';
import { isPageBuilt } from '../../bin/build-page.mjs';
import type { Bench, Table } from '../bench.ts';
import { median, quantile } from '../statistics.ts';

const root = resolve(import.meta.dirname, '../..');

/** What test/browser/page-figures.ts prints, in milliseconds. */
interface Figures {
  /** From the address to the first row, without latency of the network and with 150 ms of it. */
  readonly firstRow: readonly number[];
  readonly firstRowAfar: readonly number[];
  /** From frame to frame while a list scrolls: of the page, and of a plain one. */
  readonly frames: readonly number[];
  readonly plainFrames: readonly number[];
  /** The share of the time in which an idle list is busy. */
  readonly idleShare: number;
}

/** Measures the page in Chromium: its first row, its frames, and what it does when nothing happens. */
export async function page(bench: Bench): Promise<readonly Table[]> {
  if (!isPageBuilt()) throw new Error('the page is not built from the present sources: npm run build');
  const rounds = bench.quick ? 2 : 5;
  const args = ['test/browser/page-figures.ts', String(rounds)];
  const { stdout } = await promisify(execFile)(process.execPath, args, { cwd: root, maxBuffer: 16 * 1024 * 1024 });
  const { firstRow, firstRowAfar, frames, plainFrames, idleShare } = JSON.parse(
    stdout.trim().split('\n').at(-1) ?? '',
  ) as Figures;
  const framesRow = (what: string, times: readonly number[]) => ({
    what,
    frames: times.length,
    'p50 ms': median(times),
    'p95 ms': quantile(times, 0.95),
  });
  return [
    {
      title: `The first row of the page: 4x slower processor, 1.6 Mbit/s, nothing cached, ${rounds} rounds`,
      rows: [
        { network: 'no latency', 'median ms': median(firstRow) },
        { network: '150 ms latency', 'median ms': median(firstRowAfar) },
      ],
      checks: [{ what: 'first row without latency, ms', value: median(firstRow), most: 1000 }],
    },
    {
      title: 'Frames while 10,000 rows scroll and 100 of them change a second',
      rows: [framesRow('the page', frames), framesRow('a plain list of as many rows', plainFrames)],
      checks: [{ what: 'frames of the page, p95, ms', value: quantile(frames, 0.95), most: 20 }],
    },
    { title: 'An idle list whose tasks all work', rows: [{ 'busy, share of the time': idleShare }] },
  ];
}
