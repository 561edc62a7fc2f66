import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Database } from '../../src/db/connection.ts';
import { formatUuid } from '../../src/db/uuid.ts';
import { TaskState } from '../../src/gen/tasks/v1/tasks_pb.ts';
import { projectAll } from '../../src/projection/rebuild.ts';
import { phaseWords } from '../../src/tasks/query-keys.ts';
import { createTestDatabase, describeOnServerKinds, type TestDatabase } from '../support/database.ts';
import { insertSources, type SourceValues } from '../support/source-writer.ts';
import { newId } from '../support/tasks.ts';

// Coder's tables of a task's status (its view tasks_with_status) and of its current state (deriveTaskCurrentState), row by row, as rows
// of the source tables.

/** When the builds were made, and reports that came before, with, and after that. */
const at = { before: '2026-11-01 10:00:00.000002', build: '2026-11-01 10:00:00.000003', after: '2026-11-01 10:00:00.000004' };

const jobs = {
  pending: {},
  running: { started_at: at.build },
  succeeded: { started_at: at.build, completed_at: at.after },
  failed: { started_at: at.build, completed_at: at.after, error: 'it broke' },
  canceling: { started_at: at.build, canceled_at: at.after },
  canceled: { started_at: at.build, canceled_at: at.after, completed_at: at.after },
} as const satisfies Record<string, SourceValues>;

const transitions = ['start', 'stop', 'delete'] as const;
const healths = ['healthy', 'disabled', 'initializing', 'unhealthy', null] as const;

/** What a task has: a null agent, or app, is none. */
interface Row {
  /** Without it there is no workspace; `unlinked` has no row of `task_workspace_apps`, and `missing` one of another build. */
  readonly build?: 'unlinked' | 'missing' | readonly [(typeof transitions)[number], keyof typeof jobs];
  readonly agent?: string | null;
  readonly app?: (typeof healths)[number];
  readonly reportedAt?: string;
}

/** Every combination of a verdict of the tables. */
function rows(
  builds: readonly (readonly [(typeof transitions)[number], keyof typeof jobs])[],
  agents: readonly (string | null)[] = ['ready'],
  apps: readonly (typeof healths)[number][] = ['healthy'],
): Row[] {
  return builds.flatMap((build) => agents.flatMap((agent) => apps.map((app) => ({ build, agent, app }))));
}

const goesOn = [
  ['start', 'running'],
  ['start', 'succeeded'],
] as const;
const isUp = ['ready', 'start_timeout', 'start_error'];
const isDown = ['shutting_down', 'shutdown_timeout', 'shutdown_error', 'off'];
const ended = (['stop', 'delete'] as const).map((transition) => [transition, 'succeeded'] as const);
const endsNow = (['stop', 'delete'] as const).flatMap((transition) =>
  (['pending', 'running'] as const).map((job) => [transition, job] as const),
);
const broken = transitions.flatMap((transition) =>
  (['failed', 'canceling', 'canceled'] as const).map((job) => [transition, job] as const),
);

const statuses: readonly (readonly [status: string, of: readonly Row[]])[] = [
  ['pending', [{}, { build: 'unlinked' }, { build: 'missing', agent: null, app: null }, ...rows([['start', 'pending']])]],
  ['initializing', rows(goesOn, [null, 'created', 'starting'], healths)],
  ['initializing', rows(goesOn, isUp, ['initializing'])],
  ['active', rows(goesOn, isUp, ['healthy', 'disabled'])],
  ['error', rows(goesOn, isUp, ['unhealthy'])],
  ['unknown', rows(goesOn, isUp, [null])],
  ['unknown', rows(goesOn, isDown, healths)],
  ['paused', rows(ended, [null, 'off', 'ready'], [null, 'unhealthy'])],
  ['unknown', rows(endsNow)],
  ['error', rows(broken, [null, 'ready'])],
];

const reported = { state: TaskState.IDLE, message: 'Done?' };
const nothing = { state: TaskState.UNSPECIFIED, message: '' };
const working = (message: string) => ({ state: TaskState.WORKING, message });
const starting = (agent: string | null, app: Row['app'] = 'initializing'): Row => ({ build: ['start', 'succeeded'], agent, app });
const states: readonly (readonly [of: Row, expected: { readonly state: TaskState; readonly message: string }])[] = [
  [{ ...starting('ready', 'healthy'), reportedAt: at.after }, reported],
  [{ ...starting('ready', 'healthy'), reportedAt: at.build }, nothing],
  [{ ...starting('ready', 'healthy'), reportedAt: at.before }, nothing],
  [{ ...starting('ready', 'healthy') }, nothing],
  [{ build: ['stop', 'succeeded'], agent: 'off', app: 'disabled', reportedAt: at.before }, reported],
  [{ build: ['delete', 'succeeded'], agent: 'off', app: 'disabled', reportedAt: at.before }, reported],
  [{ ...starting('starting'), reportedAt: at.after }, reported],
  [{ ...starting('starting'), reportedAt: at.before }, working('Agent is starting')],
  [{ build: ['start', 'running'], agent: null, app: null }, working('Workspace is starting')],
  [starting(null), working('Initializing workspace')],
  [starting('created'), working('Agent is connecting')],
  [starting('starting'), working('Agent is starting')],
  [starting('ready'), working('App is initializing')],
  [starting('start_timeout'), working('Initializing workspace agent')],
  [{}, nothing],
];

