import type { Knex } from 'knex';
import { LRUCache } from 'lru-cache';
import { type Database, withConnection } from '../../db/connection.ts';
import { anyCaseText, equalsInAnyCase, foldCase } from '../../db/letter-case.ts';
import { type RunStatement, runUnmeasured, type StatementName } from '../../db/statements.ts';

/**
 * Finds the ids behind the names in a query. What was found is remembered for a few seconds; what was not found is not. Its
 * statements end when the signal is aborted.
 */
export interface NameLookup {
  /** The user who is not deleted and has this username, in either case. */
  userId(username: string, signal?: AbortSignal): Promise<Buffer | undefined>;
  /** The organization that is not deleted and has this name, in either case. */
  organizationId(name: string, signal?: AbortSignal): Promise<Buffer | undefined>;
  /** The group of an organization, or of the default one, that has this name, and that organization. */
  group(
    name: string,
    organization?: string,
    signal?: AbortSignal,
  ): Promise<{ readonly id: Buffer; readonly organizationId: Buffer } | undefined>;
  /** Whether two users are members of one organization. */
  shareOrganization(userId: Buffer, otherId: Buffer, signal?: AbortSignal): Promise<boolean>;
  /** The templates of this name in any organization, in either case, that are not deleted. */
  templateIds(name: string, signal?: AbortSignal): Promise<readonly Buffer[]>;
}

/** Names remembered at once. A name is at most 191 characters, so this is under 3 MB. */
const maxNames = 10_000;

/**
 * Looks names up in the database.
 *
 * @param rememberSeconds how long an answer may be used again, 0 for never.
 * @param run what runs each statement.
 */
export function createNameLookup(database: Database, rememberSeconds: number, run: RunStatement = runUnmeasured): NameLookup {
  const remembered = new LRUCache<string, readonly Buffer[]>({ max: maxNames, ttl: Math.max(1, rememberSeconds * 1000) });
  const read = <T>(name: StatementName, query: Knex.QueryBuilder, signal: AbortSignal | undefined): Promise<T[]> =>
    run(name, () => withConnection(database, signal, (connection) => query.connection(connection) as Promise<T[]>));
  const lookUp = async (kind: keyof typeof folded, name: string, signal?: AbortSignal): Promise<readonly Buffer[]> => {
    const fold = foldCase(name);
    if (fold.endsWith(' ')) return []; // the database takes no notice of spaces at the end, and no name has one
    const key = `${kind} ${fold}`;
    const known = remembered.get(key);
    if (known !== undefined) return known;
    // select users.id from users where users.username_lower = ? order by users.id
    const query = database.from(kind).where(`${kind}.${folded[kind]}`, fold).orderBy(`${kind}.id`).select(`${kind}.id`);
    const found = await read<{ id: Buffer }>(`find_${kind}`, query, signal);
    const ids = found.map(({ id }) => id);
    if (ids.length > 0 && rememberSeconds > 0) remembered.set(key, ids);
    return ids;
  };
  return {
    userId: async (username, signal) => (await lookUp('users', username, signal))[0],
    organizationId: async (name, signal) => (await lookUp('organizations', name, signal))[0],
    templateIds: (name, signal) => lookUp('templates', name, signal),
    async group(name, organization, signal) {
      if (organization?.endsWith(' ') === true) return undefined;
      // select g.id, g.organization_id from groups as g join organizations as o on o.id = g.organization_id
      // where <g.name in any case> and o.name_lower = ?            (or o.is_default = 1)
      // order by g.id limit 1
      const query = database
        .from({ g: 'groups' })
        .join({ o: 'organizations' }, 'o.id', 'g.organization_id')
        .where('o.deleted', false)
        .where(equalsInAnyCase(database, 'g.name', anyCaseText(name)))
        .orderBy('g.id')
        .limit(1)
        .select('g.id', 'g.organization_id as organizationId');
      if (organization === undefined) query.where('o.is_default', true);
      else query.where('o.name_lower', foldCase(organization));
      return (await read<{ id: Buffer; organizationId: Buffer }>('find_group', query, signal))[0];
    },
    async shareOrganization(userId, otherId, signal) {
      // select 1 from organization_members as a join organization_members as b on … where a.user_id = ? and b.user_id = ? limit 1
      const query = database
        .from({ a: 'organization_members' })
        .join({ b: 'organization_members' }, 'b.organization_id', 'a.organization_id')
        .where({ 'a.user_id': userId, 'b.user_id': otherId })
        .limit(1)
        .select(database.raw('1'));
      return (await read('share_organization', query, signal)).length > 0;
    },
  };
}

/** The column of each table that has the name lower-cased, and NULL in rows that are deleted. */
const folded = { users: 'username_lower', organizations: 'name_lower', templates: 'name_lower' } as const;
