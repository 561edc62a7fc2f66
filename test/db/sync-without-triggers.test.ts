import { setTimeout as sleep } from 'node:timers/promises';
import type { Client } from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { formatUuid } from '../../src/db/uuid.ts';
import { createLog } from '../../src/platform/log.ts';
import { createProjector, type Projector } from '../../src/projection/projector.ts';
import { verify } from '../../src/projection/verify.ts';
import { migrateUp } from '../../src/schema/migrations.ts';
import { missingTriggers } from '../../src/schema/triggers.ts';
import { startCoderWriters } from '../support/coder-writer.ts';
import { createTestDatabase, describeOnServerKinds, type TestDatabase } from '../support/database.ts';
import { describeOnPostgres, type PostgresServer } from '../support/postgres.ts';
import { type Attempt, allowReplication, coderReader, differences, startReplicating } from '../support/replicated-coder.ts';
import { startCoder } from '../support/started-coder.ts';

/** A busy machine may take its time. */
const within = { timeout: 30_000, interval: 50 };

await describeOnPostgres('a copy in a database without triggers', '15', () => {
  let server: PostgresServer;
  let coder: Client;
  beforeAll(async () => {
    ({ server, coder } = await startCoder('seed'));
  });
  afterAll(() => server.stop());

  describeOnServerKinds('in', (engine) => {
    const slot = `slot_${engine}`;
    let target: TestDatabase;
    let projector: Projector;
    let attempt: Attempt;
    beforeAll(async () => {
      target = await createTestDatabase(engine, { migrate: false });
      await migrateUp(target.database, { triggers: false });
      expect(await missingTriggers(target.database)).not.toEqual([]);
      await coder.query('drop owned by tasks_reader').catch(() => {}); // of the engine before
      await coder.query('drop role tasks_reader').catch(() => {});
      await allowReplication(coder, slot, coderReader);
      attempt = startReplicating(server.url('coder', coderReader), target.address, slot);
      await attempt.until('following');
      // Nothing but notes tells it what to project.
      projector = createProjector({ address: target.address, log: createLog('silent'), sweepPassMs: Number.POSITIVE_INFINITY });
      projector.start();
    });
    afterAll(async () => {
      await attempt.stop();
      await projector.stop();
      await target.drop();
    });

    const isSame = () =>
      expect
        .poll(async () => {
          // What PostgreSQL has counted is written down now and not within ten seconds, and there is something new in the log.
          await coder.query("select pg_stat_force_next_flush(), pg_logical_emit_message(false, 'test', '')");
          const found: unknown[] = await differences(server.url('coder', coderReader), target.address);
          await verify(target.database, (difference) => found.push(difference));
          return found;
        }, within)
        .toEqual([]);
    const named = async (name: string): Promise<number> =>
      Number(
        (
          await target.database.raw<[{ n: number }[]]>(
            'select count(*) as `n` from `workspace_tasks` where `workspace_tasks`.`name` = ?',
            [name],
          )
        )[0]?.[0]?.n,
      );

    test('changes of tasks show up without a sweep', async () => {
      await expect
        .poll(() => target.database('workspace_tasks').where('workspace_tasks.live', 1).limit(1), within)
        .toHaveLength(1);
      await isSame();
      const [[task]] = (await target.database.raw(
        'select `t`.`id` from `workspace_tasks` as `t` where `t`.`live` = 1 order by `t`.`id` limit 1',
      )) as [[{ id: Buffer }]];
      const id = formatUuid(task.id);
      await coder.query('update workspaces set name = $2 where id = $1', [id, `renamed-${engine}`]);
      await expect.poll(() => named(`renamed-${engine}`), within).toBe(1);
      await coder.query(
        'update workspace_build_parameters set value = $2 where workspace_build_id in (select b.id from workspace_builds b where b.workspace_id = $1)',
        [id, `prompt for ${engine}`],
      );
      await coder.query('delete from workspace_app_statuses where workspace_id = $1', [id]);
      await isSame();
    });

    test('so does all that random writers do', async () => {
      const writers = startCoderWriters({ connect: () => server.connect(), version: 'seed', writers: 2, seed: 5, pauseMs: 2 });
      await sleep(1500);
      await writers.stop();
      expect(writers.done.committed).toBeGreaterThan(20);
      await isSame();
    });

    test('and what a new copy finds', async () => {
      await attempt.stop();
      await coder.query("update workspaces set name = name || '-x'");
      await coder.query('truncate workspace_app_statuses');
      // The slot has gone on without us.
      await coder.query('select pg_replication_slot_advance($1, pg_current_wal_lsn())', [slot]);
      attempt = startReplicating(server.url('coder', coderReader), target.address, slot);
      await attempt.until('copied');
      await isSame();
    });
  });
});
