import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { maxQueryBytes, maxQueryTerms, parseQuery } from '../../src/tasks/query-grammar.ts';

/** A parsed query as a plain object: each key with its values. */
function values(query: string): Record<string, string[]> {
  const parsed = parseQuery(query);
  expect(parsed.violations).toEqual([]);
  return Object.fromEntries([...parsed.values].map(([key, given]) => [key, given.map(({ value }) => value)]));
}

describe('a query is split as Coder splits it', () => {
  test.each<[query: string, expected: Record<string, string[]>]>([
    ['', {}],
    ['   ', {}],
    ['owner:alice', { owner: ['alice'] }],
    ['  owner:alice   status:running ', { owner: ['alice'], status: ['running'] }],
    ['OWNER:Alice Status:RUNNING', { owner: ['alice'], status: ['running'] }],
    ['name::foo', { name: ['foo'] }],
    ['name:"foo bar', { name: ['foo bar'] }],
    ['name:"foo:bar"', { name: ['foo:bar'] }],
    ['na"me:f"oo', { name: ['na"me:f"oo'] }],
    ['"foo:"', { name: ['foo:'] }],
    ['":"', { name: [':'] }],
    ['"":foo', { '': ['foo'] }],
    ['name:a/b/c', { name: ['a/b/c'] }],
    ['""', { name: [''] }],
    ['owner:alice, status:running', { owner: ['alice,'], status: ['running'] }],
    ['foo', { name: ['foo'] }],
    ['foo bar', { name: ['foo bar'] }],
    ['foo owner:alice bar', { owner: ['alice'], name: ['foo bar'] }],
    ['alice/foo', { owner: ['alice'], name: ['foo'] }],
    ['alice/foo bar', { owner: ['alice'], name: ['foo bar'] }],
    ['"foo/bar"', { name: ['foo/bar'] }],
    ['/foo', { name: ['foo'] }],
    ['foo/', { name: ['foo'] }],
    ['foo//bar', { owner: ['foo'], name: ['bar'] }],
    ['name:a name:b', { name: ['a', 'b'] }],
    ['name:a b', { name: ['a', 'b'] }],
    ['a\tb', { name: ['a\tb'] }],
  ])('%j', (query, expected) => {
    expect(values(query)).toEqual(expected);
  });

  test('a value remembers where its term stands', () => {
    expect(parseQuery('  owner:alice  "a b":c').values.get('owner')?.[0]?.position).toBe(2);
    expect(parseQuery('  owner:alice  "a b":c').values.get('a b')?.[0]?.position).toBe(15);
  });
});

describe('what cannot be split is refused, everything at once', () => {
  test.each<[query: string, positions: number[]]>([
    [':foo', [0]],
    ['foo:', [0]],
    [':', [0]],
    ['a:b:c', [0]],
    ['/', [0]],
    ['a/b/c', [0]],
    ['owner:alice :x y: a:b:c', [12, 15, 18]],
  ])('%j', (query, positions) => {
    const { violations } = parseQuery(query);
    expect(violations.map(({ field }) => field)).toEqual(positions.map(() => 'query'));
    expect(violations.map(({ description }) => Number(/position (\d+)/.exec(description)?.[1]))).toEqual(positions);
  });

  test('more than 4 KiB', () => {
    expect(parseQuery('a'.repeat(maxQueryBytes)).violations).toEqual([]);
    expect(parseQuery('é'.repeat(maxQueryBytes / 2)).violations).toEqual([]);
    expect(parseQuery('a'.repeat(maxQueryBytes + 1)).violations).toHaveLength(1);
    expect(parseQuery('é'.repeat(maxQueryBytes / 2 + 1)).violations).toHaveLength(1);
  });

  test('more than 64 terms', () => {
    expect(parseQuery('a '.repeat(maxQueryTerms)).violations).toEqual([]);
    expect(parseQuery('a '.repeat(maxQueryTerms + 1)).violations).toHaveLength(1);
  });
});

test('any text parses or is refused, and never throws', () => {
  const text = fc.oneof(
    fc.string({ unit: 'binary', maxLength: 200 }),
    fc.array(fc.constantFrom('"', ':', '/', ' ', 'a', 'İ', 'owner', '\u0000'), { maxLength: 60 }).map((parts) => parts.join('')),
  );
  fc.assert(
    fc.property(text, (query) => {
      const parsed = parseQuery(query);
      for (const [key, given] of parsed.values) {
        expect(key).toBe(key.toLowerCase());
        expect(given.length).toBeGreaterThan(0);
      }
      for (const { field } of parsed.violations) expect(field).toBe('query');
    }),
    { numRuns: 2000 },
  );
});

test('a query of plain keys and values, written out, gives them back', () => {
  const word = fc.stringMatching(/^[a-z0-9_-]{1,12}$/);
  const value = fc.stringMatching(/^[a-z0-9 :/_%-]{1,20}$/);
  fc.assert(
    fc.property(fc.uniqueArray(fc.tuple(word, value), { selector: ([key]) => key, maxLength: 10 }), (pairs) => {
      const written = pairs.map(([key, text]) => `${key}:"${text}"`).join(' ');
      expect(values(written)).toEqual(Object.fromEntries(pairs.map(([key, text]) => [key, [text]])));
    }),
  );
});
