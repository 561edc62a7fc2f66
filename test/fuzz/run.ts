import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { closeDatabase, openDatabase } from '../../src/db/connection.ts';
import { migrateUp } from '../../src/schema/migrations.ts';
import { startEngineServer } from '../support/engines.ts';
import { FuzzError, fuzz } from './fuzz.ts';
import { startTarget } from './target.ts';

// `npm run fuzz`: sends anything to a service with demo data, for a minute or for hours, and stops at the first thing that the
// service should not have done. The seed it prints then does it again: `npm run fuzz -- --seed N --cases M`.

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '1' },
    seed: { type: 'string' },
    cases: { type: 'string' },
    help: { type: 'boolean', default: false },
  },
});
if (values.help) {
  console.log(`npm run fuzz -- [options]

  --minutes N  how long, by default 1
  --seed N     what a run has printed, to send the same again
  --cases N    how many, instead of a time`);
  process.exit(0);
}
const seed = Number(values.seed ?? Math.floor(Math.random() * 2 ** 40));
const minutes = Number(values.minutes);
const cases = values.cases === undefined ? undefined : Number(values.cases);
if (![seed, minutes, cases ?? 1].every((number) => Number.isFinite(number) && number >= 0)) {
  console.error('--minutes, --seed and --cases are numbers');
  process.exit(1);
}

const folder = mkdtempSync(join(tmpdir(), 'tasks-fuzz-'));
const engine = await startEngineServer('mariadb', folder);
try {
  const address = { ...engine.address, database: 'tasks' };
  const server = openDatabase({ ...address, database: '' }, { size: 1, statementTimeoutMs: 0 });
  await server.raw('create database tasks character set utf8mb4 collate utf8mb4_bin');
  await closeDatabase(server);
  const database = openDatabase(address, { size: 1, statementTimeoutMs: 0 });
  await migrateUp(database, { triggers: true });
  await closeDatabase(database);
  const target = await startTarget(address);
  console.log(`from seed ${seed}, for ${cases === undefined ? `${minutes} min` : `${cases} cases`}`);
  const started = performance.now();
  let told = started;
  try {
    const fuzzed = await fuzz(target.service, target.known, {
      seed,
      milliseconds: minutes * 60_000,
      ...(cases === undefined ? {} : { cases, milliseconds: Number.POSITIVE_INFINITY }),
      onBatch(done) {
        if (performance.now() < told + 60_000) return;
        told = performance.now();
        console.log(`${done} cases in ${Math.round((told - started) / 60_000)} min`);
      },
    });
    console.log(`${fuzzed.cases} cases, and every answer was a clean one:`);
    for (const [what, times] of [...fuzzed.answers].sort(([, a], [, b]) => b - a)) console.log(`${times}\t${what}`);
  } catch (error) {
    if (!(error instanceof FuzzError)) throw error;
    console.error(error.message);
    process.exitCode = 1;
  } finally {
    await target.stop();
  }
} finally {
  await engine.stop();
  rmSync(folder, { recursive: true, force: true });
}
