import type { Knex } from 'knex';
import type { Database } from '../../src/db/connection.ts';

/** The columns of demo and generated rows, for each source table in the order in which they are written. */
const columns = {
  users: [
    'id',
    'username',
    'name',
    'email',
    'avatar_url',
    'status',
    'rbac_roles',
    'deleted',
    'last_seen_at',
    'created_at',
    'updated_at',
  ],
  organizations: ['id', 'name', 'display_name', 'icon', 'is_default', 'deleted', 'created_at', 'updated_at'],
  organization_members: ['organization_id', 'user_id', 'roles', 'created_at', 'updated_at'],
  groups: ['id', 'organization_id', 'name', 'display_name', 'avatar_url'],
  group_members: ['user_id', 'group_id'],
  templates: [
    'id',
    'organization_id',
    'name',
    'display_name',
    'icon',
    'active_version_id',
    'deleted',
    'user_acl',
    'group_acl',
    'created_at',
    'updated_at',
  ],
  template_versions: ['id', 'template_id', 'organization_id', 'name', 'has_ai_task', 'created_at', 'updated_at'],
  workspaces: [
    'id',
    'owner_id',
    'organization_id',
    'template_id',
    'name',
    'deleted',
    'favorite',
    'user_acl',
    'group_acl',
    'last_used_at',
    'dormant_at',
    'created_at',
    'updated_at',
  ],
  workspace_builds: [
    'id',
    'workspace_id',
    'template_version_id',
    'build_number',
    'transition',
    'job_id',
    'has_ai_task',
    'ai_task_sidebar_app_id',
    'has_external_agent',
    'created_at',
    'updated_at',
  ],
  workspace_build_parameters: ['workspace_build_id', 'name', 'value'],
  provisioner_jobs: ['id', 'organization_id', 'started_at', 'canceled_at', 'completed_at', 'error', 'created_at', 'updated_at'],
  workspace_resources: ['id', 'job_id', 'transition', 'type', 'name', 'created_at'],
  workspace_agents: [
    'id',
    'resource_id',
    'parent_id',
    'name',
    'lifecycle_state',
    'connection_timeout_seconds',
    'first_connected_at',
    'last_connected_at',
    'disconnected_at',
    'created_at',
    'updated_at',
  ],
  workspace_apps: ['id', 'agent_id', 'slug', 'display_name', 'health', 'created_at'],
  workspace_app_statuses: ['id', 'workspace_id', 'agent_id', 'app_id', 'state', 'message', 'uri', 'created_at'],
} as const;

/** A source table. */
type SourceTable = keyof typeof columns;

/** A value of a column: the 16 bytes of an id, text (also times in UTC with microseconds, and JSON), a number or a flag. */
type SourceValue = Buffer | string | number | boolean | null;

/** One row of a source table, spelled as in SQL. */
type SourceRow<Table extends SourceTable> = Readonly<Record<(typeof columns)[Table][number], SourceValue>>;

/** Rows of every source table, collected before they are written. */
export type SourceRows = { readonly [Table in SourceTable]: SourceRow<Table>[] };

/** The source tables in the order in which `insertRows` writes them. */
export const sourceTables = Object.keys(columns) as readonly SourceTable[];

/** Makes an empty collection. */
export function noRows(): SourceRows {
  return Object.fromEntries(sourceTables.map((table) => [table, []])) as unknown as SourceRows;
}

/** Rows in one INSERT: far below the 16 MiB of a packet, and enough to make round trips cheap. */
const rowsPerInsert = 1000;

/**
 * Writes all rows in few statements. The caller provides the transaction.
 *
 *   insert into `table` (`column`, …) values (?, …), (?, …), …
 */
export async function insertRows(connection: Database, rows: SourceRows): Promise<void> {
  for (const table of sourceTables) {
    const names = columns[table];
    const list: readonly Readonly<Record<string, SourceValue>>[] = rows[table];
    for (let from = 0; from < list.length; from += rowsPerInsert) {
      const values = list.slice(from, from + rowsPerInsert).map((row) => names.map((name) => row[name] ?? null));
      // The driver expands an array of arrays to a list of rows, which knex's type of bindings does not include.
      const bindings: readonly unknown[] = [table, names, values];
      await connection.raw('insert into ?? (??) values ?', bindings as Knex.RawBinding[]);
    }
  }
}

/** Ids in one statement. */
const idsPerSelect = 5000;

/** The ids among these that a table has, in hexadecimal. */
export async function presentIds(database: Database, table: 'users' | 'organizations' | 'workspaces', ids: readonly Buffer[]) {
  const present = new Set<string>();
  for (let from = 0; from < ids.length; from += idsPerSelect) {
    const rows = await database(table)
      .whereIn(`${table}.id`, ids.slice(from, from + idsPerSelect))
      .select<{ id: Buffer }[]>(`${table}.id`);
    for (const { id } of rows) present.add(id.toString('hex'));
  }
  return present;
}
