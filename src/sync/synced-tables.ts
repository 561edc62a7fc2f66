import {
  array,
  bytes,
  type Conversion,
  flag,
  int4,
  integer,
  jsonList,
  jsonObject,
  keyText,
  longText,
  type TargetValue,
  text,
  time,
  uuid,
} from './values.ts';

/**
 * What becomes of a value of ours when Coder's arrives: the `later` of two times stays; `active` stays where Coder says dormant;
 * and a time that was `extended` by us stays until Coder moves its own. These are what we note of a token's use.
 */
export type OwnNote = 'later' | 'active' | 'extended';

/** A column of ours that is copied. */
export interface SyncedColumn {
  readonly convert: Conversion;
  /** The column of Coder, if it has another name. */
  readonly source?: string;
  /** The value in versions of Coder without the column. Without one, every version that we know has it. */
  readonly absent?: TargetValue;
  /** Set for what the service writes, too. */
  readonly own?: OwnNote;
}

/** A table of Coder that is copied into one of ours, of the same name. */
export interface SyncedTable {
  readonly name: string;
  /** The columns that identify a row, in the order by which both sides are read. */
  readonly key: readonly string[];
  /** How its changes come. Three tables have no primary key: were their updates and deletes published, they would fail in Coder. */
  readonly via: 'replication' | 'inserts' | 'comparison';
  readonly columns: Readonly<Record<string, SyncedColumn>>;
  /** The only rows of ours that are compared with Coder's, as SQL with the table's name for its columns. */
  readonly only?: string;
  /** Set where older versions of Coder lack the table, or have it in another shape that nothing reads yet: then it stays empty. */
  readonly optional?: true;
}

const id = { convert: uuid };
const at = { convert: time };
const words = (characters: number): SyncedColumn => ({ convert: text(characters) });

/** A value of an enum: whatever a newer Coder adds is kept, since PostgreSQL has no longer ones. */
const enumText = text(63);

/**
 * The tables that are copied, from Coder of August 2025 to that of June 2026. What refers to others comes behind them, but for
 * workspaces, which come last: a build is copied when all that it has is there, a workspace when its builds and its task are, and a
 * task when its apps are.
 */
