import { randomBytes } from 'node:crypto';
import { readdirSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path, { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeAll, expect, inject, test } from 'vitest';
import type { DatabaseAddress } from '../../src/config.ts';
import { ActiveLease } from '../../src/db/active-process.ts';
import { closeDatabase, type Database, openDatabase } from '../../src/db/connection.ts';
import { MigrationError } from '../../src/schema/migration-error.ts';
import { migrateDown, migrateUp, migrationStatus, requireNewestSchema } from '../../src/schema/migrations.ts';
import { dropTriggers, missingTriggers, triggerNames } from '../../src/schema/triggers.ts';
import { startScript } from '../support/child-script.ts';
import { createTestDatabase, describeOnEngines, type TestDatabase } from '../support/database.ts';
import { isDistributed } from '../support/distributed-settings.ts';
import { startEngineServer } from '../support/engines.ts';
import { insertWorkspace } from '../support/source-writer.ts';
import { aTask, insertTasks, newId } from '../support/tasks.ts';

const migrations = readdirSync(path.resolve(import.meta.dirname, '../../migrations'))
  .map((file) => path.parse(file).name)
  .toSorted();

/** Everything that migrations make, as text: tables with their columns and indexes, and triggers. */
async function schemaOf(database: Database): Promise<string[]> {
  const [tables] = (await database.raw(
    'select `t`.`table_name` as `name` from `information_schema`.`tables` as `t` where `t`.`table_schema` = database() order by 1',
  )) as [{ name: string }[]];
  const created: string[] = [];
  for (const { name } of tables) {
    const [[row]] = (await database.raw('show create table ??', [name])) as [{ 'Create Table': string }[]];
    created.push((row?.['Create Table'] ?? '').replace(/ AUTO_INCREMENT=\d+/, ''));
  }
  const [triggers] = (await database.raw(
    'select `t`.`trigger_name` as `name`, `t`.`action_statement` as `does` from `information_schema`.`triggers` as `t` ' +
      'where `t`.`trigger_schema` = database() order by 1',
  )) as [{ name: string; does: string }[]];
  return [...created, ...triggers.map(({ name, does }) => `${name}: ${does}`)];
}

async function noted(database: Database): Promise<string[]> {
  const [rows] = (await database.raw(
    'select `c`.`kind`, hex(`c`.`ref`) as `ref` from `workspace_changes` as `c` order by `c`.`seq`',
  )) as [{ kind: number; ref: string }[]];
  return rows.map(({ kind, ref }) => `${kind} ${ref.toLowerCase()}`);
}

describeOnEngines('migrations', (engine) => {
  let test_: TestDatabase;
  let database: Database;
  let reference: string[];
  const empty = async () => {
    test_ = await createTestDatabase(engine, { migrate: false });
    database = test_.database;
  };
  beforeAll(async () => {
    await empty();
    await migrateUp(database, { triggers: !isDistributed });
    reference = await schemaOf(database);
    await test_.drop();
  });
  afterEach(() => test_.drop());

  test('up, again, down one by one, up, all down, up: always the same schema', async () => {
    await empty();
    expect(await migrateUp(database, { triggers: !isDistributed })).toEqual(migrations);
    expect(await schemaOf(database)).toEqual(reference);
    expect(await migrateUp(database, { triggers: !isDistributed })).toEqual([]);
    for (let down = 1; down < migrations.length; down++) {
      expect(await migrateDown(database)).toEqual(migrations.slice(-down).slice(0, 1));
      expect((await schemaOf(database)).join()).not.toMatch(/tasks_note_/);
    }
    expect((await schemaOf(database)).join()).not.toMatch(/workspace_tasks/);
    expect(await migrateUp(database, { triggers: !isDistributed })).toEqual(migrations.slice(1));
    expect(await schemaOf(database)).toEqual(reference);
    expect(await migrateDown(database, { all: true })).toEqual(migrations.toReversed());
    expect(await schemaOf(database)).toHaveLength(3); // knex's own tables, and the leases
    expect(await migrateDown(database)).toEqual([]);
    await migrateUp(database, { triggers: !isDistributed });
    expect(await schemaOf(database)).toEqual(reference);
  });

  test('writers can write after a step down', async () => {
    await empty();
    await migrateUp(database, { triggers: !isDistributed });
    await migrateDown(database);
    await insertWorkspace(database);
  });

  test('unread columns have defaults, which a step down takes away and leaves the rows', async () => {
    await empty();
    await migrateUp(database, { triggers: !isDistributed });
    const event = (seq: number) => database('task_events').insert({ seq, task_id: newId(), kind: 2 });
    const task = () => {
      const { workspace_id: _, ...row } = aTask({ ownerId: newId(), organizationId: newId() }); // which is newer
      return insertTasks(database, [row]);
    };
    const unread = async () => [
      await database('workspace_tasks').select('job_id'),
      await database('task_events').select('acl_changed'),
    ];
    await task();
    await event(1);
    const rows = [[{ job_id: Buffer.alloc(16) }], [{ acl_changed: 0 }]];
    expect(await unread()).toEqual(rows);
    for (let gone = ''; gone !== '20261130000001_give_unread_columns_defaults'; ) [gone = ''] = await migrateDown(database);
    expect(await unread()).toEqual(rows);
    await expect(task()).rejects.toMatchObject({ code: 'ER_NO_DEFAULT_FOR_FIELD' });
    await expect(event(2)).rejects.toMatchObject({ code: 'ER_NO_DEFAULT_FOR_FIELD' });
    await migrateUp(database, { triggers: !isDistributed });
    expect(await schemaOf(database)).toEqual(reference);
    expect(await unread()).toEqual(rows);
  });

  test('status says what is applied and when, and changes nothing', async () => {
    await empty();
    expect(await migrationStatus(database)).toEqual(migrations.map((name) => ({ name })));
    expect(await schemaOf(database)).toEqual([]);
    await migrateUp(database, { triggers: !isDistributed });
    const [first] = await migrationStatus(database);
    expect(first?.appliedAt).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/);
    expect(Math.abs(Date.parse(first?.appliedAt ?? '') - Date.now())).toBeLessThan(60_000);
  });

  test('a schema newer than the program is refused in one line, and left alone', async () => {
    await empty();
    await migrateUp(database, { triggers: !isDistributed });
    await database('knex_migrations').insert({ name: '20991231000000_from_the_future', batch: 9, migration_time: '2099-12-31' });
    for (const migrate of [() => migrateUp(database, { triggers: !isDistributed }), () => migrateDown(database)]) {
      const error = await migrate().then(
        () => undefined,
        (thrown: unknown) => thrown,
      );
      expect(error).toBeInstanceOf(MigrationError);
      expect((error as Error).message).toMatch(/^[^\n]*newer than this program[^\n]*20991231000000_from_the_future[^\n]*$/);
    }
    expect(await schemaOf(database)).toEqual(reference);
    expect((await migrationStatus(database)).map(({ name }) => name)).toEqual([...migrations, '20991231000000_from_the_future']);
  });

  test('one that is newer by compatible migrations is served, left alone, and not taken back', async () => {
    await empty();
    await migrateUp(database, { triggers: !isDistributed });
    const [setting] = await database('service_settings').where('name', 'compatible_migrations').select('value');
    expect(JSON.parse(String(setting?.value))).toContain('20261205000001_keep_migrations_apart');
    // As the program after this one leaves it.
    const future = ['20991231000000_from_the_future', '20991231000001_and_another'];
    for (const name of future) await database('knex_migrations').insert({ name, batch: 9, migration_time: '2099-12-31' });
    await database('service_settings')
      .where('name', 'compatible_migrations')
      .update({ value: JSON.stringify(future) });
    await requireNewestSchema(database);
    expect(await migrateUp(database, { triggers: !isDistributed })).toEqual([]);
    await expect(migrateDown(database)).rejects.toThrow('newer than this program');
    expect(await schemaOf(database)).toEqual(reference);
    // One that is not among them is one too many.
    await database('service_settings')
      .where('name', 'compatible_migrations')
      .update({ value: JSON.stringify(future.slice(1)) });
    await expect(requireNewestSchema(database)).rejects.toThrow(/does not know 20991231000000_from_the_future: use/);
  });

  test('several processes at once: one works, the others find nothing to do', async () => {
    await empty();
    const children = [1, 2, 3].map(() => startScript('migrate', test_.address));
    expect(await Promise.all(children.map(({ ended }) => ended))).toEqual([0, 0, 0]);
    const applied = children.map(({ lines }) => lines.at(-1) ?? '').sort();
    expect(applied).toEqual(['applied ', 'applied ', `applied ${migrations.join(' ')}`]);
    expect(await schemaOf(database)).toEqual(reference);
  });

  test('a process killed in the middle blocks nobody, and its work is finished by the next', async () => {
    await empty();
    let interrupted = 0;
    for (const milliseconds of [30, 90, 160, 260]) {
      const child = startScript('migrate', test_.address);
      await child.line('begin');
      await sleep(milliseconds);
      await child.kill();
      await database('leases')
        .update({ holder: null })
        .catch(() => {}); // as if it had run out; that table is the last of those that come before the migrations
      if (!child.lines.some((line) => line.startsWith('applied'))) interrupted += 1;
    }
    expect(interrupted).toBeGreaterThan(0);
    await migrateUp(database, { triggers: !isDistributed });
    expect(await schemaOf(database)).toEqual(reference);
    const [settings] = await database('service_settings').where('name', 'page_token_key').count({ count: '*' });
    expect(settings).toEqual({ count: 1 });
  });

  test('a ledger that two processes wrote has each name once afterwards', async () => {
    await empty();
    await migrateUp(database, { triggers: !isDistributed });
    const unique = '20261205000001_keep_migrations_apart';
    for (let gone = ''; gone !== unique; ) [gone = ''] = await migrateDown(database);
    await database.raw('alter table `knex_migrations` drop key `name`');
    const rows = await database('knex_migrations').select('name', 'batch', 'migration_time');
    await database('knex_migrations').insert(rows);
    expect(await migrateUp(database, { triggers: !isDistributed })).toEqual(migrations.slice(migrations.indexOf(unique)));
    expect((await database('knex_migrations').orderBy('id').select('name')).map(({ name }) => name)).toEqual(migrations);
    expect((await schemaOf(database)).join('\n')).toContain('UNIQUE KEY `name` (`name`)');
  });

  test('a process that migrates on another server keeps this one waiting, until it has ended', async () => {
    await empty();
    await migrateUp(database, { triggers: !isDistributed });
    await migrateDown(database);
    const elsewhere = new ActiveLease(test_.address, 'migrate');
    expect(await elsewhere.take(database)).toBe(true);
    let isOver = false;
    const migrating = migrateUp(database, { triggers: !isDistributed }).finally(() => (isOver = true));
    await sleep(2000);
    expect(isOver).toBe(false);
    await elsewhere.release();
    expect(await migrating).toEqual(migrations.slice(-1));
  });

  test('another connection that holds the lock of knex does not matter', async () => {
    await empty();
    await migrateUp(database, { triggers: !isDistributed });
    await migrateDown(database);
    await database('knex_migrations_lock').update({ is_locked: 1 });
    expect(await migrateUp(database, { triggers: !isDistributed })).toEqual(migrations.slice(-1));
  });

  test('workspaces that were there before are noted, once', async () => {
    await empty();
    await migrateUp(database, { triggers: !isDistributed });
    await migrateDown(database);
    const ids = [await insertWorkspace(database), await insertWorkspace(database)];
    await migrateUp(database, { triggers: !isDistributed });
    expect(await noted(database)).toEqual(ids.map((id) => `1 ${id.toString('hex')}`).toSorted());
    await migrateUp(database, { triggers: !isDistributed });
    expect(await noted(database)).toHaveLength(2);
  });

  test('what was taken back and made again is noted again, without triggers, too', async () => {
    await empty();
    await migrateUp(database, { triggers: false });
    const id = await insertWorkspace(database);
    await migrateDown(database);
    await migrateUp(database, { triggers: false });
    expect(await noted(database)).toEqual([`1 ${id.toString('hex')}`]);
  });

  test.skipIf(isDistributed)('without triggers none is made; later they are, and what went by is noted', async () => {
    await empty();
    await migrateUp(database, { triggers: false });
    expect(await missingTriggers(database)).toEqual(triggerNames);
    const id = await insertWorkspace(database);
    expect(await noted(database)).toEqual([]);
    await migrateUp(database, { triggers: true });
    expect(await missingTriggers(database)).toEqual([]);
    expect(await noted(database)).toEqual([`1 ${id.toString('hex')}`]);
    await migrateUp(database, { triggers: false }); // leaves them
    expect(await missingTriggers(database)).toEqual([]);
  });

  test.skipIf(isDistributed)('one trigger that is missing is made, and one of another version goes', async () => {
    await empty();
    await migrateUp(database, { triggers: true });
    const id = await insertWorkspace(database);
    await database('workspace_changes').delete();
    const gone = triggerNames[4] ?? '';
    await database.raw('drop trigger ??', [gone]);
    const old = 'tasks_note_workspaces_update_01234567';
    const foreign = 'somebody_elses';
    for (const name of [old, foreign])
      await database.raw(`create trigger \`${name}\` after update on workspaces for each row set @x = 1`);
    expect(await missingTriggers(database)).toEqual([gone]);
    // One of another version notes as well: the version that made it may be serving still.
    const [, table, event] = /^tasks_note_(.*)_(insert|update|delete)_[0-9a-f]{8}$/.exec(gone) ?? [];
    const other = `tasks_note_${table}_${event}_89abcdef`;
    await database.raw(`create trigger \`${other}\` after ${event} on \`${table}\` for each row set @x = 1`);
    expect(await missingTriggers(database)).toEqual([]);
    await migrateUp(database, { triggers: true });
    const schema = (await schemaOf(database)).join('\n');
    expect(schema).not.toContain(old);
    expect(schema).not.toContain(other);
    expect(schema).toContain(foreign);
    expect(await missingTriggers(database)).toEqual([]);
    expect(await noted(database)).toEqual([`1 ${id.toString('hex')}`]);
  });

  test.skipIf(isDistributed)('a process that dies after making the triggers leaves the notes to the next', async () => {
    await empty();
    await migrateUp(database, { triggers: true });
    const id = await insertWorkspace(database);
    await database('workspace_changes').delete();
    await database('service_settings').where('name', 'workspaces_noted_for').delete();
    await migrateUp(database, { triggers: true });
    expect(await noted(database)).toEqual([`1 ${id.toString('hex')}`]);
  });

  test.skipIf(isDistributed)('dropping the triggers drops all of ours', async () => {
    await empty();
    await migrateUp(database, { triggers: true });
    await dropTriggers(database);
    expect(await missingTriggers(database)).toEqual(triggerNames);
  });

  test('there are no foreign keys: a cascade would fire no trigger', async () => {
    await empty();
    await migrateUp(database, { triggers: !isDistributed });
    const [constraints] = (await database.raw(
      'select * from `information_schema`.`referential_constraints` as `r` where `r`.`constraint_schema` = database()',
    )) as [unknown[]];
    expect(constraints).toEqual([]);
  });

  test('every table and text says its character set', async () => {
    await empty();
    await migrateUp(database, { triggers: !isDistributed });
    const [columns] = (await database.raw(
      'select `c`.`table_name` as `t`, `c`.`column_name` as `c`, `c`.`collation_name` as `collation` from `information_schema`.`columns` as `c` ' +
        "where `c`.`table_schema` = database() and `c`.`collation_name` is not null and `c`.`collation_name` <> 'utf8mb4_bin'",
    )) as [unknown[]];
    // Two names that differ in a trailing blank are two parameters.
    expect(columns).toEqual([
      {
        t: 'workspace_build_parameters',
        c: 'name',
        collation: engine === 'mysql' ? 'utf8mb4_0900_bin' : 'utf8mb4_nopad_bin',
      },
    ]);
  });
});

