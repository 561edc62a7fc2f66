import { createHash, randomBytes } from 'node:crypto';
import type { Database } from '../db/connection.ts';
import { readJsonStrings } from '../db/json-array.ts';
import { type RightsRow, selectRights, toUserRights, type UserRights } from './user-rights.ts';

/** The parts of a session token `<id>-<secret>`: 10 and 22 characters of 0-9, A-Z, a-z (coderd/httpmw/apikey.go). */
interface SessionToken {
  readonly id: string;
  readonly secret: string;
}

/** The parts of a session token, or undefined when the text is not a session token. */
export function parseSessionToken(text: string): SessionToken | undefined {
  const [, id, secret] = /^([0-9A-Za-z]{10})-([0-9A-Za-z]{22})$/.exec(text) ?? [];
  return id === undefined || secret === undefined ? undefined : { id, secret };
}

/** SHA-256 of a secret's bytes, as `api_keys.hashed_secret` has it. */
export function hashSecret(secret: string): Buffer {
  return createHash('sha256').update(secret).digest();
}

/** A key with its user, as needed to authenticate a token. */
export interface ApiKey extends UserRights {
  readonly hashedSecret: Buffer;
  /** The scopes of the key, in Coder's words. */
  readonly scopes: readonly string[];
  /** The allow list of the key, as `type:id`; absent means everything. */
  readonly allowList?: readonly string[];
  readonly expired: boolean;
  /** Whether its use is to be noted, see {@link ApiKeyRepository.noteUse}. */
  readonly useIsDue: boolean;
  /** Milliseconds until the key expires, by the database's clock. Negative when it has. */
  readonly expiresInMs: number;
}

/** A key as `keys list` shows it. */
interface ApiKeySummary {
  readonly id: string;
  readonly username: string;
  readonly token_name: string;
  readonly expires_at: string;
  readonly last_used: string;
}

/** Reads and makes session tokens. */
export interface ApiKeyRepository {
  /**
   * The key with an id, and its user's roles and groups, in one statement, or two for a user with custom roles. Keys of deleted
   * users are not found.
   */
  find(id: string): Promise<ApiKey | undefined>;
  /** The hashed secrets of the keys with some ids; unknown ids are left out. */
  findSecrets(ids: readonly string[]): Promise<ReadonlyMap<string, Buffer>>;
  /**
   * Notes that a key was used, about once an hour: `last_used`, the user's `last_seen_at`, a new `expires_at` a lifetime from now,
   * and a dormant user becomes active (coderd/httpmw/apikey.go).
   */
  noteUse(id: string): Promise<void>;
  /** Makes a token for a user; undefined when there is no such user. It can be read here and never again. */
  create(username: string, options: { readonly lifetimeSeconds: number; readonly name: string }): Promise<string | undefined>;
  /** Deletes a key; false when there is none. */
  revoke(id: string): Promise<boolean>;
  /** All keys, or those of a user, newest first. */
  list(username?: string): Promise<ApiKeySummary[]>;
}

