import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { type Bench, isMet, type Part, type Table } from './bench.ts';
import { type DataSet, openDataSet } from './data.ts';
import { findLoadClient } from './load.ts';
import { countsBySize } from './parts/counts.ts';
import { listsBySize } from './parts/lists.ts';
import { memory } from './parts/memory.ts';
import { page } from './parts/page.ts';
import { scale } from './parts/scale.ts';
import { sizes } from './parts/sizes.ts';
import { start } from './parts/start.ts';
import { sync } from './parts/sync.ts';
import { unaryCalls } from './parts/unary.ts';
import { watch } from './parts/watch.ts';
import { web } from './parts/web.ts';
import { writes } from './parts/writes.ts';
import { type Program, startOurs } from './program.ts';
import { machine, render, renderChecks } from './report.ts';

// `npm run bench`: how fast the service is, and whether it reaches its targets. docs/performance.md says what is measured, and how.

const parts: Readonly<Record<string, Part>> = {
  unary: unaryCalls,
  lists: listsBySize,
  counts: countsBySize,
  web,
  writes,
  watch,
  scale,
  memory,
  start,
  sync,
  page,
  sizes,
};

/** The parts that check a ratio; the others only print figures. */
const quickParts = ['unary', 'lists'];

const { values: options } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    only: { type: 'string', multiple: true },
    json: { type: 'string' },
    sizes: { type: 'string' },
    help: { type: 'boolean', default: false },
  },
});

const usage = `npm run bench -- [options]

  --quick       small data and few rounds, under two minutes: checks the ratios of ${quickParts.join(' and ')} with slack, and exits 1 when one is missed
  --only PART   one part, and others by more of this option: ${Object.keys(parts).join(', ')}
  --sizes N,N   numbers of tasks, by default 1000,100000,1000000
  --json FILE   writes the figures to a file, too`;

process.exitCode = await main();

async function main(): Promise<number> {
  const names = options.only ?? (options.quick ? quickParts : Object.keys(parts));
  const unknown = names.find((name) => parts[name] === undefined);
  if (options.help || unknown !== undefined) {
    console.log(unknown === undefined ? usage : `there is no part "${unknown}"\n\n${usage}`);
    return unknown === undefined ? 0 : 1;
  }
  await using opened = new AsyncDisposableStack();
  const once = <Key, Value>(open: (key: Key) => Promise<Value>) => {
    const known = new Map<Key, Promise<Value>>();
    return (key: Key): Promise<Value> => {
      const value = known.get(key) ?? open(key);
      known.set(key, value);
      return value;
    };
  };
  let engine = 'unknown';
  const dataSet = once(async (tasks: number): Promise<DataSet> => {
    const data = await openDataSet(tasks);
    opened.defer(() => data.stop());
    engine = data.engine;
    if (data.madeIn > 0) console.error(`made ${tasks} tasks in ${Math.round(data.madeIn)} s; they are kept for the next run`);
    return data;
  });
  const ours = once(async (tasks: number): Promise<Program> => {
    const program = await startOurs(await dataSet(tasks));
    opened.defer(() => program.stop());
    return program;
  });
  const { name: loadClient, client: load } = await findLoadClient();
  const sizes = options.sizes?.split(',').map(Number) ?? (options.quick ? [1000, 10_000] : [1000, 100_000, 1_000_000]);
  const bench: Bench = { quick: options.quick, sizes, load, dataSet, ours };

  const tables: Table[] = [];
  for (const name of names) {
    console.error(`measuring ${name}`);
    for (const table of (await parts[name]?.(bench)) ?? []) {
      console.log(render(table));
      tables.push(table);
    }
  }
  const about = machine(engine, loadClient);
  const checks = tables.flatMap((table) => table.checks ?? []);
  if (checks.length > 0) console.log(renderChecks(checks, options.quick));
  for (const [what, value] of Object.entries(about)) console.log(`${what}: ${value}`);
  if (options.json !== undefined) {
    writeFileSync(options.json, `${JSON.stringify({ ...about, quick: options.quick, checks, tables }, undefined, 2)}\n`);
  }
  return checks.every((check) => isMet(check, options.quick)) ? 0 : 1;
}
