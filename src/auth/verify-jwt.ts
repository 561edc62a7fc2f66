import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import {
  createLocalJWKSet,
  createRemoteJWKSet,
  customFetch,
  errors,
  type JWTPayload,
  type JWTVerifyGetKey,
  jwtVerify,
} from 'jose';
import type { Caller } from '../call/caller.ts';
import { issuerUnavailable, unauthenticated } from '../call/errors.ts';
import { ConfigError } from '../config.ts';
import { parseUuid } from '../db/uuid.ts';
import type { Logger } from '../platform/log.ts';
import type { FindTasksHaveRights, FindUserRights } from './user-rights.ts';

/** The settings of JSON Web Tokens. */
export interface JwtSettings {
  /** The one issuer, exactly as `iss` has it. */
  readonly issuer: string;
  /** What must be in `aud`: this service. */
  readonly audience: string;
  /** The issuer's public keys, as a JSON Web Key Set: an `https` address, or a file. */
  readonly jwks: string;
  /**
   * The claim with the site roles of a service: a token with this claim is a service's. Without this setting all tokens are
   * users'.
   */
  readonly rolesClaim?: string | undefined;
}

/** A caller authenticated by a token, and when the token expires, in milliseconds since 1970. */
interface JwtCaller {
  readonly caller: Caller;
  readonly expiresAt: number;
}

/** Where the rights of callers are looked up. */
export interface RightsLookup {
  readonly findUser: FindUserRights;
  readonly tasksHaveRights: FindTasksHaveRights;
}

/** Verifies a JSON Web Token. @throws {ConnectError} UNAUTHENTICATED, or UNAVAILABLE when the key cannot be fetched. */
export type VerifyJwt = (token: string) => Promise<JwtCaller>;

/** A longer token is refused. Those of the usual issuers have one or two thousand characters. */
const maxTokenLength = 8192;

/** Only algorithms with public keys: with a shared secret, or none, anyone who can verify a token could sign one. */
const algorithms = ['RS256', 'ES256', 'EdDSA'];

/** How far the issuer's clock and ours may differ, in seconds. */
const clockTolerance = 5;

/** How long after fetching the key set an unknown key does not fetch it again, in milliseconds; also after a failure. */
const cooldownMs = 10_000;

/** A key set of this age is fetched again, in milliseconds: keys that were removed from it are refused from then on. */
const refreshMs = 5 * 60_000;

/** How long the issuer may take to give its key set, in milliseconds. */
const fetchTimeoutMs = 3000;

/** Site roles that a service may have (coderd/rbac/roles.go). */
const serviceRoles: ReadonlySet<string> = new Set(['owner', 'template-admin', 'user-admin', 'auditor']);

/** Whether a text has the form of a signed token: three parts in base64url with dots between. No session token has dots. */
export function looksLikeJwt(text: string): boolean {
  return text.length <= maxTokenLength && /^[\w-]+\.[\w-]+\.[\w-]+$/.test(text);
}

/**
 * Checks tokens of one issuer.
 *
 * `sub` is a user's id or username, and the token has the rights of a session token of that user. A token with the roles claim is a
 * service's: it has the known site roles of the claim, and no memberships.
 *
 * @throws {ConfigError} when the key set is a file without keys.
 */
export function createVerifyJwt(settings: JwtSettings, { findUser, tasksHaveRights }: RightsLookup, log?: Logger): VerifyJwt {
  const { issuer, audience, rolesClaim } = settings;
  const getKey = createGetKey(settings.jwks, log);

  const verify = async (token: string): Promise<JWTPayload> => {
    try {
      const options = { issuer, audience, algorithms, clockTolerance, requiredClaims: ['sub', 'exp'] };
      return (await jwtVerify(token, getKey, options)).payload;
    } catch (error) {
      if (!(error instanceof errors.JOSEError)) throw error;
      log?.debug({ why: error.code }, 'a JWT was refused');
      throw unauthenticated();
    }
  };

  return async (token) => {
    const { sub = '', exp = 0, ...claims } = await verify(token);
    const roles = rolesClaim === undefined ? undefined : claims[rolesClaim];
    const expiresAt = exp * 1000;
    const caller = roles === undefined ? await userOf(sub, findUser) : serviceOf(issuer, sub, roles);
    if (caller === undefined) throw unauthenticated();
    if (roles === undefined) return { caller, expiresAt };
    return { caller: (await tasksHaveRights()) ? { ...caller, tasksHaveRights: true } : caller, expiresAt };
  };
}

