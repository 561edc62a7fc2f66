import { setTimeout as sleep } from 'node:timers/promises';
import type { Client } from 'pg';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { FencedError } from '../../src/db/active-process.ts';
import { startCoderWriters } from '../support/coder-writer.ts';
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

await describeOnPostgres('what can happen to a replication', '15', () => {
  let server: PostgresServer;
  let coder: Client;
  let url: string;
  beforeAll(async () => {
    ({ server, coder } = await startCoder('seed', { settings: ['max_slot_wal_keep_size=2MB', 'wal_keep_size=0'] }));
    await allowReplication(coder, coderSlot, coderReader);
    url = server.url('coder', coderReader);
  });
  afterAll(() => server.stop());

  describeOnOneEngine('into', (engine) => {
    let target: TestDatabase;
    let attempt: Attempt | undefined;
    beforeAll(async () => {
      target = await createTestDatabase(engine);
    });
    afterEach(async () => {
      await attempt?.stop().catch(() => {});
    });
    afterAll(() => target.drop());

    const start = (): Attempt => {
      attempt = startReplicating(url, target.address, coderSlot);
      return attempt;
    };
    const same = () => expect.poll(() => differences(url, target.address), within).toEqual([]);
    const isIdle = () =>
      expect
        .poll(async () => (await coder.query('select 1 from pg_replication_slots where active_pid is not null')).rowCount, within)
        .toBe(0);
    const workspaces = async (): Promise<number> =>
      Number((await target.database.raw<[{ n: number }[]]>('select count(*) as `n` from `workspaces`'))[0]?.[0]?.n);
    /** Starts again, and expects that everything is copied for a reason, while what is there stays. */
    const copiesAgain = async (why: RegExp | string): Promise<void> => {
      await isIdle();
      const before = await workspaces();
      expect(before).toBeGreaterThan(50);
      await coder.query("update workspaces set favorite = not favorite, name = name || 'x'");
      const next = start();
      let isOver = false;
      const seen = (async () => {
        const counts = new Set<number>();
        while (!isOver) counts.add(await workspaces());
        return [...counts];
      })();
      await next.until('following').finally(() => (isOver = true));
      expect(next.events[0]).toMatch(why);
      expect(await seen).toEqual([before]);
      await coder.query('update workspaces set favorite = not favorite');
      await same();
      await next.stop();
    };

    test('while others write, the copy and the changes meet without a gap', async () => {
      const writers = startCoderWriters({ connect: () => server.connect(), version: 'seed', writers: 3, seed: 14, pauseMs: 2 });
      await sleep(500);
      const first = start();
      await first.until('following');
      await sleep(500);
      await writers.stop();
      await same();
      expect(writers.done.committed).toBeGreaterThan(50);
    });

    test('another process that takes over fences the first one off', async () => {
      const first = start();
      await first.until('following');
      // It is refused by PostgreSQL, and has raised the epoch.
      const second = startReplicating(url, target.address, coderSlot);
      await expect(second.ended).rejects.toThrow(/slot "tasks_service" is active/);
      await coder.query('update workspaces set favorite = not favorite');
      await expect(first.ended).rejects.toThrow(FencedError);
      await isIdle();
      await start().until('following');
      expect(attempt?.events).toEqual(['following']);
      await same();
    });

    test('an idle one goes on when its connection to the database is lost', async () => {
      const first = start();
      await first.until('following');
      const [[ours]] = (await target.database.raw('select connection_id() as `id`')) as [[{ id: number }]];
      const [all] = (await target.database.raw('show processlist')) as [{ Id: number; db: string | null }[]];
      for (const { Id, db } of all) {
        if (db === target.address.database && Id !== ours.id) await target.database.raw('kill ?', [Id]).catch(() => {});
      }
      await coder.query('update workspaces set favorite = not favorite');
      await same();
      expect(first.events.filter((event) => event === 'following')).toHaveLength(1);
    });

    test('a slot that was lost is made anew', async () => {
      for (let i = 0; i < 6; i++) {
        await coder.query("select pg_logical_emit_message(false, 'test', repeat('x', 700000)), pg_switch_wal()");
      }
      await coder.query('checkpoint');
      const { rows } = await coder.query('select wal_status from pg_replication_slots');
      expect(rows).toEqual([{ wal_status: 'lost' }]);
      await copiesAgain('the slot tasks_service was lost: more was written than max_slot_wal_keep_size, 2MB, let it keep');
    });

    test('a slot that is missing is its operator’s to make', async () => {
      await isIdle();
      await coder.query('select pg_drop_replication_slot($1)', [coderSlot]);
      await expect(start().ended).rejects.toThrow(
        "Coder's PostgreSQL has no replication slot tasks_service: run select pg_create_logical_replication_slot('tasks_service', 'pgoutput')",
      );
      await coder.query(
        'insert into group_members (user_id, group_id) select u.id, g.id from users u, groups g on conflict do nothing',
      );
      await coder.query("select pg_create_logical_replication_slot($1, 'pgoutput')", [coderSlot]);
      await copiesAgain('the slot tasks_service has gone on without us, or is a new one');
    });

    test('a table that was taken out of the publication is missed, and copied when it is in again', async () => {
      const first = start();
      await first.until('following');
      await coder.query(`alter publication ${coderSlot} drop table workspaces`);
      await coder.query("update workspaces set name = name || '-unseen'");
      // It may have seen it already: the publications are looked at when the log goes on.
      await first.stop().catch(() => {});
      await isIdle();
      await expect(start().ended).rejects.toThrow(
        'the publication tasks_service lacks workspaces: run alter publication tasks_service add table workspaces',
      );
      await coder.query(`alter publication ${coderSlot} add table workspaces`);
      await copiesAgain('the publications of tasks_service were changed');
    });

    test('Coder is upgraded while it is followed', async () => {
      const first = start();
      await first.until('following');
      await coder.query(`begin;
        alter table api_keys add column scopes text[] not null default '{}', add column allow_list text[] not null default '{*}';
        update api_keys set scopes = array[scope::text];
        alter table api_keys drop column scope;
        commit`);
      await expect(first.ended).rejects.toThrow("Coder's table api_keys has got or lost the column scope");
      await copiesAgain("the last copy is not complete: Coder's table api_keys has got or lost the column scope");
      const [keys] = await target.database.raw<[{ scopes: unknown }[]]>('select `k`.`scopes` from `api_keys` as `k` limit 1');
      expect(JSON.stringify(keys)).toMatch(/all|application_connect/);
    });

    test('Coder is upgraded while nobody follows it', async () => {
      await target.database.raw("update `workspace_builds` set `ai_task_sidebar_app_id` = repeat('x', 16)");
      await coder.query('alter table workspace_builds drop column ai_task_sidebar_app_id');
      await copiesAgain('other columns are copied than before');
      const [builds] = await target.database.raw<[unknown[]]>(
        'select 1 from `workspace_builds` as `b` where `b`.`ai_task_sidebar_app_id` is not null',
      );
      expect(builds).toEqual([]);
    });

    test('a change of a row that is not in the copy makes it anew', async () => {
      const { rows } = await coder.query<{ id: string }>(
        "update provisioner_jobs set error = (select string_agg(md5(n::text), '') from generate_series(1, 3000) as n) returning id",
      );
      const first = start();
      await first.until('following');
      await same();
      await target.database.raw('delete from `provisioner_jobs`');
      await coder.query('update provisioner_jobs set updated_at = now() where id = $1', [rows[0]?.id]);
      await expect(first.ended).rejects.toThrow('a row of provisioner_jobs that Coder has changed is not in the copy');
      await copiesAgain('a row of provisioner_jobs that Coder has changed is not in the copy');
    });

    test('a column that had another type for a while makes the copy anew', async () => {
      const first = start();
      await first.until('following');
      await coder.query(`begin;
        alter table workspaces alter column favorite type text using case when favorite then 'yes' else 'no' end;
        update workspaces set name = name || '-retyped' where id = (select w.id from workspaces w limit 1);
        alter table workspaces alter column favorite type boolean using favorite = 'yes';
        commit`);
      await expect(first.ended).rejects.toThrow('workspaces.favorite: a value is no boolean');
      await copiesAgain('the last copy is not complete: workspaces.favorite: a value is no boolean');
    });

    test('a commit that others cannot see yet is not lost by a copy', async () => {
      const first = start();
      await first.until('following');
      // The commit is in the log, and is sent; it waits for a standby that there is not.
      await coder.query("alter system set synchronous_standby_names = 'nobody'");
      await coder.query('select pg_reload_conf()');
      const other = await server.connect();
      const applied = first.events.length;
      const committing = other.query(
        "update workspaces set name = name || '-late' where id = (select id from workspaces limit 1)",
      );
      await expect.poll(() => first.events.slice(applied), within).toContain('applied 1 1');
      await first.stop();
      await isIdle();
      await target.database.raw("update `sync_state` set `phase` = 'copying'");
      const next = start();
      await next.until('copy');
      await sleep(300);
      expect(next.events).toHaveLength(1);
      await coder.query("alter system set synchronous_standby_names = ''");
      await coder.query('select pg_reload_conf()');
      await committing;
      await other.end();
      await next.until('following');
      await same();
    });

    test('what PostgreSQL has forgotten to count is compared', async () => {
      const crash = async (): Promise<void> => {
        await server.crash();
        await server.restart();
        coder = await server.connect();
      };
      await isIdle();
      await crash(); // from here on it counts from 0
      const first = start();
      await first.until('following');
      await same();
      // It has compared them since it began anew.
      await expect
        .poll(async () => {
          const [[state] = []] = await target.database.raw<[{ unreplicated: string }[]]>(
            'select `s`.`unreplicated` from `sync_state` as `s`',
          );
          return state?.unreplicated;
        }, within)
        .toContain('"workspace_build_parameters":"0 0');
      await first.stop();
      await isIdle();
      await coder.query("update workspace_build_parameters set value = value || ' and more'");
      await crash();
      start();
      await same();
    });

    describe('what PostgreSQL must be like is said in one line', () => {
      const refusals: readonly { what: string; statement: string; undo: string; message: RegExp }[] = [
        {
          what: 'no right to replicate',
          statement: `alter role ${coderReader.user} noreplication`,
          undo: `alter role ${coderReader.user} replication`,
          message:
            /^Coder's PostgreSQL does not let the role replicate, see sync grants: (must be superuser or replication role|permission denied) to start/i,
        },
        {
          what: 'a publication that makes updates fail in Coder',
          statement: `alter publication ${coderSlot} add table group_members`,
          undo: `alter publication ${coderSlot} drop table group_members`,
          message:
            /^the publication tasks_service makes updates and deletes of group_members fail in Coder, .* drop table group_members$/,
        },
        {
          what: 'a publication without updates',
          statement: `alter publication ${coderSlot} set (publish = 'insert')`,
          undo: `alter publication ${coderSlot} set (publish = 'insert, update, delete, truncate')`,
          message: /^the publication tasks_service publishes only insert: run alter publication/,
        },
        {
          what: 'a publication of some columns',
          statement: `alter publication ${coderSlot} set table ${slotTables('users (id, username)')}`,
          undo: `alter publication ${coderSlot} set table ${slotTables('users')}`,
          message: /^the publication tasks_service must have all rows and columns of users/,
        },
        {
          what: 'no publication of inserts',
          statement: `drop publication ${coderSlot}_inserts`,
          undo: `create publication ${coderSlot}_inserts for table workspace_build_parameters with (publish = 'insert, truncate')`,
          message:
            /^Coder's PostgreSQL has no publication tasks_service_inserts: run what sync grants prints, or poll \(sync --poll, CODER_POLL_SECONDS\)$/,
        },
      ];
      test.each(refusals)('$what', async ({ statement, undo, message }) => {
        await isIdle();
        await coder.query(statement);
        await expect(start().ended).rejects.toThrow(message);
        await coder.query(undo);
      });
    });
  });
});

/** The tables of the first publication, with something else for that of users. */
function slotTables(users: string): string {
  return [
    users,
    'organizations, organization_members, groups, templates, template_versions, provisioner_jobs, workspace_resources',
    'workspace_agents, workspace_apps, workspace_builds, workspace_app_statuses, api_keys, workspaces',
  ].join(', ');
}
