import type { Knex } from 'knex';

/** What kind of cluster a server is a node of. */
export type ClusterKind = 'galera' | 'group-replication';

/**
 * What kind of cluster the server is set up for; undefined for any other server. No right is needed to ask.
 *
 *   show session variables where variable_name in ('wsrep_on', 'wsrep_provider', 'group_replication_group_name')
 */
export async function clusterKind(database: Knex): Promise<ClusterKind | undefined> {
  const [rows] = (await database.raw(
    "show session variables where variable_name in ('wsrep_on', 'wsrep_provider', 'group_replication_group_name')",
  )) as [{ Variable_name: string; Value: string }[]];
  const values = new Map(rows.map(({ Variable_name: name, Value: value }) => [name.toLowerCase(), value]));
  if (values.get('wsrep_on') === 'ON' && (values.get('wsrep_provider') ?? 'none') !== 'none') return 'galera';
  return (values.get('group_replication_group_name') ?? '') === '' ? undefined : 'group-replication';
}

/**
 * Whether the server is a node of Galera or of Group Replication. What was committed on another node is never lost there, and may
 * show here a moment later.
 */
export async function isClusterNode(database: Knex): Promise<boolean> {
  return (await clusterKind(database)) !== undefined;
}
