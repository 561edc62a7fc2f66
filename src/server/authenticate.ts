import { createHash, timingSafeEqual } from 'node:crypto';
import { LRUCache } from 'lru-cache';
import { type ApiKeyRepository, hashSecret, parseSessionToken } from '../db/api-key-repository.ts';
import { unauthenticated } from '../errors.ts';
import type { Caller } from '../tasks/caller.ts';

/** Reads a header of the call: metadata on gRPC, HTTP headers on the web port. `cookie` is there on the web port only. */
export type HeaderReader = (name: string) => string | undefined;

/** Finds out who calls. @throws {ConnectError} UNAUTHENTICATED, with one message for everything that can be wrong. */
export type Authenticate = (header: HeaderReader) => Promise<Caller>;

/** Verified callers remembered at once; the ones used longest ago are forgotten first. */
const maxRemembered = 10_000;

/** Scopes of a token that may read tasks. Coder's other one, `application_connect`, reads nothing. */
const readingScopes: ReadonlySet<string> = new Set(['all', 'coder:all']);

/**
 * Checks session tokens against the database.
 *
 * A verified caller is remembered for a few seconds, so that a warm call needs no statement for it; a revoked token works for at
 * most that long. Negative answers are not remembered. Calls that come at once with one token share one look.
 *
 * @param rememberSeconds how long a verified caller may be remembered, 0 for never.
 */
export function createAuthenticate(keys: ApiKeyRepository, rememberSeconds: number): Authenticate {
  // By the hash of the token, so that a dump of the memory holds no tokens.
  const remembered = new LRUCache<string, Caller>({ max: maxRemembered, ttl: Math.max(1, rememberSeconds * 1000) });
  const underWay = new Map<string, Promise<Caller>>();

  const verify = async (token: string, hash: string): Promise<Caller> => {
    // The form is checked before the database is asked: most of what is no token costs nothing.
    const parts = parseSessionToken(token);
    const key = parts === undefined ? undefined : await keys.find(parts.id);
    if (parts === undefined || key === undefined) throw unauthenticated();
    const secret = hashSecret(parts.secret);
    const matches = key.hashedSecret.length === secret.length && timingSafeEqual(key.hashedSecret, secret);
    // Equal is still valid, as in Coder (coderd/httpmw/apikey.go).
    if (!matches || key.expiresInMs < 0 || key.userStatus === 'suspended') throw unauthenticated();
    const { userId, username, roles, customRoles, memberships, groupIds } = key;
    const caller: Caller = { userId, username, roles, customRoles, memberships, groupIds, mayRead: readingScopes.has(key.scope) };
    const ttl = Math.min(rememberSeconds * 1000, key.expiresInMs);
    if (ttl > 0) remembered.set(hash, caller, { ttl });
    return caller;
  };

  return (header) => {
    const token = sessionToken(header);
    if (token === undefined) return Promise.reject(unauthenticated());
    const hash = createHash('sha256').update(token).digest('base64');
    const known = remembered.get(hash);
    if (known !== undefined) return Promise.resolve(known);
    const present = underWay.get(hash);
    if (present !== undefined) return present;
    const verification = verify(token, hash).finally(() => underWay.delete(hash));
    underWay.set(hash, verification);
    return verification;
  };
}

/** The first token that is given, even if it is a wrong one: the cookie, `coder-session-token`, then `authorization: Bearer`. */
function sessionToken(header: HeaderReader): string | undefined {
  const cookie = /(?:^|;)\s*coder_session_token=([^;]*)/.exec(header('cookie') ?? '')?.[1]?.trim();
  if (cookie) return cookie;
  const own = header('coder-session-token')?.trim();
  if (own) return own;
  return /^bearer +(\S+)\s*$/i.exec(header('authorization') ?? '')?.[1];
}
