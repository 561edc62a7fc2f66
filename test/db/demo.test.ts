import { setTimeout as sleep } from 'node:timers/promises';
import { create } from '@bufbuild/protobuf';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { keepDemoAgentsConnected, loadDemo } from '../../dev/demo/demo.ts';
import { demoTasks } from '../../dev/demo/demo-data.ts';
import { connectedDemoAgents, demoRows } from '../../dev/demo/demo-rows.ts';
import { prepareDemo } from '../../dev/demo/prepare-demo.ts';
import { sourceTables } from '../../dev/demo/source-rows.ts';
import { createApiKeyRepository, parseSessionToken } from '../../src/auth/api-key-repository.ts';
import { closeDatabase, type Database, openDatabase } from '../../src/db/connection.ts';
import { formatUuid, parseUuid } from '../../src/db/uuid.ts';
import { CountTasksOverTimeRequestSchema, TaskPhase, TaskState, WorkspaceStatus } from '../../src/gen/tasks/v1/tasks_pb.ts';
import { takeOver } from '../../src/projection/feed.ts';
import { projectAll } from '../../src/projection/rebuild.ts';
import { verify } from '../../src/projection/verify.ts';
import { migrateDown, migrateUp, newestMigration } from '../../src/schema/migrations.ts';
import { createTestDatabase, describeOnEngines, type TestDatabase } from '../support/database.ts';
import { isDistributed } from '../support/distributed-settings.ts';
import { contents, count, readTasks, type SourceTask } from '../support/source-tasks.ts';
import { createTasksService, listAllTasks } from '../support/tasks-service.ts';
import { callerWith, testCall } from '../support/test-call.ts';

const now = new Date('2026-11-23T12:00:00.000Z');
const uuid = (text: string): Buffer => parseUuid(text) as Buffer;

