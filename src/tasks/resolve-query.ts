import type { Caller } from '../call/caller.ts';
import { echo, type Violation } from '../call/errors.ts';
import { foldCase } from '../db/letter-case.ts';
import type { OwnerTerm, QueryNames } from './query-keys.ts';
import { readsEveryUser, readsOrganization } from './scope.ts';
import type { NameLookup } from './store/name-lookup.ts';
import type { TaskFilter } from './store/task-filter.ts';
import { checkTaskQuery, positionOfKey, type ReadTaskQuery, type TaskQuery } from './task-query.ts';

/** A query with the ids of what it names. */
interface ResolvedQuery {
  readonly query: TaskQuery;
  /** Whose tasks it means: an id, `everyone`, or undefined when there is no such user. */
  readonly ownerId: Buffer | 'everyone' | undefined;
  /** It in terms of columns, or undefined when its owner or its template means nothing, so that nothing matches. */
  readonly filter: TaskFilter | undefined;
}

/**
 * Finds what a query names: users, organizations, groups and templates.
 *
 * @param text the query as it was sent, for the positions of names that mean nothing.
 * @param context the caller, and the signal that cancels the call.
 * @throws {ConnectError} INVALID_ARGUMENT that names everything that is wrong with the request, unknown names too, at once.
 */
export type ResolveQuery = (read: ReadTaskQuery, text: string, context: CallContext) => Promise<ResolvedQuery>;

/** The part of a call that resolving a query needs. */
interface CallContext {
  readonly caller: Caller;
  readonly signal?: AbortSignal;
}

/** Resolves queries by the database's names. Who and what a caller may not know of is refused like what does not exist. */
export function createResolveQuery(lookup: NameLookup): ResolveQuery {
  return async (read, text, context) => {
    const { names } = read.query;
    const unknown: Violation[] = [];
    const refuse: Refuse = (field, name) => {
      const description = `"${echo(name)}" either does not exist, or you are unauthorized to view it`;
      unknown.push({ field, description: description + positionOfKey(text, field) });
    };
    const found: TaskFilter = {
      ...(await idOf('organizationId', names.organization, (name) => organizationOf(name, context, refuse))),
      ...(await idOf('sharedWithUserId', names.sharedWithUser, (name) => userOf(name, context, refuse))),
      ...(await idOf('sharedWithGroupId', names.sharedWithGroup, (group) => groupOf(group, context, refuse))),
    };
    const query = checkTaskQuery(read, unknown);
    const ownerId = await ownerOf(query.owner, context);
    const nothing = { query, ownerId, filter: undefined };
    if (ownerId === undefined) return nothing;
    const templateIds = names.template === undefined ? undefined : await lookup.templateIds(names.template, context.signal);
    if (templateIds?.length === 0) return nothing;
    const filter: TaskFilter = {
      ...query.filter,
      ...found,
      ...(ownerId === 'everyone' ? {} : { ownerId }),
      ...(templateIds === undefined ? {} : { templateIds }),
    };
    return { query, ownerId, filter };
  };

  async function ownerOf(owner: OwnerTerm, { caller, signal }: CallContext): Promise<Buffer | 'everyone' | undefined> {
    switch (owner.kind) {
      case 'me':
        return caller.userId;
      case 'everyone':
        return 'everyone';
      case 'id':
        return owner.id;
      case 'username':
        return owner.username === foldCase(caller.username) ? caller.userId : lookup.userId(owner.username, signal);
    }
  }

  /** The organization that a query names. (An id is taken as it is: who may not read its tasks finds none.) */
  async function organizationOf(name: string, { caller, signal }: CallContext, refuse: Refuse): Promise<Buffer | undefined> {
    const id = await lookup.organizationId(name, signal);
    if (id !== undefined && readsOrganization(caller, id)) return id;
    refuse('organization', name);
    return undefined;
  }

  /** The user whom tasks are shared with. Who may not be seen is refused like who does not exist. */
  async function userOf(name: string, { caller, signal }: CallContext, refuse: Refuse): Promise<Buffer | undefined> {
    if (name === 'me' || name === foldCase(caller.username)) return caller.userId;
    const id = await lookup.userId(name, signal);
    const seen =
      id !== undefined &&
      (id.equals(caller.userId) || readsEveryUser(caller) || (await lookup.shareOrganization(caller.userId, id, signal)));
    if (seen) return id;
    refuse('shared_with_user', name);
    return undefined;
  }

  /** The group that tasks are shared with. */
  async function groupOf(
    { organization, name }: NonNullable<QueryNames['sharedWithGroup']>,
    { caller, signal }: CallContext,
    refuse: Refuse,
  ): Promise<Buffer | undefined> {
    const found = await lookup.group(name, organization, signal);
    if (found !== undefined && readsOrganization(caller, found.organizationId)) return found.id;
    refuse('shared_with_group', organization === undefined ? name : `${organization}/${name}`);
    return undefined;
  }
}

/** Notes a name that means nothing to the caller. */
type Refuse = (field: string, name: string) => void;

/** A filter by the id of what a query names, if it names it and that is found. */
async function idOf<Name>(
  key: 'organizationId' | 'sharedWithUserId' | 'sharedWithGroupId',
  name: Name | undefined,
  find: (name: Name) => Promise<Buffer | undefined>,
): Promise<TaskFilter> {
  const id = name === undefined ? undefined : await find(name);
  return id === undefined ? {} : { [key]: id };
}
