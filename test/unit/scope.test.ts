import { describe, expect, test } from 'vitest';
import type { Caller, Permission, RolePermissions } from '../../src/call/caller.ts';
import {
  readsEveryUser,
  readsOrganization,
  readsTask,
  type Scope,
  type Subject,
  scopeOf,
  type TaskAccess,
} from '../../src/tasks/scope.ts';

const userId = Buffer.alloc(16, 1);
const home = Buffer.alloc(16, 2);
const away = Buffer.alloc(16, 3);
const group = Buffer.alloc(16, 4);
const other = Buffer.alloc(16, 5);
const newTask = Buffer.alloc(16, 6);

/** A caller with these roles: on the site, and in the organizations they are a member of. */
function caller(
  site: readonly string[],
  inHome?: readonly string[],
  inAway?: readonly string[],
  init: Partial<Caller> = {},
): Caller {
  const membership = (organizationId: Buffer, roles?: readonly string[]) =>
    roles === undefined ? [] : [{ organizationId, roles, customRoles: [] }];
  return {
    userId,
    username: 'u',
    roles: site,
    customRoles: [],
    memberships: [...membership(home, inHome), ...membership(away, inAway)],
    groupIds: [],
    mayRead: true,
    ...init,
  };
}

/** What a scope says, without who is shared with. */
function reach(scope: Scope): Pick<Scope, 'everything' | 'organizations' | 'ownIn'> {
  const { everything, organizations, ownIn } = scope;
  return { everything, organizations, ownIn };
}

const everything = { everything: true, organizations: [], ownIn: [] };

// Confirmed by Coder's own matrix, coderd/rbac/roles_test.go ReadMyWorkspaceInOrg.
/** A task in `away` of an owner, shared with these. */
const access = (ownerId: Buffer, readers: readonly Subject[]): TaskAccess => ({
  workspaceId: null,
  ownerId,
  organizationId: away,
  readers,
});

describe('each role, as in the table of who may read', () => {
  test.each<[string, Caller, Pick<Scope, 'everything' | 'organizations' | 'ownIn'>]>([
    ['site owner', caller(['owner']), everything],
    ['site template-admin', caller(['template-admin'], []), everything],
    ['site user-admin', caller(['user-admin'], []), { everything: false, organizations: [], ownIn: [home] }],
    ['site auditor', caller(['auditor'], []), { everything: false, organizations: [], ownIn: [home] }],
    ['member of no organization', caller([]), { everything: false, organizations: [], ownIn: [] }],
    ['member of two', caller([], [], []), { everything: false, organizations: [], ownIn: [home, away] }],
    [
      'organization-admin',
      caller([], ['organization-admin'], []),
      { everything: false, organizations: [home], ownIn: [home, away] },
    ],
    [
      'organization-template-admin',
      caller([], ['organization-template-admin']),
      { everything: false, organizations: [home], ownIn: [home] },
    ],
    ['organization-auditor', caller([], ['organization-auditor']), { everything: false, organizations: [], ownIn: [home] }],
    ['organization-user-admin', caller([], ['organization-user-admin']), { everything: false, organizations: [], ownIn: [home] }],
    [
      'organization-workspace-creation-ban',
      caller([], ['organization-workspace-creation-ban']),
      { everything: false, organizations: [], ownIn: [home] },
    ],
    [
      'organization-admin on the site, where it means nothing',
      caller(['organization-admin'], []),
      { everything: false, organizations: [], ownIn: [home] },
    ],
    [
      'owner in an organization, where it means nothing',
      caller([], ['owner']),
      { everything: false, organizations: [], ownIn: [home] },
    ],
    [
      'a token that reads nothing',
      caller(['owner'], ['organization-admin'], [], { mayRead: false }),
      { everything: false, organizations: [], ownIn: [] },
    ],
  ])('%s', (_name, who, expected) => {
    expect(reach(scopeOf(who))).toEqual(expected);
  });
});

function role(init: Partial<RolePermissions>): RolePermissions {
  return { site: [], organization: [], user: [], member: [], ...init };
}

