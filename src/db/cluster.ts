import type { Knex } from 'knex';

/**
 * Whether the server is a node of Galera or of Group Replication. What was committed on another node is never lost there, and may
 * show here a moment later. No right is needed to ask.
 *
 *   show session variables where variable_name in ('wsrep_on', 'group_replication_group_name')
 */
export async function isClusterNode(database: Knex): Promise<boolean> {
  const [rows] = (await database.raw(
    "show session variables where variable_name in ('wsrep_on', 'group_replication_group_name')",
  )) as [{ Variable_name: string; Value: string }[]];
  return rows.some(({ Variable_name: name, Value: value }) =>
    name.toLowerCase() === 'wsrep_on' ? value === 'ON' : value !== '',
  );
}
