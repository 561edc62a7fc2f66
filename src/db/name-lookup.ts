import { LRUCache } from 'lru-cache';
import type { Database } from './connection.ts';

/** Finds the ids behind the names in a query. What was found is remembered for a few seconds; what was not found is not. */
export interface NameLookup {
  /** The user who is not deleted and has this username, in either case. */
  userId(username: string): Promise<Buffer | undefined>;
  /** The templates of this name in any organization, in either case, that are not deleted. */
  templateIds(name: string): Promise<readonly Buffer[]>;
}

/** Names remembered at once. A name is at most 191 characters, so this is under 3 MB. */
const maxNames = 10_000;

/**
 * Looks names up in the database.
 *
 * @param rememberSeconds how long an answer may be used again, 0 for never.
 */
export function createNameLookup(database: Database, rememberSeconds: number): NameLookup {
  const remembered = new LRUCache<string, readonly Buffer[]>({ max: maxNames, ttl: Math.max(1, rememberSeconds * 1000) });
  const lookUp = async (kind: 'user' | 'template', name: string): Promise<readonly Buffer[]> => {
    const key = `${kind} ${name}`;
    const known = remembered.get(key);
    if (known !== undefined) return known;
    // select users.id from users where users.username_lower = ?
    const found = (await (kind === 'user'
      ? database.from('users').where('users.username_lower', name).select('users.id')
      : database.from('templates').where('templates.name_lower', name).select('templates.id'))) as { id: Buffer }[];
    const ids = found.map(({ id }) => id);
    if (ids.length > 0 && rememberSeconds > 0) remembered.set(key, ids);
    return ids;
  };
  return {
    userId: async (username) => (await lookUp('user', username.toLowerCase()))[0],
    templateIds: (name) => lookUp('template', name.toLowerCase()),
  };
}
