import { setTimeout as sleep } from 'node:timers/promises';
import { pino } from 'pino';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { FencedError } from '../../src/db/active-process.ts';
import { closeDatabase, type Database, openDatabase } from '../../src/db/connection.ts';
import { formatUuid } from '../../src/db/uuid.ts';
import { TaskPhase, TaskState, WorkspaceStatus } from '../../src/gen/tasks/v1/tasks_pb.ts';
import { createLog } from '../../src/platform/log.ts';
import {
  type EventBatch,
  pruneFeed,
  recordVersion,
  startGeneration,
  takeOver,
  writeReadModel,
} from '../../src/projection/feed.ts';
import { createProjector, type Projector, type ProjectorOptions } from '../../src/projection/projector.ts';
import { projectTasks } from '../../src/projection/read-model.ts';
import { projectAll } from '../../src/projection/rebuild.ts';
import { readTaskFacts } from '../../src/projection/task-facts.ts';
import { pruneTransitions } from '../../src/projection/transitions.ts';
import { migrateUp, newestMigration } from '../../src/schema/migrations.ts';
import { deleteFromOutbox, enqueueWorkspaces, outboxLagMs, readOutbox } from '../../src/schema/outbox.ts';
import { changeKinds } from '../../src/schema/projected-tables.ts';
import { startScript } from '../support/child-script.ts';
import { createTestDatabase, describeOnEngines, type TestDatabase } from '../support/database.ts';
import { isDistributed } from '../support/distributed-settings.ts';
import { emptyProjectedTables, outboxIsEmpty, readModelDifferences } from '../support/projected-tables.ts';
import { insertRunningTask, insertSource, insertWorkspace, now } from '../support/source-writer.ts';
import { newId } from '../support/tasks.ts';

type Row = Record<string, Buffer | string | number | null>;

