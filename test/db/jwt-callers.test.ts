import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Code, type ConnectError } from '@connectrpc/connect';
import { base64url, type CryptoKey, exportJWK, exportSPKI, generateKeyPair, type JWK, SignJWT, UnsecuredJWT } from 'jose';
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { createApiKeyRepository } from '../../src/auth/api-key-repository.ts';
import { createAuthenticate } from '../../src/auth/authenticate.ts';
import { createFindTasksHaveRights, createFindUserRights } from '../../src/auth/user-rights.ts';
import { createVerifyJwt, type JwtSettings, type RightsLookup } from '../../src/auth/verify-jwt.ts';
import type { HeaderReader } from '../../src/call/admission.ts';
import type { Caller } from '../../src/call/caller.ts';
import { reasonOf } from '../../src/call/errors.ts';
import { ConfigError } from '../../src/config.ts';
import { formatUuid } from '../../src/db/uuid.ts';
import { scopeOf } from '../../src/tasks/scope.ts';
import { createTestDatabase, describeOnEngines, type TestDatabase } from '../support/database.ts';
import { insertOrganization, insertUser } from '../support/people.ts';
import { newId } from '../support/tasks.ts';

const issuer = 'https://issuer.example';
const audience = 'tasks-service';
const refused = expect.objectContaining({ code: Code.Unauthenticated, rawMessage: expect.stringContaining('signed out') });
const headers =
  (values: Record<string, string>): HeaderReader =>
  (name) =>
    values[name];

/** A key of the issuer. */
interface Key {
  readonly kid: string;
  readonly alg: string;
  readonly publicKey: CryptoKey;
  readonly privateKey: CryptoKey;
  readonly jwk: JWK;
}

async function makeKey(alg: string, kid: string): Promise<Key> {
  const { publicKey, privateKey } = await generateKeyPair(alg, { extractable: true });
  return { kid, alg, publicKey, privateKey, jwk: { ...(await exportJWK(publicKey)), kid, alg, use: 'sig' } };
}

const now = (): number => Math.floor(Date.now() / 1000);

function sign(key: Key, claims: Record<string, unknown> = {}): Promise<string> {
  const payload = { iss: issuer, aud: audience, sub: 'developer', exp: now() + 600, ...claims };
  return new SignJWT(payload).setProtectedHeader({ alg: key.alg, kid: key.kid }).sign(key.privateKey);
}

/** The key set of an issuer at an address, which counts how often it is asked for. */
class KeySet {
  keys: readonly Key[];
  asked = 0;
  answer: 'keys' | 'error' | 'nonsense' = 'keys';
  readonly #server: Server;

