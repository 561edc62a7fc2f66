import { type Database, withConnection } from '../db/connection.ts';
import { foldCase } from '../db/letter-case.ts';

/** A user, and the organizations the user is a member of. Ids are the 16 bytes of a UUID. */
export interface FoundUser {
  readonly id: Buffer;
  readonly organizationIds: readonly Buffer[];
}

/** Finds the user with an id, deleted ones too, or the one who is not deleted and has this username, in either case. */
export type FindUser = (idOrUsername: Buffer | string, signal?: AbortSignal) => Promise<FoundUser | undefined>;

/** Finds users in the database, each with one statement, which ends when the signal is aborted. */
export function createFindUser(database: Database): FindUser {
  return async (idOrUsername, signal) => {
    if (typeof idOrUsername === 'string' && idOrUsername.endsWith(' ')) return undefined; // no username has one; the database ignores it
    // select u.id, m.organization_id as organizationId from users as u
    // left join organization_members as m on m.user_id = u.id where u.username_lower = ?        (or u.id = ?)
    // order by u.id
    const query = database
      .from({ u: 'users' })
      .leftJoin({ m: 'organization_members' }, 'm.user_id', 'u.id')
      .orderBy('u.id')
      .select('u.id', 'm.organization_id as organizationId');
    if (Buffer.isBuffer(idOrUsername)) query.where('u.id', idOrUsername);
    else query.where('u.username_lower', foldCase(idOrUsername));
    const rows = await withConnection(
      database,
      signal,
      (connection) => query.connection(connection) as Promise<{ id: Buffer; organizationId: Buffer | null }[]>,
    );
    const [user] = rows;
    if (user === undefined) return undefined;
    const own = rows.filter(({ id }) => id.equals(user.id)); // a copy of Coder may have two of one name for a moment
    return { id: user.id, organizationIds: own.flatMap(({ organizationId }) => organizationId ?? []) };
  };
}
