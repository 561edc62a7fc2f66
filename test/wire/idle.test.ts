import { expect, test } from 'vitest';
import { describeOnOneEngine } from '../support/database.ts';
import { startServedEngine } from '../support/served-engine.ts';
import { startService } from '../support/service.ts';
import { Watching, watchOverGrpcJs } from '../support/watching.ts';

describeOnOneEngine('a service that nobody calls', (engine) => {
  test('runs few statements, also for a watcher, and still tells of the next change', { timeout: 90_000 }, async () => {
    // A server of its own: its statements are counted.
    const served = await startServedEngine(engine, { tasks: 3 });
    const { owner, database } = served;
    const service = await startService(served.address);
    const watching = new Watching(watchOverGrpcJs(service.grpc), { includeInitial: true }, owner.token);
    const statements = async (): Promise<number> => {
      const [[row]] = (await database.raw("show global status like 'Questions'")) as [[{ Value: string }]];
      return Number(row.Value);
    };
    let seen = { count: await statements(), at: performance.now() };
    const perSecond = async (): Promise<number> => {
      const now = { count: await statements(), at: performance.now() };
      const rate = ((now.count - seen.count) / (now.at - seen.at)) * 1000;
      seen = now;
      return rate;
    };
    try {
      await expect.poll(() => watching.told.includes('synced'), { timeout: 20_000 }).toBe(true);
      // Looks at the outbox and the feed, counts, readiness: some 12 a second, where it was 80.
      await expect.poll(perSecond, { timeout: 40_000, interval: 2000 }).toBeLessThan(20);
      await database('workspaces').where('workspaces.name', owner.tasks[0]?.name).update({ name: 'renamed' });
      await expect.poll(() => [...watching.tasks.values()].map(({ name }) => name), { timeout: 20_000 }).toContain('renamed');
    } finally {
      watching.stop();
      await service.stop();
      await served.stop();
    }
  });
});
