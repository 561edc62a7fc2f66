import type { Knex } from 'knex';
import type { Database } from '../../db/connection.ts';
import { type AnyCaseText, anyCaseText, equalsInAnyCase, foldCase } from '../../db/letter-case.ts';
import { formatUuid } from '../../db/uuid.ts';
import type { Scope, Subject } from '../scope.ts';
import { type AgentStatus, agentStatuses, agentStatusSql } from './agent-status.ts';
import { type Bindings, repeatLast, type Slot } from './statement-template.ts';
import { aclKinds, waitingOffset } from './tables.ts';
import type { TaskFilter } from './task-filter.ts';

/** A filter with slots for its values. What it has besides is among a few words and numbers of ours, which stand in the text. */
export interface BoundFilter {
  readonly organizationId?: Slot;
  readonly ids?: readonly Slot[];
  readonly workspaceIds?: readonly Slot[];
  readonly templateIds?: readonly Slot[];
  readonly name?: Slot;
  readonly prompt?: Slot;
  readonly phase?: number;
  readonly state?: number;
  readonly waiting?: false;
  readonly agentStatuses?: readonly AgentStatus[];
  readonly dormant?: true;
  readonly outdated?: boolean;
  readonly externalAgent?: boolean;
  readonly shared?: boolean;
  readonly sharedWithUser?: Slot;
  readonly sharedWithGroup?: Slot;
  readonly parameterNames?: readonly AnyCaseText<Slot>[];
  readonly parameterValues?: readonly (readonly [name: AnyCaseText<Slot>, value: AnyCaseText<Slot>])[];
  readonly createdAfter?: Slot;
  readonly createdBefore?: Slot;
  readonly lastUsedAfter?: Slot;
  readonly lastUsedBefore?: Slot;
}

/** Binds the values of a filter, but for what the branches of a list say by their index: owner, status and `waiting:true`. */
export function bindFilter(bindings: Bindings, filter: TaskFilter): BoundFilter {
  const bound: { -readonly [Key in keyof BoundFilter]: BoundFilter[Key] } = {};
  const { phase, state, dormant, outdated, externalAgent, shared, name, prompt } = filter;
  if (phase !== undefined) bound.phase = phase;
  if (state !== undefined) bound.state = state;
  if (filter.waiting === false) bound.waiting = false;
  if (dormant !== undefined) bound.dormant = dormant;
  if (outdated !== undefined) bound.outdated = outdated;
  if (externalAgent !== undefined) bound.externalAgent = externalAgent;
  if (shared !== undefined) bound.shared = shared;
  const words = filter.agentStatuses ?? [];
  // A word that is no status matches nothing, as in Coder.
  if (words.length > 0) bound.agentStatuses = agentStatuses.filter((status) => words.includes(status));

  if (filter.organizationId !== undefined) bound.organizationId = bindings.bind(filter.organizationId);
  if (filter.ids !== undefined) bound.ids = bindings.bindList(filter.ids);
  if (filter.workspaceIds !== undefined) bound.workspaceIds = bindings.bindList(filter.workspaceIds);
  if (filter.templateIds !== undefined) bound.templateIds = bindings.bindList(filter.templateIds);
  if (name !== undefined) bound.name = bindings.bind(Buffer.from(foldCase(name)));
  if (prompt !== undefined) bound.prompt = bindings.bind(Buffer.from(foldCase(prompt)));
  if (filter.sharedWithUserId !== undefined) bound.sharedWithUser = bindings.bind(jsonPath(filter.sharedWithUserId));
  if (filter.sharedWithGroupId !== undefined) bound.sharedWithGroup = bindings.bind(jsonPath(filter.sharedWithGroupId));
  for (const time of ['createdAfter', 'createdBefore', 'lastUsedAfter', 'lastUsedBefore'] as const) {
    const at = filter[time];
    if (at !== undefined) bound[time] = bindings.bind(at);
  }

  const { parameterNames = [], parameterValues = [] } = filter;
  if (parameterNames.length > 0) {
    const pieces = piecesOf(parameterNames);
    bound.parameterNames = repeatLast(parameterNames.map((parameter) => bindText(bindings, parameter, pieces)));
  }
  if (parameterValues.length > 0) {
    const pieces = piecesOf(parameterValues.map(([parameter]) => parameter));
    const valuePieces = piecesOf(parameterValues.map(([, value]) => value));
    bound.parameterValues = repeatLast(
      parameterValues.map(
        ([parameter, value]) => [bindText(bindings, parameter, pieces), bindText(bindings, value, valuePieces)] as const,
      ),
    );
  }
  return bound;
}

/** The path of an id in the JSON of an ACL. */
function jsonPath(id: Buffer): string {
  return `$."${formatUuid(id)}"`;
}

/** How many pieces texts are compared in: as many as the longest needs, rounded up so that there are few numbers. */
function piecesOf(texts: readonly string[]): number {
  const most = Math.max(1, ...texts.map((text) => anyCaseText(text).patterns.length));
  return 2 ** Math.ceil(Math.log2(most));
}