describeOnEngines('a server with a binary log', (engine) => {
  const cannotStartOne = process.env[`TEST_${engine.toUpperCase()}_URL`] !== undefined || inject('engines')[engine] === undefined;

  test.skipIf(cannotStartOne)('refuses triggers, and one that is read-only a migration; the error says what to do', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'tasks-binlog-'));
    const options = ['--log-bin=log', '--server-id=1', '--log-bin-trust-function-creators=OFF'];
    const server = await startEngineServer(engine, folder, options);
    try {
      const name = `test_${randomBytes(4).toString('hex')}`;
      const root = openDatabase({ ...server.address, database: '' }, { size: 1, statementTimeoutMs: 10_000 });
      await root.raw(`create database ${name} character set utf8mb4 collate utf8mb4_bin`);
      await root.raw("create user 'service'@'%' identified by 'secret'");
      await root.raw(`grant all on ${name}.* to 'service'@'%'`);
      await closeDatabase(root);
      const address: DatabaseAddress = { ...server.address, user: 'service', password: 'secret', database: name };
      const database = openDatabase(address, { size: 2, statementTimeoutMs: 10_000 });
      const error = await migrateUp(database, { triggers: true }).catch((thrown: unknown) => thrown);
      expect(error).toBeInstanceOf(MigrationError);
      expect((error as Error).message).toMatch(
        /^[^\n]*1419[^\n]*log_bin_trust_function_creators=1[^\n]*MIGRATE_TRIGGERS=false[^\n]*$/,
      );
      expect((await migrationStatus(database)).every(({ appliedAt }) => appliedAt !== undefined)).toBe(true);
      expect(await migrateUp(database, { triggers: false })).toEqual([]);

      // As a secondary: with nothing to do it writes nothing.
      const operator = openDatabase({ ...server.address, database: name }, { size: 1, statementTimeoutMs: 10_000 });
      await operator.raw('set global read_only = 1');
      expect(await migrateUp(database, { triggers: false })).toEqual([]);
      await operator('service_settings').where('name', 'compatible_migrations').delete();
      const refused = await migrateUp(database, { triggers: false }).catch((thrown: unknown) => thrown);
      expect(refused).toBeInstanceOf(MigrationError);
      expect((refused as Error).message).toMatch(
        /^this server takes no writes[^\n]*run "migrate up" on the server that takes them$/,
      );
      await operator.raw('set global read_only = 0');
      expect(await migrateUp(database, { triggers: false })).toEqual([]);
      await closeDatabase(operator);
      await closeDatabase(database);
    } finally {
      await server.stop();
      await rm(folder, { recursive: true, force: true });
    }
  });
});
