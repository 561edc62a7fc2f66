import { randomBytes } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { TaskPhase, TaskState, WorkspaceStatus } from '../../src/gen/tasks/v1/tasks_pb.ts';
import { type ProjectedTask, projectTask } from '../../src/projection/project-task.ts';
import { type TableTask, taskOfTable } from '../../src/projection/table-tasks.ts';

const id = (): Buffer => randomBytes(16);

/** A row of `tasks` whose agent works, with changes. */
function someTask(changes: Partial<TableTask> = {}): TableTask {
  return {
    id: id(),
    owner_id: id(),
    organization_id: id(),
    workspace_id: id(),
    template_version_id: id(),
    name: 'Some-Task',
    display_name: 'Do something well',
    prompt: 'Do something\nwell',
    created_at: '2026-11-01 10:00:00.000001',
    deleted: 0,
    template_id: id(),
    workspace_deleted: 0,
    favorite: 0,
    user_acl: '{}',
    group_acl: '{}',
    acl_is_cut: 0,
    dormant_at: null,
    updated_at: '2026-11-01 10:00:00.000002',
    build_id: id(),
    build_template_version_id: id(),
    build_transition: 'start',
    build_created_at: '2026-11-01 10:00:00.000003',
    job_status: 'succeeded',
    job_completed: 1,
    job_canceled: 0,
    job_error: 0,
    build_number: 3,
    linked_transition: 'start',
    linked_job_status: 'succeeded',
    agent_id: id(),
    agent_lifecycle: 'ready',
    app_id: id(),
    app_health: 'healthy',
    status_state: null,
    status_message: null,
    status_uri: null,
    status_created_at: null,
    ...changes,
  };
}

const project = (changes: Partial<TableTask> = {}): ProjectedTask => projectTask(taskOfTable(someTask(changes)));

/** The columns of a task that has no workspace. */
const noWorkspace = {
  workspace_id: null,
  workspace_deleted: null,
  favorite: null,
  user_acl: null,
  group_acl: null,
  acl_is_cut: null,
  updated_at: null,
  build_id: null,
  build_template_version_id: null,
  build_transition: null,
  build_created_at: null,
  job_status: null,
  job_completed: 0,
  job_canceled: 0,
  job_error: 0,
  build_number: null,
  linked_transition: null,
  linked_job_status: null,
  agent_id: null,
  agent_lifecycle: null,
  app_id: null,
  app_health: null,
} satisfies Partial<TableTask>;

const P = TaskPhase;
const goesOn = ['running', 'succeeded'];
const isUp = ['ready', 'start_timeout', 'start_error'];
const isDown = ['shutting_down', 'shutdown_timeout', 'shutdown_error', 'off'];
const healths = ['initializing', 'healthy', 'disabled', 'unhealthy', null];

describe('the six phases, as Coder’s view tasks_with_status has them', () => {
  test('without a workspace, or without a build that is linked, or without its job: pending', () => {
    expect(project(noWorkspace).row).toMatchObject({ phase: P.PENDING, status: WorkspaceStatus.UNSPECIFIED, list_status: 0 });
    expect(project({ build_number: null, linked_transition: null, linked_job_status: null }).row.phase).toBe(P.PENDING);
    expect(project({ linked_job_status: null }).row.phase).toBe(P.PENDING);
  });

  test.each(['start', 'stop', 'delete'])('%s that is pending', (linked_transition) => {
    const { phase } = project({ linked_transition, linked_job_status: 'pending' }).row;
    expect(phase).toBe(linked_transition === 'start' ? P.PENDING : P.UNKNOWN);
  });

  test.each(['start', 'stop', 'delete'])('%s that failed or is canceled: error', (linked_transition) => {
    for (const linked_job_status of ['failed', 'canceling', 'canceled']) {
      expect(project({ linked_transition, linked_job_status }).row.phase).toBe(P.ERROR);
    }
  });

  test.each(['stop', 'delete'])('%s: paused when it succeeded, unknown while it runs', (linked_transition) => {
    expect(project({ linked_transition, linked_job_status: 'succeeded' }).row.phase).toBe(P.PAUSED);
    expect(project({ linked_transition, linked_job_status: 'running' }).row.phase).toBe(P.UNKNOWN);
  });

  test.each(goesOn)('start that is %s: as its agent says, and then its app', (linked_job_status) => {
    for (const app_health of healths) {
      const phaseOf = (agent_lifecycle: string | null) =>
        project({ linked_job_status, agent_lifecycle, app_health, ...(app_health === null ? { app_id: null } : {}) }).row.phase;
      for (const lifecycle of [null, 'created', 'starting']) expect(phaseOf(lifecycle)).toBe(P.INITIALIZING);
      for (const lifecycle of isDown) expect(phaseOf(lifecycle)).toBe(P.UNKNOWN);
      const expected = { initializing: P.INITIALIZING, healthy: P.ACTIVE, disabled: P.ACTIVE, unhealthy: P.ERROR };
      const byApp = app_health === null ? P.UNKNOWN : expected[app_health as keyof typeof expected];
      for (const lifecycle of isUp) expect(phaseOf(lifecycle)).toBe(byApp);
    }
    expect(project({ linked_job_status, agent_id: null, agent_lifecycle: null }).row.phase).toBe(P.INITIALIZING);
  });

  test('the build that the task names is judged, and not one that came later', () => {
    const { row } = project({ build_transition: 'stop', job_status: 'running' });
    expect(row).toMatchObject({ phase: P.ACTIVE, status: WorkspaceStatus.STOPPING, build_number: 3 });
    const idle = { status_state: 'idle', status_message: '', status_created_at: '2026-11-01 10:00:00.000004' };
    // No list looks for what stops and waits.
    const stops = project({ ...idle, build_transition: 'stop', job_status: 'running' }).row;
    expect(stops).toMatchObject({ phase: P.ACTIVE, state: TaskState.IDLE, list_status: WorkspaceStatus.STOPPING });
    expect(project(idle).row.list_status).toBe(WorkspaceStatus.RUNNING + 16);
  });
});

