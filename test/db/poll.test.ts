import { spawn } from 'node:child_process';
import { once } from 'node:events';
import type { Client } from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Database } from '../../src/db/connection.ts';
import { createLog } from '../../src/platform/log.ts';
import { createProjector } from '../../src/projection/projector.ts';
import { verify } from '../../src/projection/verify.ts';
import { outboxLagMs } from '../../src/schema/outbox.ts';
import { openCoderDatabase } from '../../src/sync/coder-database.ts';
import { keepByPolling, type PollSettings } from '../../src/sync/poll.ts';
import { readSourceShape } from '../../src/sync/source-version.ts';
import { createSync, type Sync } from '../../src/sync/sync.ts';
import { syncedTables } from '../../src/sync/synced-tables.ts';
import { verifyCopy } from '../../src/sync/verify-copy.ts';
import { loadCoderRows } from '../support/coder-rows.ts';
import { createCoderSchema } from '../support/coder-schema.ts';
import { startCoderWriters } from '../support/coder-writer.ts';
import { createTestDatabase, describeOnOneEngine, type TestDatabase } from '../support/database.ts';
import { describeOnPostgres, type PostgresServer, startPostgres, startPostgresReplica } from '../support/postgres.ts';
import { databaseUrl } from '../support/service.ts';

const patiently = { timeout: 60_000, interval: 50 };
const reader = { user: 'reader', password: 'reader-secret' };

