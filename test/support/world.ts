import { hashSecret } from '../../src/auth/api-key-repository.ts';
import type { Database } from '../../src/db/connection.ts';

/** What a workspace's ACL gives a user or a group, by the id. */
export type Acl = Readonly<Record<string, { readonly permissions: readonly string[] }>>;

/** A permission as `custom_roles` keeps it. */
export interface RolePermission {
  readonly negate: boolean;
  readonly resource_type: string;
  readonly action: string;
}

/** A workspace's own row. */
export interface WorkspaceRow {
  readonly id: string;
  readonly owner_id: string;
  readonly organization_id: string;
  readonly template_id: string;
  readonly name: string;
  readonly deleted: boolean;
  readonly favorite: boolean;
  readonly user_acl: Acl;
  readonly group_acl: Acl;
  readonly last_used_at: string;
  readonly dormant_at: string | null;
  readonly created_at: string;
  readonly updated_at: string;
}

/** A build of a workspace. */
export interface BuildRow {
  readonly id: string;
  readonly workspace_id: string;
  readonly template_version_id: string;
  readonly build_number: number;
  readonly transition: 'start' | 'stop' | 'delete';
  readonly job_id: string;
  readonly has_ai_task: boolean | null;
  readonly ai_task_sidebar_app_id: string | null;
  readonly has_external_agent: boolean | null;
  readonly created_at: string;
}

/** The job of a build, without the status that the database works out. */
export interface JobRow {
  readonly id: string;
  readonly organization_id: string;
  readonly started_at: string | null;
  readonly canceled_at: string | null;
  readonly completed_at: string | null;
  readonly error: string | null;
}

/** An agent in a resource. */
export interface AgentRow {
  readonly id: string;
  readonly resource_id: string;
  readonly parent_id: string | null;
  readonly name: string;
  readonly deleted: boolean;
  readonly lifecycle_state: string;
  readonly connection_timeout_seconds: number;
  readonly first_connected_at: string | null;
  readonly last_connected_at: string | null;
  readonly disconnected_at: string | null;
  readonly created_at: string;
}

/**
 * The rows of every source table, in memory. Tables and columns have their names in SQL. Ids are UUIDs in lower case, times are
 * DATETIME(6) in UTC as text, JSON is not yet text.
 */
export interface World {
  readonly organizations: {
    readonly id: string;
    readonly name: string;
    readonly is_default: boolean;
    readonly deleted: boolean;
    readonly default_org_member_roles?: readonly string[];
  }[];
  readonly users: {
    readonly id: string;
    readonly username: string;
    readonly avatar_url: string;
    readonly status: 'active' | 'dormant';
    readonly rbac_roles: readonly string[];
    readonly deleted: boolean;
    readonly is_service_account?: boolean;
  }[];
  readonly organization_members: {
    readonly organization_id: string;
    readonly user_id: string;
    readonly roles: readonly string[];
  }[];
  readonly custom_roles: {
    readonly id: string;
    readonly name: string;
    readonly organization_id: string | null;
    readonly site_permissions: readonly RolePermission[];
    readonly org_permissions: readonly RolePermission[];
    readonly user_permissions: readonly RolePermission[];
    readonly member_permissions?: readonly RolePermission[];
    readonly is_system?: boolean;
  }[];
  readonly groups: {
    readonly id: string;
    readonly organization_id: string;
    readonly name: string;
    readonly avatar_url: string;
  }[];
  readonly group_members: { readonly user_id: string; readonly group_id: string }[];
  readonly templates: {
    readonly id: string;
    readonly organization_id: string;
    readonly name: string;
    readonly display_name: string;
    readonly icon: string;
    readonly active_version_id: string;
    readonly deleted: boolean;
    readonly user_acl: Acl;
    readonly group_acl: Acl;
  }[];
  readonly workspaces: WorkspaceRow[];
  readonly workspace_builds: BuildRow[];
  readonly workspace_build_parameters: {
    readonly workspace_build_id: string;
    readonly name: string;
    readonly value: string;
  }[];
  readonly provisioner_jobs: JobRow[];
  readonly workspace_resources: {
    readonly id: string;
    readonly job_id: string;
    readonly transition: string;
    readonly type: string;
    readonly name: string;
  }[];
  readonly workspace_agents: AgentRow[];
  readonly workspace_apps: {
    readonly id: string;
    readonly agent_id: string;
    readonly slug: string;
    readonly health: string;
  }[];
  readonly workspace_app_statuses: {
    readonly id: string;
    readonly workspace_id: string;
    readonly agent_id: string;
    readonly app_id: string;
    readonly state: 'working' | 'idle' | 'complete' | 'failure';
    readonly message: string;
    readonly uri: string | null;
    readonly created_at: string;
  }[];
  /** One session token a user, without its id and secret, see {@link tokenOf}. */
  readonly api_keys: {
    readonly user_id: string;
    readonly scope: string;
    readonly scopes: readonly string[] | null;
    readonly allow_list: readonly string[] | null;
  }[];
}

