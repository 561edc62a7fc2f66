import type { Knex } from 'knex';
import type { Database } from '../../db/connection.ts';

/** Whether an agent is connected (coderd/database/modelmethods.go, WorkspaceAgent.Status). */
export type AgentStatus = 'connecting' | 'connected' | 'disconnected' | 'timeout';

/** Every agent status. */
export const agentStatuses: readonly AgentStatus[] = ['connecting', 'connected', 'disconnected', 'timeout'];

/**
 * Whether an agent `a` is connected, judged by the database's clock, the first rule that holds (coderd/database/modelmethods.go,
 * WorkspaceAgent.Status). The boundaries themselves still count as connected, and as not timed out.
 */
export function agentStatusSql(database: Database, inactiveSeconds: number): Knex.Raw {
  return database.raw(
    `(case
       when a.id is null then null
       when a.first_connected_at is null
         then if(a.connection_timeout_seconds > 0
             and timestampdiff(microsecond, a.created_at, utc_timestamp(6)) > a.connection_timeout_seconds * 1000000, 'timeout', 'connecting')
       when a.disconnected_at > a.last_connected_at then 'disconnected'
       when timestampdiff(microsecond, a.last_connected_at, utc_timestamp(6)) > ? then 'disconnected'
       else 'connected'
     end)`,
    [inactiveSeconds * 1_000_000],
  );
}