await describeOnPostgres('polling', '15', () => {
  describeOnOneEngine('a Coder', (engine) => {
    let server: PostgresServer;
    let client: Client;
    let testDatabase: TestDatabase;
    let database: Database;
    let sync: Sync | undefined;
    let passes = 0;

    beforeAll(async () => {
      [server, testDatabase] = await Promise.all([startPostgres(), createTestDatabase(engine)]);
      database = testDatabase.database;
      client = await server.connect();
      await createCoderSchema(client, 'newest');
      await loadCoderRows(client, 'newest');
      const tables = syncedTables.map(({ name }) => `"${name}"`).join(', ');
      await client.query(`create role reader login password '${reader.password}'; grant select on ${tables} to reader`);
    });
    afterAll(async () => {
      await sync?.stop();
      await testDatabase.drop();
      await server.stop();
    });

    const url = (from = server) => from.url('coder', reader);

    function start(settings: Partial<PollSettings> = {}, from = server): Sync {
      const keep = keepByPolling({ seconds: 0.05, compareEveryMs: 3_600_000, onPass: () => void passes++, ...settings });
      sync = createSync({ address: testDatabase.address, url: url(from), log: createLog('silent'), keep });
      sync.start();
      return sync;
    }

    /** Waits until what was committed before has been seen by a whole pass. */
    async function passed(): Promise<void> {
      const before = passes;
      await expect.poll(() => passes, patiently).toBeGreaterThan(before + 1);
    }

    async function differences(): Promise<string[]> {
      const coder = await openCoderDatabase(url(), 'test');
      try {
        const lines: string[] = [];
        const shape = await readSourceShape(coder);
        await verifyCopy({ coder, database, shape, patienceMs: 0 }, (line) => lines.push(line));
        return lines;
      } finally {
        await coder.close();
      }
    }

    test('is copied, and each pass sees what is written, whether its times are, and rights that are deleted', async () => {
      const status = start().status;
      await expect.poll(() => status().activity, patiently).toBe('following');
      expect(await differences()).toEqual([]);

      await client.query("update users set rbac_roles = '{auditor}' where username = (select min(username) from users)");
      await client.query(`update workspaces set group_acl = '{"${crypto.randomUUID()}": ["read"]}' where not deleted`);
      await client.query('delete from group_members where user_id = (select min(user_id::text) from group_members)::uuid');
      await client.query('delete from organization_members where user_id = (select max(id::text) from users)::uuid');
      await client.query('delete from api_keys where id = (select min(id) from api_keys)');
      await client.query(
        "update workspaces set name = 'renamed', updated_at = now() where id = (select max(id::text) from workspaces)::uuid",
      );
      await passed();
      expect(await differences()).toEqual([]);
      expect(status()).toMatchObject({ copies: 1, failures: 0 });
    });

    test('with a transaction that takes longer than some passes misses none of it', async () => {
      const slow = await server.connect();
      await slow.query('begin');
      await slow.query("update templates set display_name = 'slow'");
      await passed();
      await client.query("update organizations set display_name = 'meanwhile'"); // with a later transaction
      await passed();
      expect(await database('templates').where('templates.display_name', 'slow')).toEqual([]);
      await slow.query('commit');
      await passed();
      expect(await differences()).toEqual([]);
    });

    test('is followed on by another process without another copy', async () => {
      await sync?.stop();
      await client.query("update users set name = 'while nobody looked'");
      const { status } = start();
      await passed();
      expect(await differences()).toEqual([]);
      expect(status()).toMatchObject({ copies: 0, failures: 0 });
    });

    test('that is upgraded while it is attached is met anew', async () => {
      const status = (sync as Sync).status;
      await client.query('alter table users add column unheard_of text');
      await expect.poll(() => status().error, patiently).toContain('users.unheard_of');
      await client.query('alter table users drop column unheard_of');
      await expect.poll(() => status().activity, patiently).toBe('following');
      expect(status().error).toBeUndefined();
      await passed();
      expect(await differences()).toEqual([]);
    });

    test('is polled by the command, which says what it cannot promise, until it is stopped', async () => {
      await sync?.stop();
      await client.query("update organizations set display_name = 'before the command'");
      const command = spawn(process.execPath, ['src/main.ts', 'sync', '--poll', '1'], {
        env: {
          PATH: process.env['PATH'] ?? '',
          DATABASE_URL: databaseUrl(testDatabase.address),
          CODER_DATABASE_URL: url(),
          LAUNCHER_PID: String(process.pid),
        },
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      const ended = once(command, 'exit');
      let output = '';
      command.stdout.on('data', (chunk: Buffer) => {
        output += chunk.toString();
      });
      await expect.poll(() => output, patiently).toContain('following Coder');
      expect(output).toMatch(/polling every 1 s: a change is seen so much later/);
      await expect.poll(differences, patiently).toEqual([]);
      command.kill('SIGTERM');
      expect(await ended).toEqual([0, null]);
    });

    test('under random writers is the same in the end, with what was deleted, and so is the read model', {
      timeout: 120_000,
    }, async () => {
      await sync?.stop();
      // A comparison on a busy machine takes seconds: resting fifty times as long, it would be over when the test is.
      start({ compareEveryMs: 100, restTimes: { pass: 1, comparison: 1 } });
      const projector = createProjector({
        address: testDatabase.address,
        log: createLog('silent'),
        sweepPassMs: Number.POSITIVE_INFINITY,
      });
      projector.start();
      const writers = startCoderWriters({ connect: () => server.connect(), version: 'newest', writers: 3, seed: 7, pauseMs: 5 });
      await expect.poll(() => writers.done.committed, patiently).toBeGreaterThan(150);
      await server.crash();
      await server.restart();
      await expect.poll(() => writers.done.committed, patiently).toBeGreaterThan(300);
      await writers.stop();
      await expect.poll(differences, { ...patiently, interval: 500 }).toEqual([]);
      await expect.poll(() => outboxLagMs(database), patiently).toBeUndefined();
      await projector.stop();
      const wrong: unknown[] = [];
      await verify(database, (difference) => wrong.push(difference));
      expect(wrong).toEqual([]);
    });

    test('is polled from a read replica that cancels what is in its way', { timeout: 120_000 }, async () => {
      await sync?.stop();
      const replica = await startPostgresReplica(server, ['max_standby_streaming_delay=0', 'hot_standby_feedback=off']);
      const writers = startCoderWriters({ connect: () => server.connect(), version: 'newest', writers: 2, seed: 8, pauseMs: 5 });
      try {
        const { status } = start({ compareEveryMs: 100 }, replica);
        const counters = await replica.connect();
        const vacuum = await server.connect();
        const conflicts = async (): Promise<number> => {
          await vacuum.query('vacuum');
          const { rows } = await counters.query<{ n: string }>('select sum(confl_snapshot) as n from pg_stat_database_conflicts');
          return Number(rows[0]?.n);
        };
        await expect.poll(conflicts, { ...patiently, interval: 10 }).toBeGreaterThan(0);
        await writers.stop();
        await expect.poll(differences, { ...patiently, interval: 500 }).toEqual([]);
        expect(status().copies).toBe(0);
        expect((await counters.query('select pg_is_in_recovery() as yes')).rows).toEqual([{ yes: true }]);
      } finally {
        await writers.stop();
        await sync?.stop();
        await replica.stop();
      }
    });
  });
});