/** A world without rows. */
export function emptyWorld(): World {
  return {
    organizations: [],
    users: [],
    organization_members: [],
    custom_roles: [],
    groups: [],
    group_members: [],
    templates: [],
    workspaces: [],
    workspace_builds: [],
    workspace_build_parameters: [],
    provisioner_jobs: [],
    workspace_resources: [],
    workspace_agents: [],
    workspace_apps: [],
    workspace_app_statuses: [],
    api_keys: [],
  };
}

/** Times of rows whose own do not matter. */
const someTime = '2026-01-01 00:00:00.000000';

/** Which of `created_at` and `updated_at` a table has. */
const timesOf = (table: string): readonly string[] => {
  if (['groups', 'group_members', 'workspace_build_parameters'].includes(table)) return [];
  const createdOnly = ['workspace_resources', 'workspace_apps', 'workspace_app_statuses'];
  return createdOnly.includes(table) ? ['created_at'] : ['created_at', 'updated_at'];
};

/** Every table of a world, and the tables that are made from it. */
const emptied = [
  ...Object.keys(emptyWorld()),
  ...['tasks', 'task_workspace_apps', 'workspace_tasks', 'workspace_task_acl', 'task_events', 'task_transitions'],
];

/** Replaces what is in the database by a world. The read model is left empty. */
export async function loadWorld(database: Database, world: World): Promise<void> {
  await database.transaction(async (transaction) => {
    for (const table of emptied) await transaction(table).delete();
    const { api_keys, ...tables } = world;
    for (const [table, rows] of Object.entries(tables) as [string, object[]][]) {
      const times = Object.fromEntries(timesOf(table).map((column) => [column, someTime]));
      if (rows.length > 0) await transaction(table).insert(rows.map((row) => ({ ...times, ...toColumns(row) })));
    }
    await transaction('api_keys').insert(
      api_keys.map((key) => ({
        ...toColumns(key),
        id: tokenOf(key.user_id).slice(0, 10),
        hashed_secret: hashSecret(tokenOf(key.user_id).slice(11)),
        last_used: transaction.raw('utc_timestamp(6)'),
        expires_at: transaction.raw('utc_timestamp(6) + interval 1 day'),
        created_at: someTime,
        updated_at: someTime,
      })),
    );
  });
}

/** The session token of a user of a world. */
export function tokenOf(userId: string): string {
  const digits = userId.replaceAll('-', '');
  return `${digits.slice(0, 10)}-${digits.slice(10)}`;
}

/** The 16 bytes of a UUID. */
export function toBytes(id: string): Buffer {
  return Buffer.from(id.replaceAll('-', ''), 'hex');
}

function toColumns(row: object): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(row).map(([column, value]: [string, unknown]) => {
      if (typeof value === 'string' && (column === 'id' || column.endsWith('_id'))) return [column, toBytes(value)];
      return [column, typeof value === 'object' && value !== null ? JSON.stringify(value) : value];
    }),
  );
}
