import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Client } from 'pg';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import type { Database } from '../../src/db/connection.ts';
import { formatUuid } from '../../src/db/uuid.ts';
import { TaskPhase, WorkspaceStatus } from '../../src/gen/tasks/v1/tasks_pb.ts';
import { createLog } from '../../src/platform/log.ts';
import { createProjector, type Projector } from '../../src/projection/projector.ts';
import { projectAll } from '../../src/projection/rebuild.ts';
import { enqueueTasks, readOutbox, tasksOf } from '../../src/schema/outbox.ts';
import { changeKinds } from '../../src/schema/projected-tables.ts';
import { readTaskSource } from '../../src/schema/task-source.ts';
import { keepByPolling } from '../../src/sync/poll.ts';
import { createSync, type Sync } from '../../src/sync/sync.ts';
import { phaseWords } from '../../src/tasks/query-keys.ts';
import { createTaskRepository } from '../../src/tasks/store/task-repository.ts';
import { coderRows, loadCoderRows } from '../support/coder-rows.ts';
import { type CoderVersion, coderFolder, createCoderSchema } from '../support/coder-schema.ts';
import { parseCsv } from '../support/csv.ts';
import { createTestDatabase, describeOnOneEngine, type TestDatabase } from '../support/database.ts';
import { describeOnPostgres, type PostgresServer, startPostgres } from '../support/postgres.ts';
import { outboxIsEmpty, readModelDifferences } from '../support/projected-tables.ts';
import { insertRunningTask, insertSource, insertSources, now, type SourceValues } from '../support/source-writer.ts';
import { newId } from '../support/tasks.ts';

/** A busy machine may take its time. */
const patiently = { timeout: 30_000, interval: 50 };

/** A row of the read model, as far as it is compared with Coder's view. */
interface StoredTask {
  readonly id: Buffer;
  readonly workspace_id: Buffer | null;
  readonly owner_id: Buffer;
  readonly live: number;
  readonly [column: string]: unknown;
}

const idOf = (value: unknown): string | null => (value === null ? null : formatUuid(value as Buffer));
const storedTasks = async (database: Database): Promise<StoredTask[]> =>
  (await database('workspace_tasks').orderBy('workspace_tasks.id')) as StoredTask[];

/** What the read model has of a task that Coder's view has, too, in the words and columns of the view. */
function asInView(task: StoredTask): Record<string, unknown> {
  return {
    id: idOf(task.id),
    name: task['name'],
    display_name: task['display_name'],
    organization_id: idOf(task['organization_id']),
    owner_id: idOf(task.owner_id),
    workspace_id: idOf(task.workspace_id),
    template_version_id: idOf(task['template_version_id']),
    prompt: task['prompt'],
    status: [...phaseWords].find(([, phase]) => phase === task['phase'])?.[0],
    workspace_build_number: String(task['build_number']),
    workspace_agent_id: idOf(task['agent_id']),
    workspace_app_id: idOf(task['app_id']),
    created_at: `${String(task['created_at'])}+00`,
  };
}

/** What Coder's own view says of half of the recorded tasks. */
function view(): Record<string, string | null>[] {
  const [names = [], ...lines] = parseCsv(readFileSync(join(coderFolder('newest'), 'tasks_with_status.csv'), 'utf8'));
  return lines.map((line) => Object.fromEntries(names.map((name, i) => [name ?? '', line[i] ?? null])));
}

async function settled(database: Database): Promise<void> {
  await outboxIsEmpty(database);
  expect(await readModelDifferences(database)).toEqual([]);
}

