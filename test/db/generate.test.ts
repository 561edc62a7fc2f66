import { afterAll, beforeAll, expect, it } from 'vitest';
import { loadDemo } from '../../dev/demo/demo.ts';
import { type GenerateOptions, generateTasks } from '../../dev/demo/generate.ts';
import type { Database } from '../../src/db/connection.ts';
import { verify } from '../../src/projection/verify.ts';
import { outboxBypass } from '../../src/schema/triggers.ts';
import { createTestDatabase, describeOnServerKinds, type TestDatabase } from '../support/database.ts';
import { contents, count, readTasks, type SourceTask } from '../support/source-tasks.ts';

describeOnServerKinds('generated tasks', (engine) => {
  const many = 3000;
  let test: TestDatabase;
  let database: Database;
  let tasks: SourceTask[];
  let seconds: number;
  const progress: [done: number, total: number][] = [];

  beforeAll(async () => {
    test = await createTestDatabase(engine);
    database = test.database;
    const startedAt = performance.now();
    await generateTasks(database, { tasks: many, seed: 7, onProgress: (done, total) => progress.push([done, total]) });
    seconds = (performance.now() - startedAt) / 1000;
    tasks = await readTasks(database);
  });
  afterAll(async () => await test.drop());

  /** Runs with databases of its own. */
  const withDatabases = async (work: (...databases: Database[]) => Promise<void>): Promise<void> => {
    const own: TestDatabase[] = [];
    try {
      for (let number = 0; number < work.length; number++) own.push(await createTestDatabase(engine));
      await work(...own.map((one) => one.database));
    } finally {
      for (const one of own) await one.drop();
    }
  };

  it('are as many as asked for, and in the read model at once', async () => {
    expect(await count(database, 'workspaces')).toBe(many);
    expect(tasks).toHaveLength(many);
    expect(await count(database, 'workspace_tasks')).toBe(many);
    expect(await verify(database, () => {})).toBe(0);
  });

  it('leave nothing for the projector to do, and nothing behind in the sessions', async () => {
    expect(await count(database, 'workspace_changes')).toBe(0);
    const sessions = Array.from({ length: 5 }, async () => {
      const [rows] = (await database.raw(`select sleep(0.05), @${outboxBypass} as value`)) as [{ value: unknown }[]];
      return rows[0]?.value;
    });
    expect(await Promise.all(sessions)).toEqual([null, null, null, null, null]);
  });

  it('are there quickly', () => {
    expect(seconds).toBeLessThan(many / 100);
  });

  it('tell how far they are, not too often', () => {
    expect(progress.at(-1)).toEqual([many, many]);
    for (const [index, [done, total]] of progress.entries()) {
      expect(total).toBe(many);
      expect(done).toBeGreaterThanOrEqual(progress[index - 1]?.[0] ?? 0);
    }
    expect(progress.length).toBeLessThanOrEqual(seconds * 4 + 2);
  });

  it('are in every status, phase and state', () => {
    expect(new Set(tasks.map(({ status }) => status)).size).toBe(10);
    expect(new Set(tasks.map(({ phase }) => phase)).size).toBe(6);
    expect(new Set(tasks.flatMap(({ state }) => state?.state ?? [])).size).toBe(4);
  });

  it('have prompts of 80 to 200 characters and one to three builds', () => {
    for (const { prompt, flags } of tasks) {
      expect(prompt).toMatch(/^.{80,200}$/);
      expect([1, 2, 3]).toContain(flags.length);
    }
    expect(new Set(tasks.map(({ flags }) => flags.length)).size).toBe(3);
    expect(new Set(tasks.map(({ prompt }) => prompt)).size).toBeGreaterThan(many / 2);
  });

  it('have one big owner and many small ones, in several organizations', () => {
    const owners = [...Map.groupBy(tasks, (task) => task.owner_id.toString('hex')).values()].map((own) => own.length);
    const sizes = owners.toSorted((a, b) => b - a);
    expect(sizes[0]).toBeGreaterThan(many / 10);
    expect(sizes[0]).toBeLessThan(many / 5);
    expect(sizes[1]).toBeLessThan(many / 10);
    expect(sizes.length).toBeGreaterThan(150);
    expect(sizes[Math.floor(sizes.length / 2)]).toBeLessThan(20);
    expect(new Set(tasks.map((task) => task.organization_id.toString('hex'))).size).toBe(8);
  });

  it('have names of letters, digits and hyphens, and owners who are members of the organization', async () => {
    for (const { name } of tasks) expect(name).toMatch(/^(?=.{1,64}$)[a-z0-9]+(?:-[a-z0-9]+)*$/);
    const strangers = await database('workspaces as w')
      .leftJoin('organization_members as m', (on) =>
        on.on('m.user_id', 'w.owner_id').andOn('m.organization_id', 'w.organization_id'),
      )
      .whereNull('m.user_id')
      .count<{ count: number | string }[]>({ count: '*' });
    expect(Number(strangers[0]?.count)).toBe(0);
  });

  it('are the same for the same seed: made twice, made in two steps, made anew after an interruption', async () => {
    await withDatabases(async (once, twice, interrupted) => {
      await generateTasks(once as Database, { tasks: 700, seed: 3 });
      const expected = await contents(once as Database);

      expect(await generateTasks(twice as Database, { tasks: 130, seed: 3 })).toBe(130);
      expect(await generateTasks(twice as Database, { tasks: 700, seed: 3 })).toBe(570);
      expect(await contents(twice as Database)).toEqual(expected);
      const before = await contents(twice as Database);
      expect(await generateTasks(twice as Database, { tasks: 700, seed: 3 })).toBe(0);
      expect(await generateTasks(twice as Database, { tasks: 10, seed: 3 })).toBe(0);
      expect(await contents(twice as Database)).toEqual(before);

      await interrupted?.raw('rename table `workspace_app_statuses` to `away`');
      await expect(generateTasks(interrupted as Database, { tasks: 700, seed: 3 })).rejects.toThrow('workspace_app_statuses');
      expect(await count(interrupted as Database, 'workspaces')).toBe(0);
      await interrupted?.raw('rename table `away` to `workspace_app_statuses`');
      expect(await generateTasks(interrupted as Database, { tasks: 700, seed: 3 })).toBe(700);
      expect(await contents(interrupted as Database)).toEqual(expected);
    });
  });

  it('of another seed, and the demo data, stand beside them', async () => {
    await withDatabases(async (own) => {
      const other = own as Database;
      await loadDemo(other, { now: new Date() });
      const demo = await count(other, 'workspaces');
      expect(await generateTasks(other, { tasks: 200, seed: 0 })).toBe(200);
      expect(await generateTasks(other, { tasks: 200, seed: 2 ** 31 - 1 })).toBe(200);
      expect(await count(other, 'workspaces')).toBe(demo + 400);
      expect(await loadDemo(other, { now: new Date() })).toBe(false);
    });
  });

  const refused: Partial<GenerateOptions>[] = [
    { tasks: -1 },
    { tasks: 1.5 },
    { tasks: Number.NaN },
    { tasks: 10_000_001 },
    { seed: -1 },
    { seed: 0.5 },
    { seed: 2 ** 31 },
    { seed: Number.POSITIVE_INFINITY },
  ];
  it.each(refused)('of $tasks tasks and seed $seed are refused', async (wrong) => {
    await expect(generateTasks(database, { tasks: 1, seed: 1, ...wrong })).rejects.toThrow(RangeError);
  });
});