/** Writes a task for each of some rows, and returns their ids in the same order. */
async function write(database: Database, given: readonly Row[]): Promise<string[]> {
  const tasks = given.map(({ build, agent = null, app = null, reportedAt }) => {
    const ids = { id: newId(), workspace: newId(), job: newId(), resource: newId(), agentId: newId(), appId: newId() };
    const [transition, job] = Array.isArray(build) ? build : (['start', 'succeeded'] as const);
    return { ...ids, build, agent, app, reportedAt, transition, job: jobs[job as keyof typeof jobs], jobId: ids.job };
  });
  type Written = (typeof tasks)[number];
  const insert = async (table: string, some: (task: Written) => boolean, rowOf: (task: Written) => SourceValues) => {
    // The columns of rows in one statement must be the same.
    const values = tasks.filter(some).map(rowOf);
    if (values.length > 0) await insertSources(database, table, values);
  };
  const has = ({ build }: Written) => build !== undefined;
  const columns = { started_at: null, completed_at: null, canceled_at: null, error: null };
  await insert('provisioner_jobs', has, ({ jobId, job }) => ({ id: jobId, ...columns, ...job }));
  await insert('workspaces', has, ({ workspace }) => ({ id: workspace }));
  await insert('workspace_builds', has, ({ workspace, jobId, transition }) => ({
    ...{ workspace_id: workspace, job_id: jobId, transition, created_at: at.build },
  }));
  await insert('workspace_resources', has, ({ resource, jobId }) => ({ id: resource, job_id: jobId }));
  await insert(
    'workspace_agents',
    ({ agent }) => agent !== null,
    ({ agentId, resource, agent }) => ({ id: agentId, resource_id: resource, lifecycle_state: agent }),
  );
  await insert(
    'workspace_apps',
    ({ app }) => app !== null,
    ({ appId, agentId, app }) => ({ id: appId, agent_id: agentId, health: app }),
  );
  await insert(
    'workspace_app_statuses',
    ({ reportedAt }) => reportedAt !== undefined,
    ({ workspace, agentId, appId, reportedAt = null }) => ({
      ...{ workspace_id: workspace, agent_id: agentId, app_id: appId, state: 'idle', message: 'Done?', created_at: reportedAt },
    }),
  );
  await insert(
    'task_workspace_apps',
    ({ build }) => build !== undefined && build !== 'unlinked',
    ({ id, build, agent, app, agentId, appId }) => ({
      task_id: id,
      workspace_build_number: build === 'missing' ? 7 : 1,
      workspace_agent_id: agent === null ? null : agentId,
      workspace_app_id: app === null ? null : appId,
    }),
  );
  await insert(
    'tasks',
    () => true,
    ({ id, workspace, build }) => ({ id, name: formatUuid(id), workspace_id: build === undefined ? null : workspace }),
  );
  return tasks.map(({ id }) => formatUuid(id));
}

describeOnServerKinds("Coder's tables of tasks", (engine) => {
  let testDatabase: TestDatabase;
  beforeAll(async () => {
    testDatabase = await createTestDatabase(engine);
  });
  afterAll(() => testDatabase.drop());

  const stored = async (): Promise<Map<string, Record<string, unknown>>> => {
    const { database } = testDatabase;
    expect((await projectAll(database)).deadLetters).toBe(0);
    const found = (await database('workspace_tasks')) as { id: Buffer }[];
    return new Map(found.map((row) => [formatUuid(row.id), row as Record<string, unknown>]));
  };

  test('of a status: each row, and each word that it has', async () => {
    const given = statuses.flatMap(([status, some]) => some.map((row) => [status, row] as const));
    const ids = await write(
      testDatabase.database,
      given.map(([, row]) => row),
    );
    const found = await stored();
    for (const [index, [status, row]] of given.entries()) {
      expect(found.get(ids[index] ?? '')?.['phase'], `${status}: ${JSON.stringify(row)}`).toBe(phaseWords.get(status));
    }
    expect(new Set(statuses.map(([status]) => status))).toEqual(new Set(phaseWords.keys()));
  });

  test('of a current state: each row', async () => {
    const ids = await write(
      testDatabase.database,
      states.map(([row]) => row),
    );
    const found = await stored();
    for (const [index, [row, { state, message }]] of states.entries()) {
      const isReport = message === 'Done?';
      const stateAt = state === TaskState.UNSPECIFIED ? null : isReport ? row.reportedAt : at.build;
      expect(found.get(ids[index] ?? ''), JSON.stringify(row)).toMatchObject({
        state,
        state_message: message,
        state_at: stateAt,
      });
    }
  });
});
