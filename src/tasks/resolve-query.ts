import type { Caller } from '../call/caller.ts';
import { echo, type Violation } from '../call/errors.ts';
import { foldCase } from '../db/letter-case.ts';
import type { IdOrName, OwnerTerm, TaskTerms } from './query-keys.ts';
import { readsEveryUser, readsOrganization } from './scope.ts';
import type { NameLookup } from './store/name-lookup.ts';
import type { TaskFilter } from './store/task-filter.ts';
import { checkTaskQuery, positionOfKey, type ReadTaskQuery, type TaskQuery } from './task-query.ts';

/** A query with the ids of what it names. */
export interface ResolvedQuery {
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
 * @param asker who asks, and until when.
 * @throws {ConnectError} INVALID_ARGUMENT that names everything that is wrong with the request, unknown names too, at once.
 */
export type ResolveQuery = (read: ReadTaskQuery, text: string, asker: Asker) => Promise<ResolvedQuery>;

/** What of a call matters here. */
export interface Asker {
  readonly caller: Caller;
  readonly signal?: AbortSignal;
}

/** Resolves queries by the database's names. Who and what a caller may not know of is refused like what does not exist. */
export function createResolveQuery(names: NameLookup): ResolveQuery {
  return async (read, text, asker) => {
    const { found, unknown } = await lookUp(read.query, text, asker);
    const query = checkTaskQuery(read, unknown);
    const ownerId = await ownerOf(query.owner, asker);
    return { query, ownerId, filter: await filterOf(query, found, ownerId, asker) };
  };

  async function ownerOf(owner: OwnerTerm, { caller, signal }: Asker): Promise<Buffer | 'everyone' | undefined> {
    switch (owner.kind) {
      case 'me':
        return caller.userId;
      case 'everyone':
        return 'everyone';
      case 'id':
        return owner.id;
      case 'username':
        return owner.username === foldCase(caller.username) ? caller.userId : names.userId(owner.username, signal);
    }
  }

  /** The ids of what a query names, and which of its names are unknown to the caller. */
  async function lookUp(
    { organization, sharedWithUser, sharedWithGroup }: TaskQuery,
    text: string,
    asker: Asker,
  ): Promise<{ readonly found: NamedIds; readonly unknown: readonly Violation[] }> {
    const unknown: Violation[] = [];
    const found: NamedIds = {
      organizationId: organization === undefined ? undefined : await organizationOf(organization, asker, unknown),
      sharedWithUserId: sharedWithUser === undefined ? undefined : await userOf(sharedWithUser, asker, unknown),
      sharedWithGroupId: sharedWithGroup === undefined ? undefined : await groupOf(sharedWithGroup, asker, unknown),
    };
    const placed = unknown.map(({ field, description }) => ({ field, description: description + positionOfKey(text, field) }));
    return { found, unknown: placed };
  }

  async function filterOf(
    query: TaskQuery,
    { organizationId, sharedWithUserId, sharedWithGroupId }: NamedIds,
    ownerId: Buffer | 'everyone' | undefined,
    { signal }: Asker,
  ): Promise<TaskFilter | undefined> {
    const { owner: _owner, orderBy: _orderBy, pageSize: _pageSize, ...terms } = query;
    const { template, organization: _name, sharedWithUser: _user, sharedWithGroup: _group, ...columns } = terms;
    if (ownerId === undefined) return undefined;
    const templateIds = template === undefined ? undefined : await names.templateIds(template, signal);
    if (templateIds?.length === 0) return undefined;
    return {
      ...columns,
      ...(ownerId === 'everyone' ? {} : { ownerId }),
      ...(organizationId === undefined ? {} : { organizationId }),
      ...(templateIds === undefined ? {} : { templateIds }),
      ...(sharedWithUserId === undefined ? {} : { sharedWithUserId }),
      ...(sharedWithGroupId === undefined ? {} : { sharedWithGroupId }),
    };
  }

  /** The organization a query means. An id is taken as it is: who may not read its tasks finds none. */
  async function organizationOf(
    organization: IdOrName,
    { caller, signal }: Asker,
    unknown: Violation[],
  ): Promise<Buffer | undefined> {
    if ('id' in organization) return organization.id;
    const id = await names.organizationId(organization.name, signal);
    if (id !== undefined && readsOrganization(caller, id)) return id;
    unknown.push(unknownName('organization', organization.name));
    return undefined;
  }

  /** The user whom tasks are shared with. Who may not be seen is refused like who does not exist. */
  async function userOf(user: IdOrName | 'me', { caller, signal }: Asker, unknown: Violation[]): Promise<Buffer | undefined> {
    if (user === 'me') return caller.userId;
    if ('id' in user) return user.id;
    const id = user.name === foldCase(caller.username) ? caller.userId : await names.userId(user.name, signal);
    const seen =
      id !== undefined &&
      (id.equals(caller.userId) || readsEveryUser(caller) || (await names.shareOrganization(caller.userId, id, signal)));
    if (seen) return id;
    unknown.push(unknownName('shared_with_user', user.name));
    return undefined;
  }

  /** The group that tasks are shared with. */
  async function groupOf(
    group: NonNullable<TaskTerms['sharedWithGroup']>,
    { caller, signal }: Asker,
    unknown: Violation[],
  ): Promise<Buffer | undefined> {
    if ('id' in group) return group.id;
    const found = await names.group(group.name, group.organization, signal);
    if (found !== undefined && readsOrganization(caller, found.organizationId)) return found.id;
    const name = group.organization === undefined ? group.name : `${group.organization}/${group.name}`;
    unknown.push(unknownName('shared_with_group', name));
    return undefined;
  }
}

/** What a query names, by its ids. */
interface NamedIds {
  readonly organizationId: Buffer | undefined;
  readonly sharedWithUserId: Buffer | undefined;
  readonly sharedWithGroupId: Buffer | undefined;
}

function unknownName(field: string, name: string): Violation {
  return { field, description: `"${echo(name)}" either does not exist, or you are unauthorized to view it` };
}
