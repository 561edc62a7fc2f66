import { randomBytes } from 'node:crypto';
import type { Client } from 'pg';
import { afterAll, beforeAll, beforeEach, expect, inject, test } from 'vitest';
import { FencedError } from '../../src/db/active-process.ts';
import { closeDatabase, type Database } from '../../src/db/connection.ts';
import { grantsFor } from '../../src/schema/grants.ts';
import { changeKinds } from '../../src/schema/projected-tables.ts';
import { type CoderDatabase, openCoderDatabase } from '../../src/sync/coder-database.ts';
import { type CopyOptions, type CopyResult, copyTables } from '../../src/sync/copy.ts';
import { type CopyScope, readSourceShape } from '../../src/sync/source-version.ts';
import { openSyncDatabase } from '../../src/sync/sync.ts';
import { readSyncState, takeOverSync } from '../../src/sync/sync-state.ts';
import { syncedTables } from '../../src/sync/synced-tables.ts';
import { verifyCopy } from '../../src/sync/verify-copy.ts';
import { coderRows, loadCoderRows } from '../support/coder-rows.ts';
import { type CoderVersion, coderColumns, createCoderSchema } from '../support/coder-schema.ts';
import { startCoderWriters } from '../support/coder-writer.ts';
import { createTestDatabase, describeOnEngines, type TestDatabase } from '../support/database.ts';
import { insertUser } from '../support/people.ts';
import { describeOnPostgres, type PostgresServer, startPostgres } from '../support/postgres.ts';

/** A Coder and an empty database to copy it to. */
interface Pair extends AsyncDisposable {
  /** Writes as Coder would. */
  readonly client: Client;
  readonly coder: CoderDatabase;
  readonly database: Database;
  /** What could not be kept as it is: `table.column why`. */
  readonly adjusted: Set<string>;
  copy(options?: Partial<CopyOptions> & CopyScope): Promise<CopyResult>;
  verify(scope?: CopyScope): Promise<string[]>;
}

