import { Code, ConnectError } from '@connectrpc/connect';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type ApiKeyRepository, createApiKeyRepository, parseSessionToken } from '../../src/auth/api-key-repository.ts';
import { createAuthenticate } from '../../src/auth/authenticate.ts';
import type { Authenticate, HeaderReader } from '../../src/call/admission.ts';
import type { Database } from '../../src/db/connection.ts';
import { formatUuid } from '../../src/db/uuid.ts';
import { createNameLookup } from '../../src/tasks/store/name-lookup.ts';
import { createTestDatabase, describeOnEngines, type TestDatabase } from '../support/database.ts';
import { insertOrganization, insertTemplate, insertUser } from '../support/people.ts';
import { newId } from '../support/tasks.ts';

const refused = expect.objectContaining({ code: Code.Unauthenticated, rawMessage: expect.stringContaining('signed out') });
const headers =
  (values: Record<string, string>): HeaderReader =>
  (name) =>
    values[name];

async function codeOf(call: Promise<unknown>): Promise<string> {
  const error: unknown = await call.then(
    () => 'OK',
    (reason: unknown) => reason,
  );
  return error instanceof ConnectError ? (Code[error.code] ?? '') : String(error);
}
const bearing = (token: string) => headers({ 'coder-session-token': token });

/** A remembered caller is told at once, any other later: here all are told later. */
const asking =
  (authenticate: Authenticate) =>
  async (...given: Parameters<Authenticate>) =>
    authenticate(...given);

