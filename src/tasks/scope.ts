import type { Caller, OrganizationMembership, Permission, RolePermissions } from '../call/caller.ts';
import { hasId } from '../db/uuid.ts';

/** Somebody a workspace can be shared with. */
export interface Subject {
  readonly kind: 'user' | 'group';
  readonly id: Buffer;
}

/**
 * What a caller may read. It becomes a part of the WHERE of every query; there is no query without one.
 *
 * A task may be read when any of these holds:
 * - `everything`;
 * - the task is of one of `organizations`;
 * - the caller owns the task, and it is of one of `ownIn`;
 * - its workspace is shared with the caller, or with a group of `sharedWith` while the task is of one of `memberOf`. The group
 *   Everyone of an organization counts for tasks of that organization alone.
 *
 * Source: coderd/rbac/policy.rego and roles.go. Dormant workspaces follow the same rule.
 */
export interface Scope {
  readonly userId: Buffer;
  readonly everything: boolean;
  readonly organizations: readonly Buffer[];
  readonly ownIn: readonly Buffer[];
  readonly sharedWith: readonly Subject[];
  readonly memberOf: readonly Buffer[];
  /** Where it is set, none of the above reads any other task: the caller's token is good for these alone. */
  readonly onlyIds?: readonly Buffer[];
  /** The same by the workspaces of tasks. A task without a workspace is then not read. */
  readonly onlyWorkspaces?: readonly Buffer[];
}

/** A resource of Coder that a right to read is about. */
type Resource = 'workspace' | 'task';

/** Built-in roles that read every workspace, and every task: of the site, and of the organization they are held in. */
const readingSiteRoles: Readonly<Record<Resource, ReadonlySet<string>>> = {
  workspace: new Set(['owner', 'template-admin']),
  task: new Set(['owner']),
};
const readingOrganizationRoles: Readonly<Record<Resource, ReadonlySet<string>>> = {
  workspace: new Set(['organization-admin', 'organization-template-admin']),
  task: new Set(['organization-admin']),
};

/** The built-in role that reads what a member owns, where the role that a membership implies is not built in. */
const ownReadingRole = 'organization-workspace-access';
const ownReadingRoles: ReadonlySet<string> = new Set([ownReadingRole]);

/**
 * Works out what a caller may read from their roles, memberships and groups.
 *
 * Roles speak on three levels: site, organization, and the caller's own. On a level a denial beats a permission; a higher level
 * beats every lower one. The caller's own level counts in organizations the caller is a member of. Sharing is beside all that.
 *
 * Where tasks have rights of their own, all this must let the caller read the task, and its workspace.
 */
export function scopeOf(caller: Caller): Scope {
  let scope = scopes.get(caller);
  if (scope === undefined) {
    scope = deriveScope(caller);
    scopes.set(caller, scope);
  }
  return scope;
}

/** The scopes of the callers that are remembered. */
const scopes = new WeakMap<Caller, Scope>();

function deriveScope(caller: Caller): Scope {
  const { userId, memberships } = caller;
  const nothing: Scope = {
    userId,
    everything: false,
    organizations: [],
    ownIn: [],
    sharedWith: [],
    memberOf: [],
    ...(caller.onlyIds === undefined ? {} : { onlyIds: caller.onlyIds }),
    ...(caller.onlyWorkspaces === undefined ? {} : { onlyWorkspaces: caller.onlyWorkspaces }),
  };
  if (!caller.mayRead) return nothing;

  const resources: readonly Resource[] = caller.tasksHaveRights === true ? ['workspace', 'task'] : ['workspace'];
  const custom = [...caller.customRoles, ...memberships.flatMap(({ customRoles }) => customRoles)];
  const site = new Map(
    resources.map((resource) => [resource, verdict(resource, caller.roles, readingSiteRoles[resource], custom, 'site')]),
  );
  const onSite = [...site.values()];
  if (onSite.every((says) => says === 'allowed')) return { ...nothing, everything: true };

  const memberOf = memberships.map(({ organizationId }) => organizationId);
  const shared: Scope = {
    ...nothing,
    memberOf,
    // An organization's group Everyone has the organization's id.
    sharedWith:
      caller.withoutSharing === true
        ? []
        : [{ kind: 'user', id: userId }, ...[...memberOf, ...caller.groupIds].map((id) => ({ kind: 'group' as const, id }))],
  };
  if (onSite.includes('denied')) return shared;

  const reach = memberships.map((membership) => ({
    organizationId: membership.organizationId,
    // What is read on the site is read in each organization.
    of: resources.map((resource) =>
      site.get(resource) === 'allowed' ? { all: true, own: true } : reachIn(caller, membership, resource, custom),
    ),
  }));
  const idsOf = (reached: typeof reach): Buffer[] => reached.map(({ organizationId }) => organizationId);
  return {
    ...shared,
    organizations: idsOf(reach.filter(({ of }) => of.every(({ all }) => all))),
    ownIn: idsOf(reach.filter(({ of }) => of.every(({ all, own }) => all || own) && of.some(({ own }) => own))),
  };
}

