import { seededRandom } from '../../dev/demo/seeded-random.ts';
import type { RolePermission, World } from './world.ts';

/** A world as newer versions of Coder keep it: with rows for what memberships imply, and rights of tasks beside those of workspaces. */
export function withNewerRights(world: World, seed: number): World {
  const random = seededRandom(seed, 0x11a1d5);
  const below = (limit: number): number => Math.floor(random() * limit);
  const chance = (probability: number): boolean => random() < probability;
  const pick = <Value>(values: readonly Value[]): Value => values[below(values.length)] as Value;
  const id = (): string => {
    const digits = Array.from({ length: 32 }, () => below(16).toString(16)).join('');
    return digits.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
  };
  const permissions = (negate: number): RolePermission[] =>
    Array.from({ length: below(4) }, () => ({
      negate: chance(negate),
      resource_type: pick(['workspace', 'task', 'task', '*', 'template']),
      action: pick(['read', 'read', 'read', '*', 'update']),
    }));
  const read = ['workspace', 'task'].map((resource_type) => ({ negate: false, resource_type, action: 'read' }));

  const implied = world.organizations.flatMap(({ id: organization_id }) =>
    ['organization-member', 'organization-service-account'].map((name) => ({
      id: id(),
      name,
      organization_id,
      is_system: true,
      site_permissions: [],
      org_permissions: permissions(0.5).filter(({ negate }) => negate && chance(0.2)),
      user_permissions: permissions(0.5),
      member_permissions: chance(0.7) ? read : permissions(0.1),
    })),
  );
  return {
    ...world,
    users: world.users.map((user) => ({ ...user, is_service_account: chance(0.2) })),
    organizations: world.organizations.map((organization) => ({
      ...organization,
      default_org_member_roles: pick([[], [], ['organization-workspace-access'], ['organization-role'], ['agents-access']]),
    })),
    custom_roles: [
      ...world.custom_roles.map((role) => ({
        ...role,
        is_system: false,
        site_permissions: role.site_permissions.flatMap((permission) => [permission, ...(chance(0.5) ? read : [])]),
        org_permissions: chance(0.4) ? [...role.org_permissions, ...read] : role.org_permissions,
        member_permissions: permissions(0.3),
      })),
      ...implied,
    ],
    api_keys: world.api_keys.map((key) =>
      key.scopes === null || chance(0.5)
        ? key
        : { ...key, scopes: pick([['coder:workspaces.access', 'task:*'], ['task:read', 'workspace:*'], ['task:read']]) },
    ),
  };
}