function bindText(bindings: Bindings, given: string, pieces: number): AnyCaseText<Slot> {
  const { text, patterns } = anyCaseText(given, pieces);
  return { text: bindings.bind(text), patterns: patterns.map((pattern) => bindings.bind(pattern)) };
}

/**
 * Adds what a filter asks of a task `t` to a query. What the read model does not have, since it would change for many tasks at once or
 * with the clock, is looked up by primary key.
 */
export function whereFilter(
  database: Database,
  query: Knex.QueryBuilder,
  filter: BoundFilter,
  agentInactiveSeconds: number,
): void {
  const { organizationId, ids, workspaceIds, templateIds, phase, state } = filter;
  if (organizationId !== undefined) query.where('t.organization_id', organizationId);
  if (ids !== undefined) query.whereIn('t.id', ids);
  if (workspaceIds !== undefined) query.whereIn('t.workspace_id', workspaceIds);
  if (templateIds !== undefined) query.whereIn('t.template_id', templateIds);
  // locate() compares bytes: no character of the name is a wildcard.
  if (filter.name !== undefined) query.whereRaw('locate(?, ??) > 0', [filter.name, 't.name_fold']);
  if (filter.prompt !== undefined) query.whereRaw('locate(?, ??) > 0', [filter.prompt, 't.prompt_fold']);
  if (phase !== undefined) query.where('t.phase', phase);
  if (state !== undefined) query.where('t.state', state);
  if (filter.waiting === false) query.where('t.list_status', '<', waitingOffset);
  if (filter.dormant === true) query.whereNotNull('t.dormant_at');
  if (filter.createdAfter !== undefined) query.where('t.created_at', '>=', filter.createdAfter);
  if (filter.createdBefore !== undefined) query.where('t.created_at', '<=', filter.createdBefore);
  whereWorkspace(database, query, filter);
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
  whereParameters(database, query, filter);
  if (filter.agentStatuses !== undefined) whereAgents(database, query, filter.agentStatuses, agentInactiveSeconds);
}

/** `exists (select 1 from workspaces as f where f.id = t.workspace_id and f.last_used_at >= ? and …)`, if anything is asked of the workspace. */
function whereWorkspace(database: Database, query: Knex.QueryBuilder, filter: BoundFilter): void {
  const { lastUsedAfter, lastUsedBefore, shared, sharedWithUser, sharedWithGroup } = filter;
  if ([lastUsedAfter, lastUsedBefore, shared, sharedWithUser, sharedWithGroup].every((asked) => asked === undefined)) return;
  const rows = database.from({ f: 'workspaces' }).select(database.raw('1')).whereRaw('?? = ??', ['f.id', 't.workspace_id']);
  if (lastUsedAfter !== undefined) rows.where('f.last_used_at', '>=', lastUsedAfter);
  if (lastUsedBefore !== undefined) rows.where('f.last_used_at', '<=', lastUsedBefore);
  if (shared !== undefined) {
    // Shared with anybody, whatever for: that is what Coder asks.
    const entries = database.raw('json_length(??) + json_length(??)', ['f.user_acl', 'f.group_acl']);
    rows.where(entries, shared ? '>' : '=', 0);
  }
  if (sharedWithUser !== undefined) rows.whereRaw("json_contains_path(??, 'one', ?)", ['f.user_acl', sharedWithUser]);
  if (sharedWithGroup !== undefined) rows.whereRaw("json_contains_path(??, 'one', ?)", ['f.group_acl', sharedWithGroup]);
  query.whereExists(rows);
}

/** `exists (select 1 from workspace_build_parameters as f where f.workspace_build_id = t.build_id and (<name, and value> or …))` */
function whereParameters(database: Database, query: Knex.QueryBuilder, filter: BoundFilter): void {
  const { parameterNames, parameterValues } = filter;
  const parameters = () =>
    database
      .from({ f: 'workspace_build_parameters' })
      .select(database.raw('1'))
      .whereRaw('?? = ??', ['f.workspace_build_id', 't.build_id']);
  if (parameterNames !== undefined) {
    const named = parameters().where((any) => {
      for (const name of parameterNames) any.orWhere(equalsInAnyCase(database, 'f.name', name));
    });
    query.whereExists(named);
  }
  if (parameterValues !== undefined) {
    const given = parameters().where((any) => {
      for (const [name, value] of parameterValues) {
        any.orWhere((pair) =>
          pair.where(equalsInAnyCase(database, 'f.name', name)).where(equalsInAnyCase(database, 'f.value', value)),
        );
      }
    });
    query.whereExists(given);
  }
}

/**
 * Some agent of the latest build has one of these statuses, sub-agents too, if that build is a start
 * (coderd/database/queries/workspaces.sql):
 *
 *     … from workspace_builds as b join workspace_resources as r on r.job_id = b.job_id
 *       join workspace_agents as a on a.resource_id = r.id and a.deleted = 0
 *       where b.id = t.build_id and b.transition = 'start' and (<status> = ? or …)
 */