describe('custom roles', () => {
  const says = (negate: boolean, resource = 'workspace', action = 'read'): Permission => ({ negate, resource, action });
  const inHome = (...customRoles: RolePermissions[]): Partial<Caller> => ({
    memberships: [
      { organizationId: home, roles: [], customRoles },
      { organizationId: away, roles: ['organization-admin'], customRoles: [] },
    ],
  });
  test.each<[string, Caller, Pick<Scope, 'everything' | 'organizations' | 'ownIn'>]>([
    [
      'workspace:read on the site',
      caller([], undefined, undefined, { customRoles: [role({ site: [says(false)] })] }),
      everything,
    ],
    ['*:read on the site', caller([], undefined, undefined, { customRoles: [role({ site: [says(false, '*')] })] }), everything],
    [
      'workspace:* on the site',
      caller([], undefined, undefined, { customRoles: [role({ site: [says(false, 'workspace', '*')] })] }),
      everything,
    ],
    [
      'other permissions on the site',
      caller([], [], undefined, { customRoles: [role({ site: [says(false, 'template'), says(false, 'workspace', 'update')] })] }),
      { everything: false, organizations: [], ownIn: [home] },
    ],
    [
      'a denial on the site beats a permission there, and everything below',
      caller(['owner'], [], undefined, { customRoles: [role({ site: [says(true)] })] }),
      { everything: false, organizations: [], ownIn: [] },
    ],
    [
      'workspace:read in an organization',
      caller([], [], [], inHome(role({ organization: [says(false)] }))),
      { everything: false, organizations: [home, away], ownIn: [home, away] },
    ],
    [
      'a denial in an organization beats owning there, and says nothing elsewhere',
      caller([], [], [], inHome(role({ organization: [says(true)] }))),
      { everything: false, organizations: [away], ownIn: [away] },
    ],
    [
      'a permission on the site beats a denial in an organization',
      caller(['owner'], [], [], inHome(role({ organization: [says(true)] }))),
      everything,
    ],
    [
      "a denial on the caller's own leaves what organizations permit",
      caller([], [], [], inHome(role({ user: [says(true)] }))),
      { everything: false, organizations: [away], ownIn: [] },
    ],
  ])('%s', (_name, who, expected) => {
    expect(reach(scopeOf(who))).toEqual(expected);
  });
});

describe('where tasks have rights of their own', () => {
  const says = (resource: string, negate = false, action = 'read'): Permission => ({ negate, resource, action });
  const both = [says('workspace'), says('task')];
  /** A member of `home` with roles, custom roles, and an implied role that is one of them. */
  const member = (roles: readonly string[], implied: readonly Permission[], ...customRoles: RolePermissions[]): Caller => ({
    ...caller([]),
    tasksHaveRights: true,
    memberships: [
      { organizationId: home, roles, customRoles: [role({ member: implied }), ...customRoles], impliedIsCustom: true },
    ],
  });
  const newer = (who: Caller): Caller => ({ ...who, tasksHaveRights: true });
  const nothing = { everything: false, organizations: [], ownIn: [] };
  const own = { ...nothing, ownIn: [home] };
  const all = { ...own, organizations: [home] };

  test.each<[string, Caller, Pick<Scope, 'everything' | 'organizations' | 'ownIn'>]>([
    ['site owner', newer(caller(['owner'])), everything],
    ['site template-admin, who reads workspaces alone', newer(caller(['template-admin'])), nothing],
    ['site template-admin with tasks of their own', newer(caller(['template-admin'], [])), own],
    ['site user-admin', newer(caller(['user-admin'], [])), own],
    ['organization-admin', newer(caller([], ['organization-admin'])), all],
    ['organization-template-admin', newer(caller([], ['organization-template-admin'])), own],
    ['site template-admin and organization-admin', newer(caller(['template-admin'], ['organization-admin'])), all],
    ['member with the built-in implied role', newer(caller([], [])), own],
    ['member whose implied role reads both', member([], both), own],
    ['member whose implied role reads nothing', member([], []), nothing],
    ['member whose implied role reads workspaces alone', member([], [says('workspace')]), nothing],
    ['member whose implied role reads tasks alone', member([], [says('task')]), nothing],
    ['member whose implied role may do anything', member([], [says('*', false, '*')]), own],
    ['organization-workspace-access', member(['organization-workspace-access'], []), own],
    ['agents-access, which is about chats', member(['agents-access'], []), nothing],
    ['organization-admin without any implied right', member(['organization-admin'], []), { ...all, ownIn: [] }],
    ['a custom role that reads both of a member', member([], [], role({ member: both })), own],
    ['a custom role that reads one, and the implied role the other', member([], [says('task')], role({ member: both })), own],
    ['a custom role that denies a member tasks', member([], both, role({ member: [says('task', true)] })), nothing],
    ['a custom role that denies a member workspaces', member([], both, role({ member: [says('workspace', true)] })), nothing],
    ['a custom role that reads both in the organization', member([], [], role({ organization: both })), { ...all, ownIn: [] }],
    [
      'a custom role that reads the tasks of the organization, and the workspaces of a member',
      member([], [says('workspace')], role({ organization: [says('task')] })),
      own,
    ],
    [
      'a custom role that denies tasks in the organization',
      member([], both, role({ organization: [says('task', true)] })),
      nothing,
    ],
    ["a custom role on the level of the seed's user", member([], [], role({ user: both })), nothing],
    ["a denial on the level of the seed's user", member([], both, role({ user: [says('task', true)] })), own],
    ['a custom role that reads both on the site', newer({ ...caller([]), customRoles: [role({ site: both })] }), everything],
    [
      'a custom role that reads tasks on the site',
      newer({ ...caller([]), customRoles: [role({ site: [says('task')] })] }),
      nothing,
    ],
    [
      'site template-admin, and a custom role that reads tasks on the site',
      newer({ ...caller(['template-admin']), customRoles: [role({ site: [says('task')] })] }),
      everything,
    ],
    [
      'site owner, and a custom role that denies tasks on the site',
      newer({ ...caller(['owner'], []), customRoles: [role({ site: [says('task', true)] })] }),
      nothing,
    ],
  ])('%s', (_name, who, expected) => {
    expect(reach(scopeOf(who))).toEqual(expected);
  });

  test('sharing is beside all that', () => {
    expect(scopeOf(member([], [], role({ organization: [says('task', true)] }))).sharedWith).toEqual([
      { kind: 'user', id: userId },
      { kind: 'group', id: home },
    ]);
  });
});

