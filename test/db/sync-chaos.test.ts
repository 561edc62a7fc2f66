import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { closeDatabase, openDatabase } from '../../src/db/connection.ts';
import { describeInconsistency, verify } from '../../src/projection/verify.ts';
import { migrateUp } from '../../src/schema/migrations.ts';
import { outboxLagMs } from '../../src/schema/outbox.ts';
import { type ChildScript, startScript } from '../support/child-script.ts';
import { createCoderSchema } from '../support/coder-schema.ts';
import { startCoderWriters } from '../support/coder-writer.ts';
import { describeOnServerKinds } from '../support/database.ts';
import { Dice } from '../support/dice.ts';
import { startEngineServer } from '../support/engines.ts';
import { describeOnPostgres, startPostgres } from '../support/postgres.ts';
import { allowReplication, coderReader, coderSlot, differences } from '../support/replicated-coder.ts';

/** For how long something is killed again and again, in milliseconds. */
const killsMs = Number(process.env['CHAOS_MS'] ?? 12_000);

const seed = Number(process.env['CHAOS_SEED'] ?? 20_261_130);

await describeOnPostgres('a Coder that is followed', '15', () => {
  describeOnServerKinds('into', (engine) => {
    test('while everything is killed at random, ends as the same tasks', { timeout: killsMs + 150_000 }, async () => {
      const dice = new Dice(seed);
      const folder = await mkdtemp(join(tmpdir(), 'tasks-sync-'));
      // MySQL is one that loses what was committed within the last second: the copy is behind what PostgreSQL was told, and is made
      // anew. MariaDB keeps what was committed.
      const flush = engine === 'mysql' ? 0 : 2;
      const [target, server] = await Promise.all([
        startEngineServer(engine, folder, [`--innodb-flush-log-at-trx-commit=${flush}`]),
        startPostgres(),
      ]);
      const root = openDatabase({ ...target.address, database: '' }, { size: 1, statementTimeoutMs: 30_000 });
      await root.raw('create database tasks character set utf8mb4 collate utf8mb4_bin');
      await closeDatabase(root);
      const address = { ...target.address, database: 'tasks' };
      const open = () => openDatabase(address, { size: 2, statementTimeoutMs: 30_000, acquireTimeoutMs: 30_000 });
      const migrated = open();
      await migrateUp(migrated, { triggers: true });
      await closeDatabase(migrated);
      const coder = await server.connect();
      await createCoderSchema(coder, 'newest');
      await allowReplication(coder, coderSlot, coderReader);
      await coder.end();
      const url = server.url('coder', coderReader);

      const starts = {
        sync: () => startScript('sync', { url, address, slot: coderSlot }),
        project: () => startScript('project', address),
      };
      const scripts: Record<keyof typeof starts, ChildScript> = { sync: starts.sync(), project: starts.project() };
      const lines: string[] = [];
      const writers = startCoderWriters({ connect: () => server.connect(), version: 'newest', writers: 3, seed, pauseMs: 5 });
      const killed = { sync: 0, project: 0, postgres: 0, database: 0 };
      try {
        await scripts.sync.line('following Coder');
        const deadline = performance.now() + killsMs;
        while (performance.now() < deadline) {
          await sleep(50 + dice.below(700));
          const choice = dice.below(10);
          const victim = choice < 5 ? 'sync' : choice < 7 ? 'project' : choice < 8 ? 'database' : 'postgres';
          killed[victim] += 1;
          if (victim === 'sync' || victim === 'project') {
            await scripts[victim].kill();
            lines.push(...scripts[victim].lines);
            scripts[victim] = starts[victim]();
          } else {
            const one = victim === 'postgres' ? server : target;
            await one.crash();
            await sleep(dice.below(300));
            await one.restart();
          }
        }
        await writers.stop();
        await expect.poll(() => differences(url, address).catch(String), { timeout: 60_000, interval: 500 }).toEqual([]);
        const database = open();
        await expect.poll(() => outboxLagMs(database), { timeout: 30_000 }).toBe(undefined);
        const found: string[] = [];
        await verify(database, (difference) => found.push(describeInconsistency(difference)));
        const [[tasks] = []] = await database.raw<[{ n: number }[]]>('select count(*) as `n` from `workspace_tasks`');
        await closeDatabase(database);
        expect(found).toEqual([]);
        expect(Number(tasks?.n)).toBeGreaterThan(0);
        expect(writers.done.committed).toBeGreaterThan(100);
        for (const count of Object.values(killed)) expect(count).toBeGreaterThan(0);
      } catch (error) {
        lines.push(...scripts.sync.lines, ...scripts.project.lines);
        console.log(
          `seed ${seed}`,
          killed,
          writers.done,
          lines
            .filter((line) => /sync|Coder|reason/.test(line))
            .slice(-60)
            .join('\n'),
        );
        throw error;
      } finally {
        await writers.stop().catch(() => {});
        await Promise.all(Object.values(scripts).map((script) => script.kill()));
        await Promise.all([server.stop(), target.stop()]);
        await rm(folder, { recursive: true, force: true });
      }
    });
  });
});
