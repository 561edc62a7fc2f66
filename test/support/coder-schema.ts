import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ClientBase } from 'pg';
import { parseCsv } from './csv.ts';

/**
 * The versions of Coder's database that the tests know: `seed`, that of August 2025 (migration 362), and `newest`, that of June 2026
 * (migration 527).
 */
export type CoderVersion = 'seed' | 'newest';

/** Where the rows, columns and words of a version are. */
export function coderFolder(version: CoderVersion): string {
  return join(import.meta.dirname, '../data/coder', version);
}

/** A column as Coder's database has it. */
export interface CoderColumn {
  readonly table: string;
  readonly name: string;
  /** The name of its type; that of an array begins with `_`. */
  readonly type: string;
  readonly isNullable: boolean;
  /** An SQL expression. */
  readonly byDefault?: string;
}

/** The columns of a version, in the order of their tables. */
export function coderColumns(version: CoderVersion): CoderColumn[] {
  const [, ...lines] = parseCsv(readFileSync(join(coderFolder(version), 'columns.csv'), 'utf8'));
  return lines.map(([table, name, type, nullable, byDefault]) => ({
    table: table ?? '',
    name: name ?? '',
    type: type ?? '',
    isNullable: nullable === 'YES',
    ...(byDefault === null || byDefault === undefined ? {} : { byDefault }),
  }));
}

/** Makes Coder's tables of a version in an empty database: all that we read, with their keys, cascades and triggers. */
export async function createCoderSchema(client: ClientBase, version: CoderVersion): Promise<void> {
  await client.query(coderSchema(version));
}

/** The statements of {@link createCoderSchema}. Columns and words are those of the recorded lists; keys and triggers stand here. */
function coderSchema(version: CoderVersion): string {
  const columns = coderColumns(version);
  const tables = [...new Set(columns.map(({ table }) => table))];
  const words = new Map([...enumsOf('newest'), ...enumsOf(version)]);
  const used = [...words].filter(([type]) => columns.some((column) => column.type === type || column.type === `_${type}`));
  const has = (table: string, column?: string): boolean =>
    columns.some((one) => one.table === table && (column === undefined || one.name === column));
  const isPresent = (constraint: string): boolean => {
    const [, table = '', names = ''] = /^(\w+) [^(]*\(([^)]*)\)/.exec(constraint) ?? [];
    return names.split(', ').every((name) => has(table, name));
  };
  return [
    ...used.map(([type, list]) => `create type ${type} as enum (${list.map((word) => `'${word}'`).join(', ')});`),
    ...tables.map((table) => {
      const lines = columns.filter((column) => column.table === table).map(columnLine);
      return `create table ${table} (\n  ${lines.join(',\n  ')}\n);`;
    }),
    ...[...keys, ...references, ...checks]
      .filter(isPresent)
      .map((constraint) => `alter table ${constraint.replace(' ', ' add ')};`),
    ...indexes[version].map((index) => `create unique index on ${index};`),
    triggers,
    ...(version === 'newest' ? [newestTriggers] : []),
  ].join('\n');
}

function enumsOf(version: CoderVersion): [type: string, words: string[]][] {
  const [, ...lines] = parseCsv(readFileSync(join(coderFolder(version), 'enums.csv'), 'utf8'));
  return lines.map(([type, words]) => [type ?? '', (words ?? '').split('|')]);
}

function columnLine({ table, name, type, isNullable, byDefault }: CoderColumn): string {
  const sqlType = type.startsWith('_') ? `${type.slice(1)}[]` : type === 'varchar' ? `varchar${lengthOf(table, name)}` : type;
  const generated = name === 'job_status' ? ` generated always as (${jobStatus}) stored` : '';
  return `"${name}" ${sqlType}${byDefault === undefined ? '' : ` default ${byDefault}`}${generated}${isNullable ? '' : ' not null'}`;
}

/** The longest text of a `varchar`; most have 64 characters. */
function lengthOf(table: string, name: string): string {
  const longer: Readonly<Record<string, number>> = {
    readme: 1_048_576,
    message: 1_048_576,
    description: 128,
    icon: 256,
    instance_type: 256,
    directory: 4096,
    expanded_directory: 4096,
    command: 65_534,
    url: 65_534,
    tooltip: 2048,
    type: 192,
  };
  if (name === 'auth_instance_id') return '';
  if (table === 'tasks' && name === 'display_name') return '(127)';
  return `(${longer[name] ?? 64})`;
}

/** The status that Coder's database makes of the times and the error of a job. An empty error counts as no error. */
const jobStatus = `case
    when error <> '' then 'failed'::provisioner_job_status
    when completed_at is not null and canceled_at is not null then 'canceled'::provisioner_job_status
    when completed_at is not null then 'succeeded'::provisioner_job_status
    when canceled_at is not null then 'canceling'::provisioner_job_status
    when started_at is not null then 'running'::provisioner_job_status
    else 'pending'::provisioner_job_status
  end`;

const keys = [
  'users primary key (id)',
  'organizations primary key (id)',
  'organization_members primary key (organization_id, user_id)',
  'groups primary key (id)',
  'groups unique (name, organization_id)',
  'group_members unique (user_id, group_id)',
  'custom_roles unique (name, organization_id)',
  'templates primary key (id)',
  'template_versions primary key (id)',
  'template_versions unique (template_id, name)',
  'workspaces primary key (id)',
  'workspace_builds primary key (id)',
  'workspace_builds unique (job_id)',
  'workspace_builds unique (workspace_id, build_number)',
  'workspace_build_parameters unique (workspace_build_id, name)',
  'provisioner_jobs primary key (id)',
  'workspace_resources primary key (id)',
  'workspace_agents primary key (id)',
  'workspace_apps primary key (id)',
  'workspace_apps unique (agent_id, slug)',
  'workspace_app_statuses primary key (id)',
  'api_keys primary key (id)',
  'tasks primary key (id)',
  'task_workspace_apps primary key (task_id, workspace_build_number)',
];