  constructor(...keys: readonly Key[]) {
    this.keys = keys;
    this.#server = createServer((_request, response) => {
      this.asked += 1;
      if (this.answer === 'error') response.statusCode = 500;
      response.end(this.answer === 'nonsense' ? '{}' : this.json);
    });
  }

  get json(): string {
    return JSON.stringify({ keys: this.keys.map(({ jwk }) => jwk) });
  }

  async open(): Promise<string> {
    this.#server.listen(0, '127.0.0.1');
    await once(this.#server, 'listening');
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}/keys`;
  }

  close(): void {
    this.#server.closeAllConnections();
    this.#server.close();
  }
}

describeOnEngines('JWT callers', (engine) => {
  let testDatabase: TestDatabase;
  let rights: RightsLookup;
  let userId: Buffer;
  let sessionToken: string;
  let keySet: KeySet;
  let address: string;
  let [rsa, ec, ed]: Key[] = [];

  /** What a fresh service that takes our issuer's tokens makes of one. */
  const authenticator = (settings: Partial<JwtSettings> = {}, rememberSeconds = 0) => {
    const verifyJwt = createVerifyJwt({ issuer, audience, jwks: address, ...settings }, rights);
    const keys = createApiKeyRepository(testDatabase.database);
    const find = vi.spyOn(keys, 'find');
    const authenticate = createAuthenticate(keys, rememberSeconds, { verifyJwt });
    const bearer = async (token: string): Promise<Caller> => authenticate(headers({ authorization: `Bearer ${token}` }));
    return { authenticate, bearer, find };
  };

  beforeAll(async () => {
    [rsa, ec, ed] = await Promise.all([makeKey('RS256', 'rsa'), makeKey('ES256', 'ec'), makeKey('EdDSA', 'ed')]);
    keySet = new KeySet(rsa as Key, ec as Key, ed as Key);
    address = await keySet.open();
    testDatabase = await createTestDatabase(engine);
    const { database } = testDatabase;
    rights = { findUser: createFindUserRights(database), tasksHaveRights: createFindTasksHaveRights(database) };
    const home = await insertOrganization(database, 'home');
    userId = await insertUser(database, {
      username: 'Developer',
      roles: ['auditor', 'reader'],
      memberships: [[home, 'organization-admin'], [await insertOrganization(database, 'away')]],
    });
    await database('custom_roles').insert({
      id: newId(),
      name: 'reader',
      display_name: '',
      site_permissions: JSON.stringify([{ negate: false, resource_type: 'workspace', action: 'read' }]),
      org_permissions: '[]',
      user_permissions: '[]',
      created_at: '2026-01-01',
      updated_at: '2026-01-01',
    });
    await database('group_members').insert({ user_id: userId, group_id: newId() });
    await insertUser(database, { username: 'suspended', status: 'suspended' });
    await insertUser(database, { username: 'sleeper', status: 'dormant' });
    await insertUser(database, { username: 'gone', deleted: true });
    const keys = createApiKeyRepository(database);
    sessionToken = (await keys.create('developer', { lifetimeSeconds: 3600, name: 'test' })) ?? '';
  });
  afterAll(async () => {
    keySet.close();
    await testDatabase.drop();
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  test.each(['RS256', 'ES256', 'EdDSA'])('a token by %s tells who calls, and gives what a session token gives', async (alg) => {
    const { authenticate, bearer, find } = authenticator();
    const key = [rsa, ec, ed].find((one) => one?.alg === alg) as Key;
    const caller = await bearer(await sign(key));
    expect(find).not.toHaveBeenCalled();
    expect(caller).toEqual(await authenticate(headers({ 'coder-session-token': sessionToken })));
    expect(caller.userId).toEqual(userId);
    expect(scopeOf(caller).everything).toBe(true); // by the custom role
  });

  test.each([
    ['a username in any case', () => 'DEVELOPER'],
    ['an id', () => formatUuid(userId)],
    ['an id in upper case', () => formatUuid(userId).toUpperCase()],
  ])('sub may be %s', async (_, sub) => {
    await expect(authenticator().bearer(await sign(ec as Key, { sub: sub() }))).resolves.toMatchObject({ userId });
  });

  test('one of several audiences may be ours', async () => {
    const token = await sign(ec as Key, { aud: ['elsewhere', audience] });
    await expect(authenticator().bearer(token)).resolves.toMatchObject({ userId });
  });

  const parts = (token: string) => token.split('.') as [string, string, string];
  test.each<readonly [string, () => Promise<string>]>([
    ['for another audience', () => sign(ec as Key, { aud: 'elsewhere' })],
    ['for no audience', () => sign(ec as Key, { aud: undefined })],
    ['of another issuer', () => sign(ec as Key, { iss: `${issuer}/` })],
    ['of no issuer', () => sign(ec as Key, { iss: undefined })],
    ['that is expired', () => sign(ec as Key, { exp: now() - 10 })],
    ['that never expires', () => sign(ec as Key, { exp: undefined })],
    ['that is not yet valid', () => sign(ec as Key, { nbf: now() + 60 })],
    ['without a subject', () => sign(ec as Key, { sub: undefined })],
    ['with an empty subject', () => sign(ec as Key, { sub: '' })],
    ['of a user that there is not', () => sign(ec as Key, { sub: 'nobody' })],
    ['of a username with a space at its end', () => sign(ec as Key, { sub: 'developer ' })],
    ['of an id that there is not', () => sign(ec as Key, { sub: formatUuid(newId()) })],
    ['of a suspended user', () => sign(ec as Key, { sub: 'suspended' })],
    ['of a dormant user', () => sign(ec as Key, { sub: 'sleeper' })],
    ['of a deleted user', () => sign(ec as Key, { sub: 'gone' })],
    [
      'without a signature',
      async () => new UnsecuredJWT({ sub: 'developer' }).setIssuer(issuer).setAudience(audience).setExpirationTime('1h').encode(),
    ],
    [
      'that says alg none and has a signature',
      async () =>
        `${base64url.encode('{"alg":"none"}')}.${parts(await sign(ec as Key))
          .slice(1)
          .join('.')}`,
    ],
    [
      'signed with the public key as a shared secret',
      async () => {
        const secret = new TextEncoder().encode(await exportSPKI((rsa as Key).publicKey));
        const claims = { iss: issuer, aud: audience, sub: 'developer', exp: now() + 60 };
        return new SignJWT(claims).setProtectedHeader({ alg: 'HS256', kid: 'rsa' }).sign(secret);
      },
    ],
    ['by an algorithm that is not taken', async () => sign({ ...(await makeKey('PS256', 'rsa')) })],
    ['by another key of the same name', async () => sign(await makeKey('ES256', 'ec'))],
    ['that names the key of another algorithm', () => sign({ ...(ec as Key), kid: 'rsa' })],
    [
      'whose claims were changed',
      async () => {
        const [head, , signature] = parts(await sign(ec as Key));
        const claims = { iss: issuer, aud: audience, sub: 'admin', exp: now() + 600 };
        return `${head}.${base64url.encode(JSON.stringify(claims))}.${signature}`;
      },
    ],
    [
      'that brings its own key',
      async () => {
        const own = await makeKey('ES256', 'own');
        const claims = { iss: issuer, aud: audience, sub: 'developer', exp: now() + 60 };
        return new SignJWT(claims)
          .setProtectedHeader({ alg: 'ES256', jwk: own.jwk, jku: 'http://127.0.0.1:1/' })
          .sign(own.privateKey);
      },
    ],
    [
      'that demands an extension',
      async () => {
        const [, claims] = parts(await sign(ec as Key));
        return `${base64url.encode('{"alg":"ES256","kid":"ec","crit":["x"],"x":1}')}.${claims}.AAAA`;
      },
    ],
    ['of parts that are no JSON', () => Promise.resolve('a.b.c')],
    ['of five parts', () => Promise.resolve('a.b.c.d.e')],
  ])('a token %s is refused, and no session token is looked for', async (_, make) => {
    const { bearer, find } = authenticator();
    await expect(bearer(await make())).rejects.toEqual(refused);
    expect(find).not.toHaveBeenCalled();
  });

  test('the clocks may differ by five seconds', async () => {
    vi.useFakeTimers({ toFake: ['Date'] });
    const { bearer } = authenticator();
    await expect(bearer(await sign(ec as Key, { exp: now() - 3 }))).resolves.toMatchObject({ userId });
    await expect(bearer(await sign(ec as Key, { nbf: now() + 3 }))).resolves.toMatchObject({ userId });
  });

  test('a huge token is refused before it is read', async () => {
    const { bearer } = authenticator();
    await expect(bearer(await sign(ec as Key, { filler: 'x'.repeat(5000) }))).resolves.toMatchObject({ userId });
    const asked = keySet.asked;
    await expect(bearer(await sign({ ...(ec as Key), kid: 'unknown' }, { filler: 'x'.repeat(7000) }))).rejects.toEqual(refused);
    expect(keySet.asked).toBe(asked);
  });

  test.each([
    ['coder-session-token', (token: string) => token],
    ['cookie', (token: string) => `coder_session_token=${token}`],
  ])('no token is taken from %s', async (name, form) => {
    const { authenticate } = authenticator();
    await expect(authenticate(headers({ [name]: form(await sign(ec as Key)) }))).rejects.toEqual(refused);
  });

  test('without an issuer in the settings there are no such callers', async () => {
    const authenticate = createAuthenticate(createApiKeyRepository(testDatabase.database), 0);
    await expect(authenticate(headers({ authorization: `Bearer ${await sign(ec as Key)}` }))).rejects.toEqual(refused);
  });

  test('a caller is remembered for as long as the token holds, and no longer', async () => {
    vi.useFakeTimers({ toFake: ['Date'] });
    const { bearer } = authenticator({}, 3600);
    const token = await sign(ec as Key, { exp: now() + 2 });
    expect(await bearer(token)).toBe(await bearer(token));
    vi.setSystemTime(Date.now() + 8000);
    await expect
      .poll(() => bearer(token).then(String, (error: ConnectError) => error.code), { timeout: 10_000 })
      .toBe(Code.Unauthenticated);
  });

  describe('keys of the issuer', () => {
    let own: KeySet;
    let jwks: string;
    beforeAll(async () => {
      own = new KeySet(ec as Key);
      jwks = await own.open();
    });
    afterAll(() => own.close());

    const codeOf = (work: Promise<unknown>) =>
      work.then(
        () => 'ok',
        (error: ConnectError) => reasonOf(error),
      );
    const later = (milliseconds: number) => vi.setSystemTime(Date.now() + milliseconds);

    test('a new key is looked for, but not more than once in ten seconds', async () => {
      vi.useFakeTimers({ toFake: ['Date'] });
      own.keys = [ec as Key];
      const { bearer } = authenticator({ jwks });
      const next = await makeKey('ES256', 'next');
      await bearer(await sign(ec as Key));
      const before = own.asked;
      own.keys = [ec as Key, next];
      for (const kid of ['a', 'b', 'c']) expect(await codeOf(bearer(await sign({ ...next, kid })))).toBe('UNAUTHENTICATED');
      expect(own.asked).toBe(before);
      later(11_000);
      await expect(bearer(await sign(next))).resolves.toMatchObject({ userId });
      await expect(bearer(await sign(ec as Key))).resolves.toMatchObject({ userId });
      for (const kid of ['a', 'b', 'c']) expect(await codeOf(bearer(await sign({ ...next, kid })))).toBe('UNAUTHENTICATED');
      expect(own.asked).toBe(before + 1);
    });

    test('a key that is gone is refused after five minutes', async () => {
      vi.useFakeTimers({ toFake: ['Date'] });
      own.keys = [ec as Key, ed as Key];
      const { bearer } = authenticator({ jwks });
      await bearer(await sign(ed as Key));
      own.keys = [ec as Key];
      later(301_000);
      await bearer(await sign(ed as Key)); // has the keys looked at, beside the call
      await expect.poll(async () => codeOf(bearer(await sign(ed as Key)))).toBe('UNAUTHENTICATED');
    });

    test.each(['error', 'nonsense'] as const)(
      'while there is an %s, known ones go on and others are UNAVAILABLE',
      async (answer) => {
        vi.useFakeTimers({ toFake: ['Date'] });
        own.keys = [ec as Key];
        const { bearer } = authenticator({ jwks });
        await bearer(await sign(ec as Key));
        own.answer = answer;
        later(3_600_000);
        const before = own.asked;
        const other = { ...(ed as Key), kid: 'other' };
        for (const _ of [1, 2, 3]) {
          expect(await codeOf(bearer(await sign(ec as Key)))).toBe('ok');
          expect(await codeOf(bearer(await sign(other)))).toBe('ISSUER_UNAVAILABLE');
        }
        await expect(bearer(await sign(other))).rejects.toMatchObject({ code: Code.Unavailable });
        expect(own.asked).toBe(before + 1);
        own.answer = 'keys';
        later(11_000);
        expect(await codeOf(bearer(await sign(other)))).toBe('UNAUTHENTICATED');
        own.keys = [ec as Key, ed as Key];
        later(11_000);
        expect(await codeOf(bearer(await sign(ed as Key)))).toBe('ok');
      },
    );

    test('when they were never there, every token is UNAVAILABLE, and they may come later', async () => {
      vi.useFakeTimers({ toFake: ['Date'] });
      const late = new KeySet(ec as Key);
      late.answer = 'error';
      const { bearer } = authenticator({ jwks: await late.open() });
      expect(await codeOf(bearer(await sign(ec as Key)))).toBe('ISSUER_UNAVAILABLE');
      late.answer = 'keys';
      later(11_000);
      expect(await codeOf(bearer(await sign(ec as Key)))).toBe('ok');
      late.close();
    });

    test('they may be in a file, which is read again', async () => {
      vi.useFakeTimers({ toFake: ['Date'] });
      const folder = mkdtempSync(join(tmpdir(), 'tasks-jwks-'));
      const file = join(folder, 'keys.json');
      expect(() => authenticator({ jwks: file })).toThrow(ConfigError);
      writeFileSync(file, '{"keys":1}');
      expect(() => authenticator({ jwks: file })).toThrow(ConfigError);
      writeFileSync(file, new KeySet(ec as Key).json);
      const { bearer } = authenticator({ jwks: file });
      expect(await codeOf(bearer(await sign(ec as Key)))).toBe('ok');
      writeFileSync(file, new KeySet(ed as Key).json);
      later(11_000);
      expect(await codeOf(bearer(await sign(ed as Key)))).toBe('ok');
      expect(await codeOf(bearer(await sign(ec as Key)))).toBe('UNAUTHENTICATED');
      rmSync(folder, { recursive: true });
    });
  });

  describe('a service', () => {
    const rolesClaim = 'https://tasks.example/roles';

    test.each([
      [['owner', 'everyone-else'], ['owner'], true],
      ['template-admin  user-admin', ['template-admin', 'user-admin'], true],
      [['auditor'], ['auditor'], false],
      [['organization-admin', 'reader', 7, 'Owner'], [], false],
      [[], [], false],
      ['', [], false],
    ])('with %j has the site roles %j, and is a member of nothing', async (claim, roles, everything) => {
      const caller = await authenticator({ rolesClaim }).bearer(await sign(ec as Key, { sub: 'robot', [rolesClaim]: claim }));
      expect(caller).toMatchObject({ username: 'service:robot', roles, memberships: [], groupIds: [], customRoles: [] });
      expect(caller.tasksHaveRights).toBeUndefined();
      expect(scopeOf(caller)).toMatchObject({ everything, organizations: [], ownIn: [] });
    });

    test('reads no tasks as a template-admin where tasks have rights of their own', async () => {
      const { database } = testDatabase;
      const id = newId();
      await database('custom_roles').insert({
        id,
        name: 'organization-member',
        organization_id: newId(),
        is_system: true,
        site_permissions: '[]',
        org_permissions: '[]',
        user_permissions: '[]',
        member_permissions: '[]',
        created_at: '2026-01-01',
        updated_at: '2026-01-01',
      });
      try {
        const { bearer } = authenticator({ rolesClaim });
        const admin = await bearer(await sign(ec as Key, { sub: 'robot', [rolesClaim]: ['template-admin'] }));
        expect(scopeOf(admin)).toMatchObject({ everything: false, organizations: [], ownIn: [] });
        const owner = await bearer(await sign(ec as Key, { sub: 'robot', [rolesClaim]: ['owner'] }));
        expect(scopeOf(owner)).toMatchObject({ everything: true });
        expect((await bearer(await sign(ec as Key))).tasksHaveRights).toBe(true);
      } finally {
        await database('custom_roles').where('custom_roles.id', id).delete();
      }
    });

    test('is the same each time, and never a user', async () => {
      const { bearer } = authenticator({ rolesClaim });
      const idOf = async (sub: string) => {
        const caller = await bearer(await sign(ec as Key, { sub, [rolesClaim]: [] }));
        return formatUuid(caller.userId);
      };
      expect(await idOf('robot')).toBe(await idOf('robot'));
      expect(await idOf('robot')).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
      expect(
        new Set([await idOf('robot'), await idOf('developer'), await idOf(formatUuid(userId)), formatUuid(userId)]).size,
      ).toBe(4);
    });

    test.each([7, { owner: true }, true])('has no claim like %j', async (claim) => {
      const { bearer } = authenticator({ rolesClaim });
      await expect(bearer(await sign(ec as Key, { [rolesClaim]: claim }))).rejects.toEqual(refused);
    });

    test('gives no roles where the settings name no claim, or the token lacks it', async () => {
      const claims = { sub: 'developer', [rolesClaim]: ['owner'] };
      await expect(authenticator().bearer(await sign(ec as Key, claims))).resolves.toMatchObject({ userId });
      await expect(authenticator({ rolesClaim }).bearer(await sign(ec as Key))).resolves.toMatchObject({ userId });
    });
  });
});
