import type { Knex } from 'knex';
import type { Database } from '../../db/connection.ts';
import type { Scope, Subject } from '../scope.ts';
import type { Bindings, Slot } from './statement-template.ts';
import { aclKinds } from './tables.ts';

/** A scope with slots for its values. */
export interface BoundScope {
  readonly onlyIds?: readonly Slot[];
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

/** `and (<whereReadable> or (t.owner_id = ? and t.organization_id in (…)))`: for one row, or a walk, an OR is right. */
export function whereInScope(database: Database, query: Knex.QueryBuilder, { onlyIds, rights }: BoundScope): void {
  if (onlyIds !== undefined) query.whereIn('t.id', onlyIds);
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
