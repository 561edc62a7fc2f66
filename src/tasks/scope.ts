import type { Caller } from './caller.ts';

/**
 * What a caller may read. It becomes a part of the WHERE of every query; there is no query without one.
 *
 * A task may be read when any of these holds:
 * - `everything`: the caller is a site owner;
 * - the task is of one of `organizations`, which the caller administers;
 * - the caller owns the task and is a member of its organization, one of `memberOf`.
 *
 * Source: coderd/rbac/roles.go and policy.rego. A right at the user level counts in organizations the user is a member of.
 */
export interface Scope {
  readonly userId: Buffer;
  readonly everything: boolean;
  readonly organizations: readonly Buffer[];
  readonly memberOf: readonly Buffer[];
}

/** Works out what a caller may read from their roles and memberships. */
export function scopeOf(caller: Caller): Scope {
  return {
    userId: caller.userId,
    everything: caller.roles.includes('owner'),
    organizations: caller.memberships.filter(({ roles }) => roles.includes('organization-admin')).map(toId),
    memberOf: caller.memberships.map(toId),
  };
}

function toId({ organizationId }: { readonly organizationId: Buffer }): Buffer {
  return organizationId;
}