describe('sharing', () => {
  test('is with the user, each organization (its group Everyone), and each group', () => {
    const { sharedWith, memberOf } = scopeOf(caller([], [], [], { groupIds: [group] }));
    expect(sharedWith).toEqual([
      { kind: 'user', id: userId },
      { kind: 'group', id: home },
      { kind: 'group', id: away },
      { kind: 'group', id: group },
    ]);
    expect(memberOf).toEqual([home, away]);
  });

  test('survives a denial by a role', () => {
    const denied = caller([], [], [], {
      customRoles: [{ site: [{ negate: true, resource: '*', action: '*' }], organization: [], user: [], member: [] }],
    });
    expect(scopeOf(denied).sharedWith).not.toEqual([]);
  });

  test('is with nobody where sharing is switched off, and takes nothing else away', () => {
    const who = caller([], ['organization-admin'], [], { groupIds: [group], withoutSharing: true });
    expect(scopeOf(who)).toMatchObject({ organizations: [home], ownIn: [home, away], sharedWith: [] });
    expect(readsTask(scopeOf(who), newTask, access(other, [{ kind: 'user', id: userId }]))).toBe(false);
    expect(readsTask(scopeOf(who), newTask, access(userId, []))).toBe(true);
  });

  test('is nothing to a token that reads nothing', () => {
    expect(scopeOf(caller([], [], [], { mayRead: false })).sharedWith).toEqual([]);
  });
});

describe('who may be known by name', () => {
  const site = (...permissions: Permission[]): Partial<Caller> => ({
    customRoles: [{ site: permissions, organization: [], user: [], member: [] }],
  });
  const read = (resource: string, negate = false): Permission => ({ negate, resource, action: 'read' });

  test.each<[string, Caller, users: boolean, organizations: boolean]>([
    ['a member', caller([], []), false, false],
    ['an auditor', caller(['auditor'], []), true, true],
    ['a custom role that reads users', caller([], [], undefined, site(read('user'))), true, false],
    ['a custom role that reads organizations', caller([], [], undefined, site(read('organization'))), false, true],
    ['a custom role that reads everything', caller([], [], undefined, site(read('*'))), true, true],
    ['one that denies what it permits', caller([], [], undefined, site(read('user'), read('user', true))), false, false],
    ['one for workspaces', caller([], [], undefined, site(read('workspace'))), false, false],
  ])('%s', (_name, who, users, organizations) => {
    expect(readsEveryUser(who)).toBe(users);
    expect(readsOrganization(who, away)).toBe(organizations);
    expect(readsOrganization(who, home)).toBe(true);
  });
});