/** Keeps session tokens in `api_keys`, the way Coder does. */
export function createApiKeyRepository(database: Database): ApiKeyRepository {
  return {
    async find(id) {
      // select … from api_keys k join users u on u.id = k.user_id and u.deleted = 0 <left joins of selectRights>
      // where k.id = ?        (a row for each membership)
      const key = database
        .from({ k: 'api_keys' })
        .join({ u: 'users' }, (on) => on.on('u.id', 'k.user_id').andOnVal('u.deleted', 0))
        .where('k.id', id)
        .select(
          'k.hashed_secret',
          'k.scope',
          'k.scopes',
          'k.allow_list',
          database.raw('k.expires_at < utc_timestamp(6) as expired'), // equal is still valid, as in Coder
          database.raw(`(${useIsDue}) as use_is_due`),
          database.raw('timestampdiff(microsecond, utc_timestamp(6), k.expires_at) div 1000 as expires_in_ms'),
        );
      const rows = (await selectRights(database, key)) as KeyRow[];
      const [row] = rows;
      if (row === undefined) return undefined;
      return {
        hashedSecret: row.hashed_secret,
        scopes: row.scopes === null ? [row.scope] : readJsonStrings(row.scopes),
        ...(row.allow_list === null ? {} : { allowList: readJsonStrings(row.allow_list) }),
        expired: row.expired === 1,
        useIsDue: row.use_is_due === 1,
        expiresInMs: Number(row.expires_in_ms),
        ...(await toUserRights(database, row, rows)),
      };
    },

    async findSecrets(ids) {
      // select k.id, k.hashed_secret from api_keys as k where k.id in (…)
      const rows = (await database.from({ k: 'api_keys' }).whereIn('k.id', ids).select('k.id', 'k.hashed_secret')) as {
        id: string;
        hashed_secret: Buffer;
      }[];
      return new Map(rows.map((row) => [row.id, row.hashed_secret]));
    },

    async noteUse(id) {
      // The key and its user in one statement: update api_keys k join users u on u.id = k.user_id set … where k.id = ?
      await database.raw(
        `update api_keys as k join users as u on u.id = k.user_id
         set k.expires_at = if(${extensionIsDue}, utc_timestamp(6) + interval k.lifetime_seconds second, k.expires_at),
             k.updated_at = utc_timestamp(6),
             k.last_used = utc_timestamp(6),
             u.last_seen_at = utc_timestamp(6),
             u.status = if(u.status = 'dormant', 'active', u.status)
         where k.id = ?`,
        [id],
      );
    },

    async create(username, { lifetimeSeconds, name }) {
      const [user] = (await database
        .from('users')
        .where('users.username_lower', username.toLowerCase())
        .orderBy('users.id')
        .limit(1)
        .select('users.id')) as { id: Buffer }[];
      if (user === undefined) return undefined;
      const id = randomText(10);
      const secret = randomText(22);
      await database('api_keys').insert({
        id,
        hashed_secret: hashSecret(secret),
        user_id: user.id,
        token_name: name,
        lifetime_seconds: lifetimeSeconds,
        last_used: database.raw('utc_timestamp(6)'),
        expires_at: database.raw('utc_timestamp(6) + interval ? second', [lifetimeSeconds]),
        created_at: database.raw('utc_timestamp(6)'),
        updated_at: database.raw('utc_timestamp(6)'),
      });
      return `${id}-${secret}`;
    },

    async revoke(id) {
      return (await database('api_keys').where('api_keys.id', id).delete()) > 0;
    },

    async list(username) {
      const query = database
        .from({ k: 'api_keys' })
        .join({ u: 'users' }, 'u.id', 'k.user_id')
        .orderBy([
          { column: 'k.created_at', order: 'desc' },
          { column: 'k.id', order: 'desc' },
        ])
        .select('k.id', 'u.username', 'k.token_name', 'k.expires_at', 'k.last_used');
      if (username !== undefined) query.where('u.username_lower', username.toLowerCase());
      return (await query) as ApiKeySummary[];
    },
  };
}

/** A key's expiry is moved when it has come nearer than its lifetime by an hour: so a key in use is written about hourly. */
const extensionIsDue = `timestampdiff(second, utc_timestamp(6), k.expires_at) <= k.lifetime_seconds - 3600`;
const useIsDue = `timestampdiff(second, k.last_used, utc_timestamp(6)) > 3600 or ${extensionIsDue} or u.status = 'dormant'`;

interface KeyRow extends RightsRow {
  readonly hashed_secret: Buffer;
  readonly scope: string;
  readonly scopes: unknown;
  readonly allow_list: unknown;
  readonly expired: 0 | 1;
  readonly use_is_due: 0 | 1;
  readonly expires_in_ms: number | string;
}

const alphabet = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';

/** Random characters of the alphabet, each equally likely: bytes beyond the last whole multiple of 62 are thrown away. */
function randomText(length: number): string {
  let text = '';
  while (text.length < length) {
    for (const byte of randomBytes(length * 2)) {
      if (byte < 248 && text.length < length) text += alphabet[byte % alphabet.length];
    }
  }
  return text;
}
