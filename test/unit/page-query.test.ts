import { create } from '@bufbuild/protobuf';
import { describe, expect, test } from 'vitest';
import { ListTasksRequestSchema } from '../../src/gen/tasks/v1/tasks_pb.ts';
import { phaseWords, queryKeys, stateWords, statusWords } from '../../src/tasks/query-keys.ts';
import { readTaskQuery } from '../../src/tasks/task-query.ts';
import { completeQuery, keyHelp, takeSuggestion } from '../../web/query-completion.ts';
import { placeProblems } from '../../web/query-problems.ts';
import { isWatchable, queryScopeOf, quoteValue, splitQuery, valueOf, withScope, withTerm } from '../../web/query-text.ts';

describe('the terms of a query', () => {
  test.each<[query: string, terms: readonly (readonly [text: string, key?: string, value?: string])[]]>([
    ['', []],
    ['  a   b ', [['a'], ['b']]],
    ['status:running', [['status:running', 'status', 'running']]],
    ['Name:"a b" c', [['Name:"a b"', 'name', 'a b'], ['c']]],
    ['"a:b"', [['"a:b"']]],
    ['created_after:2026-11-01T08:00:00Z', [['created_after:2026-11-01T08:00:00Z', 'created_after', '2026-11-01T08:00:00Z']]],
    ['name:"open', [['name:"open', 'name', 'open']]],
  ])('of %j', (query, terms) => {
    expect(splitQuery(query).map(({ text, key, value }) => [text, key, value].filter((part) => part !== undefined))).toEqual(
      terms,
    );
    for (const { start, end, text } of splitQuery(query)) expect(query.slice(start, end)).toBe(text);
  });

  test.each([
    ['', 'waiting', 'true', 'waiting:true'],
    ['a owner:bob  b', 'owner', '*', 'a owner:* b'],
    ['owner:a x owner:b', 'owner', 'me', 'owner:me x'],
    ['waiting:true a', 'waiting', undefined, 'a'],
    ['name:"a b"', 'waiting', 'true', 'name:"a b" waiting:true'],
  ])('of %j, with %s as %j', (query, key, value, expected) => {
    expect(withTerm(query, key, value)).toBe(expected);
  });

  test('give the value of a key', () => {
    expect(valueOf('a WAITING:True', 'waiting')).toBe('true');
    expect(valueOf('a', 'waiting')).toBeUndefined();
  });

  test.each(['plain', 'a b', 'a:b', 'x"y z'])('take the value %j as one', (value) => {
    expect(splitQuery(`name:${quoteValue(value)}`)).toMatchObject([
      { key: 'name', value: value.replaceAll('"', '') === value ? value : expect.any(String) },
    ]);
  });
});

describe('whose tasks a query means', () => {
  const queries = [
    '',
    'a',
    'owner:me',
    'owner:*',
    'OWNER:*',
    'owner:bob',
    'bob/a',
    'organization:x',
    'owner:me id:a7a27450-ca16-4553-a6c5-9d6f04808569',
    'owner:""',
    'shared_with_user:me',
  ];

  test.each(queries)('%j, as the service sees it', (query) => {
    const { owner } = readTaskQuery(create(ListTasksRequestSchema, { query })).query;
    expect(queryScopeOf(query)).toBe({ me: 'mine', everyone: 'all', username: 'other', id: 'other' }[owner.kind]);
  });

  test.each(queries.filter((query) => !query.includes('/')))('%j can be made to mean mine and all', (query) => {
    expect(queryScopeOf(withScope(query, 'mine'))).toBe('mine');
    expect(queryScopeOf(withScope(query, 'all'))).toBe('all');
  });

  test('keys of the clock cannot be watched', () => {
    expect(isWatchable('owner:* status:running')).toBe(true);
    expect(isWatchable('has-agent:connected')).toBe(false);
    expect(isWatchable('a Healthy:true')).toBe(false);
  });
});

describe('the completion', () => {
  test('knows every key of the service and every word of theirs', () => {
    expect(Object.keys(keyHelp).sort()).toEqual([...queryKeys.keys()].sort());
    expect([...(keyHelp['status']?.values ?? [])].sort()).toEqual([...statusWords.keys()].sort());
    expect([...(keyHelp['phase']?.values ?? [])].sort()).toEqual([...phaseWords.keys()].sort());
    expect(keyHelp['state']?.values).toEqual([...stateWords.keys()].filter((word) => word !== 'failure'));
  });

  test.each<[before: string, after: string, known: Parameters<typeof completeQuery>[2], suggestions: string[]]>([
    ['sta', '', {}, ['status:', 'state:']],
    ['status:s', '', {}, ['status:starting', 'status:stopping', 'status:stopped']],
    ['status:running sta', '', {}, ['state:']],
    ['sta', ' status:running', {}, ['state:']],
    ['owner:', '', { owner: [{ value: 'bob' }, { value: 'me' }] }, ['owner:me', 'owner:*', 'owner:bob']],
    [
      'owner:lov',
      '',
      {
        owner: [
          { value: 'ada', about: 'Ada Lovelace' },
          { value: 'bob', about: 'Bob' },
        ],
      },
      ['owner:ada'],
    ],
    ['template:"co', '', { template: [{ value: 'coding agent' }] }, ['template:"coding agent"']],
    ['waiting:true', '', {}, []],
    ['nothing:', '', {}, []],
  ])('of %j before %j', (before, after, known, suggestions) => {
    expect(completeQuery(before + after, before.length, known).suggestions.map(({ text }) => text)).toEqual(suggestions);
  });

  test('offers the most used keys where nothing is written', () => {
    const { suggestions } = completeQuery('', 0);
    expect(suggestions).toHaveLength(8);
    expect(suggestions[0]).toMatchObject({ text: 'status:', isComplete: false });
  });

  test('puts a suggestion in the place of the word, and the caret behind it', () => {
    const completion = completeQuery('a sta b', 5);
    const [suggestion] = completion.suggestions;
    if (suggestion === undefined) throw new Error('no suggestion');
    expect(takeSuggestion('a sta b', completion, suggestion)).toEqual({ query: 'a status:b', caret: 9 });
    const value = completeQuery('status:run', 10);
    expect(takeSuggestion('status:run', value, { text: 'status:running', isComplete: true })).toEqual({
      query: 'status:running ',
      caret: 15,
    });
  });
});

describe('what is wrong with a query', () => {
  test.each([
    ['status:nonsense waiting:maybe owner:', ['owner:', 'status:nonsense', 'waiting:maybe']],
    ['a:b:c', ['a:b:c']],
    ['x a/b/c', ['x']],
    ['owner:a owner:b', ['owner:b']],
    ['nokey:1', ['nokey:1']],
  ])('%j is said at its place', (query, places) => {
    const { queryViolations } = readTaskQuery(create(ListTasksRequestSchema, { query }));
    const problems = placeProblems(query, queryViolations);
    expect(problems.map(({ place }) => place && query.slice(place.start, place.end))).toEqual(places);
    for (const { message } of problems) expect(message).not.toMatch(/position/);
  });

  test('has no place where it is the whole', () => {
    expect(placeProblems('a', [{ field: 'order_by', description: '"x" is not an order' }])).toEqual([
      { message: 'order_by "x" is not an order' },
    ]);
  });
});
