/** A task of the matrix. All but the caller's own are of somebody else, in `home` or in `away`. */
export const taskNames = ['own', 'own-dormant', 'own-left', 'home', 'home-dormant', 'away', 'deleted'] as const;

/** The name of one of them. */
export type TaskName = (typeof taskNames)[number];

/** A caller of the matrix: roles on the site and in `home` (undefined: no member of it), and the tasks they read. */
export interface RightsRow {
  readonly caller: string;
  readonly site?: readonly string[];
  readonly home?: readonly string[];
  /** Whom `home`, `home-dormant` and `away` are shared with. */
  readonly share?: 'user' | 'group' | 'everyone' | 'nobody, by words that are no right';
  readonly reads: readonly TaskName[];
  /** The same where these have a table and rights of their own, if they differ. */
  readonly readsWithTable?: readonly TaskName[];
}

/** A permission of a role: `resource:action`, with a `!` in front to take it away. */
export type Right = string;

/** A caller of the matrix for newer versions of Coder, where tasks have rights of their own and `home` says what its members may. */
export interface NewerRightsRow extends RightsRow {
  readonly serviceAccount?: true;
  /** Roles that every member of `home` has. */
  readonly defaults?: readonly string[];
  /** What membership of `home` implies for users, and for service accounts: rights on what is one's own. */
  readonly implied?: readonly Right[];
  readonly impliedForServices?: readonly Right[];
  /** What the custom role `custom` of `home` permits on what is one's own, and in the organization. */
  readonly member?: readonly Right[];
  readonly organization?: readonly Right[];
}

const own: readonly TaskName[] = ['own', 'own-dormant'];
const inHome: readonly TaskName[] = ['own', 'own-dormant', 'home', 'home-dormant', 'deleted'];

/**
 * The table of who may read at the seed (coderd/rbac/roles_test.go ReadMyWorkspaceInOrg, WorkspaceDormant), with one rule for
 * dormant workspaces: who may read one while it is active may read it dormant.
 */
export const rightsMatrix: readonly RightsRow[] = [
  { caller: 'site owner', site: ['owner'], reads: taskNames },
  { caller: 'site owner and member', site: ['owner'], home: [], reads: taskNames },
  { caller: 'site template-admin', site: ['template-admin'], home: [], reads: taskNames, readsWithTable: own },
  { caller: 'site user-admin', site: ['user-admin'], home: [], reads: own },
  { caller: 'site auditor', site: ['auditor'], home: [], reads: own },
  { caller: 'member of nothing', reads: [] },
  { caller: 'member', home: [], reads: own },
  { caller: 'organization-admin', home: ['organization-admin'], reads: inHome },
  { caller: 'organization-template-admin', home: ['organization-template-admin'], reads: inHome, readsWithTable: own },
  { caller: 'organization-auditor', home: ['organization-auditor'], reads: own },
  { caller: 'organization-user-admin', home: ['organization-user-admin'], reads: own },
  { caller: 'organization-workspace-creation-ban', home: ['organization-workspace-creation-ban'], reads: own },
  { caller: 'user of the ACL, and member', home: [], share: 'user', reads: [...own, 'home', 'home-dormant', 'away'] },
  { caller: 'user of the ACL, and no member', share: 'user', reads: ['home', 'home-dormant', 'away'] },
  { caller: 'in a group of the ACL, and member', home: [], share: 'group', reads: [...own, 'home', 'home-dormant'] },
  { caller: 'in a group of the ACL, and no member', share: 'group', reads: [] },
  { caller: 'member, shared with Everyone', home: [], share: 'everyone', reads: [...own, 'home', 'home-dormant'] },
  { caller: 'no member, shared with Everyone', share: 'everyone', reads: [] },
  { caller: 'in an ACL without the right to read', home: [], share: 'nobody, by words that are no right', reads: own },
  { caller: 'custom role on the site', site: ['site-reader'], reads: taskNames, readsWithTable: [] },
  { caller: 'custom role in the organization', home: ['home-reader'], reads: inHome, readsWithTable: own },
  { caller: 'custom role that denies the own', home: ['own-denier'], reads: [], readsWithTable: own },
  { caller: 'custom role that denies on the site', site: ['owner', 'site-denier'], home: ['organization-admin'], reads: [] },
];

