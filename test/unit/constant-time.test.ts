import { randomBytes } from 'node:crypto';
import { beforeEach, expect, test, vi } from 'vitest';
import { type ApiKey, type ApiKeyRepository, hashSecret } from '../../src/auth/api-key-repository.ts';
import { createAuthenticate } from '../../src/auth/authenticate.ts';
import { createPageTokens } from '../../src/tasks/page-token.ts';

const crypto = vi.hoisted(() => ({ timingSafeEqual: vi.fn<(a: Uint8Array, b: Uint8Array) => boolean>() }));
vi.mock('node:crypto', async (original) => {
  const real = await original<typeof import('node:crypto')>();
  crypto.timingSafeEqual.mockImplementation(real.timingSafeEqual);
  return { ...real, default: real, timingSafeEqual: crypto.timingSafeEqual };
});
beforeEach(() => {
  crypto.timingSafeEqual.mockClear();
});

test.each([
  ['right', 'a'.repeat(22), true],
  ['wrong', 'b'.repeat(22), false],
  ['right but for its end', `${'a'.repeat(21)}b`, false],
])('a %s secret of a session is compared by its hash, in constant time, and by nothing else', async (_, secret, good) => {
  const key: ApiKey = {
    hashedSecret: hashSecret('a'.repeat(22)),
    scopes: ['all'],
    expired: false,
    useIsDue: false,
    expiresInMs: 60_000,
    userId: randomBytes(16),
    username: 'x',
    userStatus: 'active',
    roles: [],
    customRoles: [],
    memberships: [],
    groupIds: [],
  };
  const keys = {
    find: () => Promise.resolve(key),
    findSecrets: () => Promise.resolve(new Map([['abcdefghij', key.hashedSecret]])),
  } as unknown as ApiKeyRepository;
  const authenticate = createAuthenticate(keys, 0);
  const isTaken = (by = authenticate) =>
    Promise.resolve(by((name) => (name === 'coder-session-token' ? `abcdefghij-${secret}` : undefined))).then(
      () => true,
      () => false,
    );
  expect(await isTaken()).toBe(good);
  // With the secrets of the keys that are looked up together, and with that of the key itself.
  const comparison = [key.hashedSecret, hashSecret(secret)];
  expect(crypto.timingSafeEqual.mock.calls).toEqual(good ? [comparison, comparison] : [comparison]);
  // The answer is that of each comparison, whatever it says.
  for (const answers of good ? [[false], [true, false]] : [[true, true]]) {
    for (const answer of answers) crypto.timingSafeEqual.mockReturnValueOnce(answer);
    // One that was good once is compared with its key alone.
    const fresh = createAuthenticate(keys, 0);
    expect(await isTaken(fresh)).toBe(!good);
  }
});

test('the end of a page token is compared in constant time, and by nothing else', () => {
  const tokens = createPageTokens([randomBytes(32)]);
  const scope = { callerId: randomBytes(16), query: 'a', orderBy: '' };
  const token = tokens.encode(Buffer.from('position'), scope);
  const other = { ...scope, query: 'b' };
  expect(tokens.decode(token, other)).toBeUndefined();
  expect(crypto.timingSafeEqual).toHaveBeenCalledOnce();
  crypto.timingSafeEqual.mockReturnValueOnce(true);
  expect(tokens.decode(token, other)).toEqual(Buffer.from('position'));
});
