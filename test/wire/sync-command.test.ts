import { execFile } from 'node:child_process';
import path from 'node:path';
import { promisify } from 'node:util';
import type { Client } from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createTestDatabase, describeOnOneEngine, type TestDatabase } from '../support/database.ts';
import { describeOnPostgres, type PostgresServer } from '../support/postgres.ts';
import { coderReader } from '../support/replicated-coder.ts';
import { databaseUrl, type RunningService, startSync } from '../support/service.ts';
import { startCoder } from '../support/started-coder.ts';

/** A busy machine may take its time. */
const within = { timeout: 30_000, interval: 100 };

const run = promisify(execFile);

/** What a command of the program prints, and its exit code. */
interface Printed {
  readonly code: number;
  readonly text: string;
}

await describeOnPostgres('sync as a process of its own', '15', () => {
  describeOnOneEngine('into', (engine) => {
    let server: PostgresServer;
    let coder: Client;
    let target: TestDatabase;
    let url: string;
    const processes: Pick<RunningService, 'stop'>[] = [];
    beforeAll(async () => {
      ({ server, coder } = await startCoder('seed'));
      target = await createTestDatabase(engine);
      url = server.url('coder', coderReader);
    });
    afterAll(async () => {
      await Promise.all(processes.map((one) => one.stop()));
      await server.stop();
      await target.drop();
    });

    const start = async (...options: readonly string[]) => {
      const started = await startSync(target.address, { CODER_DATABASE_URL: url }, ...options);
      processes.push(started);
      return started;
    };
    /** Runs a command of sync to its end, whatever that is. */
    const command = async (coderUrl: string, ...args: readonly string[]): Promise<Printed> => {
      const settings = { DATABASE_URL: databaseUrl(target.address), CODER_DATABASE_URL: coderUrl };
      const options = {
        cwd: path.resolve(import.meta.dirname, '../..'),
        env: { PATH: process.env['PATH'] ?? '', ...settings },
      };
      try {
        const { stdout, stderr } = await run(process.execPath, ['src/main.ts', 'sync', ...args], options);
        return { code: 0, text: stdout + stderr };
      } catch (error) {
        const { code, stdout, stderr } = error as { code: number; stdout: string; stderr: string };
        return { code, text: stdout + stderr };
      }
    };
    const ready = async ({ ops }: { readonly ops: string }): Promise<unknown> => {
      const response = await fetch(`http://${ops}/readyz`);
      return { code: response.status, ...((await response.json()) as object) };
    };
    /** The value of a metric. */
    const metric = async ({ ops }: { readonly ops: string }, name: string): Promise<string | undefined> => {
      const text = await (await fetch(`http://${ops}/metrics`)).text();
      return text
        .split('\n')
        .find((line) => line.startsWith(`${name} `))
        ?.slice(name.length + 1);
    };

    test('says on its port why it does not go on', async () => {
      // Somebody has made the role, and forgotten the rest.
      const { text } = await command(url, 'grants');
      for (const line of text.split('\n').filter((line) => /^(create role|grant) /.test(line))) await coder.query(line);
      await coder.query(`alter role ${coderReader.user} password '${coderReader.password}'`);
      const sync = await start('--follow');
      await expect
        .poll(() => ready(sync), within)
        .toEqual({
          code: 503,
          status: 'not ready',
          parts: { database: 'ok', sync: expect.stringMatching(/^Coder's PostgreSQL has no publication tasks_service/) },
        });
      expect(await metric(sync, 'tasks_sync_activity{activity="failed"}')).toBe('1');
      expect((await fetch(`http://${sync.ops}/healthz`)).status).toBe(200);
      expect(await sync.stop()).toBe(0);
    });

    test('follows when all is done that sync grants prints, and tells how it is doing', async () => {
      const { code, text } = await command(url, 'grants');
      expect(code).toBe(0);
      for (const line of text.trim().split('\n')) {
        if (!/^(?:--|create role|grant)/.test(line)) await coder.query(line);
      }
      const [active, standby] = [await start('--follow'), await start('--follow')];
      const answers = async () => [await ready(active), await ready(standby)];
      const follows = { code: 200, parts: { database: 'ok', sync: 'ok' } };
      const waits = { code: 200, parts: { database: 'ok', sync: 'another process copies from Coder' } };
      await expect
        .poll(answers, within)
        .toEqual(expect.arrayContaining([follows, waits].map((one) => expect.objectContaining(one))));
      const first = JSON.stringify(await ready(active)).includes('another') ? standby : active;
      expect(await metric(first, 'tasks_sync_activity{activity="following"}')).toBe('1');
      expect(await metric(first, 'tasks_sync_copies_total')).toBe('1');
      expect(Number(await metric(first, 'tasks_sync_slot_retained_bytes'))).toBeGreaterThan(0);
      expect(Number(await metric(first, 'process_cpu_seconds_total'))).toBeGreaterThan(0);
      await coder.query("update workspaces set name = name || '-x'");
      await expect.poll(async () => Number(await metric(first, 'tasks_sync_changes_total')), within).toBeGreaterThan(0);
      expect(await command(url, '--verify')).toEqual({ code: 0, text: 'no differences\n' });
    });

    test('sync drop refuses while the slot is read, then removes what the account may, and prints the rest', async () => {
      const inUse = await command(url, 'drop');
      expect(inUse).toMatchObject({ code: 1 });
      expect(inUse.text).toMatch(/^the slot tasks_service is read by process \d+: stop the service that follows it first\n$/);
      for (const one of processes.splice(0)) expect(await one.stop()).toBe(0);
      const left = async (): Promise<unknown> =>
        (
          await coder.query(
            'select (select count(*)::int from pg_replication_slots) as slots, (select count(*)::int from pg_publication) as publications',
          )
        ).rows;
      // PostgreSQL may need a moment to see that the reader has gone.
      await expect
        .poll(() => command(url, 'drop'), within)
        .toEqual({
          code: 1,
          text:
            'removed slot tasks_service\ndrop publication "tasks_service";\ndrop publication "tasks_service_inserts";\n' +
            "the account may not do the rest: run it as the owner of Coder's tables\n",
        });
      expect(await left()).toEqual([{ slots: 0, publications: 2 }]);
      expect(await command(server.url('coder'), 'drop')).toEqual({
        code: 0,
        text: 'removed publication tasks_service\nremoved publication tasks_service_inserts\n',
      });
      expect(await left()).toEqual([{ slots: 0, publications: 0 }]);
      expect(await command(url, 'drop')).toEqual({ code: 0, text: 'there is no slot tasks_service, and no publication of it\n' });
    });

    test('polls, with a port as well', async () => {
      const sync = await start('--poll', '1');
      await expect.poll(() => ready(sync), within).toMatchObject({ code: 200, parts: { database: 'ok', sync: 'ok' } });
      await expect.poll(() => metric(sync, 'tasks_sync_activity{activity="following"}'), within).toBe('1');
      expect(await metric(sync, 'tasks_sync_slot_retained_bytes')).toBe('Nan');
    });
  });
});
