import type { Knex } from 'knex';
import type { Database } from '../../db/connection.ts';
import { equalsInAnyCase, foldCase } from '../../db/letter-case.ts';
import { formatUuid } from '../../db/uuid.ts';
import type { AgentStatus } from './tables.ts';

/** Which tasks to list, in terms of columns. All that are given must hold. Times are DATETIME(6) in UTC, as text. */
export interface TaskFilter {
  /** One owner's tasks, or everyone's when absent. */
  readonly ownerId?: Buffer;
  readonly organizationId?: Buffer;
  readonly ids?: readonly Buffer[];
  /** Templates, any of them. */
  readonly templateIds?: readonly Buffer[];
  /** A part of the name, in any case. */
  readonly name?: string;
  /** A part of the first 1,000 characters of the prompt, in any case. */
  readonly prompt?: string;
  /** A WorkspaceStatus. Without one, deleted tasks are left out. */
  readonly status?: number;
  /** A TaskPhase. */
  readonly phase?: number;
  /** A TaskState. */
  readonly state?: number;
  readonly waiting?: boolean;
  readonly agentStatuses?: readonly string[];
  readonly dormant?: true;
  readonly outdated?: boolean;
  readonly externalAgent?: boolean;
  readonly shared?: boolean;
  /** The user, or the group, whom the workspace is shared with by name. */
  readonly sharedWithUserId?: Buffer;
  readonly sharedWithGroupId?: Buffer;
  /** The latest build has a parameter of one of these names, lower-cased. */
  readonly parameterNames?: readonly string[];
  /** The latest build has a parameter of one of these names with its value, both lower-cased. */
  readonly parameterValues?: readonly (readonly [name: string, value: string])[];
  readonly createdAfter?: string;
  readonly createdBefore?: string;
  readonly lastUsedAfter?: string;
  readonly lastUsedBefore?: string;
}

/**
 * Adds what a filter asks of a task `t` to a query, except for what the branches of a list say by their index: owner, status and
 * `waiting:true`. What the read model does not have, since it would change for many tasks at once or with the clock, is looked
 * up by primary key.
 */