describeOnEngines('session tokens', (engine) => {
  let testDatabase: TestDatabase;
  let database: Database;
  let keys: ApiKeyRepository;
  let home: Buffer;
  let userId: Buffer;
  let token: string;

  const make = async (username: string, lifetimeSeconds = 3600) =>
    (await keys.create(username, { lifetimeSeconds, name: 'test' })) ?? '';
  const authenticate = (rememberSeconds = 0) => asking(createAuthenticate(keys, rememberSeconds));

  beforeAll(async () => {
    testDatabase = await createTestDatabase(engine);
    database = testDatabase.database;
    keys = createApiKeyRepository(database);
    home = await insertOrganization(database, 'home');
    const away = await insertOrganization(database, 'away');
    userId = await insertUser(database, {
      username: 'Developer',
      roles: ['auditor'],
      memberships: [[home, 'organization-admin'], [away]],
    });
    await insertUser(database, { username: 'suspended', status: 'suspended' });
    await insertUser(database, { username: 'sleeper', status: 'dormant' });
    token = await make('developer');
  });
  afterAll(() => testDatabase.drop());

  test('a token has an id of 10 and a secret of 22 characters, and only the hash of the secret is kept', async () => {
    const { id = '', secret = '' } = parseSessionToken(token) ?? {};
    expect(token).toBe(`${id}-${secret}`);
    const [row] = await database('api_keys').where('api_keys.id', id);
    expect(row).toMatchObject({ user_id: userId, scope: 'all', login_type: 'token', lifetime_seconds: 3600 });
    expect(JSON.stringify(row)).not.toContain(secret);
  });

  test('made-up tokens are looked up many by a statement, and keep nobody from a good one', async () => {
    let running = 0;
    let most = 0;
    let statements = 0;
    let found = 0;
    const counting: ApiKeyRepository = {
      ...keys,
      async findSecrets(ids) {
        running += 1;
        statements += 1;
        most = Math.max(most, running);
        try {
          return await keys.findSecrets(ids);
        } finally {
          running -= 1;
        }
      },
      find(id) {
        found += 1;
        return keys.find(id);
      },
    };
    const check = asking(createAuthenticate(counting, 0, { lookupLimits: { statements: 2, batch: 100 } }));
    const unseen = await make('developer');
    const madeUp = Array.from({ length: 700 }, (_, i) => `${String(i).padStart(10, 'c')}-${'b'.repeat(22)}`);
    const wrongSecret = `${unseen.slice(0, 10)}-${'b'.repeat(22)}`;
    const refusals = Promise.all([...madeUp, wrongSecret].map((one) => codeOf(check(bearing(one), '10.0.0.1'))));
    // Behind the same proxy, and from elsewhere.
    const good = await Promise.all([check(bearing(unseen), '10.0.0.1'), check(bearing(token), '10.0.0.2')]);
    expect(good.map(({ username }) => username)).toEqual(['Developer', 'Developer']);
    expect(new Set(await refusals)).toEqual(new Set(['Unauthenticated']));
    expect([most, found]).toEqual([2, 2]);
    expect(statements).toBeLessThan(12);
    await expect(check(bearing(await make('developer')), '10.0.0.1')).resolves.toMatchObject({ userId });
  });

  test('networks take turns', async () => {
    const started: string[] = [];
    const slow: ApiKeyRepository = {
      ...keys,
      async findSecrets(ids) {
        started.push(ids.map((id) => id.charAt(0)).join(''));
        await new Promise(setImmediate);
        return new Map<string, Buffer>();
      },
    };
    const check = asking(createAuthenticate(slow, 0, { lookupLimits: { statements: 1, batch: 3 } }));
    const send = (name: string, i: number): Promise<string> =>
      codeOf(check(bearing(`${`${name}${i}`.padEnd(10, 'x')}-${'b'.repeat(22)}`), name));
    const ofA = Array.from({ length: 8 }, (_, i) => send('a', i));
    const ofB = Array.from({ length: 4 }, (_, i) => send('b', i));
    expect(new Set(await Promise.all([...ofA, ...ofB]))).toEqual(new Set(['Unauthenticated']));
    expect(started).toEqual(['a', 'aba', 'bab', 'aba', 'aa']);
  });

  test('tells who calls, with all roles and memberships', async () => {
    const caller = await authenticate()(bearing(token));
    expect(caller).toMatchObject({ userId, username: 'Developer', roles: ['auditor'] });
    expect(caller.memberships).toHaveLength(2);
    expect(caller.memberships).toContainEqual({ organizationId: home, roles: ['organization-admin'], customRoles: [] });
  });

  test.each([
    ['coder-session-token', (text: string) => text],
    ['authorization', (text: string) => `Bearer ${text}`],
    ['authorization', (text: string) => `bearer ${text}`],
    ['cookie', (text: string) => `a=b; coder_session_token=${text}; c=d`],
  ])('is taken from %s', async (name, form) => {
    await expect(authenticate()(headers({ [name]: form(token) }))).resolves.toMatchObject({ username: 'Developer' });
  });

  test('the first place that has one decides, even with a wrong one', async () => {
    await expect(authenticate()(headers({ cookie: 'coder_session_token=wrong', 'coder-session-token': token }))).rejects.toEqual(
      refused,
    );
    await expect(authenticate()(headers({ 'coder-session-token': 'wrong', authorization: `Bearer ${token}` }))).rejects.toEqual(
      refused,
    );
    await expect(authenticate()(headers({ 'coder-session-token': token, authorization: 'Bearer wrong' }))).resolves.toBeDefined();
  });

  describe('is refused with one message', () => {
    test.each<[string, () => string | Promise<string>]>([
      ['none', () => ''],
      ['half of one', () => token.slice(0, token.length / 2)],
      ['its id alone', () => token.slice(0, 10)],
      ['unknown', () => `AAAAAAAAAA-${'B'.repeat(22)}`],
      ['a wrong secret', () => `${token.slice(0, 10)}-${'B'.repeat(22)}`],
      ['a secret in the other case', () => `${token.slice(0, 11)}${[...token.slice(11)].map(flipCase).join('')}`],
      ['an id in the other case', () => `${[...token.slice(0, 10)].map(flipCase).join('')}${token.slice(10)}`],
      ['too long', () => `${token}A`],
      ['two hyphens', () => `${token}-`],
      ['other characters', () => `${token.slice(0, -1)}_`],
      ['with a quote', () => `${token.slice(0, 9)}'-${token.slice(11)}`],
      ['4 kB of it', () => 'A'.repeat(4096)],
      ['expired', () => make('developer', -1)],
      ['of a suspended user', () => make('suspended')],
    ])('%s', async (_name, given) => {
      const text = await given();
      expect(text === token).toBe(false);
      await expect(authenticate()(bearing(text))).rejects.toEqual(refused);
    });

    test('of a deleted user', async () => {
      const id = await insertUser(database, { username: 'leaver' });
      const leaver = await make('leaver');
      await expect(authenticate()(bearing(leaver))).resolves.toBeDefined();
      await database('users').where('users.id', id).update({ deleted: true });
      await expect(authenticate()(bearing(leaver))).rejects.toEqual(refused);
    });
  });

  test('a dormant user may read', async () => {
    await expect(authenticate()(bearing(await make('sleeper')))).resolves.toMatchObject({ username: 'sleeper' });
  });

  test('groups and custom roles come with the caller', async () => {
    const now = '2026-01-01 00:00:00.000000';
    const read = JSON.stringify([{ negate: false, resource_type: 'workspace', action: 'read' }, 'nonsense', { action: 1 }]);
    const role = (name: string, organizationId: Buffer | null) => ({
      id: newId(),
      name,
      organization_id: organizationId,
      site_permissions: organizationId === null ? read : '[]',
      org_permissions: organizationId === null ? '{}' : read,
      user_permissions: '[]',
      created_at: now,
      updated_at: now,
    });
    await database('custom_roles').insert([role('viewer', null), role('lead', home), role('lead', newId()), role('owner', null)]);
    const id = await insertUser(database, {
      username: 'grouped',
      roles: ['viewer', 'lead', 'owner'],
      memberships: [[home, 'lead', 'viewer']],
    });
    const groups = Array.from({ length: 60 }, newId);
    await database('group_members').insert(groups.map((group) => ({ user_id: id, group_id: group })));
    const caller = await authenticate()(bearing(await make('grouped')));
    const reading = [{ negate: false, resource: 'workspace', action: 'read' }];
    expect(caller.groupIds.map(String).toSorted()).toEqual(groups.map(String).toSorted());
    expect(caller.customRoles).toEqual([{ site: reading, organization: [], user: [], member: [] }]);
    expect(caller.memberships[0]?.customRoles).toEqual([{ site: [], organization: reading, user: [], member: [] }]);
  });

  const set = (given: string, columns: Record<string, unknown>) =>
    database('api_keys').where('api_keys.id', given.slice(0, 10)).update(columns);
  const ago = (seconds: number) => database.raw('utc_timestamp(6) - interval ? second', [seconds]);
  const minutesTo = async (given: string, column: string): Promise<number> => {
    const [row] = await database('api_keys')
      .where('api_keys.id', given.slice(0, 10))
      .select({ minutes: database.raw('timestampdiff(second, utc_timestamp(6), ??) / 60', [`api_keys.${column}`]) });
    return Number(row.minutes);
  };

  describe('scopes', () => {
    test.each<[scope: string, scopes: string[] | null, reads: boolean]>([
      ['all', null, true],
      ['application_connect', null, false],
      ['all', ['coder:application_connect'], false],
      ['application_connect', ['coder:all'], true],
      ['all', ['template:read', 'workspace:read'], true],
      ['all', ['task:read'], false], // a task is a workspace
      ['all', ['workspace:ssh', 'user:read'], false],
      ['all', ['coder:workspaces.operate'], true],
      ['all', ['coder:templates.author'], false],
      ['all', [], false],
    ])('%s, %j: %s', async (scope, scopes, reads) => {
      const narrow = await make('developer');
      await set(narrow, { scope, scopes: scopes === null ? null : JSON.stringify(scopes) });
      await expect(authenticate()(bearing(narrow))).resolves.toMatchObject({ mayRead: reads });
    });

    const one = 'a7a27450-ca16-4553-a6c5-9d6f04808569';
    test.each<[string[] | null, string[] | undefined]>([
      [null, undefined],
      [['*:*'], undefined],
      [['workspace:*'], undefined],
      [['template:*', `workspace:${one}`], [one]],
      [[`task:${one}`], []],
      [[`*:${one}`], [one]],
      [['template:*'], []],
      [['workspace:nonsense'], []],
    ])('an allow list of %j', async (allowList, ids) => {
      const narrow = await make('developer');
      await set(narrow, { allow_list: allowList === null ? null : JSON.stringify(allowList) });
      const { onlyIds } = await authenticate()(bearing(narrow));
      expect(onlyIds?.map(formatUuid)).toEqual(ids);
    });
  });

  describe('the use of a token', () => {
    test('is noted once an hour, and then extends its life', async () => {
      const used = await make('developer', 86_400);
      await set(used, { last_used: ago(3590), expires_at: ago(-86_400) });
      await authenticate()(bearing(used));
      await new Promise((resolve) => setTimeout(resolve, 200));
      expect(await minutesTo(used, 'last_used')).toBeLessThan(-59);

      await set(used, { last_used: ago(3610), expires_at: ago(-80_000) });
      await authenticate()(bearing(used));
      await expect.poll(() => minutesTo(used, 'last_used')).toBeGreaterThan(-1);
      expect(await minutesTo(used, 'expires_at')).toBeGreaterThan(24 * 60 - 2);
    });

    test('does not extend a life that is long enough', async () => {
      const used = await make('developer', 86_400);
      await set(used, { last_used: ago(3610), expires_at: ago(-85_000) });
      await authenticate()(bearing(used));
      await expect.poll(() => minutesTo(used, 'last_used')).toBeGreaterThan(-1);
      expect(await minutesTo(used, 'expires_at')).toBeLessThan(85_000 / 60 + 1);
    });

    test('wakes a dormant user', async () => {
      const id = await insertUser(database, { username: 'dreamer', status: 'dormant' });
      await authenticate()(bearing(await make('dreamer')));
      await expect
        .poll(() => database('users').where('users.id', id).first())
        .toMatchObject({ status: 'active', last_seen_at: expect.any(String) });
    });

    test('fails no read when it cannot be noted', async () => {
      const used = await make('developer', 86_400);
      await set(used, { last_used: ago(7200) });
      const readOnly: ApiKeyRepository = { ...keys, noteUse: () => Promise.reject(new Error('read only')) };
      await expect(createAuthenticate(readOnly, 0)(bearing(used))).resolves.toMatchObject({ username: 'Developer' });
    });

    test('is good to the last moment, and not after', async () => {
      const last = await make('developer', 60); // too short a life to be extended
      await set(last, { expires_at: ago(-1) });
      await expect(authenticate()(bearing(last))).resolves.toBeDefined();
      await set(last, { expires_at: ago(0) });
      await expect(authenticate()(bearing(last))).rejects.toEqual(refused);
    });
  });

  test('a token for apps alone reads nothing', async () => {
    const narrow = await make('developer');
    await database('api_keys').where('api_keys.id', narrow.slice(0, 10)).update({ scope: 'application_connect' });
    await expect(authenticate()(bearing(narrow))).resolves.toMatchObject({ mayRead: false });
  });

  test('a verified caller is remembered, and a refusal is not', async () => {
    const remembering = authenticate(1);
    const fresh = await make('developer');
    const statements: string[] = [];
    const record = ({ sql }: { sql: string }) => statements.push(sql);
    database.on('query', record);
    await Promise.all([remembering(bearing(fresh)), remembering(bearing(fresh)), remembering(bearing(fresh))]);
    await remembering(bearing(fresh));
    database.off('query', record);
    expect(statements).toHaveLength(2); // whether there is such a key, and whose it is

    expect(await keys.revoke(fresh.slice(0, 10))).toBe(true);
    await expect(remembering(bearing(fresh))).resolves.toBeDefined();
    await new Promise((resolve) => setTimeout(resolve, 1100));
    await expect(remembering(bearing(fresh))).rejects.toEqual(refused);
    expect(await keys.revoke(fresh.slice(0, 10))).toBe(false);
  });

  test('a remembered caller is forgotten when the key expires', async () => {
    const remembering = authenticate(60);
    const short = await make('developer', 1);
    await expect(remembering(bearing(short))).resolves.toBeDefined();
    await new Promise((resolve) => setTimeout(resolve, 1100));
    await expect(remembering(bearing(short))).rejects.toEqual(refused);
  });

  test('a user who does not exist gets no token', async () => {
    expect(await keys.create('nobody', { lifetimeSeconds: 60, name: '' })).toBeUndefined();
  });

  test('keys are listed by their ids, without anything of the secret', async () => {
    const listed = await keys.list('DEVELOPER');
    expect(listed.map(({ id }) => id)).toContain(token.slice(0, 10));
    expect(listed.every(({ username }) => username === 'Developer')).toBe(true);
    expect(JSON.stringify(listed)).not.toContain(token.slice(11));
    expect((await keys.list()).length).toBeGreaterThan(listed.length);
  });

  test('names in a query are found whatever their case, and remembered when they were found', async () => {
    const away = await insertOrganization(database, 'far');
    const here = await insertTemplate(database, { organizationId: home, name: 'Typescript' });
    const there = await insertTemplate(database, { organizationId: away, name: 'typescript' });
    await insertTemplate(database, { organizationId: home, name: 'gone', deleted: true });
    const names = createNameLookup(database, 60);
    expect(await names.userId('DEVELOPER')).toEqual(userId);
    expect(await names.userId('nobody')).toBeUndefined();
    expect((await names.templateIds('TypeScript')).map(String).toSorted()).toEqual([here, there].map(String).toSorted());
    expect(await names.templateIds('gone')).toEqual([]);

    const later = await insertUser(database, { username: 'nobody' });
    expect(await names.userId('nobody')).toEqual(later);
    await database('users').where('users.id', later).delete();
    expect(await names.userId('nobody')).toEqual(later);
    expect(await createNameLookup(database, 0).userId('nobody')).toBeUndefined();
  });
});

function flipCase(character: string): string {
  const lower = character.toLowerCase();
  return character === lower ? character.toUpperCase() : lower;
}
