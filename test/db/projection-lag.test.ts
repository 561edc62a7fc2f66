import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { Database } from '../../src/db/connection.ts';
import { startScript } from '../support/child-script.ts';
import { createTestDatabase, describeOnEngines, type TestDatabase } from '../support/database.ts';
import { outboxIsEmpty } from '../support/projected-tables.ts';
import { insertRunningTask, insertSource, now, type SourceTaskIds } from '../support/source-writer.ts';
import { newId } from '../support/tasks.ts';

describeOnEngines('a projector beside writers', (engine) => {
  let test_: TestDatabase;
  let database: Database;

  beforeEach(async () => {
    test_ = await createTestDatabase(engine);
    database = test_.database;
  });
  afterEach(() => test_.drop());

  test('a change is visible soon after its commit, at 200 writes a second', async () => {
    const projector = startScript('project', test_.address);
    try {
      const tasks: SourceTaskIds[] = [];
      for (let i = 0; i < 200; i++) tasks.push(await insertRunningTask(database));
      await projector.line('is active');
      await outboxIsEmpty(database);
      let stopped = false;
      const write = async (): Promise<void> => {
        for (let at = performance.now(); !stopped; at += 20) {
          await sleep(Math.max(0, at - performance.now()));
          const { workspace, agent, job } = tasks[Math.floor(Math.random() * tasks.length)] ?? ({} as SourceTaskIds);
          const which = Math.random();
          if (which < 0.3) await database('provisioner_jobs').where('id', job).update({ updated_at: now() });
          else if (which < 0.6) await insertSource(database, 'workspace_app_statuses', { workspace_id: workspace });
          else if (which < 0.8)
            await database('workspace_agents')
              .where('id', agent)
              .update({ lifecycle_state: newId().toString('hex') });
          else
            await database('workspaces')
              .where('id', workspace)
              .update({ name: newId().toString('hex') });
        }
      };
      const writing = Promise.all([1, 2, 3, 4].map(write)); // each 50 a second
      const lags: number[] = [];
      const probe = await insertRunningTask(database);
      const until = performance.now() + 4000;
      while (performance.now() < until) {
        const name = newId().toString('hex');
        await database('workspaces').where('id', probe.workspace).update({ name });
        const committed = performance.now();
        for (;;) {
          const [row] = (await database('workspace_tasks').where('id', probe.workspace).select('name')) as { name: string }[];
          if (row?.name === name) break;
          if (performance.now() - committed > 10_000) throw new Error('the change does not come');
          await sleep(1);
        }
        lags.push(performance.now() - committed);
        await sleep(5);
      }
      stopped = true;
      await writing;
      lags.sort((a, b) => a - b);
      const percentile = (share: number) => Math.round(lags[Math.floor((lags.length - 1) * share)] ?? 0);
      console.log(
        `${engine}: lag of ${lags.length} changes at 200 writes a second: p50 ${percentile(0.5)}, p99 ${percentile(0.99)}, max ${percentile(1)} ms`,
      );
      expect(percentile(0.5)).toBeLessThan(250);
      expect(percentile(0.99)).toBeLessThan(2000);
    } finally {
      await projector.kill();
    }
  }, 60_000);
});