describe('the current state', () => {
  const report = { status_state: 'idle', status_message: 'Done?', status_uri: 'https://example.com' };
  const before = '2026-11-01 10:00:00.000002';
  const after = '2026-11-01 10:00:00.000004';

  test.each<[transition: string, at: string, isThere: boolean]>([
    ['start', after, true],
    ['start', '2026-11-01 10:00:00.000003', false], // not newer than the build
    ['start', before, false],
    ['stop', before, true],
    ['delete', before, true],
  ])('latest build %s, reported at %s', (build_transition, status_created_at, isThere) => {
    const { row } = project({ ...report, status_created_at, build_transition });
    expect(row.state).toBe(isThere ? TaskState.IDLE : TaskState.UNSPECIFIED);
  });

  const initializing = { linked_job_status: 'succeeded', agent_lifecycle: 'created' };
  test.each<[message: string, changes: Partial<TableTask>]>([
    ['Workspace is pending', { job_status: 'pending', agent_lifecycle: null }],
    ['Workspace is starting', { job_status: 'running', agent_lifecycle: null }],
    ['Initializing workspace', { agent_id: null, agent_lifecycle: null }],
    ['Initializing workspace', { agent_lifecycle: null }],
    ['Agent is connecting', {}],
    ['Agent is starting', { agent_lifecycle: 'starting' }],
    ['App is initializing', { agent_lifecycle: 'ready', app_health: 'initializing' }],
    ['Initializing workspace agent', { agent_lifecycle: 'start_error', app_health: 'initializing' }],
  ])('%s', (state_message, changes) => {
    expect(project({ ...initializing, ...changes }).row).toMatchObject({
      ...{ phase: P.INITIALIZING, state: TaskState.WORKING, state_message, state_uri: '' },
      state_at: '2026-11-01 10:00:00.000003',
    });
  });

  test('there is no current state without a report in any other phase', () => {
    expect(project().row).toMatchObject({ phase: P.ACTIVE, state: 0, state_at: null });
    expect(project(noWorkspace).row).toMatchObject({ phase: P.PENDING, state: 0, state_at: null });
  });
});

describe('the rest', () => {
  test('comes from the task; what belongs to a workspace, from its workspace', () => {
    const task = someTask({ favorite: 1, dormant_at: '2026-11-02 00:00:00.000000' });
    expect(projectTask(taskOfTable(task)).row).toMatchObject({
      ...{ id: task.id, workspace_id: task.workspace_id, owner_id: task.owner_id, template_id: task.template_id },
      ...{ template_version_id: task.template_version_id, build_template_version_id: task.build_template_version_id },
      ...{ name: 'Some-Task', display_name: 'Do something well', prompt: 'Do something\nwell', favorite: 1 },
      ...{ agent_id: task.agent_id, app_id: task.app_id, created_at: task.created_at, updated_at: task.updated_at },
      ...{ dormant_at: '2026-11-02 00:00:00.000000', live: 1 },
    });
  });

  test('a title that there is not is made of the prompt, and an empty one stays', () => {
    expect(project({ display_name: null }).row.display_name).toBe('Do something well');
    expect(project({ display_name: '' }).row.display_name).toBe('');
  });

  test('a task without a workspace is shared with nobody, and was updated when it was made', () => {
    const { row, acl } = project(noWorkspace);
    expect(row).toMatchObject({ workspace_id: null, build_number: 0, build_id: Buffer.alloc(16), updated_at: row.created_at });
    expect(row.build_template_version_id).toEqual(row.template_version_id);
    expect(acl).toEqual([]);
  });

  test('a deleted workspace leaves the task, which is paused when that build succeeded', () => {
    const { row } = project({ workspace_deleted: 1, build_transition: 'delete', linked_transition: 'delete' });
    expect(row).toMatchObject({ live: 1, phase: P.PAUSED, status: WorkspaceStatus.DELETED });
  });

  test('a deleted task is deleted, whatever its workspace does, and shared with nobody', () => {
    const user_acl = JSON.stringify({ '11111111-1111-4111-8111-111111111111': { permissions: ['read'] } });
    expect(project({ user_acl }).acl).toHaveLength(1);
    const { row, acl } = project({ user_acl, deleted: 1 });
    expect(row).toMatchObject({ live: 0, status: WorkspaceStatus.DELETED, list_status: WorkspaceStatus.DELETED });
    expect(acl).toEqual([]);
  });
});
