import type { Client } from 'pg';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { type CoderDatabase, openCoderDatabase } from '../../src/sync/coder-database.ts';
import { createTestDatabase, describeOnOneEngine, type TestDatabase } from '../support/database.ts';
import { Network } from '../support/network.ts';
import { describeOnPostgres, type PostgresServer } from '../support/postgres.ts';
import {
  type Attempt,
  allowReplication,
  coderReader,
  coderSlot,
  differences,
  startReplicating,
} from '../support/replicated-coder.ts';
import { startCoder } from '../support/started-coder.ts';

/** A busy machine may take its time. */
const within = { timeout: 30_000, interval: 50 };

await describeOnPostgres('a sync that stands in nobody’s way', '15', () => {
  let server: PostgresServer;
  let coder: Client;
  beforeAll(async () => {
    ({ server, coder } = await startCoder('seed'));
    await allowReplication(coder, coderSlot, coderReader);
  });
  afterAll(() => server.stop());

  describe('reading', () => {
    let reading: CoderDatabase;
    beforeAll(async () => {
      reading = await openCoderDatabase(server.url('coder', coderReader));
    });
    afterAll(() => reading.close());

    test('ends its snapshot when a migration waits for a table', async () => {
      let altered: Promise<unknown> | undefined;
      let isAltered = false;
      const snapshot = reading.inSnapshot(async () => {
        await reading.rows('select count(*) from users');
        altered = coder.query('alter table users add column is_service_account boolean not null default false');
        void altered.then(() => (isAltered = true));
        for (;;) await reading.rows('select pg_sleep(0.05)');
      });
      await expect(snapshot).rejects.toThrow('Coder waited for a table that was being read');
      await altered;
      expect(isAltered).toBe(true);
      reading = await openCoderDatabase(server.url('coder', coderReader));
    });

    test('does not wait so long for a table that PostgreSQL would find a deadlock with a migration', async () => {
      const other = await server.connect();
      await other.query('begin; lock table custom_roles in access exclusive mode');
      await expect(reading.rows('select count(*) from custom_roles')).rejects.toThrow('lock timeout');
      await other.query('rollback');
      await expect(reading.rows('select count(*) from custom_roles')).resolves.toHaveLength(1);
      await other.end();
    });
  });

  describeOnOneEngine('following, into', (engine) => {
    let target: TestDatabase;
    let attempt: Attempt | undefined;
    beforeAll(async () => {
      target = await createTestDatabase(engine);
    });
    afterEach(async () => {
      await attempt?.stop().catch(() => {});
      await expect
        .poll(async () => (await coder.query('select 1 from pg_replication_slots where active_pid is not null')).rowCount, within)
        .toBe(0);
    });
    afterAll(() => target.drop());

    const start = async (
      times: Parameters<typeof startReplicating>[3],
      url = server.url('coder', coderReader),
    ): Promise<Attempt> => {
      attempt = startReplicating(url, target.address, coderSlot, times);
      await attempt.until('following');
      return attempt;
    };
    const same = () => expect.poll(() => differences(server.url('coder', coderReader), target.address), within).toEqual([]);

    test('notices a host that has vanished, whatever it waits for', async () => {
      const network = new Network({ host: '127.0.0.1', port: server.port, user: '', database: '' });
      const { port } = await network.open();
      const url = server.url('coder', coderReader).replace(`:${server.port}/`, `:${port}/`);
      const first = await start({ silenceMs: 2000, checkEveryMs: 100 }, url);
      await coder.query("update workspaces set name = name || '-seen'");
      await first.until('applied');
      network.failOver();
      await expect(first.ended).rejects.toThrow('PostgreSQL has gone silent');
      network.close();
      await coder.query('select pg_terminate_backend(active_pid) from pg_replication_slots where active_pid is not null');
    });

    test('meets a migration that changes no row', async () => {
      const first = await start({ checkEveryMs: 100 });
      await coder.query('alter table workspace_builds drop column ai_task_sidebar_app_id');
      await expect(first.ended).rejects.toThrow('Coder was upgraded');
      const next = await start({});
      expect(next.events[0]).toBe('copy: other columns are copied than before');
      await same();
    });
  });
});
