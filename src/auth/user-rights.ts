import type { Caller, Permission, RolePermissions } from '../call/caller.ts';
import type { Database } from '../db/connection.ts';
import { readJsonArray, readJsonStrings } from '../db/json-array.ts';
import { foldCase } from '../db/letter-case.ts';

/** A user who is not deleted, with the rights of a caller that do not depend on a token. */
export interface UserRights extends Omit<Caller, 'mayRead' | 'onlyIds'> {
  /** `active`, `dormant` or `suspended`. */
  readonly userStatus: string;
}

/** Finds the user who is not deleted and has this id, or this username in either case. */
export type FindUserRights = (idOrUsername: Buffer | string) => Promise<UserRights | undefined>;

/** Finds users with their rights in the database, in one statement, or two for a user with custom roles. */
export function createFindUserRights(database: Database): FindUserRights {
  return async (idOrUsername) => {
    if (typeof idOrUsername === 'string' && idOrUsername.endsWith(' ')) return undefined; // see NameLookup
    // select … from users as u left join organization_members as m on m.user_id = u.id
    // where u.deleted = 0 and u.username_lower = ? order by u.id        (or u.id = ?; a row for each membership)
    const query = database
      .from({ u: 'users' })
      .leftJoin({ m: 'organization_members' }, 'm.user_id', 'u.id')
      .where('u.deleted', 0)
      .orderBy('u.id')
      .select(...rightsColumns(database));
    if (Buffer.isBuffer(idOrUsername)) query.where('u.id', idOrUsername);
    else query.where('u.username_lower', foldCase(idOrUsername));
    const rows = (await query) as RightsRow[];
    const [user] = rows;
    if (user === undefined) return undefined;
    // A copy of Coder may have two of one name for a moment.
    const own = rows.filter(({ user_id }) => user_id.equals(user.user_id));
    return toUserRights(database, user, own);
  };
}

/** A row for each membership of a user, or one without; see {@link rightsColumns}. */
export interface RightsRow {
  readonly user_id: Buffer;
  readonly username: string;
  readonly status: string;
  readonly rbac_roles: unknown;
  readonly group_ids: unknown;
  readonly organization_id: Buffer | null;
  readonly roles: unknown;
}

/** The columns of a {@link RightsRow}, for a statement where `u` is users and `m` organization_members. */
export function rightsColumns(database: Database) {
  return [
    'u.id as user_id',
    'u.username',
    'u.status',
    'u.rbac_roles',
    // (select json_arrayagg(hex(g.group_id)) from group_members as g where g.user_id = u.id) as group_ids
    database
      .from({ g: 'group_members' })
      .whereRaw('?? = ??', ['g.user_id', 'u.id'])
      .select(database.raw('json_arrayagg(hex(g.group_id))'))
      .as('group_ids'),
    'm.organization_id',
    'm.roles',
  ] as const;
}

/** A user from the first of their rows, and from all of them. Custom roles are looked up if there are any. */
export async function toUserRights(database: Database, user: RightsRow, rows: readonly RightsRow[]): Promise<UserRights> {
  const roles = readJsonStrings(user.rbac_roles);
  const memberships = rows.flatMap(({ organization_id: organizationId, roles: inOrganization }) =>
    organizationId === null ? [] : [{ organizationId, roles: readJsonStrings(inOrganization) }],
  );
  const custom = await findCustomRoles(database, [roles, ...memberships.map((membership) => membership.roles)].flat());
  const held = (names: readonly string[], organization: Buffer | null) =>
    custom.filter(
      (role) => names.includes(role.name) && (role.organization_id?.equals(organization ?? nowhere) ?? organization === null),
    );
  return {
    userId: user.user_id,
    username: user.username,
    userStatus: user.status,
    roles,
    customRoles: held(roles, null).map(toPermissions),
    memberships: memberships.map((membership) => ({
      ...membership,
      customRoles: held(membership.roles, membership.organizationId).map(toPermissions),
    })),
    groupIds: readJsonStrings(user.group_ids).map((hex) => Buffer.from(hex, 'hex')),
  };
}

/** The roles of these names that are not built in. */
async function findCustomRoles(database: Database, names: readonly string[]): Promise<CustomRoleRow[]> {
  const unknown = [...new Set(names)].filter((name) => !builtInRoles.has(name));
  if (unknown.length === 0) return [];
  // select r.name, … from custom_roles r where r.name in (…)
  return (await database
    .from({ r: 'custom_roles' })
    .whereIn('r.name', unknown)
    .select('r.name', 'r.organization_id', 'r.site_permissions', 'r.org_permissions', 'r.user_permissions')) as CustomRoleRow[];
}

interface CustomRoleRow {
  readonly name: string;
  readonly organization_id: Buffer | null;
  readonly site_permissions: unknown;
  readonly org_permissions: unknown;
  readonly user_permissions: unknown;
}

/** Coder's own roles (coderd/rbac/roles.go); a row of custom_roles of one of these names is never looked for. */
const builtInRoles: ReadonlySet<string> = new Set([
  'owner',
  'member',
  'template-admin',
  'user-admin',
  'auditor',
  'organization-admin',
  'organization-member',
  'organization-template-admin',
  'organization-user-admin',
  'organization-auditor',
  'organization-workspace-creation-ban',
]);

/** No organization has this id. */
const nowhere = Buffer.alloc(16);

function toPermissions(row: CustomRoleRow): RolePermissions {
  return {
    site: toPermissionList(row.site_permissions),
    organization: toPermissionList(row.org_permissions),
    user: toPermissionList(row.user_permissions),
  };
}

/** Permissions in a JSON array, as Coder stores them. Anything else permits nothing. */
function toPermissionList(json: unknown): Permission[] {
  return readJsonArray(json).flatMap((entry) => {
    const { negate, resource_type: resource, action } = Object(entry) as Record<string, unknown>;
    return typeof resource === 'string' && typeof action === 'string' ? [{ negate: negate === true, resource, action }] : [];
  });
}