/** Whether a caller reads all of a resource in an organization of theirs, and whether what is their own there. */
function reachIn(
  caller: Caller,
  { roles, customRoles, impliedIsCustom }: OrganizationMembership,
  resource: Resource,
  custom: readonly RolePermissions[],
): { readonly all: boolean; readonly own: boolean } {
  const inOrganization = verdict(resource, roles, readingOrganizationRoles[resource], customRoles, 'organization');
  const own =
    caller.tasksHaveRights === true
      ? verdict(resource, impliedIsCustom === true ? roles : [ownReadingRole], ownReadingRoles, customRoles, 'member')
      : verdict(resource, [ownReadingRole], ownReadingRoles, custom, 'user');
  return { all: inOrganization === 'allowed', own: inOrganization !== 'denied' && own === 'allowed' };
}

/** Whether a scope is that of a token for some tasks, or for the tasks of some workspaces. */
export function isOfSomeTasks({ onlyIds, onlyWorkspaces }: Scope): boolean {
  return onlyIds !== undefined || onlyWorkspaces !== undefined;
}

/** What decides who may read a task. */
export interface TaskAccess {
  /** Null without a workspace. */
  readonly workspaceId: Buffer | null;
  readonly ownerId: Buffer;
  readonly organizationId: Buffer;
  /** The subjects with whom its workspace is shared. */
  readonly readers: readonly Subject[];
}

/** Whether a scope reads a task: the rule of {@link Scope} for one. */
export function readsTask(scope: Scope, id: Buffer, { workspaceId, ownerId, organizationId, readers }: TaskAccess): boolean {
  if (scope.onlyIds !== undefined && !hasId(scope.onlyIds, id)) return false;
  if (scope.onlyWorkspaces !== undefined && (workspaceId === null || !hasId(scope.onlyWorkspaces, workspaceId))) return false;
  if (scope.everything || hasId(scope.organizations, organizationId)) return true;
  if (ownerId.equals(scope.userId) && hasId(scope.ownIn, organizationId)) return true;
  return readers.some(
    (subject) =>
      scope.sharedWith.some(({ kind, id: one }) => kind === subject.kind && one.equals(subject.id)) &&
      (subject.kind === 'user' || reachesTo(scope, subject.id, organizationId)),
  );
}

/** Whether what is shared with a group of the caller reaches the caller in an organization. */
function reachesTo({ memberOf }: Scope, groupId: Buffer, organizationId: Buffer): boolean {
  return hasId(memberOf, organizationId) && (!hasId(memberOf, groupId) || groupId.equals(organizationId));
}

/** Site roles that read every organization and every user (coderd/rbac/roles.go). */
const siteReaders: ReadonlySet<string> = new Set(['owner', 'template-admin', 'user-admin', 'auditor']);

/** Whether a caller may know of every user. */
export function readsEveryUser(caller: Caller): boolean {
  return readsOnSite(caller, 'user');
}

/** Whether a caller may know of an organization: a member may, and some roles of the site. */
export function readsOrganization(caller: Caller, organizationId: Buffer): boolean {
  return (
    readsOnSite(caller, 'organization') ||
    caller.memberships.some((membership) => membership.organizationId.equals(organizationId))
  );
}

function readsOnSite(caller: Caller, resource: string): boolean {
  return caller.roles.some((role) => siteReaders.has(role)) || permits(customOnSite(caller), resource);
}

/** What custom roles permit on the site. Every one may, also one that is held in an organization. */
export function customOnSite({ customRoles, memberships }: Caller): Permission[] {
  return [...customRoles, ...memberships.flatMap((membership) => membership.customRoles)].flatMap(({ site }) => site);
}

/** Whether permissions of one level read a resource: a denial beats a permission. */
export function permits(permissions: readonly Permission[], resource: string): boolean {
  const given = permissions.filter((permission) => isReadOf(permission, resource));
  return given.length > 0 && !given.some(({ negate }) => negate);
}

function verdict(
  resource: Resource,
  roles: readonly string[],
  reading: ReadonlySet<string>,
  custom: readonly RolePermissions[],
  level: keyof RolePermissions,
): 'allowed' | 'denied' | 'silent' {
  const given = custom.flatMap((role) => role[level]).filter((permission) => isReadOf(permission, resource));
  if (given.some(({ negate }) => negate)) return 'denied';
  return given.length > 0 || roles.some((role) => reading.has(role)) ? 'allowed' : 'silent';
}

function isReadOf(permission: Permission, resource: string): boolean {
  const { action } = permission;
  return (permission.resource === resource || permission.resource === '*') && (action === 'read' || action === '*');
}
