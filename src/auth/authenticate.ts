import { hash as digest, timingSafeEqual } from 'node:crypto';
import { LRUCache } from 'lru-cache';
import type { Authenticate, HeaderReader } from '../call/admission.ts';
import type { Caller } from '../call/caller.ts';
import { unauthenticated } from '../call/errors.ts';
import type { Logger } from '../platform/log.ts';
import { type AllowedIds, allowedIds } from './allow-list.ts';
import { type ApiKey, type ApiKeyRepository, hashSecret, parseSessionToken } from './api-key-repository.ts';
import { createTokenLookups, type TokenLookupLimits } from './token-lookups.ts';
import { readByScopes } from './token-scopes.ts';
import { looksLikeJwt, type VerifyJwt } from './verify-jwt.ts';

/** Most authenticated callers in the cache; the least recently used are dropped first. */
const maxRemembered = 10_000;

/** The options of authentication. */
interface AuthenticateOptions {
  readonly log?: Logger;
  /** Verifies JSON Web Tokens; without it they are refused. */
  readonly verifyJwt?: VerifyJwt | undefined;
  readonly lookupLimits?: Partial<TokenLookupLimits>;
  /** Whether sharing is off, see {@link Caller.withoutSharing}. */
  readonly withoutSharing?: boolean;
}

/**
 * Authenticates session tokens by the database, and JSON Web Tokens by their issuer's keys. The two are told apart by their form; a
 * text of neither form is refused without a look-up.
 *
 * An authenticated caller is cached for a few seconds, so that a warm call needs no statement for it; a revoked token works for at
 * most that long. Failures are not cached. Concurrent calls with one token share one look-up.
 *
 * The use of a token is noted about once an hour, beside the call: a database that refuses writes does not fail a read.
 *
 * @param rememberSeconds how long an authenticated caller may be cached, 0 for never.
 */
export function createAuthenticate(
  keys: ApiKeyRepository,
  rememberSeconds: number,
  { log, verifyJwt, lookupLimits, withoutSharing = false }: AuthenticateOptions = {},
): Authenticate {
  // By the hash of the token, so that a memory dump contains no tokens.
  const remembered = new LRUCache<string, Caller>({ max: maxRemembered, ttl: Math.max(1, rememberSeconds * 1000) });
  // Tokens that were valid before are looked up at once: they do not wait behind made-up tokens.
  const onceGood = new LRUCache<string, true>({ max: maxRemembered });
  const lookups = createTokenLookups(keys.findSecrets, lookupLimits);
  const underWay = new Map<string, Promise<Caller>>();

  const remember = (hash: string, found: Caller, expiresInMs: number): Caller => {
    const caller: Caller = withoutSharing ? { ...found, withoutSharing } : found;
    const ttl = Math.min(rememberSeconds * 1000, expiresInMs);
    if (ttl > 0) remembered.set(hash, caller, { ttl });
    onceGood.set(hash, true);
    return caller;
  };

  const verify = async (token: Token, hash: string, address: string): Promise<Caller> => {
    if (token.kind === 'jwt') {
      if (verifyJwt === undefined) throw unauthenticated();
      const { caller, expiresAt } = await verifyJwt(token.text);
      return remember(hash, caller, expiresAt - Date.now());
    }
    // The form is checked before the database is asked: most invalid tokens cost nothing.
    const parts = parseSessionToken(token.text);
    if (parts === undefined) throw unauthenticated();
    const secret = hashSecret(parts.secret);
    // Made-up tokens end here.
    if (!onceGood.has(hash) && !(await lookups.matches(address, parts.id, secret))) throw unauthenticated();
    const key = await keys.find(parts.id);
    const matches = key?.hashedSecret.length === secret.length && timingSafeEqual(key.hashedSecret, secret);
    if (!matches || key.expired || key.userStatus === 'suspended') {
      onceGood.delete(hash);
      throw unauthenticated();
    }
    if (key.useIsDue) {
      keys
        .noteUse(parts.id)
        .catch((error: unknown) => log?.warn({ err: error, key: parts.id }, 'the use of a token was not noted'));
    }
    return remember(hash, callerOf(key), key.expiresInMs);
  };

  return (header, address = '') => {
    const token = tokenOf(header);
    if (token === undefined) return Promise.reject(unauthenticated());
    const hash = digest('sha256', token.text, 'base64');
    const known = remembered.get(hash);
    if (known !== undefined) return known;
    const present = underWay.get(hash);
    if (present !== undefined) return present;
    const verification = verify(token, hash, address).finally(() => underWay.delete(hash));
    underWay.set(hash, verification);
    return verification;
  };
}

/**
 * The user of a key, restricted by its scopes and allow list: to workspaces, and also to tasks where these have rights of their
 * own. Where a task is a workspace, so is its id.
 */
function callerOf(key: ApiKey): Caller {
  const { userId, username, roles, customRoles, memberships, groupIds, tasksHaveRights, scopes, allowList = ['*:*'] } = key;
  const needed = tasksHaveRights === true ? (['workspace', 'task'] as const) : (['workspace'] as const);
  const read = readByScopes(scopes);
  const workspaces = allowedIds(allowList, 'workspace');
  return {
    userId,
    username,
    roles,
    customRoles,
    memberships,
    groupIds,
    mayRead: needed.every((resource) => read.has(resource)),
    ...(tasksHaveRights === true
      ? {
          tasksHaveRights,
          ...restriction('onlyIds', allowedIds(allowList, 'task')),
          ...restriction('onlyWorkspaces', workspaces),
        }
      : restriction('onlyIds', workspaces)),
  };
}

function restriction(name: 'onlyIds' | 'onlyWorkspaces', allowed: AllowedIds): Pick<Caller, typeof name> {
  return allowed === 'all' ? {} : { [name]: allowed };
}

interface Token {
  readonly kind: 'session' | 'jwt';
  readonly text: string;
}

/**
 * The first token of a call, even if it is invalid: the cookie, `coder-session-token`, then `authorization: Bearer`, the only place
 * for a JSON Web Token.
 */
function tokenOf(header: HeaderReader): Token | undefined {
  const cookie = /(?:^|;)\s*coder_session_token=([^;]*)/.exec(header('cookie') ?? '')?.[1]?.trim();
  if (cookie) return { kind: 'session', text: cookie };
  const own = header('coder-session-token')?.trim();
  if (own) return { kind: 'session', text: own };
  const text = /^bearer +(\S+)\s*$/i.exec(header('authorization') ?? '')?.[1];
  return text === undefined ? undefined : { kind: looksLikeJwt(text) ? 'jwt' : 'session', text };
}
