import type { Client } from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openCoderDatabase } from '../../src/sync/coder-database.ts';
import { dropReplication, replicationNames } from '../../src/sync/publication.ts';
import { syncedTables } from '../../src/sync/synced-tables.ts';
import { createTestDatabase, describeOnOneEngine, type TestDatabase } from '../support/database.ts';
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

/** Children before their parents, so that each table still has rows when it is emptied. */
const childrenFirst = [
  'task_workspace_apps',
  'tasks',
  'workspace_app_statuses',
  'workspace_apps',
  'workspace_agents',
  'workspace_resources',
  'workspace_build_parameters',
  'api_keys',
  'group_members',
  'custom_roles',
  'workspace_builds',
  'provisioner_jobs',
  'workspaces',
  'template_versions',
  'templates',
  'groups',
  'organization_members',
  'organizations',
  'users',
];

await describeOnPostgres('replication', '15', () => {
  let server: PostgresServer;
  let coder: Client;
  let url: string;
  beforeAll(async () => {
    ({ server, coder } = await startCoder('newest', { settings: ['wal_sender_timeout=4s'] }));
    await allowReplication(coder, coderSlot, coderReader);
    url = server.url('coder', coderReader);
  });
  afterAll(() => server.stop());

  describeOnOneEngine('into', (engine) => {
    let target: TestDatabase;
    let attempt: Attempt;
    beforeAll(async () => {
      target = await createTestDatabase(engine);
    });
    afterAll(async () => {
      await attempt.stop();
      await target.drop();
    });
    const same = () =>
      expect
        .poll(async () => {
          // What PostgreSQL has counted is written down now and not within ten seconds, and there is something new in the log.
          await coder.query("select pg_stat_force_next_flush(), pg_logical_emit_message(false, 'test', '')");
          return differences(url, target.address);
        }, within)
        .toEqual([]);
    const stored = async (sql: string, ...values: string[]): Promise<unknown[]> =>
      ((await target.database.raw(sql, values)) as [unknown[]])[0];

    test('all tables are copied, and then followed', async () => {
      attempt = startReplicating(url, target.address, coderSlot);
      await attempt.until('following');
      expect(attempt.events[0]).toBe('copy: nothing has been copied yet');
      await same();
      expect(await stored('select `w`.`id` from `workspaces` as `w`')).not.toHaveLength(0);
    });

    describe.each(childrenFirst)('%s', (table) => {
      const { key = [], columns = {} } = syncedTables.find(({ name }) => name === table) ?? {};
      const keys = key.map((column) => `t.${column} = s.${column}`).join(' and ');

      test('a row is deleted, comes back, and is changed, in Coder as ever', async () => {
        const { rows } = await coder.query<{ name: string; type: string }>(
          `select a.attname as name, a.atttypid::regtype::text as type from pg_attribute as a
           where a.attrelid = $1::regclass and a.attnum > 0 and a.attgenerated = ''`,
          [table],
        );
        const list = rows.map(({ name }) => name).join(', ');
        // Neither cascades nor what Coder's triggers do: those are other tests.
        await coder.query('set session_replication_role = replica');
        await coder.query(`create temp table saved as select * from ${table} limit 1`);
        // A build has no parameters without a row of its own.
        if (table === 'workspace_builds') {
          await coder.query('delete from workspace_build_parameters where workspace_build_id in (select id from saved)');
        }
        expect((await coder.query(`delete from ${table} as t using saved as s where ${keys}`)).rowCount).toBe(1);
        await same();
        await coder.query(`insert into ${table} (${list}) select ${list} from saved`);
        await same();
        const sources = new Set(Object.entries(columns).map(([name, { source }]) => source ?? name));
        const other = new Map([
          ['text', "|| 'x'"],
          ['character varying', "|| 'x'"],
          ['timestamp with time zone', "+ interval '1 microsecond'"],
          ['integer', '+ 1'],
        ]);
        const changed = rows.filter(({ name, type }) => sources.has(name) && !key.includes(name) && other.has(type));
        if (changed.length > 0) {
          const sets = changed.map(({ name, type }) => `${name} = t.${name} ${other.get(type) ?? ''}`).join(', ');
          expect((await coder.query(`update ${table} as t set ${sets} from saved as s where ${keys}`)).rowCount).toBe(1);
          await same();
        }
        await coder.query('drop table saved; reset session_replication_role');
      });
    });

    test('a long value that an update leaves as it is stays, also with another key', async () => {
      const long = "(select string_agg(md5(n::text), '') from generate_series(1, 3000) as n)";
      const { rows } = await coder.query<{ id: string }>(
        `update provisioner_jobs set error = ${long} where id = (select id from provisioner_jobs order by id limit 1) returning id`,
      );
      await coder.query('update provisioner_jobs set updated_at = now() where id = $1', [rows[0]?.id]);
      await same();
      await coder.query('set session_replication_role = replica');
      await coder.query('update provisioner_jobs set id = gen_random_uuid() where id = $1', [rows[0]?.id]);
      await coder.query(
        'update workspaces set id = gen_random_uuid() where id not in (select workspace_id from workspace_app_statuses)',
      );
      await coder.query('reset session_replication_role');
      await same();
      expect(await stored('select 1 from `provisioner_jobs` as `j` where length(`j`.`error`) = 96000')).toHaveLength(1);
    });

    test('a transaction is applied whole, however large it is', async () => {
      const count = async (): Promise<number> =>
        Number(((await stored('select count(*) as `n` from `workspace_app_statuses`')) as { n: number }[])[0]?.n);
      const before = await count();
      const applied = attempt.events.length;
      await coder.query(
        `insert into workspace_app_statuses (id, created_at, agent_id, app_id, workspace_id, state, message, uri)
         select gen_random_uuid(), now(), agent_id, app_id, workspace_id, state, message, uri
         from (select * from workspace_app_statuses limit 1) as s, generate_series(1, 5000)`,
      );
      const seen = new Set<number>();
      await expect
        .poll(
          async () => {
            seen.add(await count());
            return seen.has(before + 5000);
          },
          { timeout: 30_000, interval: 5 },
        )
        .toBe(true);
      expect([...seen].filter((n) => n !== before && n !== before + 5000)).toEqual([]);
      await expect.poll(() => attempt.events.slice(applied), within).toContain('applied 1 5000');
    });

    test('what is not replicated of the three tables without primary key follows, and Coder may do it', async () => {
      const two = async (table: string) => (await coder.query<Record<string, string>>(`select * from ${table} limit 2`)).rows;
      const members = await two('group_members');
      const roles = await two('custom_roles');
      const { rows: builds } = await coder.query<Record<string, string>>(
        'select distinct workspace_build_id as id from workspace_build_parameters limit 2',
      );
      expect((await coder.query('delete from group_members where user_id = $1', [members?.[0]?.['user_id']])).rowCount).not.toBe(
        0,
      );
      await coder.query("update custom_roles set display_name = 'Changed' where id = $1", [roles?.[0]?.['id']]);
      await coder.query(
        'insert into group_members (user_id, group_id) select u.id, g.id from users u, groups g on conflict do nothing',
      );
      await same();
      await coder.query('delete from custom_roles where id = $1', [roles?.[0]?.['id']]);
      await same();
      // By a foreign key.
      await coder.query('delete from workspace_builds where id = $1', [builds?.[0]?.['id']]);
      await same();
      // Coder itself never does this.
      await coder.query("update workspace_build_parameters set value = 'changed by hand'");
      await coder.query('delete from workspace_build_parameters where workspace_build_id = $1', [builds?.[1]?.['id']]);
      await same();
    });

    test('while nothing of ours is written, the slot goes on', async () => {
      await coder.query('create table elsewhere (n int)');
      const { rows } = await coder.query<{ at: string }>('select pg_current_wal_lsn() as at');
      await coder.query('insert into elsewhere select generate_series(1, 1000)');
      await expect
        .poll(async () => {
          const { rows: found } = await coder.query<{ on: boolean }>(
            'select confirmed_flush_lsn > $1 as on from pg_replication_slots where slot_name = $2',
            [rows[0]?.at, coderSlot],
          );
          return found[0]?.on;
        }, within)
        .toBe(true);
      const confirmed = await stored('select `s`.`position` from `sync_state` as `s`');
      expect(confirmed).not.toEqual([{ position: 0 }]);
    });

    test('PostgreSQL can be shut down in order, and followed again', async () => {
      await server.shutDown();
      await expect(attempt.ended).rejects.toThrow(/terminat|ended|ECONNRESET|EPIPE/);
      await server.restart();
      coder = await server.connect();
      await coder.query('update workspaces set favorite = not favorite');
      attempt = startReplicating(url, target.address, coderSlot);
      await attempt.until('applied');
      expect(attempt.events[0]).toBe('following');
      await same();
    });

    test.each(childrenFirst)('%s is emptied', async (table) => {
      await coder.query(`truncate ${table} cascade`);
      await same();
      expect(await stored('select 1 from ??', table)).toEqual([]);
    });

    test('the slot and the publications can be removed again', async () => {
      const names = replicationNames(coderSlot);
      const ours = await openCoderDatabase(url);
      await expect(dropReplication(ours, names)).rejects.toThrow(/the slot tasks_service is read by process \d+/);
      await attempt.stop();
      await expect
        .poll(() => dropReplication(ours, names).catch((error: Error) => error.message), within)
        .toEqual({
          removed: ['slot tasks_service'],
          left: ['drop publication "tasks_service";', 'drop publication "tasks_service_inserts";'],
        });
      await ours.close();
      const theirs = await openCoderDatabase(server.url());
      expect(await dropReplication(theirs, names)).toEqual({
        removed: ['publication tasks_service', 'publication tasks_service_inserts'],
        left: [],
      });
      expect(await dropReplication(theirs, names)).toEqual({ removed: [], left: [] });
      await theirs.close();
    });
  });
});