const references = [
  'api_keys foreign key (user_id) references users (id) on delete cascade',
  'group_members foreign key (group_id) references groups (id) on delete cascade',
  'group_members foreign key (user_id) references users (id) on delete cascade',
  'groups foreign key (organization_id) references organizations (id) on delete cascade',
  'organization_members foreign key (organization_id) references organizations (id) on delete cascade',
  'organization_members foreign key (user_id) references users (id) on delete cascade',
  'provisioner_jobs foreign key (organization_id) references organizations (id) on delete cascade',
  'task_workspace_apps foreign key (task_id) references tasks (id) on delete cascade',
  'task_workspace_apps foreign key (workspace_agent_id) references workspace_agents (id) on delete cascade',
  'task_workspace_apps foreign key (workspace_app_id) references workspace_apps (id) on delete cascade',
  'tasks foreign key (organization_id) references organizations (id) on delete cascade',
  'tasks foreign key (owner_id) references users (id) on delete cascade',
  'tasks foreign key (template_version_id) references template_versions (id) on delete cascade',
  'tasks foreign key (workspace_id) references workspaces (id) on delete cascade',
  'template_versions foreign key (created_by) references users (id) on delete restrict',
  'template_versions foreign key (organization_id) references organizations (id) on delete cascade',
  'template_versions foreign key (template_id) references templates (id) on delete cascade',
  'templates foreign key (created_by) references users (id) on delete restrict',
  'templates foreign key (organization_id) references organizations (id) on delete cascade',
  'workspace_agents foreign key (parent_id) references workspace_agents (id) on delete cascade',
  'workspace_agents foreign key (resource_id) references workspace_resources (id) on delete cascade',
  'workspace_app_statuses foreign key (agent_id) references workspace_agents (id)',
  'workspace_app_statuses foreign key (app_id) references workspace_apps (id)',
  'workspace_app_statuses foreign key (workspace_id) references workspaces (id)',
  'workspace_apps foreign key (agent_id) references workspace_agents (id) on delete cascade',
  'workspace_build_parameters foreign key (workspace_build_id) references workspace_builds (id) on delete cascade',
  'workspace_builds foreign key (ai_task_sidebar_app_id) references workspace_apps (id)',
  'workspace_builds foreign key (job_id) references provisioner_jobs (id) on delete cascade',
  'workspace_builds foreign key (template_version_id) references template_versions (id) on delete cascade',
  'workspace_builds foreign key (workspace_id) references workspaces (id) on delete cascade',
  'workspace_resources foreign key (job_id) references provisioner_jobs (id) on delete cascade',
  'workspaces foreign key (organization_id) references organizations (id) on delete restrict',
  'workspaces foreign key (owner_id) references users (id) on delete restrict',
  'workspaces foreign key (template_id) references templates (id) on delete restrict',
];

/** The sidebar's app of a build is there exactly when the build is flagged: only the seed has it. */
const checks = [
  'workspace_builds check (ai_task_sidebar_app_id is null or has_ai_task), add check (has_ai_task is not true or ai_task_sidebar_app_id is not null)',
];

const commonIndexes = [
  "api_keys (user_id, token_name) where login_type = 'token'",
  'organizations (lower(name)) where not deleted',
  'organizations (is_default) where is_default',
  'templates (organization_id, lower(name)) where not deleted',
  'users (username) where not deleted',
  'users (lower(username)) where not deleted',
  'workspaces (owner_id, lower(name)) where not deleted',
];

const indexes: Readonly<Record<CoderVersion, readonly string[]>> = {
  seed: [...commonIndexes, 'custom_roles (lower(name))', 'users (lower(email)) where not deleted'],
  newest: [
    ...commonIndexes,
    "custom_roles (lower(name), coalesce(organization_id, '00000000-0000-0000-0000-000000000000'))",
    'tasks (owner_id, lower(name)) where deleted_at is null',
    "users (lower(email)) where not deleted and email <> ''",
  ],
};

/** What Coder's own triggers change in the tables that we read: who leaves an organization or is deleted, and roles that end. */
const triggers = `
create function leave_groups() returns trigger language plpgsql as $$ begin
  delete from group_members m using groups g
    where m.user_id = old.user_id and g.id = m.group_id and g.organization_id = old.organization_id;
  return old;
end $$;
create trigger leave_groups before delete on organization_members for each row execute function leave_groups();

create function end_sessions() returns trigger language plpgsql as $$ begin
  delete from api_keys k where k.user_id = new.id;
  return new;
end $$;
create trigger end_sessions after insert or update on users for each row when (new.deleted) execute function end_sessions();

create function end_role() returns trigger language plpgsql as $$ begin
  update organization_members m set roles = array_remove(m.roles, old.name) where m.organization_id = old.organization_id;
  return old;
end $$;
create trigger end_role before delete on custom_roles for each row execute function end_role();
`;

/** In the newest version each organization has roles of its own from its beginning, and who is deleted leaves all organizations. */
const newestTriggers = `
create function begin_roles() returns trigger language plpgsql as $$ begin
  insert into custom_roles (name, display_name, organization_id, org_permissions, is_system)
    select name, '', new.id, '[]', true from unnest(array['organization-member', 'organization-service-account']) as name;
  return new;
end $$;
create trigger begin_roles after insert on organizations for each row execute function begin_roles();

create function leave_organizations() returns trigger language plpgsql as $$ begin
  delete from organization_members m where m.user_id = new.id;
  return new;
end $$;
create trigger leave_organizations after insert or update on users for each row when (new.deleted) execute function leave_organizations();
`;