describeOnOneEngine('tasks of their own', (engine) => {
  let target: TestDatabase;
  let database: Database;
  let projector: Projector;
  beforeEach(async () => {
    target = await createTestDatabase(engine);
    database = target.database;
    projector = createProjector({ address: target.address, log: createLog('silent') });
    projector.start();
    return async () => {
      await projector.stop();
      await target.drop();
    };
  });

  test('one that is noted by its id is found, whether or not it has a row yet', async () => {
    await projector.stop();
    await database('projector_state').update({ task_source: 'tasks' });
    const id = newId();
    await enqueueTasks(database, [id]);
    expect(await tasksOf(database, await readOutbox(database))).toEqual([id]);
  });

  test('where workspaces are the tasks again, a task and its workspace are found together', async () => {
    await projector.stop();
    const { workspace } = await insertRunningTask(database);
    const task = newId();
    await insertSource(database, 'tasks', { id: task, workspace_id: workspace });
    await projectAll(database);
    await database('tasks').delete();
    await database('projector_state').update({ task_source: 'workspaces' });
    for (const ref of [workspace, task]) {
      const found = await tasksOf(database, [{ kind: changeKinds.workspace, ref }]);
      expect(found.map(formatUuid).toSorted()).toEqual([workspace, task].map(formatUuid).toSorted());
    }
  });

  test('a deployment goes over, and back, and no task is missing or there twice meanwhile', async () => {
    const count = 700; // more than fit into a batch
    const tasks = Array.from({ length: count }, () => ({ id: newId(), workspace: newId(), job: newId() }));
    const insertAll = (table: string, rowOf: (task: (typeof tasks)[number]) => SourceValues) =>
      insertSources(database, table, tasks.map(rowOf));
    await insertAll('provisioner_jobs', ({ job }) => ({ id: job, started_at: now(), completed_at: now() }));
    await insertAll('workspace_builds', ({ workspace, job }) => ({ workspace_id: workspace, job_id: job, has_ai_task: 1 }));
    await insertAll('workspaces', ({ workspace }) => ({ id: workspace }));
    await settled(database);

    const seen: string[] = [];
    let isOver = false;
    const watching = (async () => {
      while (!isOver) {
        const [[row]] = (await database.raw(
          'select count(*) as `rows`, count(distinct `t`.`workspace_id`) as `workspaces` from `workspace_tasks` as `t`',
        )) as [Record<'rows' | 'workspaces', number>[]];
        if (row?.rows !== count || row.workspaces !== count) seen.push(JSON.stringify(row));
        await sleep(1);
      }
    })();
    await insertAll('tasks', ({ id, workspace }) => ({ id, workspace_id: workspace, name: formatUuid(id) }));
    await settled(database);
    expect(await readTaskSource(database)).toBe('tasks');
    await database('tasks').delete();
    await settled(database);
    expect(await readTaskSource(database)).toBe('workspaces');
    isOver = true;
    await watching;
    expect(seen).toEqual([]);
    const ids = (await storedTasks(database)).map(({ id }) => formatUuid(id));
    expect(ids.toSorted()).toEqual(tasks.map(({ workspace }) => formatUuid(workspace)).toSorted());
    expect(projector.status()).toMatchObject({ repairs: 0, deadLetters: 0 });
  });

  test('the first row of a writer makes these the tasks, and the workspaces tasks no more', async () => {
    const named = await insertRunningTask(database);
    const unnamed = await insertRunningTask(database);
    const rowsOf = async (): Promise<string[]> => (await storedTasks(database)).map(({ id }) => formatUuid(id)).sort();
    await expect.poll(rowsOf, patiently).toEqual([named.workspace, unnamed.workspace].map(formatUuid).sort());

    const [workspace] = (await database('workspaces').where('workspaces.id', named.workspace)) as Record<string, unknown>[];
    const [build] = (await database('workspace_builds').where('workspace_builds.workspace_id', named.workspace)) as Record<
      string,
      unknown
    >[];
    const of = (id: Buffer, name: string) => ({
      id,
      organization_id: workspace?.['organization_id'],
      owner_id: workspace?.['owner_id'],
      name,
      display_name: 'A title',
      template_version_id: build?.['template_version_id'],
      prompt: 'Do it',
      created_at: '2026-11-30 10:00:00.000001',
    });
    const [task, pending] = [newId(), newId()];
    await database('tasks').insert([
      { ...of(task, 'named'), workspace_id: named.workspace },
      { ...of(pending, 'waits'), workspace_id: null },
    ] as never);
    await expect.poll(rowsOf, patiently).toEqual([task, pending].map(formatUuid).sort());
    expect(await readTaskSource(database)).toBe('tasks');
    const one = async (id: Buffer): Promise<StoredTask | undefined> =>
      (await storedTasks(database)).find((row) => row.id.equals(id));
    expect(await one(pending)).toMatchObject({ workspace_id: null, phase: TaskPhase.PENDING, live: 1, display_name: 'A title' });
    expect(await one(task)).toMatchObject({ workspace_id: named.workspace, phase: TaskPhase.PENDING });

    const everything = { userId: newId(), everything: true, organizations: [], ownIn: [], sharedWith: [], memberOf: [] };
    for (const order of ['created_at', 'state_at desc', 'state_at'] as const) {
      const { rows } = await createTaskRepository(database, 60).list(everything, { filter: {}, order, limit: 10 });
      const listed = rows.map(({ id, workspace_id, workspace_name }) => [idOf(id), idOf(workspace_id), workspace_name]);
      const expected = [
        [formatUuid(task), formatUuid(named.workspace), workspace?.['name']],
        [formatUuid(pending), null, null],
      ];
      expect(new Set(listed.map(String)), order).toEqual(new Set(expected.map(String)));
    }

    // Its newest build says by which agent and app it runs.
    const [agent] = (await database('workspace_agents')) as { id: Buffer }[];
    const [app] = (await database('workspace_apps').where('workspace_apps.agent_id', agent?.id ?? null)) as { id: Buffer }[];
    const link = { task_id: task, workspace_build_number: build?.['build_number'] };
    await database('task_workspace_apps').insert({ ...link, workspace_agent_id: agent?.id, workspace_app_id: app?.id } as never);
    await expect.poll(async () => (await one(task))?.['app_id'], patiently).toEqual(app?.id);
    await database('workspace_apps').update({ health: 'unhealthy' } as never);
    await expect.poll(async () => (await one(task))?.['phase'], patiently).toBe(TaskPhase.ERROR);

    await database('tasks')
      .where('tasks.id', pending)
      .update({ workspace_id: unnamed.workspace } as never);
    await expect.poll(async () => (await one(pending))?.workspace_id, patiently).toEqual(unnamed.workspace);
    await database('workspaces')
      .where('workspaces.id', unnamed.workspace)
      .update({ deleted: true } as never);
    await expect.poll(async () => (await one(pending))?.['status'], patiently).toBe(WorkspaceStatus.DELETED);
    expect((await one(pending))?.live).toBe(1);
    await database('tasks')
      .where('tasks.id', task)
      .update({ deleted_at: '2026-11-30 11:00:00.000000' } as never);
    await expect.poll(async () => (await one(task))?.live, patiently).toBe(0);
    await database('tasks').where('tasks.id', pending).delete();
    await expect.poll(rowsOf, patiently).toEqual([formatUuid(task)]);
    await settled(database);
    expect(projector.status()).toMatchObject({ repairs: 0, deadLetters: 0 });
  });
});

