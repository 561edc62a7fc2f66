import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { ActiveLease, FencedError } from '../../src/db/active-process.ts';
import type { Database } from '../../src/db/connection.ts';
import { enqueueWorkspaces, outboxLagMs } from '../../src/schema/outbox.ts';
import { type ChildScript, startScript } from '../support/child-script.ts';
import { createTestDatabase, describeOnOneEngine, describeOnServerKinds, type TestDatabase } from '../support/database.ts';
import { insertRunningTask } from '../support/source-writer.ts';

/** Short, so that tests need not wait; a busy machine may need longer for a renewal than it is late here. */
const timing = { expiresMs: 1500, renewMs: 100, lookMs: 50 } as const;

const within = { timeout: 20_000, interval: 20 };

describeOnServerKinds('the lease of the active process', (engine) => {
  let test_: TestDatabase;
  let database: Database;
  let leases: ActiveLease[];
  beforeEach(async () => {
    test_ = await createTestDatabase(engine);
    database = test_.database;
    leases = [];
    return async () => {
      await Promise.all(leases.map((lease) => lease.release()));
      await test_.drop();
    };
  });

  const make = (): ActiveLease => {
    const lease = new ActiveLease(test_.address, 'project', timing);
    leases.push(lease);
    return lease;
  };
  const holder = async (): Promise<string | null> => (await database('leases').where('name', 'project').first('holder'))?.holder;

  test('is held by one of all that try at once, and by no other while it is renewed', async () => {
    const all = Array.from({ length: 6 }, make);
    const taken = await Promise.all(all.map((lease) => lease.take(database)));
    expect(taken.filter((is) => is)).toHaveLength(1);
    const active = all[taken.indexOf(true)];
    const others = all.filter((lease) => lease !== active);
    for (let i = 0; i < 3; i++) expect(await Promise.all(others.map((lease) => lease.take(database)))).not.toContain(true);
    active?.requireHeld();
    for (const other of others) expect(() => other.requireHeld()).toThrow(FencedError);
  });

  test('is free at once when it was released', async () => {
    const [first, second] = [make(), make()];
    expect(await first.take(database)).toBe(true);
    expect(await second.take(database)).toBe(false);
    await first.release();
    expect(await holder()).toBeNull();
    expect(() => first.requireHeld()).toThrow(FencedError);
    expect(await second.take(database)).toBe(true);
    expect(await first.take(database)).toBe(false);
  });

  test('is lost by a holder that cannot renew it, and taken by another', async () => {
    const [first, second] = [make(), make()];
    expect(await first.take(database)).toBe(true);
    const blocker = await database.transaction();
    await blocker.raw("select 1 from `leases` where `name` = 'project' for update");
    const { lost } = first;
    await expect.poll(() => lost.aborted, within).toBe(true);
    expect(() => first.requireHeld()).toThrow(FencedError);
    await blocker.commit();
    await expect.poll(() => second.take(database), within).toBe(true);
    expect(await first.take(database)).toBe(false);
  });

  test('is lost by a holder from which another took it', async () => {
    const first = make();
    expect(await first.take(database)).toBe(true);
    const { lost } = first;
    await database('leases').where('name', 'project').update({ holder: 'another', renewals: 1000 });
    await expect.poll(() => lost.aborted, within).toBe(true);
    expect(() => first.requireHeld()).toThrow(FencedError);
    await first.release();
    expect(await holder()).toBe('another');
  });

  test('of a process that is gone is taken when it was watched for as long as it lasts, and not before', async () => {
    await database('leases').where('name', 'project').update({ holder: 'gone' });
    const lease = make();
    expect(await lease.take(database)).toBe(false);
    // While this process was paused, nobody looked: the time does not count.
    await sleep(2 * timing.expiresMs);
    const began = performance.now();
    await expect.poll(() => lease.take(database), within).toBe(true);
    expect(performance.now() - began).toBeGreaterThan(timing.expiresMs - 50);
  });
});

describeOnOneEngine('two projectors', (engine) => {
  let test_: TestDatabase;
  let database: Database;
  let processes: ChildScript[] = [];
  beforeEach(async () => {
    test_ = await createTestDatabase(engine);
    database = test_.database;
  });
  afterEach(async () => {
    await Promise.all(processes.map((one) => one.kill()));
    processes = [];
    await test_.drop();
  });

  const start = (): ChildScript => {
    const one = startScript('project', test_.address);
    processes.push(one);
    return one;
  };
  const isActive = (line: string): boolean => line.includes('"the projector is active"');
  const takeovers = (): number => processes.flatMap(({ lines }) => lines.filter(isActive)).length;
  const isEmpty = async (): Promise<boolean> => (await outboxLagMs(database)) === undefined;

  test('do not get into each other’s way: 5,000 notes, one takeover, and a change is shown meanwhile', {
    timeout: 90_000,
  }, async () => {
    const ids: Buffer[] = [];
    for (let i = 0; i < 200; i++) ids.push((await insertRunningTask(database)).workspace);
    const first = start();
    await first.line('is active');
    await expect.poll(isEmpty, within).toBe(true);
    const project = async (): Promise<number> => {
      const began = performance.now();
      for (let i = 0; i < 25; i++) await enqueueWorkspaces(database, ids);
      const [id] = ids;
      await database('workspaces')
        .where('id', id ?? '')
        .update({ name: `renamed-${began}` });
      await expect
        .poll(
          async () =>
            (
              await database('workspace_tasks')
                .where('id', id ?? '')
                .first('name')
            )?.name,
          within,
        )
        .toBe(`renamed-${began}`);
      await expect.poll(isEmpty, within).toBe(true);
      return performance.now() - began;
    };
    const alone = await project();
    start();
    await sleep(2000); // it stands by, and looks
    const together = await project();
    console.log(`5,000 notes: ${Math.round(alone)} ms with one projector, ${Math.round(together)} ms with two`);
    expect(takeovers()).toBe(1);
    // On a busy machine; by itself the two are alike.
    expect(together).toBeLessThan(3 * alone + 2000);
  });

  test('one is killed: the other takes over within seconds', async () => {
    const active = start();
    await active.line('is active');
    const standby = start();
    await sleep(1000);
    await active.kill();
    const ids = await insertRunningTask(database);
    const began = performance.now();
    await standby.line('is active');
    const tookMs = performance.now() - began;
    console.log(`a killed projector was replaced after ${Math.round(tookMs)} ms`);
    expect(tookMs).toBeLessThan(10_000); // four seconds, on a machine that is not busy
    await expect.poll(async () => (await database('workspace_tasks').where('id', ids.workspace)).length, within).toBe(1);
  });
});
