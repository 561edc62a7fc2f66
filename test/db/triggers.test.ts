import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { Database } from '../../src/db/connection.ts';
import { formatUuid } from '../../src/db/uuid.ts';
import { createLog } from '../../src/platform/log.ts';
import { createProjector, type Projector } from '../../src/projection/projector.ts';
import { projectAll } from '../../src/projection/rebuild.ts';
import { describeInconsistency, verify } from '../../src/projection/verify.ts';
import { changeKinds, projectedTables } from '../../src/schema/projected-tables.ts';
import { readTaskSource } from '../../src/schema/task-source.ts';
import { createTestDatabase, describeOnEngines, type TestDatabase } from '../support/database.ts';
import { outboxIsEmpty } from '../support/projected-tables.ts';
import {
  insertOwnTask,
  insertRunningTask,
  insertSource,
  now,
  type SourceTaskIds,
  type SourceValues,
} from '../support/source-writer.ts';
import { newId } from '../support/tasks.ts';

/** The name of each table's row of a task, among its ids. */
const rowOf: Readonly<Record<string, keyof SourceTaskIds>> = {
  workspaces: 'workspace',
  workspace_builds: 'build',
  provisioner_jobs: 'job',
  workspace_resources: 'resource',
  workspace_agents: 'agent',
  workspace_apps: 'app',
  workspace_app_statuses: 'status',
};

/** Columns that the server computes: what is written is what they are made of. */
const computed: Readonly<Record<string, SourceValues>> = {
  'provisioner_jobs.job_status': { started_at: null, completed_at: null },
  'workspaces.name_lower': {},
};