describeOnEngines('the demo data', (engine) => {
  let test: TestDatabase;
  let database: Database;
  let tasks: SourceTask[];

  beforeAll(async () => {
    test = await createTestDatabase(engine);
    database = test.database;
    await loadDemo(database, { now });
    tasks = await readTasks(database);
  });
  afterAll(async () => await test.drop());

  it('are loaded once: a second load changes nothing', async () => {
    const before = await contents(database);
    expect(await loadDemo(database, { now: new Date(now.getTime() + 86_400_000) })).toBe(false);
    expect(await contents(database)).toEqual(before);
  });

  it('are loaded once by two processes at the same time', async () => {
    const other = await createTestDatabase(engine);
    try {
      const loads = await Promise.all([loadDemo(other.database, { now }), loadDemo(other.database, { now })]);
      expect(loads.toSorted((a, b) => Number(a) - Number(b))).toEqual([false, true]);
      expect(await count(other.database, 'workspaces')).toBe(await count(database, 'workspaces'));
    } finally {
      await other.drop();
    }
  });

  it('come with tokens that a restart keeps for a day, so that nobody is signed out', async () => {
    const other = await createTestDatabase(engine);
    try {
      const first = await prepareDemo(other.address);
      const second = await prepareDemo(other.address);
      const keys = createApiKeyRepository(other.database);
      const idOf = (token = ''): string => parseSessionToken(token)?.id ?? '';
      expect(second['developer']).not.toBe(first['developer']);
      expect(await keys.find(idOf(first['developer']))).toBeDefined();
      const old = await other
        .database('api_keys')
        .where('api_keys.id', idOf(first['developer']))
        .update({
          created_at: new Date(Date.now() - 25 * 3_600_000),
        });
      expect(old).toBe(1);
      await prepareDemo(other.address);
      expect(await keys.find(idOf(first['developer']))).toBeUndefined();
      expect(await keys.find(idOf(second['developer']))).toBeDefined();
    } finally {
      await other.drop();
    }
  });

  it('have a past, which a projector goes on with', async () => {
    const other = await createTestDatabase(engine);
    try {
      await prepareDemo(other.address);
      const since = async () =>
        String((await other.database('projector_state').select('transitions_since').first())?.['transitions_since']);
      const before = await since();
      expect(await takeOver(other.database, await newestMigration())).toMatchObject({ sameVersion: true });
      expect(await since()).toBe(before);
      const service = createTasksService(other.database);
      const admin = callerWith({ roles: ['owner'] });
      const query = 'owner:*';
      const past = await service.countTasksOverTime(create(CountTasksOverTimeRequestSchema, { query }), testCall(admin));
      const listed = await listAllTasks(service, testCall(admin), { query });
      expect(past.startTime).toBeUndefined();
      expect(past.points.length).toBeGreaterThan(95);
      expect(past.points.at(-1)?.waiting).toBe(listed.filter(({ waitingSince }) => waitingSince !== undefined).length);
      expect(past.points.at(-1)?.failed).toBe(
        listed.filter(({ currentState, status }) => {
          return currentState?.state === TaskState.FAILED && status !== WorkspaceStatus.DELETED;
        }).length,
      );
      for (const of of ['waiting', 'working', 'failed'] as const) {
        const counts = past.points.map((point) => point[of]);
        expect(Math.min(...counts), of).toBeGreaterThanOrEqual(0);
        expect(new Set(counts).size, of).toBeGreaterThan(1);
      }
    } finally {
      await other.drop();
    }
  });

  it('are not loaded a second time after a migration down and up', async () => {
    const other = await createTestDatabase(engine);
    try {
      expect(await loadDemo(other.database, { now })).toBe(true);
      await migrateDown(other.database, {});
      await migrateUp(other.database, { triggers: !isDistributed });
      expect(await loadDemo(other.database, { now })).toBe(false);
      expect({ ...(await contents(other.database)), notes: '' }).toEqual({ ...(await contents(database)), notes: '' });
    } finally {
      await other.drop();
    }
  });

  it('are redone after an interrupted load, which leaves nothing', async () => {
    const other = await createTestDatabase(engine);
    try {
      // The last table that is written refuses the load.
      await other.database.raw('rename table `workspace_app_statuses` to `away`');
      await expect(loadDemo(other.database, { now })).rejects.toThrow('workspace_app_statuses');
      for (const table of sourceTables.filter((name) => name !== 'workspace_app_statuses')) {
        expect(await count(other.database, table), table).toBe(0);
      }
      await other.database.raw('rename table `away` to `workspace_app_statuses`');
      expect(await loadDemo(other.database, { now })).toBe(true);
      expect(await contents(other.database)).toEqual(await contents(database));
    } finally {
      await other.drop();
    }
  });

  it('are about 200 workspaces, of which about 120 are tasks', async () => {
    const workspaces = await count(database, 'workspaces');
    expect(workspaces).toBeGreaterThanOrEqual(190);
    expect(workspaces).toBeLessThanOrEqual(210);
    expect(tasks.length).toBeGreaterThanOrEqual(115);
    expect(tasks.length).toBeLessThanOrEqual(125);
    // Everything that is meant to be a task is one, and the two of the example.
    expect(tasks).toHaveLength(Object.values(demoTasks).flat().length + 2);
  });

  const statuses = ['pending', 'starting', 'running', 'stopping', 'stopped', 'failed', 'canceling', 'canceled', 'deleting'];
  const phases = ['pending', 'initializing', 'active', 'paused', 'unknown', 'error'];
  const states = ['working', 'idle', 'complete', 'failure'];

  it.each([
    ['everyone', undefined],
    ['developer', '9e9b9475-0fc0-47b2-9170-a5b7b9a075ee'],
  ])('show every status, phase and state in the list of %s', (_who, owner) => {
    const listed = tasks.filter((task) => !task.deleted && (owner === undefined || task.owner_id.equals(uuid(owner))));
    expect(new Set(listed.map(({ status }) => status))).toEqual(new Set(statuses));
    expect(new Set(listed.map(({ phase }) => phase))).toEqual(new Set(phases));
    expect(new Set(listed.flatMap(({ state }) => state?.state ?? []))).toEqual(new Set(states));
  });

  it('have deleted tasks besides', () => {
    const deleted = tasks.filter((task) => task.deleted);
    expect(deleted.length).toBeGreaterThanOrEqual(2);
    expect(new Set(deleted.map(({ status }) => status))).toEqual(new Set(['deleted']));
  });

  it('have a task in every life of an agent, and agents in every connection', async () => {
    const lives = ['created', 'starting', 'start_timeout', 'start_error', 'ready', 'shutting_down', 'shutdown_timeout'];
    expect(new Set(tasks.flatMap(({ lifecycle }) => lifecycle ?? []))).toEqual(new Set([...lives, 'shutdown_error', 'off']));
    const [rows] = (await database.raw(
      `select distinct case
         when a.first_connected_at is null then
           if(a.connection_timeout_seconds > 0 and a.created_at + interval a.connection_timeout_seconds second < ?, 'timeout', 'connecting')
         when a.disconnected_at > a.last_connected_at then 'disconnected'
         when a.last_connected_at + interval 30 second < ? then 'lost'
         else 'connected' end as connection
       from workspace_agents as a`,
      [timeOf(now), timeOf(now)],
    )) as [{ connection: string }[]];
    expect(rows.map(({ connection }) => connection).toSorted()).toEqual([
      'connected',
      'connecting',
      'disconnected',
      'lost',
      'timeout',
    ]);
  });

  it('have what is told apart elsewhere: favorites, dormant and shared ones, stale reports, flags that are not carried', async () => {
    const live = tasks.filter((task) => !task.deleted);
    expect(live.filter(({ favorite }) => favorite === 1).length).toBeGreaterThanOrEqual(3);
    expect(live.filter(({ dormant_at }) => dormant_at !== null).length).toBeGreaterThanOrEqual(1);
    expect(live.filter(({ user_acl }) => Object.keys(user_acl).length > 0).length).toBeGreaterThanOrEqual(5);
    expect(live.filter(({ group_acl }) => Object.keys(group_acl).length > 0).length).toBeGreaterThanOrEqual(5);
    expect(live.filter((task) => formatUuid(task.organization_id) in task.group_acl).length).toBeGreaterThanOrEqual(1);
    expect(live.filter(({ staleReport }) => staleReport).length).toBeGreaterThanOrEqual(5);
    expect(live.filter(({ flags }) => flags.at(-1) === null).length).toBeGreaterThanOrEqual(20);
    expect(live.filter(({ flags, status }) => flags.at(-1) === 0 && status === 'stopped').length).toBeGreaterThanOrEqual(3);
    expect(live.filter(({ flags, status }) => flags.at(-1) === 1 && status === 'stopped').length).toBeGreaterThanOrEqual(5);
    expect(live.filter(({ flags, status }) => flags.length === 1 && status === 'failed').length).toBeGreaterThanOrEqual(3);
    expect(live.filter(({ outdated }) => outdated).length).toBeGreaterThanOrEqual(4);
    expect(live.filter(({ prompt }) => prompt.length > 1500).length).toBeGreaterThanOrEqual(1);
  });

  it('have names of letters, digits and hyphens, at most 32 characters, once per owner whatever the case', async () => {
    const workspaces = await database('workspaces').select<{ owner_id: Buffer; name: string }[]>('owner_id', 'name');
    for (const { name } of workspaces) expect(name).toMatch(/^(?=.{1,32}$)[A-Za-z0-9]+(?:-[A-Za-z0-9]+)*$/);
    const keys = workspaces.map(({ owner_id, name }) => `${owner_id.toString('hex')} ${name.toLowerCase()}`);
    expect(new Set(keys).size).toBe(keys.length);
    expect(workspaces.filter(({ name }) => /herschel/.test(name))).toHaveLength(1);
    expect(workspaces.filter(({ name }) => /dewdney/.test(name))).toHaveLength(1);
  });

  it('have messages and links as agents may send them, and no time in the future', async () => {
    const reports = await database('workspace_app_statuses').select<
      {
        message: string;
        uri: string | null;
      }[]
    >('message', 'uri');
    for (const { message, uri } of reports) {
      expect(Buffer.byteLength(message)).toBeLessThanOrEqual(160);
      expect(message).not.toBe('');
      if (uri !== null) expect(uri).toMatch(/^https:\/\/git\.example\.com\/[\w-]+\/[\w-]+\/(pull|issues)\/\d+$/);
    }
    for (const table of sourceTables) {
      for (const row of demoRows(now)[table]) {
        for (const [column, value] of Object.entries(row)) {
          if (column.endsWith('_at') && value !== null) expect(String(value) <= timeOf(now), `${table}.${column}`).toBe(true);
        }
      }
    }
  });

  it.each([
    {
      id: 'a7a27450-ca16-4553-a6c5-9d6f04808569',
      name: 'task-hardcore-herschel-bd08',
      prompt: 'What directory are you in?',
      created_at: '2025-08-22 09:21:39.697094',
      state: {
        state: 'working',
        message: 'Listed root directory contents, working directory reset',
        uri: null,
        created_at: '2025-08-22 10:03:27.837842',
      },
    },
    {
      id: '50f92138-f463-4f2b-abad-1816264b065f',
      name: 'task-musing-dewdney-f058',
      prompt: 'What is 1 + 1?',
      created_at: '2025-08-22 09:18:28.027378',
      state: { state: 'idle', message: 'Completed arithmetic calculation', uri: null, created_at: '2025-08-22 09:22:33.810707' },
    },
  ])('have $name with every value of the example', async ({ id, ...expected }) => {
    const task = tasks.find((one) => one.id.equals(uuid(id)));
    expect(task).toMatchObject({
      ...expected,
      owner_id: uuid('9e9b9475-0fc0-47b2-9170-a5b7b9a075ee'),
      organization_id: uuid('241e869f-1a61-42c9-ae1e-9d46df874058'),
      template_id: uuid('accab607-bbda-4794-89ac-da3926a8b71c'),
      updated_at: expected.created_at,
      status: 'running',
      phase: 'active',
      deleted: 0,
    });
    const owners: unknown = await database('users').where('id', task?.owner_id).select('username');
    expect(owners).toEqual([{ username: 'developer' }]);
  });

  it('have the personas', async () => {
    const users = (await database('users as u')
      .leftJoin('organization_members as m', 'm.user_id', 'u.id')
      .leftJoin('organizations as o', 'o.id', 'm.organization_id')
      .whereIn('u.username', ['admin', 'developer', 'teammate', 'outsider', 'suspended', 'lead'])
      .orderBy('u.username')
      .select('u.username', 'u.status', 'u.rbac_roles', 'm.roles', 'o.name as organization')) as unknown[];
    const member = { status: 'active', rbac_roles: [], roles: [], organization: 'atlas' };
    expect(users).toEqual([
      { ...member, username: 'admin', rbac_roles: ['owner'] },
      { ...member, username: 'developer' },
      { ...member, username: 'lead', roles: ['organization-admin'] },
      { ...member, username: 'outsider', organization: 'meridian' },
      { ...member, username: 'suspended', status: 'suspended' },
      { ...member, username: 'teammate' },
    ]);
  });

  it('are the same for the same now, and have the same ids for any', () => {
    expect(demoRows(now)).toEqual(demoRows(now));
    const ids = (at: Date) => demoRows(at).workspace_app_statuses.map(({ id, message }) => [id, message]);
    expect(ids(new Date(0))).toEqual(ids(now));
  });

  it('come out of the read model as the source rows say', async () => {
    await projectAll(database);
    const rows = await database('workspace_tasks').select<Record<string, unknown>[]>();
    const projected = new Map(rows.map((row) => [(row['id'] as Buffer).toString('hex'), row]));
    expect(projected.size).toBe(tasks.length);
    for (const task of tasks) {
      const derived = task.phase === 'initializing' ? { state: 'working' } : undefined;
      const state = (task.state ?? derived)?.state.replace('failure', 'failed').toUpperCase() as
        | keyof typeof TaskState
        | undefined;
      expect(projected.get(task.id.toString('hex')), task.name).toMatchObject({
        owner_id: task.owner_id,
        name: task.name,
        prompt: task.prompt,
        status: WorkspaceStatus[task.status.toUpperCase() as keyof typeof WorkspaceStatus],
        phase: TaskPhase[task.phase.toUpperCase() as keyof typeof TaskPhase],
        state: state === undefined ? 0 : TaskState[state],
        live: 1 - task.deleted,
        favorite: task.favorite,
        created_at: task.created_at,
        updated_at: task.updated_at,
        ...(task.state === null
          ? {}
          : { state_at: task.state.created_at, state_message: task.state.message, state_uri: task.state.uri ?? '' }),
      });
    }
    expect(await verify(database, () => {})).toBe(0);
  });

  describeKeeper();

  function describeKeeper(): void {
    const agents = async () =>
      (await database('workspace_agents').orderBy('id').select()) as { id: Buffer; last_connected_at: string | null }[];
    const isMeant = (id: Buffer) => connectedDemoAgents().some((one) => one.equals(id));

    it('have agents that are kept connected; the others stay as they are, and nothing is noted', async () => {
      const changes = await count(database, 'workspace_changes');
      expect(changes).toBeGreaterThan(0);
      const before = await agents();
      const startedAt = timeOf(new Date(Date.now() - 1000));
      const keeper = keepDemoAgentsConnected(database, { intervalMs: 50 });
      const seen = async () => (await agents()).find(({ id }) => isMeant(id))?.last_connected_at ?? '';
      await expect.poll(seen).toSatisfy((at: string) => at > startedAt);
      const first = await seen();
      await expect.poll(seen).toSatisfy((at: string) => at > first);
      await keeper.stop();
      const after = await agents();
      const last = timeOf(new Date());
      for (const [index, { last_connected_at: at, ...rest }] of after.entries()) {
        const { last_connected_at: was, ...same } = before[index] as (typeof before)[number];
        expect(rest).toEqual(same);
        if (isMeant(rest.id)) expect(at !== null && at > startedAt && at <= last).toBe(true);
        else expect(at).toBe(was);
      }
      expect(connectedDemoAgents().length).toBeGreaterThan(50);
      expect(await count(database, 'workspace_changes')).toBe(changes);
      await sleep(150);
      expect(await agents()).toEqual(after);
    });

    it('have agents that stay disconnected once they were disconnected by hand', async () => {
      const [id] = connectedDemoAgents();
      const at = '2026-11-23 12:00:00.000000';
      await database('workspace_agents').where({ id }).update({ last_connected_at: at, disconnected_at: at });
      await keepDemoAgentsConnected(database).stop();
      expect(await database('workspace_agents').where({ id }).first('last_connected_at')).toEqual({ last_connected_at: at });
    });

    it('have agents that report again after the database was away', async () => {
      const errors: unknown[] = [];
      const pool = openDatabase(test.address, { size: 1, statementTimeoutMs: 5000 });
      await database.raw('rename table `workspace_agents` to `away`');
      const log = { debug: (error: unknown) => errors.push(error) } as never;
      const keeper = keepDemoAgentsConnected(pool, { intervalMs: 20, log });
      try {
        await expect.poll(() => errors.length).toBeGreaterThan(1);
      } finally {
        await database.raw('rename table `away` to `workspace_agents`');
      }
      const startedAt = timeOf(new Date(Date.now() - 1000));
      const second = connectedDemoAgents()[1] as Buffer;
      const seen = async () => (await agents()).find(({ id }) => id.equals(second))?.last_connected_at ?? '';
      await expect.poll(seen).toSatisfy((at: string) => at > startedAt);
      await keeper.stop();
      await closeDatabase(pool);
    });
  }
});

function timeOf(date: Date): string {
  return `${date.toISOString().slice(0, 23).replace('T', ' ')}000`;
}
