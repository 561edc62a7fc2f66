/** The accounts that the parts of the service can have at the database, each with no more rights than it needs. */
export const accounts = {
  serve: 'serve with PROJECTOR=false. With the projector inside, the account needs what project has, too',
  project: 'project --follow, --all and --verify',
  migrate: 'migrate and keys. The triggers work with the rights of this account: keep it',
  replica: 'reads from a replica',
} as const;

/** One of {@link accounts}. */
export type AccountKind = keyof typeof accounts;

/** A right on a table: on all of it, or on some columns. */
type Rights = Readonly<Record<string, readonly string[]>>;

/** What a list and a task are made of. */
const readByLists = [
  'groups',
  'knex_migrations',
  'organization_members',
  'organizations',
  'projector_state',
  'replication_heartbeat',
  'task_events',
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

/** What tells who calls, and the key of page tokens. */
const readByCalls = ['api_keys', 'custom_roles', 'group_members', 'service_settings'];

const readByProjector = [
  'knex_migrations',
  'projector_state',
  'provisioner_jobs',
  'task_events',
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

const select = (tables: readonly string[]): Rights => Object.fromEntries(tables.map((table) => [table, ['select']]));

/** The rights of the accounts that are granted table by table. */
const rights: Readonly<Record<Exclude<AccountKind, 'migrate'>, Rights>> = {
  serve: {
    ...select([...readByLists, ...readByCalls]),
    // A session that is used lasts longer, and wakes its user, as in Coder.
    api_keys: ['select', 'update (`expires_at`, `last_used`, `updated_at`)'],
    users: ['select', 'update (`last_seen_at`, `status`)'],
    // How old a replica is.
    replication_heartbeat: ['select', 'update (`beat_at`)'],
  },
  project: {
    ...select(readByProjector),
    workspace_tasks: ['select', 'insert', 'update', 'delete'],
    workspace_task_acl: ['select', 'insert', 'delete'],
    workspace_task_trigrams: ['select', 'insert', 'update', 'delete'],
    workspace_changes: ['select', 'insert', 'delete'],
    workspace_changes_failed: ['select', 'insert', 'update', 'delete'],
    projector_state: ['select', 'update'],
    task_events: ['select', 'insert', 'delete'],
  },
  replica: select(readByLists),
};

/** Everything that changes tables, on all of them: migrations make and drop them, and their triggers. */
const migrateRights = ['select', 'insert', 'update', 'delete', 'create', 'alter', 'drop', 'index', 'trigger'];

/**
 * The statements that give an account its rights on a database. Those for tables want the tables to be there.
 *
 * @param account as the server spells it, such as `'tasks_serve'@'%'`.
 */
export function grantsFor(kind: AccountKind, database: string, account: string): string[] {
  const name = `\`${database.replaceAll('`', '``')}\``;
  if (kind === 'migrate') {
    // In a grant on a whole database these two stand for other characters.
    return [`grant ${migrateRights.join(', ')} on ${name.replaceAll(/[_%]/g, '\\$&')}.* to ${account}`];
  }
  return Object.entries(rights[kind])
    .sort(([a], [b]) => a.localeCompare(b))
    .map(([table, words]) => `grant ${words.join(', ')} on ${name}.\`${table}\` to ${account}`);
}
