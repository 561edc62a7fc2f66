import type { Client } from 'pg';
import { pino } from 'pino';
import { Registry } from 'prom-client';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { aborted } from '../../src/platform/stop-signal.ts';
import { readinessChecks } from '../../src/readiness-checks.ts';
import { copyOnce } from '../../src/sync/copy-once.ts';
import { createSync, describeSync, type KeepCopy, type Sync } from '../../src/sync/sync.ts';
import { addSyncMetrics } from '../../src/sync/sync-metrics.ts';
import { readSyncState } from '../../src/sync/sync-state.ts';
import { coderRows, loadCoderRows } from '../support/coder-rows.ts';
import { createCoderSchema } from '../support/coder-schema.ts';
import { createTestDatabase, describeOnOneEngine, type TestDatabase } from '../support/database.ts';
import { describeOnPostgres, type PostgresServer, startPostgres } from '../support/postgres.ts';

const patience = { timeout: 20_000 };

/** Copies everything, and then lets it be until the signal is given. */
const copyAtStart: KeepCopy = async (context, state) => {
  await copyOnce(context, state);
  context.onFollowing();
  await aborted(context.signal);
};

await describeOnPostgres('processes that copy from Coder', '15', () => {
  describeOnOneEngine('to', (engine) => {
    let server: PostgresServer;
    let client: Client;
    let target: TestDatabase;
    let syncs: Sync[];
    let lines: string[];

    beforeAll(async () => {
      server = await startPostgres();
      client = await server.connect('coder');
      await createCoderSchema(client, 'seed');
      await loadCoderRows(client, 'seed');
    }, 60_000);
    afterAll(async () => {
      await client.end();
      await server.stop();
    });
    beforeEach(async () => {
      target = await createTestDatabase(engine);
      syncs = [];
      lines = [];
      return async () => {
        await Promise.all(syncs.map((sync) => sync.stop()));
        await target.drop();
      };
    });

    const log = pino({ level: 'info' }, { write: (line: string) => void lines.push(line) });
    const start = (url = server.url('coder')): Sync => {
      const sync = createSync({ address: target.address, url, log, keep: copyAtStart });
      syncs.push(sync);
      sync.start();
      return sync;
    };
    const readiness = () => {
      const { sync } = readinessChecks(
        target.database,
        { MIGRATE_TRIGGERS: false, CODER_DATABASE_URL: 'postgres://x/y' },
        undefined,
      );
      return sync?.(AbortSignal.timeout(1000));
    };

    test('one is active, another stands by, and takes over when it ends', async () => {
      expect(await readiness()).toBe('nothing has been copied from Coder yet');
      const first = start();
      await expect.poll(() => first.status().activity, patience).toBe('following');
      expect(first.status()).toMatchObject({ copies: 1, failures: 0, version: 'Coder of August 2025 or later' });
      expect(await readiness()).toBeUndefined();
      const second = start();
      await expect.poll(() => second.status().activity, patience).toBe('standby');
      await first.stop();
      expect(first.status().activity).toBe('stopped');
      await expect.poll(() => second.status().activity, patience).toBe('following');
      expect((await readSyncState(target.database)).epoch).toBe(2);
      expect(await target.database('workspaces').count({ n: '*' })).toEqual([{ n: coderRows('seed', 'workspaces').length }]);
      const registry = new Registry();
      addSyncMetrics(registry, second);
      expect(await registry.metrics()).toContain('tasks_sync_activity{activity="following"} 1');
    });

    test('what has to be changed in Coder is said once, and seen until it is', async () => {
      await client.query('alter table users add column theme text');
      try {
        const sync = start();
        await expect.poll(() => sync.status().failures, patience).toBeGreaterThan(1);
        expect(sync.status()).toMatchObject({
          activity: 'failed',
          error: expect.stringMatching(/^users\.theme is a column/) as unknown,
        });
        await expect.poll(readiness, patience).toMatch(/^copying from Coder failed: users\.theme .*; nothing has been copied/);
        expect(await describeSync(target.database)).toContainEqual(expect.stringMatching(/^error: users\.theme/));
        expect(lines.filter((line) => line.includes('users.theme'))).toHaveLength(1);
        await client.query('alter table users drop column theme');
        await expect.poll(() => sync.status().activity, patience).toBe('following');
        await expect.poll(readiness, patience).toBeUndefined();
      } finally {
        await client.query('alter table users drop column if exists theme');
      }
    });

    test('a PostgreSQL that is away is waited for, and the copy is served meanwhile', async () => {
      const first = start();
      await expect.poll(() => first.status().activity, patience).toBe('following');
      await first.stop();
      const sync = start('postgres://reader:geheim@127.0.0.1:1/coder');
      await expect.poll(() => sync.status().activity, patience).toBe('failed');
      await expect
        .poll(readiness, patience)
        .toMatch(/^copying from Coder failed: Coder's database cannot be reached.*; what was copied before is served$/);
      expect(lines.join('')).not.toContain('geheim');
    });
  });
});
