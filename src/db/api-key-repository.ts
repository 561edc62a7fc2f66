import { createHash, randomBytes } from 'node:crypto';
import type { Membership } from '../tasks/caller.ts';
import type { Database } from './connection.ts';

/** A session token taken apart: `<id>-<secret>`, 10 and 22 characters of 0-9, A-Z, a-z (coderd/httpmw/apikey.go). */
export interface SessionToken {
  readonly id: string;
  readonly secret: string;
}

/** The parts of a session token, or undefined when the text is none. */
export function parseSessionToken(text: string): SessionToken | undefined {
  const [, id, secret] = /^([0-9A-Za-z]{10})-([0-9A-Za-z]{22})$/.exec(text) ?? [];
  return id === undefined || secret === undefined ? undefined : { id, secret };
}

/** SHA-256 of a secret's bytes, as `api_keys.hashed_secret` has it. */
export function hashSecret(secret: string): Buffer {
  return createHash('sha256').update(secret).digest();
}

/** A key with its user, as the check of a token needs them. */
export interface ApiKey {
  readonly hashedSecret: Buffer;
  readonly scope: string;
  /** Milliseconds until the key expires, by the database's clock. Negative when it has. */
  readonly expiresInMs: number;
  readonly userId: Buffer;
  readonly username: string;
  /** `active`, `dormant` or `suspended`. */
  readonly userStatus: string;
  readonly roles: readonly string[];
  readonly memberships: readonly Membership[];
}

/** A key as `keys list` shows it. */
export interface ApiKeySummary {
  readonly id: string;
  readonly username: string;
  readonly token_name: string;
  readonly expires_at: string;
  readonly last_used: string;
}

/** Reads and makes session tokens. */
export interface ApiKeyRepository {
  /** The key with an id and its user's roles, in one statement. Keys of deleted users are not found. */
  find(id: string): Promise<ApiKey | undefined>;
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
      // select … from api_keys k join users u on u.id = k.user_id and u.deleted = 0
      //   left join organization_members m on m.user_id = u.id where k.id = ?        (a row for each membership)
      const rows = (await database
        .from({ k: 'api_keys' })
        .join({ u: 'users' }, (on) => on.on('u.id', 'k.user_id').andOnVal('u.deleted', 0))
        .leftJoin({ m: 'organization_members' }, 'm.user_id', 'u.id')
        .where('k.id', id)
        .select(
          'k.hashed_secret',
          'k.scope',
          database.raw('timestampdiff(microsecond, utc_timestamp(6), k.expires_at) div 1000 as expires_in_ms'),
          'u.id as user_id',
          'u.username',
          'u.status',
          'u.rbac_roles',
          'm.organization_id',
          'm.roles',
        )) as {
        hashed_secret: Buffer;
        scope: string;
        expires_in_ms: number | string;
        user_id: Buffer;
        username: string;
        status: string;
        rbac_roles: unknown;
        organization_id: Buffer | null;
        roles: unknown;
      }[];
      const [row] = rows;
      if (row === undefined) return undefined;
      return {
        hashedSecret: row.hashed_secret,
        scope: row.scope,
        expiresInMs: Number(row.expires_in_ms),
        userId: row.user_id,
        username: row.username,
        userStatus: row.status,
        roles: toRoles(row.rbac_roles),
        memberships: rows.flatMap(({ organization_id: organizationId, roles }) =>
          organizationId === null ? [] : [{ organizationId, roles: toRoles(roles) }],
        ),
      };
    },

    async create(username, { lifetimeSeconds, name }) {
      const [user] = (await database.from('users').where('users.username_lower', username.toLowerCase()).select('users.id')) as {
        id: Buffer;
      }[];
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

/** Role names in a JSON array. Anything else gives no role. */
function toRoles(json: unknown): string[] {
  const roles: unknown = typeof json === 'string' ? JSON.parse(json) : json;
  return Array.isArray(roles) ? roles.filter((role) => typeof role === 'string') : [];
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
