/** The database accounts of the service's parts, each with only the privileges that it needs. */
export const accounts = {
  serve: 'serve with PROJECTOR=false. With the projector inside, the account needs what project has, too',
  project: 'project --follow, --all, --retry and --verify',
  sync: 'sync. A serve with CODER_DATABASE_URL needs what sync has, too',
  migrate: 'migrate and keys. The triggers work with the rights of this account: keep it',
  replica: 'reads from a replica',
} as const;

/** One of {@link accounts}. */
export type AccountKind = keyof typeof accounts;

/** Privileges by table, on all of its columns or on some. */
type Rights = Readonly<Record<string, readonly string[]>>;

/** The tables that lists and tasks are read from. */
const readByLists = [
  'groups',
  'knex_migrations',
  'leases',
  'organization_members',
  'organizations',
  'projector_state',
  'replication_heartbeat',
  'task_events',
  'task_transitions',
  'templates',
  'users',
  'workspace_agents',
  'workspace_build_parameters',
  'workspace_builds',
  'workspace_changes',
  'workspace_resources',
  'workspace_task_acl',
  'workspace_task_trigrams',
  'workspace_tasks',
  'workspaces',
];

/** The tables for authentication, and for the key of page tokens. */
const readByCalls = ['api_keys', 'custom_roles', 'group_members', 'service_settings'];

const readByProjector = [
  'knex_migrations',
  'projector_state',
  'provisioner_jobs',
  'sync_state',
  'task_events',
  'task_transitions',
  'task_workspace_apps',
  'tasks',
  'template_versions',
  'workspace_agents',
  'workspace_app_statuses',
  'workspace_apps',
  'workspace_build_parameters',
  'workspace_builds',
  'workspace_changes',
  'workspace_changes_failed',
  'workspace_resources',
  'workspace_task_acl',
  'workspace_task_trigrams',
  'workspace_tasks',
  'workspaces',
];

/** The tables that are copied from Coder. */
const copiedTables = [
  'api_keys',
  'custom_roles',
  'group_members',
  'groups',
  'organization_members',
  'organizations',
  'provisioner_jobs',
  'task_workspace_apps',
  'tasks',
  'template_versions',
  'templates',
  'users',
  'workspace_agents',
  'workspace_app_statuses',
  'workspace_apps',
  'workspace_build_parameters',
  'workspace_builds',
  'workspace_resources',
  'workspaces',
];

const select = (tables: readonly string[]): Rights => Object.fromEntries(tables.map((table) => [table, ['select']]));

/** The privileges of the accounts that are granted table by table. */
const rights: Readonly<Record<Exclude<AccountKind, 'migrate'>, Rights>> = {
  serve: {
    ...select([...readByLists, ...readByCalls]),
    // Using a session extends it and activates a dormant user, as in Coder.
    api_keys: ['select', 'update (`expires_at`, `last_used`, `updated_at`)'],
    users: ['select', 'update (`last_seen_at`, `status`)'],
    // Measures the lag of replicas.
    replication_heartbeat: ['select', 'update (`beat_at`)'],
    // Readiness says how many workspaces cannot be projected.
    workspace_changes_failed: ['select'],
    // And how the copy of Coder is doing.
    sync_state: ['select'],
  },
  project: {
    ...select(readByProjector),
    workspace_tasks: ['select', 'insert', 'update', 'delete'],
    workspace_task_acl: ['select', 'insert', 'delete'],
    workspace_task_trigrams: ['select', 'insert', 'update', 'delete'],
    workspace_changes: ['select', 'insert', 'delete'],
    workspace_changes_failed: ['select', 'insert', 'update', 'delete'],
    projector_state: ['select', 'update'],
    leases: ['select', 'update (`holder`, `renewals`, `renewed_at`)'],
    task_events: ['select', 'insert', 'delete'],
    task_transitions: ['select', 'insert', 'delete'],
  },
  sync: {
    ...Object.fromEntries(copiedTables.map((table) => [table, ['select', 'insert', 'update', 'delete']])),
    knex_migrations: ['select'],
    service_settings: ['select'],
    sync_state: ['select', 'update'],
    // A first copy says what the tasks are.
    projector_state: ['select', 'update (`task_source`)'],
    leases: ['select', 'update (`holder`, `renewals`, `renewed_at`)'],
    workspace_changes: ['insert'],
  },
  replica: select(readByLists),
};

/** Privileges on all tables: migrations create and drop them, and their triggers. */
const migrateRights = ['select', 'insert', 'update', 'delete', 'create', 'alter', 'drop', 'index', 'trigger'];

/**
 * The GRANT statements of an account for a database. Those for single tables need the tables to exist.
 *
 * @param account as the server spells it, such as `'tasks_serve'@'%'`.
 */
export function grantsFor(kind: AccountKind, database: string, account: string): string[] {
  const name = `\`${database.replaceAll('`', '``')}\``;
  if (kind === 'migrate') {
    // In a grant on a whole database these two are wildcards.
    return [`grant ${migrateRights.join(', ')} on ${name.replaceAll(/[_%]/g, '\\$&')}.* to ${account}`];
  }
  return Object.entries(rights[kind])
    .sort(([a], [b]) => a.localeCompare(b))
    .map(([table, words]) => `grant ${words.join(', ')} on ${name}.\`${table}\` to ${account}`);
}

/** The GRANT statement of an account that must see whether its server is a member of its group; MariaDB has no such table. */
export function grantForMembership(account: string): string {
  return `grant select on \`performance_schema\`.\`replication_group_members\` to ${account}`;
}
