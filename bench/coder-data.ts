import { createHash } from 'node:crypto';
import type { Client } from 'pg';
import { formatUuid } from '../src/db/uuid.ts';
import { createCoderSchema } from '../test/support/coder-schema.ts';

/** A Coder database in PostgreSQL, with so many workspaces, each with a task: some ten rows of the copied tables each. */
export async function makeCoder(client: Client, workspaces: number): Promise<void> {
  await createCoderSchema(client, 'newest');
  // Without triggers and foreign keys: what is made here belongs together.
  await client.query('set session_replication_role = replica');
  for (const table of tables) await client.query(statement(table, workspaces));
  await client.query('set session_replication_role = origin');
  await client.query('vacuum analyze');
}

/** The user who may read everything. */
export const siteOwner = 'user-1';

/** The id of a task, by its number. */
export function taskId(number: number): string {
  return formatUuid(createHash('md5').update(`task ${number}`).digest());
}

/** Changes of a running Coder, each a transaction: `$1` is the number of a workspace and its task, `$2` a text. */
export const coderChanges = [
  `insert into workspace_app_statuses (id, created_at, agent_id, app_id, workspace_id, state, message)
   values (gen_random_uuid(), clock_timestamp(), ${idOf('agent', '$1::int')}, ${idOf('app', '$1::int')}, ${idOf('workspace', '$1::int')}, 'working', $2)`,
  `update workspace_agents set name = $2, updated_at = clock_timestamp() where id = ${idOf('agent', '$1::int')}`,
  `update tasks set name = $2 where id = ${idOf('task', '$1::int')}`,
] as const;

/** How many there are of what tasks share. */
const users = 200;
const organizations = 4;
const templates = 20;

interface MadeTable {
  readonly name: string;
  /** How many rows; undefined means one for each workspace. */
  readonly rows?: number;
  /** Each column, as SQL of the row's number `i`. */
  readonly columns: Readonly<Record<string, string>>;
}

/** `md5('user ' || i)::uuid`: an id that can be told from the number. */
function idOf(kind: string, number: string): string {
  return `md5('${kind} ' || (${number}))::uuid`;
}

const times = { created_at: "'2026-11-01'::timestamptz + i * interval '1 second'", updated_at: "'2026-11-20'::timestamptz" };
const userOf = idOf('user', `i % ${users} + 1`);
const organizationOf = idOf('organization', `i % ${organizations} + 1`);
const templateOf = idOf('template', `i % ${templates} + 1`);
const versionOf = idOf('version', `i % ${templates} + 1`);
const text = (value: string): string => `'${value}'`;

const tables: readonly MadeTable[] = [
  {
    name: 'organizations',
    rows: organizations,
    columns: {
      id: idOf('organization', 'i'),
      name: "'org-' || i",
      display_name: text(''),
      description: text(''),
      default_org_member_roles: text('{}'),
      ...times,
    },
  },
  {
    name: 'users',
    rows: users,
    columns: {
      id: idOf('user', 'i'),
      email: "'user-' || i || '@example.com'",
      username: "'user-' || i",
      name: text(''),
      hashed_password: "''::bytea",
      status: text('active'),
      rbac_roles: "case when i = 1 then '{owner}'::text[] else '{}' end",
      ...times,
    },
  },
  {
    name: 'organization_members',
    rows: users,
    columns: { organization_id: organizationOf, user_id: idOf('user', 'i'), ...times },
  },
  {
    name: 'templates',
    rows: templates,
    columns: {
      id: idOf('template', 'i'),
      organization_id: organizationOf,
      name: "'template-' || i",
      provisioner: text('terraform'),
      display_name: text('A template'),
      active_version_id: idOf('version', 'i'),
      created_by: idOf('user', '1'),
      ...times,
    },
  },
  {
    name: 'template_versions',
    rows: templates,
    columns: {
      id: idOf('version', 'i'),
      template_id: idOf('template', 'i'),
      organization_id: organizationOf,
      name: text('first'),
      readme: text(''),
      job_id: idOf('version job', 'i'),
      created_by: idOf('user', '1'),
      has_ai_task: 'true',
      ...times,
    },
  },
  {
    name: 'provisioner_jobs',
    columns: {
      id: idOf('job', 'i'),
      organization_id: organizationOf,
      initiator_id: userOf,
      provisioner: text('terraform'),
      storage_method: text('file'),
      type: text('workspace_build'),
      input: "'{}'::jsonb",
      file_id: idOf('file', '1'),
      started_at: times.created_at,
      completed_at: times.created_at,
      ...times,
    },
  },
  {
    name: 'workspaces',
    columns: {
      id: idOf('workspace', 'i'),
      owner_id: userOf,
      organization_id: organizationOf,
      template_id: templateOf,
      name: "'task-' || i",
      ...times,
    },
  },
  {
    name: 'workspace_builds',
    columns: {
      id: idOf('build', 'i'),
      workspace_id: idOf('workspace', 'i'),
      template_version_id: versionOf,
      build_number: '1',
      transition: text('start'),
      initiator_id: userOf,
      job_id: idOf('job', 'i'),
      has_ai_task: 'true',
      ...times,
    },
  },
  {
    name: 'workspace_build_parameters',
    columns: {
      workspace_build_id: idOf('build', 'i'),
      name: text('AI Prompt'),
      value: "'Mend issue ' || i || repeat(' and test it', 20)",
    },
  },
  {
    name: 'workspace_resources',
    columns: {
      id: idOf('resource', 'i'),
      created_at: times.created_at,
      job_id: idOf('job', 'i'),
      transition: text('start'),
      type: text('docker_container'),
      name: text('main'),
    },
  },
  {
    name: 'workspace_agents',
    columns: {
      id: idOf('agent', 'i'),
      name: text('main'),
      resource_id: idOf('resource', 'i'),
      auth_token: idOf('token', 'i'),
      architecture: text('amd64'),
      operating_system: text('linux'),
      ...times,
    },
  },
  {
    name: 'workspace_apps',
    columns: {
      id: idOf('app', 'i'),
      created_at: times.created_at,
      agent_id: idOf('agent', 'i'),
      display_name: text('Agent'),
      icon: text(''),
      slug: text('agent'),
    },
  },
  {
    name: 'workspace_app_statuses',
    columns: {
      id: idOf('status', 'i'),
      created_at: times.updated_at,
      agent_id: idOf('agent', 'i'),
      app_id: idOf('app', 'i'),
      workspace_id: idOf('workspace', 'i'),
      state: text('working'),
      message: "'Working on issue ' || i",
    },
  },
  {
    name: 'tasks',
    columns: {
      id: idOf('task', 'i'),
      organization_id: organizationOf,
      owner_id: userOf,
      name: "'task-' || i",
      workspace_id: idOf('workspace', 'i'),
      template_version_id: versionOf,
      template_parameters: "'{}'::jsonb",
      prompt: "'Mend issue ' || i || repeat(' and test it', 20)",
      created_at: times.created_at,
    },
  },
  {
    name: 'task_workspace_apps',
    columns: {
      task_id: idOf('task', 'i'),
      workspace_build_number: '1',
      workspace_agent_id: idOf('agent', 'i'),
      workspace_app_id: idOf('app', 'i'),
    },
  },
];

/** `insert into users (id, …) select md5('user ' || i)::uuid, … from generate_series(1, 200) as i` */
function statement({ name, rows, columns }: MadeTable, workspaces: number): string {
  const names = Object.keys(columns).map((column) => `"${column}"`);
  return `insert into ${name} (${names.join(', ')}) select ${Object.values(columns).join(', ')} from generate_series(1, ${rows ?? workspaces}) as i`;
}