async function userOf(sub: string, findUser: FindUserRights): Promise<Caller | undefined> {
  const user = await findUser(parseUuid(sub) ?? sub);
  // A dormant user becomes active by signing in, which this is not.
  if (user === undefined || user.userStatus !== 'active') return undefined;
  const { userStatus: _, ...rights } = user;
  return { ...rights, mayRead: true };
}

/** A service, known by an id made of its name. Roles are a list of words, or words with spaces between. */
function serviceOf(issuer: string, sub: string, claim: unknown): Caller | undefined {
  const words: unknown = typeof claim === 'string' ? claim.split(' ') : claim;
  if (!Array.isArray(words) || sub === '') return undefined;
  const userId = createHash('sha256').update(`${issuer}\n${sub}`).digest().subarray(0, 16);
  userId.writeUInt8((userId.readUInt8(6) & 0x0f) | 0x80, 6); // a UUID of version 8, which nobody else makes (RFC 9562)
  userId.writeUInt8((userId.readUInt8(8) & 0x3f) | 0x80, 8);
  return {
    userId,
    username: `service:${sub}`, // no username has a colon
    roles: words.filter((word) => serviceRoles.has(word as string)) as string[],
    customRoles: [],
    memberships: [],
    groupIds: [],
    mayRead: true,
  };
}

/**
 * Finds keys in the issuer's key set, which is fetched again for an unknown key, and every few minutes beside the calls. When it
 * cannot be fetched, the known keys stay valid.
 */
function createGetKey(jwks: string, log?: Logger): JWTVerifyGetKey {
  const isFile = !/^https?:\/\//.test(jwks);
  if (isFile) {
    try {
      readKeySet(readFileSync(jwks, 'utf8'));
    } catch {
      throw new ConfigError('JWT_JWKS: the file cannot be read, or has no JSON Web Key Set');
    }
  }
  let lookedAt = 0;
  let failure: { readonly at: number; readonly error: unknown } | undefined;
  const look = async (address: string, options: RequestInit): Promise<Response> => {
    if (failure !== undefined && ageOf(failure.at) < cooldownMs) throw failure.error;
    lookedAt = Date.now();
    try {
      const text = isFile ? await readFile(jwks, 'utf8') : await fetchText(address, options);
      readKeySet(text);
      failure = undefined;
      return new Response(text);
    } catch (error) {
      failure = { at: Date.now(), error: new KeySetError('the key set of JWT_JWKS cannot be read', { cause: error }) };
      log?.warn({ err: failure.error }, 'the keys of the JWT issuer cannot be read; those that are known go on');
      throw failure.error;
    }
  };
  const keySet = createRemoteJWKSet(isFile ? new URL('file:///') : new URL(jwks), {
    [customFetch]: look,
    cooldownDuration: cooldownMs,
    cacheMaxAge: Number.POSITIVE_INFINITY, // known keys go on
    timeoutDuration: fetchTimeoutMs,
  });
  const reload = (): Promise<void> => keySet.reload().catch(() => {}); // it is logged
  void reload();

  return async (header, token) => {
    const age = ageOf(lookedAt);
    // The library would take its last look for a recent one until the clock has caught up.
    if (age === Number.POSITIVE_INFINITY) await reload();
    else if (age > refreshMs) void reload();
    try {
      return await keySet(header, token);
    } catch (error) {
      throw error instanceof KeySetError ? issuerUnavailable(error) : error;
    }
  };
}

/** How long ago a time was, in milliseconds; for ever, when the clock has been set back to before it. */
function ageOf(time: number): number {
  const passed = Date.now() - time;
  return passed < 0 ? Number.POSITIVE_INFINITY : passed;
}

/** Thrown when the key set cannot be fetched, so that an unknown key can be neither accepted nor refused. */
class KeySetError extends Error {
  override readonly name = 'KeySetError';
}

function readKeySet(text: string): void {
  createLocalJWKSet(JSON.parse(text) as Parameters<typeof createLocalJWKSet>[0]);
}

async function fetchText(address: string, options: RequestInit): Promise<string> {
  const response = await fetch(address, options);
  if (response.status !== 200) throw new Error(`it was answered with ${response.status}`);
  return response.text();
}
