import { randomBytes } from 'node:crypto';
import type { Database } from '../../src/db/connection.ts';
import { newId } from './tasks.ts';

/** A time of today that nothing else uses, as the database keeps it. */
export function now(): string {
  const at = performance.timeOrigin + performance.now();
  const micros = Math.floor((at % 1) * 1000);
  return `${new Date(at).toISOString().replace('T', ' ').slice(0, 23)}${String(micros).padStart(3, '0')}`;
}

/** A row for a source table: the columns that are named, and for the others something that is allowed. */
export type SourceValues = Readonly<Record<string, Buffer | string | number | null>>;

/** For each source table of the projection, values for the columns that must have one. */
const defaults: Readonly<Record<string, () => SourceValues>> = {
  workspaces: () => ({
    id: newId(),
    owner_id: newId(),
    organization_id: newId(),
    template_id: newId(),
    name: `task-${randomBytes(6).toString('hex')}`,
    user_acl: '{}',
    group_acl: '{}',
    created_at: now(),
    updated_at: now(),
  }),
  workspace_builds: () => ({
    id: newId(),
    workspace_id: newId(),
    template_version_id: newId(),
    build_number: 1,
    transition: 'start',
    job_id: newId(),
    created_at: now(),
    updated_at: now(),
  }),
  workspace_build_parameters: () => ({ workspace_build_id: newId(), name: 'AI Prompt', value: 'Do something' }),
  provisioner_jobs: () => ({ id: newId(), organization_id: newId(), created_at: now(), updated_at: now() }),
  workspace_resources: () => ({
    id: newId(),
    job_id: newId(),
    transition: 'start',
    type: 'docker',
    name: 'main',
    created_at: now(),
  }),
  workspace_agents: () => ({ id: newId(), resource_id: newId(), name: 'main', created_at: now(), updated_at: now() }),
  workspace_apps: () => ({ id: newId(), agent_id: newId(), slug: 'chat', created_at: now() }),
  tasks: () => ({
    id: newId(),
    organization_id: newId(),
    owner_id: newId(),
    name: 'some-task',
    template_version_id: newId(),
    prompt: 'Do something',
    created_at: now(),
  }),
  task_workspace_apps: () => ({ task_id: newId(), workspace_build_number: 1 }),
  workspace_app_statuses: () => ({
    id: newId(),
    workspace_id: newId(),
    agent_id: newId(),
    app_id: newId(),
    state: 'working',
    message: 'On it',
    created_at: now(),
  }),
};

/** Inserts one row, and returns it. */
export async function insertSource(database: Database, table: string, values: SourceValues = {}): Promise<SourceValues> {
  const row = { ...defaults[table]?.(), ...values };
  await database(table).insert(row);
  return row;
}

/** Inserts many rows by one statement. */
export async function insertSources(database: Database, table: string, rows: readonly SourceValues[]): Promise<void> {
  await database(table).insert(rows.map((values) => ({ ...defaults[table]?.(), ...values })));
}

/** Inserts a workspace without a build, and returns its id. */
export async function insertWorkspace(database: Database, values: SourceValues = {}): Promise<Buffer> {
  const { id } = await insertSource(database, 'workspaces', values);
  return id as Buffer;
}

/** Inserts a task of its own, which runs in a workspace, and returns its id. */
export async function insertOwnTask(database: Database, { workspace, agent, app }: SourceTaskIds): Promise<Buffer> {
  const id = newId();
  await insertSource(database, 'task_workspace_apps', { task_id: id, workspace_agent_id: agent, workspace_app_id: app });
  await insertSource(database, 'tasks', { id, workspace_id: workspace });
  return id;
}

/** The ids of a task's rows. */
export interface SourceTaskIds {
  readonly workspace: Buffer;
  readonly build: Buffer;
  readonly job: Buffer;
  readonly resource: Buffer;
  readonly agent: Buffer;
  readonly app: Buffer;
  readonly status: Buffer;
}

/** Inserts a task that runs and has reported, in one transaction. */
export async function insertRunningTask(database: Database, workspace: SourceValues = {}): Promise<SourceTaskIds> {
  const ids = {
    workspace: newId(),
    build: newId(),
    job: newId(),
    resource: newId(),
    agent: newId(),
    app: newId(),
    status: newId(),
  };
  await database.transaction(async (transaction) => {
    const insert = (table: string, values: SourceValues) => insertSource(transaction, table, values);
    await insert('workspaces', { id: ids.workspace, ...workspace });
    await insert('provisioner_jobs', { id: ids.job, started_at: now(), completed_at: now() });
    await insert('workspace_builds', {
      id: ids.build,
      workspace_id: ids.workspace,
      job_id: ids.job,
      has_ai_task: 1,
      ai_task_sidebar_app_id: ids.app,
    });
    await insert('workspace_build_parameters', { workspace_build_id: ids.build });
    await insert('workspace_resources', { id: ids.resource, job_id: ids.job });
    await insert('workspace_agents', { id: ids.agent, resource_id: ids.resource, lifecycle_state: 'ready' });
    await insert('workspace_apps', { id: ids.app, agent_id: ids.agent, health: 'healthy' });
    await insert('workspace_app_statuses', {
      id: ids.status,
      workspace_id: ids.workspace,
      agent_id: ids.agent,
      app_id: ids.app,
      created_at: now(),
    });
  });
  return ids;
}

/** Reports a state of a task, as its agent does. */
export function insertStatus(
  database: Database,
  { workspace, agent, app }: Pick<SourceTaskIds, 'workspace' | 'agent' | 'app'>,
  state: string,
  message?: string,
): Promise<SourceValues> {
  return insertSource(database, 'workspace_app_statuses', {
    workspace_id: workspace,
    agent_id: agent,
    app_id: app,
    state,
    ...(message === undefined ? {} : { message }),
  });
}