export const syncedTables: readonly SyncedTable[] = [
  {
    name: 'users',
    key: ['id'],
    via: 'replication',
    columns: {
      id,
      username: words(191),
      name: words(255),
      email: words(255),
      avatar_url: { convert: longText(65_535) },
      status: { convert: enumText, own: 'active' },
      rbac_roles: { convert: array },
      deleted: { convert: flag },
      is_service_account: { convert: flag, absent: 0 },
      last_seen_at: { convert: time, own: 'later' },
      created_at: at,
      updated_at: at,
    },
  },
  {
    name: 'organizations',
    key: ['id'],
    via: 'replication',
    columns: {
      id,
      name: words(191),
      display_name: words(255),
      icon: words(256),
      is_default: { convert: flag },
      deleted: { convert: flag },
      default_org_member_roles: { convert: array, absent: null },
      created_at: at,
      updated_at: at,
    },
  },
  {
    name: 'organization_members',
    key: ['organization_id', 'user_id'],
    via: 'replication',
    columns: { organization_id: id, user_id: id, roles: { convert: array }, created_at: at, updated_at: at },
  },
  {
    name: 'groups',
    key: ['id'],
    via: 'replication',
    columns: {
      id,
      organization_id: id,
      name: words(191),
      display_name: words(255),
      avatar_url: { convert: longText(65_535) },
    },
  },
  { name: 'group_members', key: ['user_id', 'group_id'], via: 'comparison', columns: { user_id: id, group_id: id } },
  {
    name: 'custom_roles',
    key: ['id'],
    via: 'comparison',
    columns: {
      id,
      name: words(191),
      display_name: words(255),
      organization_id: id,
      site_permissions: { convert: jsonList },
      org_permissions: { convert: jsonList },
      user_permissions: { convert: jsonList },
      member_permissions: { convert: jsonList, absent: null },
      is_system: { convert: flag, absent: 0 },
      created_at: at,
      updated_at: at,
    },
  },
  {
    name: 'templates',
    key: ['id'],
    via: 'replication',
    columns: {
      id,
      organization_id: id,
      name: words(64),
      display_name: words(64),
      icon: words(256),
      active_version_id: id,
      deleted: { convert: flag },
      user_acl: { convert: jsonObject },
      group_acl: { convert: jsonObject },
      created_at: at,
      updated_at: at,
    },
  },
  {
    name: 'template_versions',
    key: ['id'],
    via: 'replication',
    columns: {
      id,
      template_id: id,
      organization_id: id,
      name: words(64),
      has_ai_task: { convert: flag },
      has_external_agent: { convert: flag },
      created_at: at,
      updated_at: at,
    },
  },
  {
    name: 'provisioner_jobs',
    key: ['id'],
    via: 'replication',
    columns: {
      id,
      organization_id: id,
      started_at: at,
      canceled_at: at,
      completed_at: at,
      error: { convert: longText() },
      created_at: at,
      updated_at: at,
    },
  },
  {
    name: 'workspace_resources',
    key: ['id'],
    via: 'replication',
    columns: { id, job_id: id, transition: { convert: enumText }, type: words(192), name: words(64), created_at: at },
  },
  {
    name: 'workspace_agents',
    key: ['id'],
    via: 'replication',
    columns: {
      id,
      resource_id: id,
      parent_id: id,
      name: words(64),
      deleted: { convert: flag },
      lifecycle_state: { convert: enumText },
      connection_timeout_seconds: { convert: integer() },
      first_connected_at: at,
      last_connected_at: at,
      disconnected_at: at,
      created_at: at,
      updated_at: at,
    },
  },
  {
    name: 'workspace_apps',
    key: ['id'],
    via: 'replication',
    columns: { id, agent_id: id, slug: words(191), display_name: words(64), health: { convert: enumText }, created_at: at },
  },
  {
    name: 'workspace_build_parameters',
    key: ['workspace_build_id', 'name'],
    via: 'inserts',
    columns: { workspace_build_id: id, name: { convert: keyText(700) }, value: { convert: longText() } },
  },
  {
    name: 'workspace_builds',
    key: ['id'],
    via: 'replication',
    columns: {
      id,
      workspace_id: id,
      template_version_id: id,
      build_number: { convert: integer() },
      transition: { convert: enumText },
      job_id: id,
      has_ai_task: { convert: flag },
      ai_task_sidebar_app_id: { convert: uuid, absent: null },
      has_external_agent: { convert: flag },
      created_at: at,
      updated_at: at,
    },
  },
  {
    name: 'workspace_app_statuses',
    key: ['id'],
    via: 'replication',
    columns: {
      id,
      workspace_id: id,
      agent_id: id,
      app_id: id,
      state: { convert: enumText },
      message: { convert: longText() },
      uri: { convert: longText() },
      created_at: at,
    },
  },
  {
    name: 'api_keys',
    key: ['id'],
    via: 'replication',
    columns: {
      id: { convert: keyText(191) },
      hashed_secret: { convert: bytes(32) },
      user_id: id,
      token_name: words(191),
      login_type: { convert: enumText },
      scope: { convert: text(64), absent: 'all' },
      scopes: { convert: array, absent: null },
      allow_list: { convert: array, absent: null },
      // Two thousand years, which can still be added to a time.
      lifetime_seconds: { convert: integer(63_072_000_000n) },
      last_used: { convert: time, own: 'later' },
      expires_at: { convert: time, own: 'extended' },
      coder_expires_at: { convert: time, source: 'expires_at' },
      created_at: at,
      updated_at: { convert: time, own: 'later' },
    },
    // Others are made here, by `keys create`.
    only: '`api_keys`.`coder_expires_at` is not null',
  },
  {
    name: 'task_workspace_apps',
    key: ['task_id', 'workspace_build_number'],
    via: 'replication',
    columns: { task_id: id, workspace_build_number: { convert: int4 }, workspace_agent_id: id, workspace_app_id: id },
    optional: true,
  },
  {
    name: 'tasks',
    key: ['id'],
    via: 'replication',
    columns: {
      id,
      organization_id: id,
      owner_id: id,
      name: words(64),
      display_name: { convert: text(255), absent: null },
      workspace_id: id,
      template_version_id: id,
      prompt: { convert: longText() },
      created_at: at,
      deleted_at: at,
    },
    optional: true,
  },
  {
    name: 'workspaces',
    key: ['id'],
    via: 'replication',
    columns: {
      id,
      owner_id: id,
      organization_id: id,
      template_id: id,
      name: words(64),
      deleted: { convert: flag },
      favorite: { convert: flag },
      user_acl: { convert: jsonObject },
      group_acl: { convert: jsonObject },
      last_used_at: at,
      dormant_at: at,
      created_at: at,
      updated_at: at,
    },
  },
];

/** The table of a name. */
export function syncedTable(name: string): SyncedTable | undefined {
  return syncedTables.find((table) => table.name === name);
}