const readsBoth: readonly Right[] = ['workspace:read', 'task:read'];
const access = 'organization-workspace-access';

/** The same for newer versions of Coder (coderd/rbac/roles.go, policy.rego; coderd/rbac/roles_test.go Task, WorkspaceDormant). */
export const newerRightsMatrix: readonly NewerRightsRow[] = [
  { caller: 'site owner', site: ['owner'], reads: taskNames },
  { caller: 'site template-admin', site: ['template-admin'], reads: [] },
  { caller: 'site template-admin, member', site: ['template-admin'], home: [], implied: readsBoth, reads: own },
  { caller: 'site user-admin', site: ['user-admin'], home: [], implied: readsBoth, reads: own },
  { caller: 'site auditor', site: ['auditor'], home: [], implied: readsBoth, reads: own },
  { caller: 'member of nothing', reads: [] },
  { caller: 'member', home: [], implied: readsBoth, reads: own },
  { caller: 'member, with all rights by words for all', home: [], implied: ['*:*'], reads: own },
  { caller: 'member without the implied rights', home: [], implied: [], reads: [] },
  { caller: 'member who may read workspaces alone', home: [], implied: ['workspace:read'], reads: [] },
  { caller: 'member who may read tasks alone', home: [], implied: ['task:*'], reads: [] },
  { caller: 'member by the default roles', home: [], implied: [], defaults: [access], reads: own },
  { caller: 'member by the own role', home: [access], implied: [], reads: own },
  { caller: 'member of default roles that are about chats', home: [], implied: [], defaults: ['agents-access'], reads: [] },
  { caller: 'member by a custom default role', home: [], implied: [], defaults: ['custom'], member: readsBoth, reads: own },
  { caller: 'all members read everything', home: [], implied: [], defaults: ['custom'], organization: readsBoth, reads: inHome },
  { caller: 'service account', serviceAccount: true, home: [], implied: [], impliedForServices: readsBoth, reads: own },
  {
    caller: 'service account without rights',
    serviceAccount: true,
    home: [],
    implied: readsBoth,
    impliedForServices: [],
    reads: [],
  },
  { caller: 'service account, and admin', serviceAccount: true, home: ['organization-admin'], implied: [], reads: inHome },
  { caller: 'organization-admin', home: ['organization-admin'], implied: [], reads: inHome },
  { caller: 'organization-template-admin', home: ['organization-template-admin'], implied: readsBoth, reads: own },
  { caller: 'organization-auditor', home: ['organization-auditor'], implied: readsBoth, reads: own },
  { caller: 'organization-user-admin', home: ['organization-user-admin'], implied: readsBoth, reads: own },
  { caller: 'creation ban', home: ['organization-workspace-creation-ban'], implied: readsBoth, reads: own },
  { caller: 'custom role for members', home: ['custom'], implied: [], member: readsBoth, reads: own },
  { caller: 'custom role that denies members', home: ['custom'], implied: readsBoth, member: ['!task:read'], reads: [] },
  { caller: 'custom role for the organization', home: ['custom'], implied: [], organization: readsBoth, reads: inHome },
  { caller: 'custom role for workspaces alone', home: ['custom'], implied: readsBoth, organization: ['workspace:*'], reads: own },
  { caller: 'custom role that denies all', home: ['custom'], implied: readsBoth, organization: ['!*:*'], reads: [] },
  { caller: 'user of the ACL', share: 'user', reads: ['home', 'home-dormant', 'away'] },
  { caller: 'in a group of the ACL', home: [], implied: [], share: 'group', reads: ['home', 'home-dormant'] },
  { caller: 'in a group of the ACL, no member', share: 'group', reads: [] },
  { caller: 'shared with Everyone', home: [], implied: [], share: 'everyone', reads: ['home', 'home-dormant'] },
];
