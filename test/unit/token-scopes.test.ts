import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { allowedIds } from '../../src/auth/allow-list.ts';
import { readByScopes } from '../../src/auth/token-scopes.ts';
import { formatUuid } from '../../src/db/uuid.ts';
import { parseCsv } from '../support/csv.ts';

const data = join(import.meta.dirname, '..', 'data');
const linesOf = (path: string) => parseCsv(readFileSync(join(data, path), 'utf8')).slice(1);

describe('the scopes of a token', () => {
  const words = linesOf('token-scopes.csv').map(([scope, workspaces, tasks]) => ({
    scope: scope ?? '',
    reads: [...(workspaces === 'yes' ? ['workspace'] : []), ...(tasks === 'yes' ? ['task'] : [])],
  }));

  test.each(words)('$scope reads $reads', ({ scope, reads }) => {
    expect([...readByScopes([scope])]).toEqual(reads);
  });

  test('are all that Coder has', () => {
    const [, inCoder = ''] = linesOf('coder/newest/enums.csv').find(([type]) => type === 'api_key_scope') ?? [];
    expect(words).toHaveLength(230);
    expect(words.map(({ scope }) => scope)).toEqual((inCoder ?? '').split('|'));
  });

  test.each([
    ['all', ['workspace', 'task']],
    ['application_connect', []],
    ['no_user_data', []],
    ['*', []],
    ['*:*', []],
    ['*:read', []],
    ['workspace', []],
    ['workspace:', []],
    ['workspace:read:now', []],
    ['workspaces:read', []],
    ['workspace_dormant:read', []],
    [' workspace:read', []],
    ['Workspace:Read', []],
    ['coder:workspaces.all', []],
    ['coder:*', []],
    ['', []],
  ])('the unknown scope %j reads %j', (scope, reads) => {
    expect([...readByScopes([scope])]).toEqual(reads);
  });

  test('add up, and what is not known takes nothing away', () => {
    const known = fc.constantFrom(...words);
    fc.assert(
      fc.property(fc.array(known), fc.array(fc.string().filter((text) => text !== 'all')), (some, unknown) => {
        const scopes = [...some.map(({ scope }) => scope), ...unknown];
        const expected = new Set(some.flatMap(({ reads }) => reads));
        expect(readByScopes(scopes)).toEqual(expected);
      }),
    );
  });
});

describe('an allow list', () => {
  const one = 'a7a27450-ca16-4553-a6c5-9d6f04808569';
  const two = '0b1e7c35-5d2f-4a8e-9c41-6f0d2b7e8a90';
  const listed = (allowList: readonly string[], type: string) => {
    const ids = allowedIds(allowList, type);
    return ids === 'all' ? ids : ids.map(formatUuid);
  };

  test.each<[allowList: readonly string[], workspaces: 'all' | string[], tasks: 'all' | string[]]>([
    [['*:*'], 'all', 'all'],
    [['workspace:*'], 'all', []],
    [['task:*'], [], 'all'],
    [[`workspace:${one}`], [one], []],
    [[`task:${one}`], [], [one]],
    [[`*:${one}`], [one], [one]],
    [[`workspace:${one}`, `task:${two}`, `workspace:${two}`], [one, two], [two]],
    [[`workspace:${one}`, `workspace:${one}`], [one], []],
    [[`workspace:${one}`, 'workspace:*'], 'all', []],
    [[`template:${one}`], [], []],
    [['template:*', 'user:*', 'workspace_dormant:*'], [], []],
    [['workspace:nonsense', 'workspace:', ':', '', 'workspace', `:${one}`], [], []],
    [[`workspace:${one.replaceAll('-', '')}`, `workspace:urn:uuid:${one}`, `workspace:{${one}}`], [], []],
    [[`  WORKSPACE:${one.toUpperCase()} `], [one], []],
    [[`workspace:${one}:*`, `workspace: ${one}`], [], []],
    [[], [], []],
  ])('%j', (allowList, workspaces, tasks) => {
    expect(listed(allowList, 'workspace')).toEqual(workspaces);
    expect(listed(allowList, 'task')).toEqual(tasks);
  });

  const type = fc.constantFrom('workspace', 'task', 'template', 'user', '*', 'nonsense');
  const id = fc.oneof(fc.constant('*'), fc.uuid(), fc.constantFrom(one, two), fc.string({ maxLength: 8 }));
  const entry = fc.oneof(
    fc.tuple(type, id).map(([ofType, ofId]) => `${ofType}:${ofId}`),
    fc.string(),
  );

  test('allows an object exactly where Coder would, whatever is in it', () => {
    fc.assert(
      fc.property(fc.array(entry), fc.oneof(fc.uuid(), fc.constantFrom(one, two)), (entries, object) => {
        const allowed = entries.some((text) => {
          const clean = text.trim().toLowerCase();
          return ['workspace:*', '*:*', `workspace:${object}`, `*:${object}`].includes(clean);
        });
        const ids = listed(entries, 'workspace');
        expect(ids === 'all' || ids.includes(object)).toBe(allowed);
      }),
    );
  });

  test('never allows less with an entry more, and never anything by entries of other types', () => {
    fc.assert(
      fc.property(fc.array(entry), entry, (entries, more) => {
        const before = listed(entries, 'task');
        const after = listed([...entries, more], 'task');
        if (after !== 'all') expect(after).toEqual(expect.arrayContaining(before === 'all' ? ['everything'] : before));
        const others = entries.filter((text) => /^\s*(template|user|workspace):/i.test(text));
        expect(listed(others, 'task')).toEqual([]);
      }),
    );
  });
});
