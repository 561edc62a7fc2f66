import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import type { Database } from '../../src/db/connection.ts';
import { readinessChecks } from '../../src/readiness-checks.ts';
import { projectionStallMs } from '../../src/schema/outbox.ts';
import { createTestDatabase, describeOnEngines, type TestDatabase } from '../support/database.ts';
import { newId } from '../support/tasks.ts';

describeOnEngines('a stall of the projection', (engine) => {
  let testDatabase: TestDatabase;
  let database: Database;

  beforeAll(async () => {
    testDatabase = await createTestDatabase(engine);
    database = testDatabase.database;
    await database('workspace_changes').delete();
  });
  afterAll(() => testDatabase.drop());

  const ago = (seconds: number | null) =>
    seconds === null ? null : database.raw('utc_timestamp(6) - interval ? second', [seconds]);

  // How long the oldest change waits, when something was last projected, and the stall; all in seconds.
  test.each<[waits: number | null, projected: number | null, stall: number]>([
    [null, 500, 0],
    [null, null, 0],
    [100, 0, 0],
    [100, 40, 40],
    [5, 500, 5],
    [100, null, 100],
  ])('waiting for %s s, projected %s s ago: %d s', async (waits, projected, stall) => {
    await database('workspace_changes').delete();
    await database('projector_state').update({ projected_at: ago(projected) });
    if (waits !== null) {
      await database('workspace_changes').insert({ kind: 1, ref: newId(), noted_at: ago(waits) });
      await database('workspace_changes').insert({ kind: 1, ref: newId(), noted_at: ago(0) });
    }
    const seconds = (await projectionStallMs(database)) / 1000;
    expect(seconds).toBeGreaterThanOrEqual(stall);
    expect(seconds).toBeLessThan(stall + 5);
  });

  test('is also that nobody renews the lease of the projector, unless its holder ended in order', async () => {
    await database('workspace_changes').delete();
    const lease = database('leases').where('name', 'project');
    const { projection } = readinessChecks(database, { MIGRATE_TRIGGERS: false, CODER_DATABASE_URL: undefined }, undefined);
    const check = () => projection?.(AbortSignal.timeout(30_000));
    const now = vi.spyOn(performance, 'now');
    try {
      await lease.clone().update({ holder: 'somebody', renewals: 1 });
      now.mockReturnValue(1000);
      expect(await check()).toBeUndefined();
      now.mockReturnValue(32_000);
      await expect(check()).rejects.toThrow('the projector has not renewed its lease for 31 s');
      await lease.clone().update({ renewals: 2 });
      expect(await check()).toBeUndefined();
      await lease.clone().update({ holder: null });
      now.mockReturnValue(99_000);
      expect(await check()).toBeUndefined();
    } finally {
      now.mockRestore();
    }
  });
});