await describeOnPostgres('tasks of their own, from Coder', '15', () => {
  let server: PostgresServer;
  let coder: Client;
  beforeAll(async () => {
    server = await startPostgres();
    coder = await server.connect();
  });
  afterAll(() => server.stop());

  /** Makes it a Coder of a version, at once, as an upgrade does. */
  async function become(version: CoderVersion, withPrompts = true): Promise<void> {
    await coder.query('begin; drop schema public cascade; create schema public');
    await createCoderSchema(coder, version);
    await coder.query('commit');
    await loadCoderRows(coder, version);
    if (!withPrompts) await coder.query("delete from workspace_build_parameters where name = 'AI Prompt'");
  }

  describeOnOneEngine('into', (engine) => {
    let target: TestDatabase;
    let database: Database;
    let sync: Sync;
    let projector: Projector;

    async function attach(): Promise<void> {
      target = await createTestDatabase(engine);
      database = target.database;
      const log = createLog('silent');
      const keep = keepByPolling({ seconds: 0.2, compareEveryMs: 3_600_000 });
      sync = createSync({ address: target.address, url: server.url('coder'), log, keep });
      projector = createProjector({ address: target.address, log });
      projector.start();
      sync.start();
      await expect.poll(() => sync.status().activity, patiently).toBe('following');
    }

    async function detach(): Promise<void> {
      await sync.stop();
      await projector.stop();
      await target.drop();
    }

    test.each([true, false])('they are what Coder’s own view says, task by task (old parameters: %s)', async (withPrompts) => {
      await become('newest', withPrompts);
      await attach();
      try {
        await settled(database);
        expect(await readTaskSource(database)).toBe('tasks');
        const stored = new Map((await storedTasks(database)).map((task) => [formatUuid(task.id), task]));
        const rows = coderRows('newest', 'tasks');
        expect([...stored.keys()].sort()).toEqual(rows.map(({ id }) => id ?? '').sort());
        for (const row of view()) {
          const task = stored.get(row['id'] ?? '');
          const compared = Object.entries(row).filter(([column]) => task !== undefined && column in asInView(task));
          expect(task && asInView(task)).toEqual({
            ...Object.fromEntries(compared),
            // The file writes an empty text as nothing.
            display_name: row['display_name'] ?? '',
            prompt: row['prompt'] ?? '',
            workspace_build_number: row['workspace_build_number'] ?? '0',
          });
        }
        // No task has its workspace's id.
        for (const { id, workspace_id } of stored.values()) expect(idOf(workspace_id)).not.toBe(formatUuid(id));
      } finally {
        await detach();
      }
    });

    test('a Coder that is upgraded goes over, and no task is missing or there twice meanwhile', async () => {
      await become('seed');
      await attach();
      try {
        await settled(database);
        const before = await storedTasks(database);
        expect(before.length).toBeGreaterThan(60);
        const newTasks = coderRows('newest', 'tasks');
        const kept = new Set(newTasks.map(({ workspace_id }) => workspace_id));

        let isOver = false;
        const seen: string[] = [];
        const watching = (async () => {
          while (!isOver) {
            const [rows] = (await database.raw(
              'select `t`.`workspace_id`, count(*) as `n` from `workspace_tasks` as `t` group by `t`.`workspace_id`',
            )) as [{ workspace_id: Buffer; n: number }[]];
            const found = new Map(rows.map(({ workspace_id, n }) => [formatUuid(workspace_id), n]));
            for (const id of kept)
              if (id !== null && id !== undefined && found.get(id) !== 1) seen.push(`${id} ${found.get(id)}`);
            await sleep(1);
          }
        })();
        await become('newest');
        await expect
          .poll(async () => (await storedTasks(database)).map(({ id }) => formatUuid(id)).sort(), patiently)
          .toEqual(newTasks.map(({ id }) => id ?? '').sort());
        isOver = true;
        await watching;
        expect(seen).toEqual([]);
        await settled(database);
        expect(projector.status()).toMatchObject({ repairs: 0, deadLetters: 0 });

        // What a watcher is told: the old id goes as the new one comes.
        const events = (await database('task_events').orderBy('task_events.seq')) as { task_id: Buffer; kind: number }[];
        const last = new Map(events.map(({ task_id, kind }) => [formatUuid(task_id), kind]));
        for (const { id } of before) expect(last.get(formatUuid(id))).toBe(2);
        for (const { id } of newTasks) expect(last.get(id ?? '')).toBe(1);
      } finally {
        await detach();
      }
    });
  });
});