// Each version of PostgreSQL with one of the engines: neither knows of the other.
for (const [postgres, kind] of [
  ['15', 'mariadb'],
  ['18', 'mysql'],
] as const) {
  if (inject('engines')[kind] === undefined) continue; // not part of this run
  await describeOnPostgres("a copy of Coder's tables", postgres, () => {
    let server: PostgresServer;
    let databases = 0;
    beforeAll(async () => {
      server = await startPostgres({ version: postgres });
    }, 60_000);
    afterAll(() => server.stop());

    describeOnEngines(
      'to',
      (engine) => {
        let target: TestDatabase;
        beforeEach(async () => {
          target = await createTestDatabase(engine);
          return () => target.drop();
        });

        async function open(version: CoderVersion, rows = true, address = target.address): Promise<Pair> {
          const name = `coder_${databases++}`;
          const operator = await server.connect();
          await operator.query(`create database ${name}`);
          await operator.end();
          const client = await server.connect(name);
          await createCoderSchema(client, version);
          if (rows) await loadCoderRows(client, version);
          const coder = await openCoderDatabase(server.url(name));
          const database = openSyncDatabase(address);
          const adjusted = new Set<string>();
          const shapeOf = (scope: CopyScope) =>
            readSourceShape(coder, scope, (table, column, why) => adjusted.add(`${table}.${column} ${why}`));
          return {
            client,
            coder,
            database,
            adjusted,
            async copy(options = {}) {
              const { epoch } = await takeOverSync(database);
              const shape = await shapeOf(options);
              return copyTables({ coder, database, epoch, shape, end: { mode: 'once' }, ...options });
            },
            async verify(scope = {}) {
              const lines: string[] = [];
              const shape = await shapeOf(scope);
              await verifyCopy({ coder, database: target.database, shape, patienceMs: 0 }, (line) => lines.push(line));
              return lines;
            },
            async [Symbol.asyncDispose]() {
              await closeDatabase(database);
              await coder.close();
              await client.end();
            },
          };
        }

        const hex = (uuid: string | null | undefined): string => uuid?.replaceAll('-', '') ?? '';
        const notes = async (): Promise<string[]> =>
          (await target.database('workspace_changes').orderBy('seq').select('kind', 'ref')).map(
            (row: { kind: number; ref: Buffer }) => `${row.kind} ${row.ref.toString('hex')}`,
          );

        test.each(['seed', 'newest'] as const)('all that Coder wrote is there, %s', async (version) => {
          await using pair = await open(version);
          const tables = new Set(coderColumns(version).map(({ table }) => table));
          const expected = Object.fromEntries(
            syncedTables.map(({ name }) => [name, tables.has(name) ? coderRows(version, name).length : 0]),
          );
          const total = Object.values(expected).reduce((sum, count) => sum + count, 0);
          const progress: number[] = [];
          expect(await pair.copy({ onProgress: (rows, about) => progress.push(rows / about) })).toMatchObject({
            rows: total,
            inserted: total,
            updated: 0,
            deleted: 0,
          });
          expect(progress.at(-1)).toBe(1);
          const counts = await Promise.all(
            syncedTables.map(async ({ name }) => {
              const [row] = (await target.database(name).count({ count: '*' })) as { count: number }[];
              return [name, row?.count];
            }),
          );
          expect(Object.fromEntries(counts)).toEqual(expected);
          expect(await pair.verify()).toEqual([]);
          expect([...pair.adjusted]).toEqual([]);
          expect(await readSyncState(target.database)).toMatchObject({ phase: 'live', mode: 'once', error: null });
          // Each workspace or task once, and nothing else; those of one owner next to each other.
          const [source, kind] =
            version === 'seed' ? (['workspaces', changeKinds.workspace] as const) : (['tasks', changeKinds.task] as const);
          expect(await target.database('projector_state').select('task_source')).toEqual([{ task_source: source }]);
          const owners = new Map(coderRows(version, source).map((row) => [hex(row['id']), hex(row['owner_id'])]));
          const noted = await notes();
          expect(noted.toSorted()).toEqual([...owners.keys()].map((id) => `${kind} ${id}`).toSorted());
          const inOrder = noted.map((note) => owners.get(note.split(' ')[1] ?? '') ?? '');
          expect(inOrder).toEqual(inOrder.toSorted((a, b) => (a < b ? -1 : 1)));
          expect(await pair.copy()).toMatchObject({ rows: total, inserted: 0, updated: 0, deleted: 0 });
        });

        test('where the tasks come from another table than before, the projector is asked to note them', async () => {
          await using before = await open('seed');
          await before.copy();
          await using upgraded = await open('newest');
          await upgraded.copy();
          expect(await notes()).toContain(`${changeKinds.task} ${'0'.repeat(32)}`);
          expect(await target.database('projector_state').select('task_source')).toEqual([{ task_source: 'workspaces' }]);
        });

        test('what has changed is changed, and noted; the rest is left alone', async () => {
          await using pair = await open('seed');
          await pair.copy();
          await target.database('workspace_changes').delete();
          const [renamed, deleted] = coderRows('seed', 'workspaces').map(({ id }) => id ?? '');
          const writes = [
            `update workspaces set name = name || '-2' where id = '${renamed}'`,
            `delete from workspace_app_statuses where workspace_id = '${deleted}'`,
            `update workspace_builds set ai_task_sidebar_app_id = null, has_ai_task = false where workspace_id = '${deleted}'`,
            `delete from workspaces where id = '${deleted}'`,
            "insert into users (id, email, username, hashed_password, created_at, updated_at) values (gen_random_uuid(), 'x@x', 'late', '\\x', now(), now())",
            'delete from group_members where ctid = (select ctid from group_members limit 1)',
            "update custom_roles set display_name = 'another'",
          ];
          for (const sql of writes) await pair.client.query(sql);
          expect((await pair.verify()).length).toBeGreaterThan(0);
          const result = await pair.copy();
          expect(result.inserted).toBe(1);
          expect(result.updated).toBeGreaterThan(0);
          expect(result.deleted).toBeGreaterThan(2);
          expect(await pair.verify()).toEqual([]);
          const noted = await notes();
          expect(noted).toContain(`1 ${renamed?.replaceAll('-', '')}`);
          expect(noted).toContain(`1 ${deleted?.replaceAll('-', '')}`);
        });

        test('every table can lose all of its rows, and get them back', async () => {
          await using pair = await open('newest');
          await pair.copy();
          await pair.client.query(`truncate ${syncedTables.map(({ name }) => name).join(', ')}`);
          await pair.copy();
          expect(await pair.verify()).toEqual([]);
          await loadCoderRows(pair.client, 'newest');
          await pair.copy();
          expect(await pair.verify()).toEqual([]);
        });

        test('a copy that is interrupted shows nothing, and the next one completes it', async () => {
          await using pair = await open('seed');
          const stop = new AbortController();
          const copying = pair.copy({
            signal: stop.signal,
            onProgress: (rows) => {
              if (rows > 200) stop.abort(new Error('stopped'));
            },
          });
          await expect(copying).rejects.toThrow('stopped');
          expect(await target.database('users').first('id')).toBeDefined();
          expect(await target.database('workspaces').first('id')).toBeUndefined();
          expect(await target.database('workspace_changes').first('seq')).toBeUndefined();
          await pair.copy();
          expect(await pair.verify()).toEqual([]);
          expect((await notes()).length).toBe(coderRows('seed', 'workspaces').length);
        });

        test('a copy whose connection the server ends says so', async () => {
          await using pair = await open('seed');
          const locker = await target.database.transaction();
          // The copy's insert of the same user waits for the end of this one.
          const id = Buffer.from(hex(coderRows('seed', 'users')[0]?.['id']), 'hex');
          await locker('users')
            .where('id', await insertUser(locker, { username: 'another' }))
            .update({ id });
          try {
            const copied = pair.copy().then(
              () => 'copied',
              (error: unknown) => String(Object(error).code ?? error),
            );
            const waiting = async (): Promise<number | undefined> => {
              const [all] = (await target.database.raw('show processlist')) as [{ Id: number; Info: string | null }[]];
              return all.find(({ Info }) => Info?.includes('into `users`'))?.Id;
            };
            await expect.poll(waiting, { timeout: 30_000 }).toBeDefined();
            await target.database.raw('kill ?', [(await waiting()) ?? 0]);
            expect(await copied).toMatch(/^(PROTOCOL_CONNECTION_LOST|ECONNRESET|ER_CONNECTION_KILLED)$/);
          } finally {
            await locker.rollback();
          }
        });

        test('a process that another one has taken over from writes nothing more', async () => {
          await using pair = await open('seed');
          let taken = false;
          const copying = pair.copy({
            onProgress: () => {
              if (!taken) void takeOverSync(target.database);
              taken = true;
            },
          });
          await expect(copying).rejects.toThrow(FencedError);
          expect(await target.database('workspaces').first('id')).toBeUndefined();
        });

        test('while everybody writes, the copy is of one moment', async () => {
          await using pair = await open('seed');
          const writers = startCoderWriters({
            connect: () => server.connect(databaseOf(pair)),
            version: 'seed',
            writers: 3,
            seed: 14,
          });
          try {
            await pair.copy();
            for (const [child, column, parent] of [
              ['workspace_builds', 'job_id', 'provisioner_jobs'],
              ['workspace_resources', 'job_id', 'provisioner_jobs'],
              ['workspace_agents', 'resource_id', 'workspace_resources'],
              ['workspace_builds', 'workspace_id', 'workspaces'],
              ['workspaces', 'owner_id', 'users'],
            ] as const) {
              const orphans = target.database(child).whereNotIn(column, target.database(parent).select('id'));
              expect(await orphans.select('id'), child).toEqual([]);
            }
          } finally {
            await writers.stop();
          }
          expect(writers.done.committed).toBeGreaterThan(0);
          await pair.copy();
          expect(await pair.verify()).toEqual([]);
        });

        function databaseOf({ client }: Pair): string {
          return client.database ?? '';
        }

        test('what does not fit is kept as well as it can be, and told', async () => {
          await using pair = await open('seed');
          const [workspace] = coderRows('seed', 'workspaces');
          const build = coderRows('seed', 'workspace_builds').find(({ workspace_id: id }) => id === workspace?.['id']);
          const key = coderRows('seed', 'api_keys')[0]?.['id'] ?? '';
          const q = (sql: string, values: readonly unknown[] = []) => pair.client.query(sql, [...values]);
          await q('update provisioner_jobs set error = $1 where id = $2', ['é'.repeat(200_000), build?.['job_id']]);
          const names = [
            'Region',
            'region',
            'region ',
            'region  ',
            'r'.repeat(900),
            `${'r'.repeat(900)}s`,
            'ß',
            'ss',
            'é',
            'e',
            '🦊',
          ];
          await q('delete from workspace_build_parameters where workspace_build_id = $1', [build?.['id']]);
          for (const name of names) {
            await q('insert into workspace_build_parameters values ($1, $2, $3)', [build?.['id'], name, name]);
          }
          await q("update workspaces set last_used_at = 'infinity', dormant_at = '-infinity' where id = $1", [workspace?.['id']]);
          await q(
            "update api_keys set expires_at = '12026-01-01', lifetime_seconds = 9223372036854775807, last_used = '0001-01-01' where id = $1",
            [key],
          );
          await q("update users set last_seen_at = '0044-03-15 BC', avatar_url = $1 where username = 'admin'", [
            'a'.repeat(70_000),
          ]);
          const [user] = coderRows('seed', 'users');
          await q(
            `insert into users (id, email, username, hashed_password, created_at, updated_at, deleted, rbac_roles)
           select gen_random_uuid(), 'old' || n || '@example.com', $1, '\\x', '0999-01-01', now(), true, array['a b', 'c,"d"', $2, 'NULL', '']
           from generate_series(1, 2) as n`,
            [user?.['username'], '\\'],
          );
          await q("alter type workspace_app_health add value 'sleepy'");
          await q("update workspace_apps set health = 'sleepy'");
          await q(
            `update workspaces set user_acl = ('{"' || gen_random_uuid() || '": {"permissions": ["read", "ssh"]}, "b": ' || repeat('[', 50) || repeat(']', 50) || '}')::jsonb where id = $1`,
            [workspace?.['id']],
          );
          await q(`update templates set user_acl = '{"z": ["read"], "a": [1.50, 1e3, null, "é\\u001f"]}'`);
          await pair.copy();
          expect(await pair.verify()).toEqual([]);
          expect([...pair.adjusted].sort()).toEqual([
            'api_keys.coder_expires_at out of range',
            'api_keys.expires_at out of range',
            'api_keys.lifetime_seconds out of range',
            'users.avatar_url cut',
            'users.last_seen_at out of range',
            'workspace_build_parameters.name cut',
            'workspaces.dormant_at out of range',
            'workspaces.last_used_at out of range',
            'workspaces.user_acl unreadable',
          ]);
          const parameters = (await target
            .database('workspace_build_parameters')
            .where('workspace_build_id', Buffer.from(build?.['id']?.replaceAll('-', '') ?? '', 'hex'))
            .select('name', 'value')) as { name: string; value: string }[];
          expect(parameters.map(({ value }) => value)).toEqual(expect.arrayContaining(names));
          expect(await target.database('provisioner_jobs').whereRaw('char_length(error) = 200000').select('job_status')).toEqual([
            { job_status: 'failed' },
          ]);
          expect(
            await target.database('api_keys').where('id', key).select('expires_at', 'lifetime_seconds', 'last_used'),
          ).toEqual([
            {
              expires_at: '9999-12-31 23:59:59.999999',
              lifetime_seconds: 63_072_000_000,
              last_used: '0001-01-01 00:00:00.000000',
            },
          ]);
          expect(await target.database('workspace_apps').distinct('health')).toEqual([{ health: 'sleepy' }]);
          expect(
            await target.database('workspaces').where('last_used_at', '9999-12-31 23:59:59.999999').select('dormant_at'),
          ).toEqual([{ dormant_at: '0001-01-01 00:00:00.000000' }]);
        });

        test('words of enums that a newer Coder has added are kept whole, however long', async () => {
          await using pair = await open('newest');
          // select a.attrelid::regclass, a.attname, a.atttypid::regtype from pg_attribute as a where …
          const { rows: enums } = await pair.client.query<{ table: string; column: string; type: string }>(
            `select c.relname as "table", a.attname as "column", t.typname as type from pg_attribute a
             join pg_class c on c.oid = a.attrelid and c.relkind = 'r' join pg_type t on t.oid = a.atttypid where t.typtype = 'e'`,
          );
          const word = 'w'.repeat(63); // the longest that PostgreSQL takes
          for (const type of new Set(enums.map((one) => one.type))) {
            await pair.client.query(`alter type ${type} add value '${word}'`);
          }
          const copied = enums.filter(
            ({ table, column }) => syncedTables.find(({ name }) => name === table)?.columns[column] !== undefined,
          );
          for (const { table, column } of copied) await pair.client.query(`update ${table} set ${column} = '${word}'`);
          expect(new Set(copied.map(({ column }) => column))).toEqual(
            new Set(['status', 'transition', 'lifecycle_state', 'health', 'state', 'login_type']),
          );
          await pair.copy();
          expect([...pair.adjusted]).toEqual([]);
          for (const { table, column } of copied) {
            expect(await target.database(table).distinct(`${column} as word`), `${table}.${column}`).toEqual([{ word }]);
          }
        });

        test('what we note of a token stays, until Coder moves it; tokens made here stay; without sessions none is touched', async () => {
          await using pair = await open('seed');
          const [one, two, three] = coderRows('seed', 'api_keys').map(({ id }) => id ?? '');
          const owner = coderRows('seed', 'api_keys')[0]?.['user_id']?.replaceAll('-', '') ?? '';
          await pair.client.query("update users set status = 'dormant'");
          await pair.client.query(
            "update api_keys set expires_at = '2030-01-01', last_used = '2029-01-01', updated_at = '2029-01-01'",
          );
          await pair.copy();
          const { database } = target;
          // As `noteUse` does, and `keys create`.
          await database('api_keys').update({ last_used: '2029-06-01', updated_at: '2029-06-01', expires_at: '2030-06-01' });
          await database('users').update({ status: 'active', last_seen_at: '2029-06-01' });
          await database('api_keys').insert({
            id: 'ours',
            hashed_secret: Buffer.alloc(32),
            user_id: Buffer.from(owner, 'hex'),
            last_used: '2029-01-01',
            expires_at: '2031-01-01',
            created_at: '2029-01-01',
            updated_at: '2029-01-01',
          });
          expect(await pair.verify()).toEqual([]);
          expect(await pair.copy()).toMatchObject({ inserted: 0, updated: 0, deleted: 0 });
          await pair.client.query("update api_keys set expires_at = '2029-05-01' where id = $1", [one]); // ended
          await pair.client.query("update api_keys set expires_at = '2030-02-01', last_used = '2029-02-01' where id = $1", [two]);
          await pair.client.query("update api_keys set expires_at = '2031-02-01', last_used = '2029-07-01' where id = $1", [
            three,
          ]);
          await pair.client.query("update users set status = 'suspended' where username = 'admin'");
          await pair.client.query("update users set name = 'another' where username <> 'admin'");
          await pair.copy();
          expect(await pair.verify()).toEqual([]);
          const keys = await database('api_keys')
            .whereIn('id', [one ?? '', two ?? '', three ?? '', 'ours'])
            .select('id', 'expires_at', 'last_used');
          const at = (date: string) => `${date} 00:00:00.000000`;
          expect(keys).toEqual(
            expect.arrayContaining([
              { id: one, expires_at: at('2029-05-01'), last_used: at('2029-06-01') },
              { id: two, expires_at: at('2030-06-01'), last_used: at('2029-06-01') },
              { id: three, expires_at: at('2031-02-01'), last_used: at('2029-07-01') },
              { id: 'ours', expires_at: at('2031-01-01'), last_used: at('2029-01-01') },
            ]),
          );
          expect((await database('users').distinct('status').orderBy('status')) as unknown).toEqual([
            { status: 'active' },
            { status: 'suspended' },
          ]);
          await pair.client.query('delete from api_keys');
          await pair.copy({ withoutSessions: true });
          expect((await database('api_keys').select('id')).length).toBeGreaterThan(3);
          await pair.copy();
          expect(await database('api_keys').select('id')).toEqual([{ id: 'ours' }]);
        });

        test('what is not as in any Coder that is known is named in one line', async () => {
          await using pair = await open('seed');
          await pair.client.query('alter table users add column theme text');
          await expect(pair.copy()).rejects.toThrow('users.theme is a column that no known version of Coder has');
          await pair.copy({ ignoredColumns: ['users.theme'] });
          await pair.client.query('alter table users drop column theme, drop column rbac_roles');
          await expect(pair.copy()).rejects.toThrow('users.rbac_roles is missing');
          await pair.client.query('alter table groups rename to teams');
          await expect(pair.copy()).rejects.toThrow(/users.rbac_roles is missing|no table groups/);
        });

        test('the account that migrate grants makes for it can make a first copy, and a later one', async () => {
          const account = { user: `sync_${randomBytes(4).toString('hex')}`, password: 'copies-only' };
          const { database, address } = target;
          await database.raw(`create user '${account.user}'@'%' identified by '${account.password}'`);
          try {
            for (const statement of grantsFor('sync', address.database, `'${account.user}'@'%'`)) await database.raw(statement);
            await using pair = await open('newest', true, { ...address, ...account });
            expect(await pair.copy()).toMatchObject({ updated: 0, deleted: 0 });
            await pair.client.query("update workspaces set name = name || '-2'");
            expect(await pair.copy()).toMatchObject({ inserted: 0, deleted: 0 });
            expect(await pair.verify()).toEqual([]);
          } finally {
            await database.raw(`drop user '${account.user}'@'%'`);
          }
        });

        test('a reader needs SELECT on what is read, and no more', async () => {
          await using pair = await open('newest');
          const role = `reader_${databases}`;
          const database = databaseOf(pair);
          await pair.client.query(`create role ${role} login password 'x'`);
          const url = server.url(database, { user: role, password: 'x' });
          const reader = await openCoderDatabase(url);
          try {
            await expect(readSourceShape(reader)).rejects.toThrow('users.id may not be read: grant SELECT on it');
            const { plans } = await readSourceShape(pair.coder);
            for (const { table, sources } of plans) {
              await pair.client.query(
                `grant select (${sources.map((name) => `"${name}"`).join(', ')}) on ${table.name} to ${role}`,
              );
            }
            await pair.copy({ coder: reader });
            await expect(reader.rows('select hashed_password from users')).rejects.toThrow('permission denied');
            expect(await pair.verify()).toEqual([]);
          } finally {
            await reader.close();
            await pair.client.query(`drop owned by ${role}`);
            await pair.client.query(`drop role ${role}`);
          }
        });

        test('what runs on a connection that was lost before it is told why', async () => {
          await using pair = await open('newest', false);
          const [[pid] = []] = await pair.coder.rows('select pg_backend_pid()');
          await pair.client.query('select pg_terminate_backend($1)', [pid]);
          // The end arrives while nothing runs, or is what the statement hears.
          await expect
            .poll(() => pair.client.query('select from pg_stat_activity where pid = $1', [pid]))
            .toMatchObject({ rowCount: 0 });
          await expect(pair.coder.inSnapshot(async () => {})).rejects.toThrow(
            'terminating connection due to administrator command',
          );
        });
      },
      [kind],
    );
  });
}

test('a database that cannot be reached is said in one line, without the password', async () => {
  const error: unknown = await openCoderDatabase('postgres://reader:geheim@127.0.0.1:1/coder').catch((error: unknown) => error);
  expect(String(error)).toMatch(/^SyncError: Coder's database cannot be reached: .*ECONNREFUSED/);
  expect(String(error)).not.toMatch(/geheim|\n/);
});