describeOnEngines('the projector', (engine) => {
  let test_: TestDatabase;
  let database: Database;
  let projectors: Projector[] = [];

  beforeAll(async () => {
    test_ = await createTestDatabase(engine);
    database = test_.database;
  });
  afterAll(() => test_.drop());
  afterEach(async () => {
    await Promise.all(projectors.map((projector) => projector.stop()));
    projectors = [];
    await database.raw('drop trigger if exists poison');
    await emptyProjectedTables(database);
  });

  /** Starts one without the sweep, which would repair what the test is about. */
  function start(options: Partial<ProjectorOptions> = {}): Projector {
    const projector = createProjector({
      address: test_.address,
      log: createLog('silent'),
      sweepPassMs: Number.POSITIVE_INFINITY,
      ...options,
    });
    projectors.push(projector);
    projector.start();
    return projector;
  }

  async function until(what: string, isTrue: () => Promise<boolean> | boolean, milliseconds = 15_000): Promise<void> {
    const deadline = performance.now() + milliseconds;
    while (!(await isTrue())) {
      if (performance.now() > deadline) throw new Error(`it took too long until ${what}`);
      await sleep(5);
    }
  }

  const settled = () => outboxIsEmpty(database);
  const taskOf = async (id: Buffer): Promise<Row | undefined> =>
    (await database('workspace_tasks').where('id', id))[0] as Row | undefined;
  const events = async (): Promise<Row[]> => (await database('task_events').orderBy('seq')) as Row[];
  const state = async (): Promise<Row> => (await database('projector_state'))[0] as Row;

  describe('prompts of 1 MiB', () => {
    const mebibyte = 1024 * 1024;

    test('are read some at a time, however many changed at once', async () => {
      const ids: Buffer[] = [];
      for (let i = 0; i < 24; i++) {
        const { workspace, build } = await insertRunningTask(database, { name: `large-${i}` });
        await database('workspace_build_parameters')
          .where('workspace_build_id', build)
          .update({ value: `${i}`.padEnd(mebibyte, 'p') });
        ids.push(workspace);
      }
      for (let i = 0; i < 50; i++) ids.push((await insertRunningTask(database, { name: `small-${i}` })).workspace);

      const read = bytesRead();
      expect(await projectTasks(database, ids)).toHaveLength(74);
      // Twenty-four mebibytes of prompts, no more than eight of them at once.
      expect(read.total()).toBeGreaterThan(24 * mebibyte);
      expect(read.most()).toBeLessThanOrEqual(9 * mebibyte);
      read.end();

      // What is stored is read, too.
      const again = bytesRead();
      expect(await projectTasks(database, ids)).toHaveLength(0);
      expect(again.total()).toBeGreaterThan(48 * mebibyte);
      expect(again.most()).toBeLessThanOrEqual(9 * mebibyte);
      again.end();
    }, 60_000);

    /** Counts the bytes of prompts in the answers to statements. */
    function bytesRead(): { total(): number; most(): number; end(): void } {
      const sizes: number[] = [];
      const count = ([rows]: [unknown]): void => {
        if (!Array.isArray(rows)) return;
        sizes.push(rows.reduce((sum: number, row: Row) => sum + ((row['prompt'] as Buffer | string | null)?.length ?? 0), 0));
      };
      database.on('query-response', count);
      return {
        total: () => sizes.reduce((sum, size) => sum + size, 0),
        most: () => Math.max(...sizes),
        end: () => void database.off('query-response', count),
      };
    }
  });

  describe('follows', () => {
    test('a task from its creation to its deletion', async () => {
      start();
      const ids = await insertRunningTask(database, { name: 'Some-Task' });
      await settled();
      expect(await taskOf(ids.workspace)).toMatchObject({
        status: WorkspaceStatus.RUNNING,
        phase: TaskPhase.ACTIVE,
        state: TaskState.WORKING,
        app_id: ids.app,
        agent_id: ids.agent,
        prompt: 'Do something',
      });

      await database('workspace_app_statuses').where('id', ids.status).update({ state: 'idle', message: 'What now?' });
      await settled();
      expect(await taskOf(ids.workspace)).toMatchObject({ state: TaskState.IDLE, list_status: 19, state_message: 'What now?' });

      const [stop, build] = [newId(), newId()];
      await database.transaction(async (transaction) => {
        const builds = { id: build, workspace_id: ids.workspace, build_number: 2, transition: 'stop', job_id: stop };
        await insertSource(transaction, 'workspace_builds', builds);
        await insertSource(transaction, 'provisioner_jobs', { id: stop });
      });
      await settled();
      expect(await taskOf(ids.workspace)).toMatchObject({ status: WorkspaceStatus.PENDING, build_number: 2, build_id: build });
      await database('provisioner_jobs').where('id', stop).update({ started_at: now(), completed_at: now() });
      await settled();
      expect(await taskOf(ids.workspace)).toMatchObject({ status: WorkspaceStatus.STOPPED, phase: TaskPhase.PAUSED });

      await database('workspaces').where('id', ids.workspace).update({ deleted: 1 });
      await settled();
      expect(await taskOf(ids.workspace)).toMatchObject({ status: WorkspaceStatus.DELETED, live: 0 });

      await database('workspaces').where('id', ids.workspace).delete();
      await settled();
      expect(await taskOf(ids.workspace)).toBeUndefined();
      expect((await events()).map(({ kind }) => kind)).toEqual([1, 1, 1, 1, 1, 2]);
      expect(await readModelDifferences(database)).toEqual([]);
    });

    test.each(['asc', 'desc'] as const)('builds that have one number, written in the order of their ids %s', async (order) => {
      start();
      const [low, middle, high] = [Buffer.alloc(16, 1), Buffer.alloc(16, 2), Buffer.alloc(16, 3)];
      const of = (number: number, id: Buffer): Buffer => Buffer.concat([Buffer.of(number), id]).subarray(0, 16);
      const task = await insertRunningTask(database);
      await database('workspace_builds').delete();
      const ids = order === 'asc' ? [low, middle, high] : [high, middle, low];
      await database.transaction(async (transaction) => {
        for (const id of ids) {
          const build = { workspace_id: task.workspace, template_version_id: id };
          await insertSource(transaction, 'workspace_builds', { ...build, id: of(1, id), build_number: 1 });
          const isTask = id === high ? 1 : 0;
          await insertSource(transaction, 'workspace_builds', { ...build, id: of(2, id), build_number: 2, has_ai_task: isTask });
          const prompt = { workspace_build_id: of(2, id), value: id.toString('hex') };
          await insertSource(transaction, 'workspace_build_parameters', prompt);
          // All of them with the job of the running task, as they may be for a moment.
          const stop = { id: of(3, id), build_number: 3, transition: 'stop', job_id: task.job, ai_task_sidebar_app_id: task.app };
          await insertSource(transaction, 'workspace_builds', { ...build, ...stop });
        }
      });
      await settled();
      expect(await taskOf(task.workspace)).toMatchObject({
        build_id: of(3, high),
        template_version_id: low,
        prompt: high.toString('hex'),
        app_id: task.app,
        status: WorkspaceStatus.STOPPED,
      });
      expect(await readTaskFacts(database, [task.workspace])).toHaveLength(1);
      expect(await readModelDifferences(database)).toEqual([]);
    });

    test('the builds of a workspace, of which as few are read as if it had one', async () => {
      const { workspace } = await insertRunningTask(database);
      const rowsRead = async (): Promise<number> =>
        database.transaction(async (transaction) => {
          const count = async (): Promise<number> => {
            const [rows] = (await transaction.raw("show session status like 'Handler_read%'")) as [{ Value: string }[]];
            return rows.reduce((sum, { Value }) => sum + Number(Value), 0);
          };
          const before = await count();
          await readTaskFacts(transaction, [workspace]);
          return (await count()) - before;
        });
      const ofOne = await rowsRead();
      for (let number = 2; number <= 50; number++) {
        const { id } = await insertSource(database, 'workspace_builds', { workspace_id: workspace, build_number: number });
        await insertSource(database, 'workspace_build_parameters', { workspace_build_id: id ?? null });
      }
      expect(await rowsRead()).toBeLessThan(ofOne + 20);
    });

    // Agents that are deleted or a part of another do not count, nor do their apps.
    test.each<[agents: number, apps: number, agent: boolean, app: boolean]>([
      [0, 0, false, false],
      [1, 0, true, false],
      [1, 1, true, true],
      [1, 2, true, false],
      [2, 0, false, false],
      [2, 1, true, true], // the only app says which agent
      [2, 2, false, false],
    ])('a build that names no app, with %d agents that have %d apps', async (agents, apps, agent, app) => {
      const ids = await insertRunningTask(database);
      await database('workspace_builds').where('id', ids.build).update({ ai_task_sidebar_app_id: null });
      for (const table of ['workspace_agents', 'workspace_apps']) await database(table).delete();
      const [resource_id, first] = [ids.resource, newId()];
      await insertSource(database, 'workspace_agents', { id: newId(), resource_id, deleted: 1 });
      const part = await insertSource(database, 'workspace_agents', { resource_id, parent_id: first });
      await insertSource(database, 'workspace_apps', { agent_id: part['id'] ?? null });
      for (let i = 0; i < agents; i++)
        await insertSource(database, 'workspace_agents', { id: i === 0 ? first : newId(), resource_id });
      for (let i = 0; i < apps; i++) await insertSource(database, 'workspace_apps', { agent_id: first });
      await projectTasks(database, [ids.workspace]);
      const row = await taskOf(ids.workspace);
      expect(row?.['agent_id']).toEqual(agent ? first : null);
      expect(row?.['app_id'] !== null).toBe(app);
    });

    test('a workspace that is no task makes no row and no event', async () => {
      start();
      await insertWorkspace(database);
      await settled();
      expect(await database('workspace_tasks')).toEqual([]);
      expect(await events()).toEqual([]);
    });

    test('a change of owner: one row, whose event says where it was', async () => {
      const ids = await insertRunningTask(database);
      start();
      await settled();
      const before = await taskOf(ids.workspace);
      const [owner, organization] = [newId(), newId()];
      await database('workspaces').where('id', ids.workspace).update({ owner_id: owner, organization_id: organization });
      await settled();
      expect(await database('workspace_tasks')).toHaveLength(1);
      const [, event] = await events();
      expect(event).toMatchObject({
        kind: 1,
        owner_id: owner,
        organization_id: organization,
        old_owner_id: before?.['owner_id'],
        old_organization_id: before?.['organization_id'],
        old_readers: null,
      });
      expect(await readModelDifferences(database)).toEqual([]);
    });

    test('two owners swap the names of their tasks', async () => {
      const owner_id = newId();
      const one = await insertRunningTask(database, { owner_id, name: 'one' });
      const two = await insertRunningTask(database, { owner_id, name: 'two' });
      start();
      await settled();
      await database.transaction(async (transaction) => {
        const rename = (id: Buffer, name: string) => transaction('workspaces').where('id', id).update({ name });
        await rename(one.workspace, 'three');
        await rename(two.workspace, 'one');
        await rename(one.workspace, 'two');
      });
      await settled();
      expect(await taskOf(one.workspace)).toMatchObject({ name: 'two' });
      expect(await taskOf(two.workspace)).toMatchObject({ name: 'one' });
    });

    test('whom a workspace is shared with', async () => {
      const [user, group] = [newId(), newId()];
      const acl = (id: Buffer, permission: string) => JSON.stringify({ [formatUuid(id)]: { permissions: [permission] } });
      const ids = await insertRunningTask(database, { user_acl: acl(user, 'read') });
      start();
      await settled();
      const shared = async () =>
        ((await database('workspace_task_acl').orderBy('kind')) as Row[]).map(({ kind, subject_id }) => [kind, subject_id]);
      expect(await shared()).toEqual([[1, user]]);
      await database('workspaces')
        .where('id', ids.workspace)
        .update({ user_acl: acl(user, 'ssh'), group_acl: acl(group, '*') });
      await settled();
      // Who is named without the right to read is there to be found, and is no reader.
      expect(await shared()).toEqual([
        [2, group],
        [11, user],
      ]);
      await database('workspaces').where('id', ids.workspace).update({ user_acl: '{}' });
      await settled();
      expect(await shared()).toEqual([[2, group]]);
      expect((await events()).map(({ old_readers }) => old_readers)).toEqual([
        Buffer.alloc(0),
        Buffer.concat([Buffer.of(1), user]),
        Buffer.concat([Buffer.of(2), group]),
      ]);
      await database('workspaces').where('id', ids.workspace).update({ created_at: '2026-01-01 00:00:00.000001' });
      await settled();
      expect(await database('workspace_task_acl')).toMatchObject([{ created_at: '2026-01-01 00:00:00.000001' }]);
      await database('workspaces').where('id', ids.workspace).update({ deleted: 1 });
      await settled();
      expect(await shared()).toEqual([]);
      expect(await readModelDifferences(database)).toEqual([]);
    });

    test('a space at the end of a text, which the collation does not see', async () => {
      const ids = await insertRunningTask(database, { name: 'padded' });
      start();
      await settled();
      await database('workspaces').where('id', ids.workspace).update({ name: 'padded  ' });
      await database('workspace_app_statuses').where('id', ids.status).update({ message: 'On it ' });
      await settled();
      expect(await taskOf(ids.workspace)).toMatchObject({ name: 'padded  ', state_message: 'On it ' });
    });

    test('a parameter whose name only looks like the prompt is none', async () => {
      const ids = await insertRunningTask(database);
      await database('workspace_build_parameters').where('workspace_build_id', ids.build).update({ name: 'AI Prompt ' });
      start();
      await settled();
      expect(await taskOf(ids.workspace)).toMatchObject({ prompt: '', display_name: '' });
    });

    test('prompts as large as a row takes, many at once, cut to 1 MiB', async () => {
      const large = '🙂'.repeat(4_000_000); // 16 MB
      const first = await insertRunningTask(database);
      await database('workspace_build_parameters').where('workspace_build_id', first.build).update({ value: large });
      for (let i = 0; i < 5; i++) {
        const ids = await insertRunningTask(database);
        const value = "'\\\n".repeat(500_000); // each character is escaped
        await database('workspace_build_parameters').where('workspace_build_id', ids.build).update({ value });
      }
      start();
      await settled();
      const [[size]] = (await database.raw(
        'select count(*) as `n`, min(length(`prompt`)) as `least`, max(length(`prompt`)) as `most` from `workspace_tasks`',
      )) as [Row[]];
      expect(size).toMatchObject({ n: 6, most: 1_048_576 });
      expect(Number(size?.['least'])).toBeGreaterThanOrEqual(1_048_575);
      expect(await database('workspace_changes_failed')).toEqual([]);
    }, 60_000);

    test('a JSON that is broken gives nobody a right and stops nothing', async () => {
      const ids = await insertRunningTask(database);
      if (engine !== 'mysql') {
        const transaction = await database.transaction();
        await transaction.raw('set statement check_constraint_checks = 0 for update workspaces set user_acl = ? where id = ?', [
          '{"a": {"permissions"',
          ids.workspace,
        ]);
        await transaction.commit();
      } else await database('workspaces').where('id', ids.workspace).update({ user_acl: '[1, "read", null]' });
      start();
      await settled();
      expect(await taskOf(ids.workspace)).toBeDefined();
      expect(await database('workspace_task_acl')).toEqual([]);
      expect(await readModelDifferences(database)).toEqual([]);
    });

    test('notes of writers, without triggers, of any kind', async () => {
      const ids = await insertRunningTask(database);
      start();
      await settled();
      const kinds = [ids.workspace, ids.build, ids.job, ids.resource, ids.agent];
      for (const [index, ref] of kinds.entries()) {
        await database('workspace_tasks').update({ prompt: `wrong ${index}` });
        await database('workspace_changes').insert({ kind: index + 1, ref });
        await settled();
        expect(await taskOf(ids.workspace), `kind ${index + 1}`).toMatchObject({ prompt: 'Do something' });
      }
      await database('workspace_changes').insert({ kind: 5, ref: newId() }); // leads nowhere
      await settled();
      expect(await database('workspace_changes_failed')).toEqual([]);
    });
  });

  describe('the outbox', () => {
    test('of many rows, half a batch is the oldest and half the newest', async () => {
      await enqueueWorkspaces(database, Array.from({ length: 1200 }, newId));
      const changes = (await readOutbox(database)).map(({ seq }) => seq);
      const [[ends]] = (await database.raw('select min(`seq`) as `first`, max(`seq`) as `last` from `workspace_changes`')) as [
        Row[],
      ];
      expect(changes).toHaveLength(500);
      expect(new Set(changes).size).toBe(500);
      expect(changes).toContain(ends?.['first']);
      expect(changes).toContain(ends?.['last']);
    });

    test.each([0, 1, 249, 250, 251, 499, 500, 501])('of %d rows, a batch has each once', async (count) => {
      if (count > 0) await enqueueWorkspaces(database, Array.from({ length: count }, newId));
      const changes = (await readOutbox(database)).map(({ seq }) => seq);
      expect(new Set(changes).size).toBe(changes.length);
      expect(changes).toHaveLength(Math.min(count, 500));
    });

    test('a lower number that is committed after a higher one is not passed over', async () => {
      const [early, late] = [
        await insertRunningTask(database, { name: 'early' }),
        await insertRunningTask(database, { name: 'late' }),
      ];
      start();
      await settled();
      const slow = await database.transaction();
      await slow('workspaces').where('id', early.workspace).update({ name: 'early-2' });
      await database('workspaces').where('id', late.workspace).update({ name: 'late-2' });
      await until('the second is there', async () => (await taskOf(late.workspace))?.['name'] === 'late-2');
      await sleep(50);
      await slow.commit();
      await until('the first is there', async () => (await taskOf(early.workspace))?.['name'] === 'early-2');
    });

    test('deleting what was taken does not wait for writers, nor make them wait', async () => {
      const slow = await database.transaction();
      await enqueueWorkspaces(database, Array.from({ length: 40 }, newId));
      await slow.raw('insert into workspace_changes (kind, ref) values (1, ?)', [newId()]);
      await enqueueWorkspaces(database, Array.from({ length: 40 }, newId));
      const began = performance.now();
      await database.transaction(async (transaction) => {
        await deleteFromOutbox(transaction, await readOutbox(transaction));
        await enqueueWorkspaces(database, [newId()]); // another writer, meanwhile
      });
      expect(performance.now() - began).toBeLessThan(1000);
      await slow.commit();
      expect(await readOutbox(database)).toHaveLength(2);
    });

    test('the age of the oldest change does not depend on the time zone of its writer', async () => {
      await database.transaction(async (transaction) => {
        await transaction.raw("set time_zone = '+09:00'");
        await enqueueWorkspaces(transaction, [newId()]);
        await transaction.raw("set time_zone = '+00:00'");
      });
      expect(await outboxLagMs(database)).toBeLessThan(5000);
      expect(await outboxLagMs(database)).toBeGreaterThanOrEqual(0);
    });
  });

  describe('a workspace that cannot be projected', () => {
    const refuse = () =>
      database.raw(
        "create trigger poison before insert on workspace_tasks for each row if new.name like 'poison%' then signal sqlstate '45000' set message_text = 'no poison'; end if",
      );

    test('becomes a dead letter with its error, and the rest goes on', async () => {
      await refuse();
      const poison = [
        await insertRunningTask(database, { name: 'poison-1' }),
        await insertRunningTask(database, { name: 'poison-2' }),
      ];
      const good = await Promise.all(Array.from({ length: 30 }, (_, i) => insertRunningTask(database, { name: `good-${i}` })));
      const projector = start();
      await settled();
      expect(await database('workspace_tasks')).toHaveLength(good.length);
      const deadLetters = (await database('workspace_changes_failed')) as Row[];
      expect(deadLetters).toHaveLength(2);
      for (const { workspace } of poison) {
        expect(deadLetters).toContainEqual(
          expect.objectContaining({ kind: changeKinds.workspace, ref: workspace, error: expect.stringContaining('no poison') }),
        );
      }
      expect(projector.status()).toMatchObject({ active: true, deadLetters: 2 });
      // It is not tried for ever, and what comes later is projected.
      await sleep(100);
      const { batches } = projector.status();
      await sleep(200);
      expect(projector.status().batches).toBe(batches);
      const later = await insertRunningTask(database, { name: 'later' });
      await settled();
      expect(await taskOf(later.workspace)).toBeDefined();
    });

    test('is tried again when it changes, and forgotten when that goes well', async () => {
      await refuse();
      const ids = await insertRunningTask(database, { name: 'poison' });
      const projector = start();
      await settled();
      expect(projector.status().deadLetters).toBe(1);
      await database('workspaces').where('id', ids.workspace).update({ name: 'healed' });
      await settled();
      expect(await taskOf(ids.workspace)).toMatchObject({ name: 'healed' });
      expect(await database('workspace_changes_failed')).toEqual([]);
      await until('the status says so', () => projector.status().deadLetters === 0);
    });

    test('is counted also when a rebuild made it a dead letter', async () => {
      await refuse();
      const projector = start();
      await until('it is active', () => projector.status().active);
      const ids = await insertRunningTask(database, { name: 'harmless' });
      await settled();
      await database.raw('drop trigger poison');
      await database.raw(
        "create trigger poison before insert on workspace_tasks for each row signal sqlstate '45000' set message_text = 'no poison'",
      );
      await database('workspace_tasks').where('id', ids.workspace).delete();
      expect((await projectAll(database)).deadLetters).toBe(1);
      await until('it is counted', () => projector.status().deadLetters === 1);
      await database.raw('drop trigger poison');
      await database('workspaces').where('id', ids.workspace).update({ name: 'healed' });
      await until('it is forgotten', () => projector.status().deadLetters === 0);
      expect(await database('workspace_changes_failed')).toEqual([]);
    });

    test('does not stop a rebuild', async () => {
      await refuse();
      await insertRunningTask(database, { name: 'poison' });
      const good = await insertRunningTask(database, { name: 'good' });
      expect(await projectAll(database)).toEqual({ workspaces: 2, changed: 1, deadLetters: 1 });
      expect(await taskOf(good.workspace)).toBeDefined();
      await database.raw('drop trigger poison');
      expect(await projectAll(database)).toEqual({ workspaces: 2, changed: 1, deadLetters: 0 });
      expect(await database('workspace_changes_failed')).toEqual([]);
    });
  });

  describe('two projectors', () => {
    test('one is active, the other takes over when it stops', async () => {
      const [first, second] = [start(), start()];
      await until('one is active', () => first.status().active || second.status().active);
      const [active, standby] = first.status().active ? [first, second] : [second, first];
      await sleep(100);
      expect(standby.status()).toMatchObject({ active: false, lagMs: expect.any(Number) });
      await active.stop();
      await until('the other is active', () => standby.status().active, 3000);
      expect(active.status().active).toBe(false);
      const ids = await insertRunningTask(database);
      await settled();
      expect(await taskOf(ids.workspace)).toBeDefined();
      expect(standby.status().events).toBe(1);
    });

    test('what one of another version took from the outbox is looked at again, and once', async () => {
      const ids = await insertRunningTask(database);
      start();
      await settled();
      await projectors.pop()?.stop();
      // The version before takes over, and makes of the same sources what this one would not.
      await database('projector_state').increment('epoch', 1);
      await database('workspace_tasks').where('id', ids.workspace).update({ name: 'of another version' });
      const next = start();
      await until('it is active', () => next.status().active);
      await settled();
      expect((await taskOf(ids.workspace))?.['name']).not.toBe('of another version');
      expect(await readModelDifferences(database)).toEqual([]);
      await next.stop();
      const last = start();
      await until('it is active', () => last.status().active);
      await sleep(100);
      expect(last.status().changes).toBe(0);
    });

    test('what only the version before writes is left as it is, and is no difference', async () => {
      const [one, two] = [await insertRunningTask(database), await insertRunningTask(database)];
      await projectAll(database);
      // As the version before leaves a task and its event.
      await database('workspace_tasks').where('id', one.workspace).update({ job_id: one.job });
      await database('task_events').where('task_id', one.workspace).update({ acl_changed: 1 });
      const projector = start({ sweepPassMs: 0 });
      await until('all is compared', () => projector.status().swept >= 2);
      await settled();
      for (const { workspace } of [one, two]) await database('workspaces').where('id', workspace).update({ name: 'next' });
      await settled();
      expect(await taskOf(one.workspace)).toMatchObject({ name: 'next', job_id: one.job });
      expect(await taskOf(two.workspace)).toMatchObject({ name: 'next', job_id: Buffer.alloc(16) });
      const told = (await events()).map(({ task_id, acl_changed }) => [one.workspace.equals(task_id as Buffer), acl_changed]);
      expect(told.filter(([ofOne]) => ofOne)).toEqual([
        [true, 1],
        [true, 0],
      ]);
      expect(told.filter(([ofOne]) => !ofOne)).toEqual([
        [false, 0],
        [false, 0],
      ]);
      expect(projector.status().repairs).toBe(0);
      expect(await readModelDifferences(database)).toEqual([]);
    });

    test('a migration fences off the projector that runs, so that it cannot take the notes unseen', async () => {
      const ids = await insertRunningTask(database);
      const { epoch } = await takeOver(database, 'another version');
      await database('service_settings').where('name', 'workspaces_noted_for').delete();
      await migrateUp(database, { triggers: !isDistributed });
      const project = (transaction: Database) => projectTasks(transaction, [ids.workspace]);
      await expect(writeReadModel(database, epoch, project)).rejects.toThrow(FencedError);
      const projector = start();
      await until('it is active', () => projector.status().active);
      await settled();
      expect(await state()).toMatchObject({ version: await newestMigration(), version_epoch: epoch + 2, epoch: epoch + 2 });
    });

    test('one that was paused writes nothing after another has taken over', async () => {
      const ids = await insertRunningTask(database);
      const { epoch } = await takeOver(database, 'test');
      const project = (transaction: Database) => projectTasks(transaction, [ids.workspace]);
      await writeReadModel(database, epoch, project);
      await takeOver(database, 'test');
      await database('workspaces').where('id', ids.workspace).update({ name: 'changed' });
      await expect(writeReadModel(database, epoch, project)).rejects.toThrow(FencedError);
      await expect(pruneFeed(database, epoch, { seconds: 0, events: 0 })).rejects.toThrow(FencedError);
      expect((await taskOf(ids.workspace))?.['name']).not.toBe('changed');
      expect(await events()).toHaveLength(1);
      await writeReadModel(database, epoch + 1, project);
      expect(await taskOf(ids.workspace)).toMatchObject({ name: 'changed' });
    });

    test('one that is paused within a transaction is cut off, and nothing of it stays', async () => {
      const ids = await insertRunningTask(database);
      const paused = openDatabase(test_.address, { size: 1, statementTimeoutMs: 10_000, session: { wait_timeout: 5 } });
      const { epoch } = await takeOver(paused, 'test');
      let resume = () => {};
      const pause = new Promise<void>((resolve) => {
        resume = resolve;
      });
      const written = writeReadModel(paused, epoch, async (transaction) => {
        const changes = await projectTasks(transaction, [ids.workspace]);
        await pause;
        return changes;
      }).then(
        () => 'written',
        () => 'refused',
      );
      const began = performance.now();
      start();
      await settled();
      expect(performance.now() - began).toBeLessThan(10_000);
      resume();
      expect(await written).toBe('refused');
      await closeDatabase(paused);
      expect(await events()).toHaveLength(1);
      expect(await state()).toMatchObject({ epoch: epoch + 1, seq: 1 });
      expect(await readModelDifferences(database)).toEqual([]);
    });

    test('a process that is stopped by a signal is replaced, and joins in again as a standby', async () => {
      const first = startScript('project', test_.address);
      const second = startScript('project', test_.address);
      try {
        const [active, standby] = await Promise.race([
          first.line('is active').then(() => [first, second] as const),
          second.line('is active').then(() => [second, first] as const),
        ]);
        active.process.kill('SIGSTOP');
        const ids = await insertRunningTask(database);
        await standby.line('is active'); // at the latest when the server has cut the other off
        await settled();
        expect(await taskOf(ids.workspace)).toBeDefined();
        active.process.kill('SIGCONT');
        for (let i = 0; i < 50; i++) {
          await database('workspaces')
            .where('id', ids.workspace)
            .update({ name: `name-${i}` });
          await sleep(5);
        }
        await settled();
        expect(await state()).toMatchObject({ epoch: 2 });
        expect(await readModelDifferences(database)).toEqual([]);
      } finally {
        first.process.kill('SIGCONT');
        second.process.kill('SIGCONT');
        await Promise.all([first.kill(), second.kill()]);
      }
    }, 30_000);

    test('one whose connection the server ends goes on with a new one', async () => {
      const own = new Set(
        await Promise.all(
          Array.from({ length: 10 }, async () => {
            const [[row]] = (await database.raw('select connection_id() as `id`, sleep(0.1)')) as [Row[]];
            return row?.['id'];
          }),
        ),
      );
      expect(own.size).toBe(10); // the whole pool
      const projector = start();
      await until('it is active', () => projector.status().active);
      for (let i = 0; i < 3; i++) {
        const [all] = (await database.raw('show processlist')) as [{ Id: number; db: string | null }[]];
        const its = all.filter(({ Id, db }) => db === test_.address.database && !own.has(Id));
        expect(its).not.toEqual([]);
        for (const { Id } of its) await database.raw('kill ?', [Id]).catch(() => {});
        const ids = await insertRunningTask(database);
        await settled();
        expect(await taskOf(ids.workspace)).toBeDefined();
      }
      expect(await readModelDifferences(database)).toEqual([]);
    });
  });

  describe('the feed', () => {
    test('is told to a listener after the commit, in order, and a listener that fails does no harm', async () => {
      const batches: EventBatch[] = [];
      start({
        onEvents: (batch) => {
          batches.push(batch);
          throw new Error('a bug in the listener');
        },
      });
      const one = await insertRunningTask(database);
      await settled();
      await database('workspaces').where('id', one.workspace).delete();
      await settled();
      const { generation } = await state();
      expect(batches.map((batch) => batch.generation)).toEqual([generation, generation]);
      expect(batches.flatMap((batch) => batch.events)).toEqual([
        expect.objectContaining({ seq: 1, kind: 1, taskId: one.workspace, oldOwnerId: undefined, oldReaders: undefined }),
        expect.objectContaining({ seq: 2, kind: 2, taskId: one.workspace, ownerId: undefined, oldOwnerId: expect.any(Buffer) }),
      ]);
    });

    test('says nothing of a change that changes nothing', async () => {
      const ids = await insertRunningTask(database);
      start();
      await settled();
      await enqueueWorkspaces(database, [ids.workspace]);
      await settled();
      expect(await events()).toHaveLength(1);
    });

    test('is pruned by the thousand, and remembers up to where', async () => {
      const rows = Array.from({ length: 3500 }, (_, i) => ({ seq: i + 1, task_id: newId(), kind: 2 }));
      await database.batchInsert('task_events', rows, 500);
      await database('projector_state').update({ seq: 3500 });
      const { epoch } = await takeOver(database, 'test');
      const prune = (seconds: number, keep: number) => pruneFeed(database, epoch, { seconds, events: keep });
      expect(await prune(3600, 1_000_000)).toBe(false);
      expect(await prune(3600, 2500)).toBe(true); // too many
      expect(await prune(3600, 2500)).toBe(false);
      expect(await state()).toMatchObject({ floor_seq: 1000, seq: 3500 });
      await database('task_events').where('seq', '<=', 2500).update({ created_at: '2026-01-01 00:00:00' });
      expect(await prune(3600, 1_000_000)).toBe(true); // too old
      expect(await prune(3600, 1_000_000)).toBe(false); // the last of the next thousand is new
      expect(await state()).toMatchObject({ floor_seq: 2000 });
      expect((await events()).at(0)).toMatchObject({ seq: 2001 });
      expect((await readModelDifferences(database)).filter((line) => !line.includes('removed'))).toEqual([]);
    });

    test('has beside it when tasks began and ceased to wait, to work and to be failed, and no other change', async () => {
      const transitions = async () =>
        (
          (await database('task_transitions')
            .orderBy('task_transitions.seq')
            .select('task_id', 'owner_id', 'was', 'became')) as Row[]
        ).map(({ was, became }) => [was, became]);
      const since = async () => (await state())['transitions_since'];
      await database('projector_state').update({ transitions_since: null });
      start();
      const ids = await insertRunningTask(database);
      await settled();
      const began = await since();
      expect(began).not.toBeNull();
      expect(await transitions()).toEqual([[0, 2]]);
      const report = async (given: string) => {
        await insertSource(database, 'workspace_app_statuses', {
          workspace_id: ids.workspace,
          state: given,
          message: newId().toString('hex'),
        });
        await settled();
      };
      await report('working');
      await report('idle');
      await report('idle');
      await database('workspaces').where('id', ids.workspace).update({ name: 'next' });
      await report('failure');
      await report('complete');
      await report('working');
      expect(await transitions()).toEqual([
        [0, 2],
        [2, 1],
        [1, 3],
        [3, 0],
        [0, 2],
      ]);
      // With another owner it begins anew.
      const owner = newId();
      await database('workspaces').where('id', ids.workspace).update({ owner_id: owner });
      await settled();
      expect(await transitions()).toEqual([[0, 2]]);
      expect(await database('task_transitions').select('owner_id')).toEqual([{ owner_id: owner }]);
      await database('workspaces').where('id', ids.workspace).update({ deleted: true });
      await settled();
      const both = [
        [0, 2],
        [2, 0],
      ];
      expect(await transitions()).toEqual(both);

      // They are kept for 25 hours.
      await database('task_transitions')
        .where('became', 2)
        .update({ changed_at: database.raw('utc_timestamp(6) - interval 24 hour') });
      await pruneTransitions(database);
      expect(await transitions()).toEqual(both);
      await database('task_transitions')
        .where('became', 2)
        .update({ changed_at: database.raw('utc_timestamp(6) - interval 26 hour') });
      await pruneTransitions(database);
      expect(await transitions()).toEqual([[2, 0]]);

      // A projector of the same version, or of a newer one, goes on with them. One that followed an older one begins.
      await Promise.all(projectors.map((projector) => projector.stop()));
      const version = await newestMigration();
      await takeOver(database, version);
      expect(await since()).toBe(began);
      const { epoch } = await takeOver(database, '20991231000000_from_the_future');
      expect(await since()).toBe(began);
      await recordVersion(database, epoch, '20991231000000_from_the_future');
      await takeOver(database, version);
      expect(await since()).toBe(began);
      await database('projector_state').increment('epoch', 1); // as a version does that knows no versions
      await takeOver(database, version);
      expect(await since()).not.toBe(began);
    });

    test('of an older generation is deleted', async () => {
      const ids = await insertRunningTask(database);
      const projector = start();
      await settled();
      const { generation } = await state();
      await startGeneration(database);
      expect((await state())['generation']).not.toBe(generation);
      await database('workspaces').where('id', ids.workspace).update({ name: 'next' });
      await until('the old event is gone', async () => (await events()).map(({ seq }) => seq).join() === '2');
      expect(projector.status().events).toBe(2);
      expect(await readModelDifferences(database)).toEqual([]);
    });
  });

  describe('a rebuild', () => {
    test('makes everything anew, removes what does not belong, and starts a generation', async () => {
      const ids = await Promise.all(Array.from({ length: 250 }, () => insertRunningTask(database)));
      await projectAll(database);
      const { generation } = await state();
      const [one, two, three] = ids;
      if (one === undefined || two === undefined || three === undefined) throw new Error('no tasks');
      await database('workspace_tasks').where('id', one.workspace).delete();
      await database('workspace_tasks').where('id', two.workspace).update({ prompt: 'wrong', owner_id: newId() });
      await database('workspace_tasks').where('id', three.workspace).update({ id: newId() });
      const place = { owner_id: newId(), organization_id: newId(), created_at: now() };
      await database('workspace_task_acl').insert({ kind: 1, subject_id: newId(), task_id: newId(), ...place });
      const progress: number[] = [];
      const done = await projectAll(database, { onProgress: (workspaces) => progress.push(workspaces) });
      expect(done).toEqual({ workspaces: 252, changed: 4, deadLetters: 0 });
      expect(progress).toEqual([200, 252]);
      expect((await state())['generation']).not.toBe(generation);
      await database('workspace_changes').delete();
      expect(await readModelDifferences(database)).toEqual([]);
    });

    test('works beside a projector, and the feed stays whole', async () => {
      const ids = await Promise.all(Array.from({ length: 300 }, () => insertRunningTask(database)));
      start();
      for (let i = 0; i < 3; i++) {
        await database('workspace_tasks')
          .whereIn(
            'id',
            ids.slice(0, 50).map(({ workspace }) => workspace),
          )
          .delete();
        const writing = Promise.all(
          ids.slice(25, 75).map(({ workspace }) =>
            database('workspaces')
              .where('id', workspace)
              .update({ name: newId().toString('hex') }),
          ),
        );
        await Promise.all([projectAll(database), writing]);
      }
      await settled();
      expect(await readModelDifferences(database)).toEqual([]);
    });
  });

  describe('the sweep', () => {
    test('repairs what went by without a note, and counts it', async () => {
      const ids = await Promise.all(Array.from({ length: 120 }, () => insertRunningTask(database)));
      const projector = start({ sweepPassMs: 0 });
      await settled();
      const [one, two] = ids;
      await database('workspace_tasks')
        .where('id', one?.workspace ?? '')
        .update({ prompt: 'wrong' });
      await database('workspace_tasks')
        .where('id', two?.workspace ?? '')
        .delete();
      await until('both are repaired', () => projector.status().repairs === 2);
      expect(await readModelDifferences(database)).toEqual([]);
      expect(await events()).toHaveLength(122);

      const [workspace] = (await database('workspace_tasks')) as Row[];
      const stray = { kind: 1, subject_id: newId(), created_at: now(), task_id: newId(), owner_id: newId() };
      const left = await insertWorkspace(database, {}); // no task, with a share that was left behind
      await settled();
      for (const task_id of [workspace?.['id'] ?? null, left])
        await database('workspace_task_acl').insert({ ...stray, task_id, organization_id: newId() });
      await until('these are, too', () => projector.status().repairs === 4);
      expect(await database('workspace_task_acl')).toEqual([]);
    });

    test('removes a dead letter that is right after all', async () => {
      const ids = await insertRunningTask(database);
      await projectAll(database);
      await database('workspace_changes').delete();
      await database('workspace_changes_failed').insert({ kind: 1, ref: ids.workspace, error: 'took too long' });
      const projector = start({ sweepPassMs: 0 });
      await until('it is free', async () => (await database('workspace_changes_failed')).length === 0);
      await until('the status says so', () => projector.status().deadLetters === 0);
      expect(projector.status().repairs).toBe(0);
    });

    test('does not take for an error what waits in the outbox', async () => {
      const ids = await Promise.all(Array.from({ length: 60 }, () => insertRunningTask(database)));
      const projector = start({ sweepPassMs: 0 });
      await settled();
      const deadline = performance.now() + 45_000;
      while (projector.status().swept < 250 && performance.now() < deadline) {
        const { workspace, agent, job } = ids[Math.floor(Math.random() * ids.length)] ??
          ids[0] ?? { workspace: '', agent: '', job: '' };
        await Promise.all([
          database('workspaces')
            .where('id', workspace)
            .update({ name: newId().toString('hex') }),
          database('workspace_agents')
            .where('id', agent)
            .update({ lifecycle_state: newId().toString('hex') }),
          database('provisioner_jobs')
            .where('id', job)
            .update({ error: newId().toString('hex') }),
        ]);
      }
      await settled();
      expect(projector.status().swept).toBeGreaterThanOrEqual(250);
      expect(projector.status().repairs).toBe(0);
      expect(await readModelDifferences(database)).toEqual([]);
    });
  });

  describe('verify', () => {
    test('names each difference: the task, the column, what is stored and what is expected', async () => {
      const ids = await insertRunningTask(database);
      const [gone, orphan] = [await insertRunningTask(database), newId()];
      await projectAll(database);
      await database('workspace_changes').delete();
      expect(await readModelDifferences(database)).toEqual([]);
      await database('workspace_tasks').where('id', ids.workspace).update({ prompt: 'wrong', favorite: 1 });
      const [row] = (await database('workspace_tasks').where('id', ids.workspace)) as Row[];
      const { name_pending: _derived, ...columns } = row ?? {};
      await database('workspace_tasks').insert({ ...columns, id: orphan });
      await database('workspace_tasks').where('id', gone.workspace).delete();
      await database('workspace_task_acl').insert({
        kind: 1,
        subject_id: newId(),
        created_at: now(),
        task_id: ids.workspace,
        owner_id: newId(),
        organization_id: newId(),
      });
      const lines = await readModelDifferences(database);
      expect(lines).toContain(`${formatUuid(ids.workspace)} prompt: stored "wrong", expected "Do something"`);
      expect(lines).toContain(`${formatUuid(ids.workspace)} favorite: stored 1, expected 0`);
      expect(lines).toContain(`${formatUuid(gone.workspace)} id: stored no row, expected a row`);
      expect(lines).toContain(`${formatUuid(orphan)} id: stored a row, expected no row`);
      expect(lines.some((line) => line.startsWith(`${formatUuid(ids.workspace)} acl: stored `))).toBe(true);
      expect(lines.some((line) => line.startsWith(`${formatUuid(orphan)} feed: stored no event`))).toBe(true);
      expect(lines.some((line) => line.startsWith(`${formatUuid(gone.workspace)} feed: stored of `))).toBe(true);
      expect(lines).toHaveLength(7);
    });

    test('finds a hole in the feed', async () => {
      for (let i = 0; i < 3; i++) await insertRunningTask(database);
      await projectAll(database);
      await database('task_events').where('seq', 2).delete();
      expect(await readModelDifferences(database)).toContain(
        'feed feed: stored 2 events up to number 3, expected 3 events up to number 3',
      );
    });

    test('does not count what waits in the outbox', async () => {
      const ids = await insertRunningTask(database);
      expect(await readModelDifferences(database)).toEqual([]);
      await projectAll(database);
      await database('workspace_changes').delete();
      for (const [table, change] of [
        ['workspaces', { name: 'other' }],
        ['workspace_agents', { lifecycle_state: 'off' }],
        ['provisioner_jobs', { error: 'broken' }],
      ] as const) {
        const id = { workspaces: ids.workspace, workspace_agents: ids.agent, provisioner_jobs: ids.job }[table];
        await database(table).where('id', id).update(change);
        expect(await readModelDifferences(database), table).toEqual([]);
        await database('workspace_changes').delete();
        expect(await readModelDifferences(database), table).not.toEqual([]);
        await projectAll(database);
      }
    });
  });

  describe('its status', () => {
    test('is unknown while the database cannot be reached', async () => {
      const projector = start({ address: { socketPath: '/nonexistent/db.sock', user: 'nobody', database: 'none' } });
      await sleep(50);
      expect(projector.status()).toMatchObject({ active: false, lagMs: undefined });
      const began = performance.now();
      await projector.stop();
      expect(performance.now() - began).toBeLessThan(2000);
    });

    test('is unknown again when the database is lost, and the first failure of each loss is told', async () => {
      const lines: Record<string, unknown>[] = [];
      const log = pino({ base: null }, { write: (line) => void lines.push(JSON.parse(line) as Record<string, unknown>) });
      const active = start();
      await until('it is active', () => active.status().active);
      const standby = start({ log });
      for (let loss = 1; loss <= 2; loss++) {
        await until('it stands by', () => standby.status().lagMs !== undefined);
        await sleep(5500); // long enough to count as working again
        await database.raw('rename table `leases` to `lost`');
        await until('it is unknown', () => standby.status().lagMs === undefined);
        await until('it is told', () => lines.filter(({ level }) => level === 40).length === loss);
        await database.raw('rename table `lost` to `leases`');
      }
      await until('it is known', () => standby.status().lagMs === 0);
    });

    test('says how long changes wait, also from the standby', async () => {
      const blocker = await database.transaction();
      await blocker.raw('select 1 from projector_state for update');
      const [first, second] = [start(), start()];
      await insertRunningTask(database);
      await until('both tell', () => [first, second].every((each) => (each.status().lagMs ?? 0) > 1000));
      expect(first.status().active && second.status().active).toBe(false);
      await blocker.commit();
      await settled();
      await until('it is 0 again', () => first.status().lagMs === 0 || second.status().lagMs === 0);
    });

    test('stops within a second, active or not, and lets go of the database', async () => {
      const [first, second] = [start(), start()];
      await until('one is active', () => first.status().active || second.status().active);
      const began = performance.now();
      await Promise.all([first.stop(), second.stop()]);
      expect(performance.now() - began).toBeLessThan(2500);
      expect(await database('leases').where('name', 'project').first('holder')).toEqual({ holder: null });
    });
  });
});
