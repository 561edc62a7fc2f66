import { availableParallelism } from 'node:os';
import { defineConfig } from 'vitest/config';
import { BaseSequencer, type TestSpecification } from 'vitest/node';
import { leftOutWhenDistributed } from './test/support/distributed-left-out.ts';

/** Tests of how long something takes: they run when all others are done, one file after another. */
const alone = ['test/db/projection-lag.test.ts', 'test/wire/overload.test.ts'];

/**
 * Tests that a busy machine would change: they run when the others are done, two files at a time. Most of the time they wait for
 * what they have broken.
 */
const timed = [
  'test/wire/cancellation.test.ts',
  'test/wire/clock.test.ts',
  'test/wire/cluster.test.ts',
  'test/wire/drain.test.ts',
  'test/wire/faults.test.ts',
  'test/wire/hostile-connections.test.ts',
  'test/wire/http2-sessions.test.ts',
  'test/wire/rolling-restart.test.ts',
  'test/wire/unauthenticated-memory.test.ts',
  'test/wire/watch-slow.test.ts',
];

/** Files that take longest: they begin first, so that none of them runs alone at the end. */
const long = [
  'test/wire/examples.test.ts',
  'test/db/projector.test.ts',
  'test/db/reference.test.ts',
  'test/wire/watch.test.ts',
  'test/browser/states.test.ts',
  'test/wire/watch-chaos.test.ts',
  'test/wire/replica.test.ts',
  'test/wire/fuzz.test.ts',
  'test/db/projector-chaos.test.ts',
  'test/db/sync-chaos.test.ts',
  'test/db/sync-replication.test.ts',
  'test/db/migrations.test.ts',
  'test/db/engine.test.ts',
  'test/db/task-repository.test.ts',
  'test/wire/faults.test.ts',
];

class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const sorted = await super.sort(files);
    const isLong = ({ moduleId }: TestSpecification): boolean => long.some((file) => moduleId.endsWith(file));
    return [...sorted.filter(isLong), ...sorted.filter((file) => !isLong(file))];
  }
}

/** Most tests wait for a database, a process or a timer most of their time: more of them run at once than there are processors. */
const maxWorkers = Math.min(2 * availableParallelism(), 8);

/** What is waited for comes at once, but for a machine with much else to do. */
const patience = { expect: { poll: { timeout: 15_000 } } };

/** What a run leaves out that forbids what distributed engines lack. */
const leftOut = process.env['TEST_DISTRIBUTED'] === 'true' ? Object.keys(leftOutWhenDistributed) : [];

const withDatabase = { globalSetup: 'test/support/global-setup.ts', testTimeout: 60_000, hookTimeout: 120_000, ...patience };

export default defineConfig({
  test: {
    sequence: { sequencer: LongestFirst },
    projects: [
      { test: { name: 'unit', include: ['test/unit/**/*.test.ts'], testTimeout: 30_000, ...patience, maxWorkers } },
      {
        test: {
          name: 'db',
          include: ['test/db/**/*.test.ts'],
          exclude: [...timed, ...alone, ...leftOut],
          ...withDatabase,
          maxWorkers,
        },
      },
      { test: { name: 'wire', include: ['test/wire/**/*.test.ts'], exclude: [...timed, ...alone], ...withDatabase, maxWorkers } },
      { test: { name: 'conformance', include: ['test/conformance/**/*.test.ts'], testTimeout: 120_000, maxWorkers } },
      {
        test: {
          name: 'browser',
          include: ['test/browser/**/*.test.ts'],
          ...withDatabase,
          globalSetup: ['test/support/global-setup.ts', 'test/support/browser-setup.ts'],
          maxWorkers,
        },
      },
      { test: { name: 'timed', include: timed, ...withDatabase, maxWorkers: 2, sequence: { groupOrder: 1 } } },
      { test: { name: 'alone', include: alone, ...withDatabase, maxWorkers: 1, sequence: { groupOrder: 2 } } },
    ],
  },
});
