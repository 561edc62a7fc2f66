import type { Knex } from 'knex';
import type { Caller, Permission, RolePermissions } from '../call/caller.ts';
import type { Database } from '../db/connection.ts';
import { readJsonArray, readJsonStrings } from '../db/json-array.ts';
import { foldCase } from '../db/letter-case.ts';

/** A user who is not deleted, with the rights of a caller that do not depend on a token. */
export interface UserRights extends Omit<Caller, 'mayRead' | 'onlyIds' | 'onlyWorkspaces'> {
  /** `active`, `dormant` or `suspended`. */
  readonly userStatus: string;
}

/** Finds the user who is not deleted and has this id, or this username in either case. */
export type FindUserRights = (idOrUsername: Buffer | string) => Promise<UserRights | undefined>;

/** Finds users with their rights in the database, in one statement, or two for a user with custom roles. */
export function createFindUserRights(database: Database): FindUserRights {
  return async (idOrUsername) => {
    if (typeof idOrUsername === 'string' && idOrUsername.endsWith(' ')) return undefined; // no username has one; the database ignores it
    // select … from users as u <left joins of selectRights>
    // where u.deleted = 0 and u.username_lower = ? order by u.id        (or u.id = ?; a row for each membership)
    const query = selectRights(database, database.from({ u: 'users' }).where('u.deleted', 0).orderBy('u.id'));
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

/** Whether tasks have rights of their own in this Coder, see {@link Caller.tasksHaveRights}. */
export type FindTasksHaveRights = () => Promise<boolean>;

/** Makes the function that reads this from the database, by one statement. */
export function createFindTasksHaveRights(database: Database): FindTasksHaveRights {
  return async () => {
    // select exists (…) as tasks_have_rights
    const [row] = (await database.select(tasksHaveRights(database))) as Pick<RightsRow, 'tasks_have_rights'>[];
    return row?.tasks_have_rights === 1;
  };
}

/** A row for each membership of a user, or one without; see {@link selectRights}. */
export interface RightsRow {
  readonly user_id: Buffer;
  readonly username: string;
  readonly status: string;
  readonly rbac_roles: unknown;
  readonly group_ids: unknown;
  readonly organization_id: Buffer | null;
  readonly roles: unknown;
  readonly default_org_member_roles: unknown;
  readonly implied_organization: unknown;
  readonly implied_member: unknown;
  readonly has_implied: 0 | 1;
  readonly tasks_have_rights: 0 | 1;
}

/**
 * Adds what a {@link RightsRow} needs to a statement where `u` is users:
 *
 *     … left join organization_members as m on m.user_id = u.id
 *       left join organizations as o on o.id = m.organization_id
 *       left join custom_roles as i on i.organization_id = m.organization_id and i.is_system = 1 and i.name = <the implied role>
 */
export function selectRights(database: Database, query: Knex.QueryBuilder): Knex.QueryBuilder {
  return query
    .leftJoin({ m: 'organization_members' }, 'm.user_id', 'u.id')
    .leftJoin({ o: 'organizations' }, 'o.id', 'm.organization_id')
    .leftJoin({ i: 'custom_roles' }, (on) =>
      on
        .on('i.organization_id', 'm.organization_id')
        .andOnVal('i.is_system', 1)
        .andOn('i.name', database.raw("if(u.is_service_account, 'organization-service-account', 'organization-member')")),
    )
    .select(
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
      'o.default_org_member_roles',
      'i.org_permissions as implied_organization',
      'i.member_permissions as implied_member',
      database.raw('i.id is not null as has_implied'),
      tasksHaveRights(database),
    );
}

/**
 * Tasks have rights of their own where they have a table of their own, or where the roles that memberships imply are rows:
 *
 *   (exists (select 1 from projector_state as p where p.task_source = 'tasks')
 *     or exists (select 1 from custom_roles as s where s.is_system = 1)) as tasks_have_rights
 */
function tasksHaveRights(database: Database): Knex.Raw {
  return database.raw(
    "(exists (select 1 from projector_state as p where p.task_source = 'tasks') or exists (select 1 from custom_roles as s where s.is_system = 1)) as tasks_have_rights",
  );
}

/** A user from the first of their rows, and from all of them. Custom roles are looked up if there are any. */
export async function toUserRights(database: Database, user: RightsRow, rows: readonly RightsRow[]): Promise<UserRights> {
  const roles = readJsonStrings(user.rbac_roles);
  const memberships = rows.flatMap((row, at) => {
    const { organization_id: organizationId } = row;
    // Two rows may be there for a moment while an implied role is replaced.
    const isFirst = rows.findIndex((other) => other.organization_id?.equals(organizationId ?? nowhere)) === at;
    if (organizationId === null || !isFirst) return [];
    const inOrganization = [...readJsonStrings(row.roles), ...readJsonStrings(row.default_org_member_roles)];
    return [{ organizationId, roles: inOrganization, implied: row.has_implied === 1 ? [impliedRole(row)] : [] }];
  });
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
    memberships: memberships.map(({ organizationId, roles: inOrganization, implied }) => ({
      organizationId,
      roles: inOrganization,
      customRoles: [...implied, ...held(inOrganization, organizationId).map(toPermissions)],
      ...(implied.length > 0 ? { impliedIsCustom: true as const } : {}),
    })),
    groupIds: readJsonStrings(user.group_ids).map((hex) => Buffer.from(hex, 'hex')),
    ...(user.tasks_have_rights === 1 ? { tasksHaveRights: true as const } : {}),
  };
}

/** What the implied role of a membership permits. Coder gives such roles nothing on the other levels. */
function impliedRole({ implied_organization, implied_member }: RightsRow): RolePermissions {
  return { site: [], organization: toPermissionList(implied_organization), user: [], member: toPermissionList(implied_member) };
}

/** The roles of these names that are not built in. */
async function findCustomRoles(database: Database, names: readonly string[]): Promise<CustomRoleRow[]> {
  const unknown = [...new Set(names)].filter((name) => !builtInRoles.has(name));
  if (unknown.length === 0) return [];
  // select r.name, … from custom_roles r where r.name in (…)
  return (await database
    .from({ r: 'custom_roles' })
    .whereIn('r.name', unknown)
    .select(
      'r.name',
      'r.organization_id',
      'r.site_permissions',
      'r.org_permissions',
      'r.user_permissions',
      'r.member_permissions',
    )) as CustomRoleRow[];
}

interface CustomRoleRow {
  readonly name: string;
  readonly organization_id: Buffer | null;
  readonly site_permissions: unknown;
  readonly org_permissions: unknown;
  readonly user_permissions: unknown;
  readonly member_permissions: unknown;
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
  'organization-workspace-access',
  'agents-access',
]);

/** No organization has this id. */
const nowhere = Buffer.alloc(16);

function toPermissions(row: CustomRoleRow): RolePermissions {
  return {
    site: toPermissionList(row.site_permissions),
    organization: toPermissionList(row.org_permissions),
    user: toPermissionList(row.user_permissions),
    member: toPermissionList(row.member_permissions),
  };
}

/** Permissions in a JSON array, as Coder stores them. Anything else permits nothing. */
function toPermissionList(json: unknown): Permission[] {
  return readJsonArray(json).flatMap((entry) => {
    const { negate, resource_type: resource, action } = Object(entry) as Record<string, unknown>;
    return typeof resource === 'string' && typeof action === 'string' ? [{ negate: negate === true, resource, action }] : [];
  });
}