function whereAgents(
  database: Database,
  query: Knex.QueryBuilder,
  statuses: readonly AgentStatus[],
  agentInactiveSeconds: number,
): void {
  if (statuses.length === 0) {
    query.whereRaw('false');
    return;
  }
  query.whereExists(
    database
      .from({ b: 'workspace_builds' })
      .join({ r: 'workspace_resources' }, 'r.job_id', 'b.job_id')
      .join({ a: 'workspace_agents' }, (on) => on.on('a.resource_id', 'r.id').andOnVal('a.deleted', 0))
      .select(database.raw('1'))
      .whereRaw('?? = ??', ['b.id', 't.build_id'])
      .where('b.transition', 'start')
      .where((any) => {
        for (const status of statuses) any.orWhereRaw('? = ?', [agentStatusSql(database, agentInactiveSeconds), status]);
      }),
  );
}

/** A scope with slots for its values. */
export interface BoundScope {
  readonly onlyIds?: readonly Slot[];
  readonly onlyWorkspaces?: readonly Slot[];
  readonly rights: BoundRights | 'everything';
}

interface BoundRights extends BoundSharing {
  readonly userId: Slot;
  readonly organizations: readonly Slot[];
  readonly ownIn: readonly Slot[];
}

/** With whom tasks are shared that a scope reads. */
export interface BoundSharing {
  readonly users: readonly Slot[];
  readonly groups: readonly Slot[];
  readonly memberOf: readonly Slot[];
}

/** Binds the values of a scope. */
export function bindScope(bindings: Bindings, scope: Scope): BoundScope {
  return {
    ...(scope.onlyIds === undefined ? {} : { onlyIds: bindings.bindList(scope.onlyIds) }),
    ...(scope.onlyWorkspaces === undefined ? {} : { onlyWorkspaces: bindings.bindList(scope.onlyWorkspaces) }),
    rights: scope.everything
      ? 'everything'
      : {
          userId: bindings.bind(scope.userId),
          organizations: bindings.bindList(scope.organizations),
          ownIn: bindings.bindList(scope.ownIn),
          ...bindSharing(bindings, scope),
        },
  };
}

/** Binds that part of a scope that is about sharing. */
export function bindSharing(bindings: Bindings, { sharedWith, memberOf }: Scope): BoundSharing {
  const idsOf = (kind: Subject['kind']) => sharedWith.flatMap((subject) => (subject.kind === kind ? [subject.id] : []));
  return {
    users: bindings.bindList(idsOf('user')),
    groups: bindings.bindList(idsOf('group')),
    memberOf: bindings.bindList(memberOf),
  };
}

/**
 * `and (<whereReadable> or (t.owner_id = ? and t.organization_id in (…)))`: for one row, or a walk, an OR is right. With a token for some
 * tasks: `and t.id in (…)`, and for the tasks of some workspaces: `and t.workspace_id in (…)`.
 */
export function whereInScope(database: Database, query: Knex.QueryBuilder, scope: BoundScope): void {
  const { onlyIds, onlyWorkspaces, rights } = scope;
  if (onlyIds !== undefined) query.whereIn('t.id', onlyIds);
  if (onlyWorkspaces !== undefined) query.whereIn('t.workspace_id', onlyWorkspaces);
  if (rights === 'everything') return;
  query.where((any) => {
    whereReadable(database, any, rights.organizations, rights);
    any.orWhere((own) => own.where('t.owner_id', rights.userId).whereIn('t.organization_id', rights.ownIn));
  });
}

/**
 * `t.organization_id in (…) or exists (select 1 from workspace_task_acl as s where s.task_id = t.id and s.kind = 1 and
 * s.subject_id = ?) or t.organization_id in (…) and exists (… s.kind = 2 and s.subject_id in (…) and
 * (s.subject_id not in (<organizations>) or s.subject_id = t.organization_id))`
 */
export function whereReadable(
  database: Database,
  any: Knex.QueryBuilder,
  organizations: readonly Slot[],
  sharing: BoundSharing | undefined,
): void {
  any.whereIn('t.organization_id', organizations);
  if (sharing === undefined) return;
  const { users, groups, memberOf } = sharing;
  const sharedWith = (kind: Subject['kind'], ids: readonly Slot[]) =>
    database
      .from({ s: 'workspace_task_acl' })
      .select(database.raw('1'))
      .whereRaw('?? = ??', ['s.task_id', 't.id'])
      .where('s.kind', aclKinds[kind])
      .whereIn('s.subject_id', ids);
  const sharedWithGroup = sharedWith('group', groups).where((group) =>
    group.whereNotIn('s.subject_id', memberOf).orWhereRaw('?? = ??', ['s.subject_id', 't.organization_id']),
  );
  any
    .orWhereExists(sharedWith('user', users))
    .orWhere((group) => group.whereIn('t.organization_id', memberOf).whereExists(sharedWithGroup));
}
