import type { Database } from '../../src/db/connection.ts';
import { newId } from './tasks.ts';

const now = '2026-01-01 00:00:00.000000';

/** A user of a test. */
export interface UserInit {
  readonly username: string;
  readonly roles?: readonly string[];
  readonly status?: 'active' | 'dormant' | 'suspended';
  readonly deleted?: boolean;
  readonly serviceAccount?: boolean;
  /** Organizations the user is a member of, each with the user's roles there. */
  readonly memberships?: readonly (readonly [organizationId: Buffer, ...roles: string[]])[];
}

/** Writes a user with memberships, and returns the user's id. */
export async function insertUser(database: Database, init: UserInit): Promise<Buffer> {
  const id = newId();
  await database('users').insert({
    id,
    username: init.username,
    avatar_url: '',
    status: init.status ?? 'active',
    rbac_roles: JSON.stringify(init.roles ?? []),
    deleted: init.deleted ?? false,
    is_service_account: init.serviceAccount ?? false,
    created_at: now,
    updated_at: now,
  });
  for (const [organizationId, ...roles] of init.memberships ?? []) {
    await database('organization_members').insert({
      organization_id: organizationId,
      user_id: id,
      roles: JSON.stringify(roles),
      created_at: now,
      updated_at: now,
    });
  }
  return id;
}

/** Writes an organization, and returns its id. */
export async function insertOrganization(database: Database, name: string): Promise<Buffer> {
  const id = newId();
  await database('organizations').insert({ id, name, created_at: now, updated_at: now });
  return id;
}

/** Writes a template, and returns its id. */
export async function insertTemplate(
  database: Database,
  init: { readonly organizationId: Buffer; readonly name: string; readonly deleted?: boolean },
): Promise<Buffer> {
  const id = newId();
  await database('templates').insert({
    id,
    organization_id: init.organizationId,
    name: init.name,
    active_version_id: newId(),
    deleted: init.deleted ?? false,
    user_acl: '{}',
    group_acl: '{}',
    created_at: now,
    updated_at: now,
  });
  return id;
}