export function applyFilter(
  database: Database,
  query: Knex.QueryBuilder,
  filter: TaskFilter,
  agentInactiveSeconds: number,
): void {
  const { organizationId, ids, templateIds, name, phase, state, agentStatuses } = filter;
  if (organizationId !== undefined) query.where('t.organization_id', organizationId);
  if (ids !== undefined) query.whereIn('t.id', ids);
  if (templateIds !== undefined) query.whereIn('t.template_id', templateIds);
  // locate() compares bytes: no character of the name is a wildcard.
  if (name !== undefined) query.whereRaw('locate(?, ??) > 0', [Buffer.from(foldCase(name)), 't.name_fold']);
  if (filter.prompt !== undefined) query.whereRaw('locate(?, ??) > 0', [Buffer.from(foldCase(filter.prompt)), 't.prompt_fold']);
  if (phase !== undefined) query.where('t.phase', phase);
  if (state !== undefined) query.where('t.state', state);
  // Phase active (3) and state idle (2), as `list_status` has it.
  if (filter.waiting === false) query.whereNot((waiting) => waiting.where('t.phase', 3).where('t.state', 2));
  if (filter.dormant === true) query.whereNotNull('t.dormant_at');
  if (filter.createdAfter !== undefined) query.where('t.created_at', '>=', filter.createdAfter);
  if (filter.createdBefore !== undefined) query.where('t.created_at', '<=', filter.createdBefore);

  // exists (select 1 from workspaces as f where f.id = t.id and f.last_used_at >= ? and …)
  const workspace: ((row: Knex.QueryBuilder) => void)[] = [];
  const { lastUsedAfter, lastUsedBefore } = filter;
  if (lastUsedAfter !== undefined) workspace.push((row) => row.where('f.last_used_at', '>=', lastUsedAfter));
  if (lastUsedBefore !== undefined) workspace.push((row) => row.where('f.last_used_at', '<=', lastUsedBefore));
  if (filter.shared !== undefined) {
    // Shared with anybody, whatever for: that is what Coder asks.
    const entries = database.raw('json_length(??) + json_length(??)', ['f.user_acl', 'f.group_acl']);
    workspace.push((row) => row.where(entries, filter.shared === true ? '>' : '=', 0));
  }
  for (const [column, id] of [
    ['f.user_acl', filter.sharedWithUserId],
    ['f.group_acl', filter.sharedWithGroupId],
  ] as const) {
    if (id === undefined) continue;
    workspace.push((row) => row.whereRaw("json_contains_path(??, 'one', ?)", [column, `$."${formatUuid(id)}"`]));
  }
  if (workspace.length > 0) {
    const rows = database.from({ f: 'workspaces' }).select(database.raw('1')).whereRaw('?? = ??', ['f.id', 't.id']);
    for (const condition of workspace) rows.modify(condition);
    query.whereExists(rows);
  }

  if (filter.outdated !== undefined) {
    // … from templates as f where f.id = t.template_id and f.active_version_id <> t.build_template_version_id
    query.whereExists(
      database
        .from({ f: 'templates' })
        .select(database.raw('1'))
        .whereRaw('?? = ??', ['f.id', 't.template_id'])
        .whereRaw(`?? ${filter.outdated ? '<>' : '='} ??`, ['f.active_version_id', 't.build_template_version_id']),
    );
  }
  if (filter.externalAgent !== undefined) {
    // … from workspace_builds as f where f.id = t.build_id and f.has_external_agent = ?, and NULL is neither
    query.whereExists(
      database
        .from({ f: 'workspace_builds' })
        .select(database.raw('1'))
        .whereRaw('?? = ??', ['f.id', 't.build_id'])
        .where('f.has_external_agent', filter.externalAgent),
    );
  }
  const { parameterNames = [], parameterValues = [] } = filter;
  // exists (select 1 from workspace_build_parameters as f where f.workspace_build_id = t.build_id and (<name, and value> or …))
  if (parameterNames.length > 0) {
    query.whereExists(
      parameters(database).where((any) => {
        for (const name of parameterNames) any.orWhere(equalsInAnyCase(database, 'f.name', name));
      }),
    );
  }
  if (parameterValues.length > 0) {
    query.whereExists(
      parameters(database).where((any) => {
        for (const [name, value] of parameterValues) {
          any.orWhere((pair) =>
            pair.where(equalsInAnyCase(database, 'f.name', name)).where(equalsInAnyCase(database, 'f.value', value)),
          );
        }
      }),
    );
  }
  if (agentStatuses !== undefined && agentStatuses.length > 0) {
    const words = allAgentStatuses.filter((word) => agentStatuses.includes(word));
    if (words.length === 0) query.whereRaw('false'); // a word that is no status matches nothing, as in Coder
    // Any agent of the latest build counts, sub-agents too, if that build is a start (coderd/database/queries/workspaces.sql):
    // … from workspace_builds as b join workspace_resources as r on r.job_id = b.job_id
    //   join workspace_agents as a on a.resource_id = r.id and a.deleted = 0
    //   where b.id = t.build_id and b.transition = 'start' and (<status> = ? or …)
    query.whereExists(
      database
        .from({ b: 'workspace_builds' })
        .join({ r: 'workspace_resources' }, 'r.job_id', 'b.job_id')
        .join({ a: 'workspace_agents' }, (on) => on.on('a.resource_id', 'r.id').andOnVal('a.deleted', 0))
        .select(database.raw('1'))
        .whereRaw('?? = ??', ['b.id', 't.build_id'])
        .where('b.transition', 'start')
        .where((any) => {
          for (const word of words) any.orWhereRaw('? = ?', [agentStatus(database, agentInactiveSeconds), word]);
        }),
    );
  }
}

const allAgentStatuses: readonly AgentStatus[] = ['connecting', 'connected', 'disconnected', 'timeout'];

/** `select 1 from workspace_build_parameters as f where f.workspace_build_id = t.build_id` */
function parameters(database: Database): Knex.QueryBuilder {
  return database
    .from({ f: 'workspace_build_parameters' })
    .select(database.raw('1'))
    .whereRaw('?? = ??', ['f.workspace_build_id', 't.build_id']);
}

/**
 * Whether an agent `a` is connected, judged by the database's clock, the first rule that holds (coderd/database/modelmethods.go,
 * WorkspaceAgent.Status). The boundaries themselves still count as connected, and as not timed out.
 */
export function agentStatus(database: Database, inactiveSeconds: number): Knex.Raw {
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