describeOnEngines('triggers', (engine) => {
  let test_: TestDatabase;
  let database: Database;
  let task: SourceTaskIds;
  let own: Buffer;

  beforeAll(async () => {
    test_ = await createTestDatabase(engine);
    database = test_.database;
  });
  afterAll(() => test_.drop());
  beforeEach(async () => {
    task = await insertRunningTask(database);
    own = await insertOwnTask(database, task);
    await database('workspace_changes').delete();
  });

  /** What was noted since the last time, in words: the kind and whose id. */
  async function noted(names: Readonly<Record<string, Buffer>> = {}): Promise<string[]> {
    const [rows] = (await database.raw('select `c`.`kind`, `c`.`ref` from `workspace_changes` as `c`')) as [
      { kind: number; ref: Buffer }[],
    ];
    await database('workspace_changes').delete();
    const known = Object.entries({ ...task, own, ...names });
    return rows
      .map(({ kind, ref }) => {
        const word = Object.entries(changeKinds).find(([, value]) => value === kind)?.[0];
        return `${word} ${known.find(([, id]) => id.equals(ref))?.[0] ?? ref.toString('hex')}`;
      })
      .toSorted();
  }

  const where = (table: string) => {
    if (table === 'workspace_build_parameters') return database(table).where('workspace_build_id', task.build);
    if (table === 'task_workspace_apps') return database(table).where('task_id', own);
    return database(table).where('id', table === 'tasks' ? own : task[rowOf[table] ?? 'workspace']);
  };

  /** What the row of a table notes: its parent. */
  const parent: Readonly<Record<string, string>> = {
    workspaces: 'workspace workspace',
    workspace_builds: 'workspace workspace',
    workspace_build_parameters: 'build build',
    provisioner_jobs: 'job job',
    workspace_resources: 'job job',
    workspace_agents: 'resource resource',
    workspace_apps: 'agent agent',
    workspace_app_statuses: 'workspace workspace',
    tasks: 'task own',
    task_workspace_apps: 'task own',
  };

  /** Another value than the one that is there, of the same type. */
  async function another(table: string, column: string): Promise<SourceValues> {
    const special = computed[`${table}.${column}`];
    if (special !== undefined) return special;
    const [[type]] = (await database.raw(
      'select `c`.`data_type` as `data_type`, `c`.`is_nullable` as `nullable` from `information_schema`.`columns` as `c` ' +
        'where `c`.`table_schema` = database() and `c`.`table_name` = ? and `c`.`column_name` = ?',
      [table, column],
    )) as [{ data_type: string; nullable: string }[]];
    const [row] = (await where(table).select(column)) as Record<string, unknown>[];
    const present = row?.[column];
    const values: Readonly<Record<string, () => Buffer | string | number | null>> = {
      binary: newId,
      datetime: () => (type?.nullable === 'YES' && present !== null ? null : '2031-01-01 00:00:00.000000'),
      tinyint: () => (present === 1 ? 0 : 1),
      int: () => Number(present) + 1,
      varchar: () => `${String(present ?? '')}x`.slice(-8),
      text: () => `${String(present ?? '')}x`,
      mediumtext: () => `${String(present ?? '')}x`,
      json: () => '{"a": {"permissions": ["read"]}}',
      longtext: () => '{"a": {"permissions": ["read"]}}',
    };
    return { [column]: values[type?.data_type ?? '']?.() ?? null };
  }

  describe('each column of the list alone', () => {
    const columns = Object.entries(projectedTables).flatMap(([table, { columns: listed }]) =>
      Object.keys(listed).map((column): [string, string] => [table, column]),
    );
    test.each(columns)('%s.%s is noted', async (table, column) => {
      await where(table).update(await another(table, column));
      expect(await noted()).toContain(parent[table]);
    });
  });

  describe('any other column is no change', () => {
    const others: readonly [table: string, column: string][] = [
      ['workspaces', 'last_used_at'],
      ['workspace_builds', 'updated_at'],
      ['workspace_builds', 'has_external_agent'],
      ['provisioner_jobs', 'updated_at'],
      ['provisioner_jobs', 'created_at'],
      ['provisioner_jobs', 'organization_id'],
      ['workspace_resources', 'type'],
      ['workspace_resources', 'name'],
      ['workspace_resources', 'transition'],
      ['workspace_resources', 'created_at'],
      ['workspace_agents', 'first_connected_at'],
      ['workspace_agents', 'last_connected_at'],
      ['workspace_agents', 'disconnected_at'],
      ['workspace_agents', 'connection_timeout_seconds'],
      ['workspace_agents', 'name'],
      ['workspace_agents', 'created_at'],
      ['workspace_agents', 'updated_at'],
      ['workspace_apps', 'slug'],
      ['workspace_apps', 'display_name'],
      ['workspace_apps', 'created_at'],
      ['workspace_app_statuses', 'agent_id'],
      ['workspace_app_statuses', 'app_id'],
    ];

    test.each(others)('%s.%s', async (table, column) => {
      await where(table).update(await another(table, column));
      expect(await noted()).toEqual([]);
    });

    test('and each column of the tables is on one list or the other', async () => {
      const [all] = (await database.raw(
        'select `c`.`table_name` as `t`, `c`.`column_name` as `c` from `information_schema`.`columns` as `c` ' +
          'where `c`.`table_schema` = database() and `c`.`table_name` in (?)',
        [Object.keys(projectedTables)],
      )) as [{ t: string; c: string }[]];
      const known = new Set([
        ...Object.entries(projectedTables).flatMap(([table, { key, columns }]) =>
          [key, ...Object.keys(columns)].map((column) => `${table}.${column}`),
        ),
        ...others.map((pair) => pair.join('.')),
        'workspaces.name_lower', // follows name and deleted
        'provisioner_jobs.started_at', // by way of the status: of a job that has ended it does not matter
      ]);
      expect(all.map(({ t, c }) => `${t}.${c}`).filter((column) => !known.has(column))).toEqual([]);
    });

    test('a heartbeat of a job that runs', async () => {
      await database('provisioner_jobs').where('id', task.job).update({ completed_at: null });
      await noted();
      await database('provisioner_jobs').where('id', task.job).update({ updated_at: now() });
      expect(await noted()).toEqual([]);
    });
  });

  describe('what is a change', () => {
    test('a space at the end of a text', async () => {
      await database('workspaces')
        .where('id', task.workspace)
        .update({ name: database.raw("concat(`name`, ' ')") });
      expect(await noted()).toEqual(['workspace workspace']);
      await database('workspace_app_statuses').where('id', task.status).update({ message: 'On it ' });
      expect(await noted()).toEqual(['workspace workspace']);
      await database('workspace_build_parameters').where('workspace_build_id', task.build).update({ value: 'Do something ' });
      expect(await noted()).toEqual(['build build']);
    });

    test('an upper case letter', async () => {
      await database('workspaces')
        .where('id', task.workspace)
        .update({ name: database.raw('upper(`name`)') });
      expect(await noted()).toEqual(['workspace workspace']);
    });

    test("an error from NULL to '', though the status of the job stays", async () => {
      await database('provisioner_jobs').where('id', task.job).update({ error: '' });
      expect(await noted()).toEqual(['job job']);
      await database('provisioner_jobs').where('id', task.job).update({ error: null });
      expect(await noted()).toEqual(['job job']);
    });

    test('one error after another is not noted', async () => {
      await database('provisioner_jobs').where('id', task.job).update({ error: 'first' });
      await noted();
      await database('provisioner_jobs').where('id', task.job).update({ error: 'second' });
      expect(await noted()).toEqual([]);
    });

    test('the same value again is not noted, by update or by upsert', async () => {
      await database('workspaces')
        .where('id', task.workspace)
        .update({ name: database.raw('`name`'), dormant_at: null });
      await database.raw(
        "insert into workspace_app_statuses (id, workspace_id, agent_id, app_id, state, message, created_at) values (?, ?, ?, ?, 'x', 'x', utc_timestamp(6)) " +
          'on duplicate key update message = workspace_app_statuses.message',
        [task.status, task.workspace, task.agent, task.app],
      );
      expect(await noted()).toEqual([]);
    });

    test('replace is a delete and an insert', async () => {
      await database.raw("replace into workspace_apps (id, agent_id, slug, created_at) values (?, ?, 'x', utc_timestamp(6))", [
        task.app,
        task.agent,
      ]);
      expect(await noted()).toEqual(['agent agent', 'agent agent']);
    });

    test('what is rolled back is not noted', async () => {
      const transaction = await database.transaction();
      await transaction('workspaces').where('id', task.workspace).update({ favorite: 1 });
      await transaction.rollback();
      expect(await noted()).toEqual([]);
    });
  });

  describe('a row that moves notes where it was and where it is', () => {
    const other = newId();
    test.each<[table: string, column: string, kind: string]>([
      ['workspaces', 'id', 'workspace'],
      ['workspace_builds', 'workspace_id', 'workspace'],
      ['workspace_build_parameters', 'workspace_build_id', 'build'],
      ['provisioner_jobs', 'id', 'job'],
      ['workspace_resources', 'job_id', 'job'],
      ['workspace_agents', 'resource_id', 'resource'],
      ['workspace_apps', 'agent_id', 'agent'],
      ['workspace_app_statuses', 'workspace_id', 'workspace'],
      ['tasks', 'id', 'task'],
      ['task_workspace_apps', 'task_id', 'task'],
    ])('%s.%s', async (table, column, kind) => {
      await where(table).update({ [column]: other });
      expect(await noted({ other })).toEqual([`${kind} other`, parent[table] ?? ''].toSorted());
      await database(table).where(column, other).delete();
    });
  });

  describe('insert and delete note the parent', () => {
    test.each(Object.keys(projectedTables))('%s', async (table) => {
      const key = projectedTables[table]?.key ?? '';
      const other = newId();
      await insertSource(database, table, { [key]: other });
      const kind = (parent[table] ?? '').split(' ')[0];
      expect(await noted({ other })).toEqual([`${kind} other`]);
      await database(table).where(key, other).delete();
      expect(await noted({ other })).toEqual([`${kind} other`]);
    });
  });

  describe('of parameters only the prompt', () => {
    const parameter = (name: string, value: string) => ({ workspace_build_id: task.build, name, value });
    const rows = () => database('workspace_build_parameters').where('workspace_build_id', task.build);

    test('another one may come, change and go', async () => {
      await database('workspace_build_parameters').insert(parameter('region', 'eu'));
      await rows().where('name', 'region').update({ value: 'us' });
      await rows().where('name', 'region').update({ name: 'Region' });
      await rows().where('name', 'Region').delete();
      await database('workspace_build_parameters').insert(parameter('ai prompt', 'x'));
      expect(await noted()).toEqual([]);
    });

    test('one that becomes the prompt, or was it, is noted', async () => {
      await rows().update({ name: 'Old' });
      expect(await noted()).toEqual(['build build']);
      await rows().update({ name: 'AI Prompt' });
      expect(await noted()).toEqual(['build build']);
    });
  });

  describe('writers', () => {
    test('a writer in repeatable read, with a snapshot older than the link, is noted', async () => {
      const [agent, resource] = [newId(), newId()];
      const old = await database.transaction(undefined, { isolationLevel: 'repeatable read' });
      await old('workspaces').select('id').limit(1); // takes the snapshot
      await insertSource(database, 'workspace_resources', { id: resource, job_id: task.job });
      await insertSource(database, 'workspace_agents', { id: agent, resource_id: resource });
      await noted();
      const write = () => old('workspace_agents').where('id', agent).update({ lifecycle_state: 'ready' });
      if (engine === 'mariadb11') {
        // It refuses to write upon what the snapshot does not show (innodb_snapshot_isolation); who tries again does see it.
        await expect(write()).rejects.toMatchObject({ errno: 1020 });
        await old.rollback();
        await database('workspace_agents').where('id', agent).update({ lifecycle_state: 'ready' });
      } else {
        await write();
        await old.commit();
      }
      expect(await noted({ resource })).toEqual(['resource resource']);
    });

    test('the insert id of a writer is its own', async () => {
      await database.raw('create table counters (id int unsigned not null auto_increment primary key, n int)');
      const transaction = await database.transaction();
      await transaction.raw('insert into counters (n) values (1)');
      await transaction('workspaces').where('id', task.workspace).update({ favorite: 1 });
      const [[row]] = (await transaction.raw('select last_insert_id() as id')) as [{ id: number }[]];
      await transaction.commit();
      expect(row?.id).toBe(1);
    });
  });

  describe('each column alone, followed by the projector', () => {
    let projector: Projector;
    beforeAll(() => {
      projector = createProjector({ address: test_.address, log: createLog('warn'), sweepPassMs: Number.POSITIVE_INFINITY });
      projector.start();
    });
    afterAll(() => projector.stop());

    test.each(['workspaces', 'tasks'])(
      'leaves no difference where %s are the tasks',
      async (source) => {
        const ofTasks = ['tasks', 'task_workspace_apps'];
        if (source === 'workspaces') for (const table of ofTasks) await database(table).delete();
        await projectAll(database); // the notes of the tests above are gone
        expect(await readTaskSource(database)).toBe(source);
        const flipped = new Map<string, string>();
        const columns = Object.entries(projectedTables)
          .filter(([table]) => source === 'tasks' || !ofTasks.includes(table))
          .flatMap(([table, { key, columns: listed }]) =>
            [key, ...Object.keys(listed)].map((column): [string, string] => [table, column]),
          );
        for (const pair of columns) {
          task = await insertRunningTask(database);
          if (source === 'tasks') own = await insertOwnTask(database, task);
          flipped.set(formatUuid(source === 'tasks' ? own : task.workspace), pair.join('.'));
          await outboxIsEmpty(database);
          await where(pair[0]).update(await another(...pair));
        }
        await outboxIsEmpty(database);
        const lines: string[] = [];
        await verify(database, (difference) =>
          lines.push(`${flipped.get(difference.taskId ?? '')}: ${describeInconsistency(difference)}`),
        );
        expect(lines).toEqual([]);
        expect(projector.status().events).toBeGreaterThan(columns.length);
      },
      60_000,
    );
  });
});
