import type { FindUser, FoundUser } from '../../auth/user-lookup.ts';
import type { Call } from '../../call/call.ts';
import type { Caller } from '../../call/caller.ts';
import { taskNotFound } from '../../call/errors.ts';
import { parseLooseUuid } from '../../tasks/query-keys.ts';
import { customOnSite, permits, readsEveryUser } from '../../tasks/scope.ts';

/**
 * Checks the user that a path names: `me`, an id, or a username in either case. It filters nothing, as in Coder: it must only be
 * somebody whom the caller may know of. A token that reads no tasks knows of nobody, not even of its own user.
 *
 * @throws {ConnectError} NOT_FOUND, the same for a user who does not exist and one whom the caller may not know of.
 */
export async function checkPathUser(user: string, { caller, signal }: Call, findUser: FindUser): Promise<void> {
  if (!caller.mayRead) throw taskNotFound();
  const id = parseLooseUuid(user);
  if (user === 'me' || id?.equals(caller.userId) === true || user.toLowerCase() === caller.username.toLowerCase()) return;
  const found = await findUser(id ?? user, signal);
  if (found === undefined || !mayKnow(caller, found)) throw taskNotFound();
}

/** The id of a user whom a query names by `me`, an id, or a username; undefined for one whom the caller may not know of. */
export async function idOfKnownUser(user: string, { caller, signal }: Call, findUser: FindUser): Promise<Buffer | undefined> {
  if (user === 'me' || user === caller.username.toLowerCase()) return caller.userId;
  const id = parseLooseUuid(user);
  if (id !== undefined) return id; // an id that is nobody's finds nothing, as in Coder
  const found = await findUser(user, signal);
  return found !== undefined && mayKnow(caller, found) ? found.id : undefined;
}

/** Roles of an organization that read the users of the whole site, to add them as members (coderd/rbac/roles.go). */
const userReaders: ReadonlySet<string> = new Set(['organization-admin', 'organization-user-admin']);
/** Roles of an organization that read its members. */
const memberReaders: ReadonlySet<string> = new Set([...userReaders, 'organization-auditor', 'organization-template-admin']);

/**
 * Whether a caller may read a user, or one of the user's memberships. Plain members know of themselves alone (coderd/rbac/roles.go).
 */
export function mayKnow(caller: Caller, user: FoundUser): boolean {
  if (user.id.equals(caller.userId) || readsEveryUser(caller)) return true;
  const member = user.organizationIds.length > 0;
  if (member && permits(customOnSite(caller), 'organization_member')) return true;
  return caller.memberships.some((membership) => {
    if (membership.roles.some((role) => userReaders.has(role))) return true;
    if (!user.organizationIds.some((id) => id.equals(membership.organizationId))) return false;
    const ofOrganization = membership.customRoles.flatMap(({ organization }) => organization);
    return membership.roles.some((role) => memberReaders.has(role)) || permits(ofOrganization, 'organization_member');
  });
}
