import { create } from '@bufbuild/protobuf';
import { Code, ConnectError } from '@connectrpc/connect';
import { describe, expect, test } from 'vitest';
import { maxViolations } from '../../src/call/errors.ts';
import { BadRequestSchema, ErrorInfoSchema } from '../../src/gen/google/rpc/error_details_pb.ts';
import { ListTasksRequestSchema, WorkspaceStatus } from '../../src/gen/tasks/v1/tasks_pb.ts';
import { statusWords } from '../../src/tasks/query-keys.ts';
import { checkTaskQuery, readTaskQuery } from '../../src/tasks/task-query.ts';

function read(request: { query?: string; pageSize?: number; orderBy?: string }) {
  return checkTaskQuery(readTaskQuery(create(ListTasksRequestSchema, request)));
}

/** The violations of a refused request, as `[field, description]`. */
function refused(request: { query?: string; pageSize?: number; orderBy?: string }): {
  reason: string;
  fields: [string, string][];
} {
  try {
    read(request);
  } catch (error) {
    const refusal = ConnectError.from(error);
    expect(refusal.code).toBe(Code.InvalidArgument);
    const [info] = refusal.findDetails(ErrorInfoSchema);
    const [bad] = refusal.findDetails(BadRequestSchema);
    return {
      reason: info?.reason ?? '',
      fields: (bad?.fieldViolations ?? []).map(({ field, description }) => [field, description]),
    };
  }
  throw new Error('was not refused');
}

test('an empty request means my tasks, 25 of them, in the default order', () => {
  expect(read({})).toEqual({ filter: {}, names: {}, owner: { kind: 'me' }, orderBy: 'default', pageSize: 25 });
});

describe('page_size', () => {
  test.each([
    [0, 25],
    [1, 1],
    [200, 200],
    [201, 200],
    [2 ** 31 - 1, 200],
  ])('%d is read as %d', (pageSize, expected) => {
    expect(read({ pageSize }).pageSize).toBe(expected);
  });

  test.each([-1, -(2 ** 31)])('%d is refused', (pageSize) => {
    expect(refused({ pageSize })).toMatchObject({ reason: 'INVALID_ARGUMENT', fields: [['page_size', expect.any(String)]] });
  });
});

describe('owner', () => {
  test.each([
    ['owner:me', { kind: 'me' }],
    ['owner:ME', { kind: 'me' }],
    ['owner:*', { kind: 'everyone' }],
    ['owner:Alice', { kind: 'username', username: 'alice' }],
    ['Alice/fix', { kind: 'username', username: 'alice' }],
    ['owner:""', { kind: 'me' }],
    ['owner:9E9B9475-0fc0-47b2-9170-a5b7b9a075ee', { kind: 'id', id: Buffer.from('9e9b94750fc047b29170a5b7b9a075ee', 'hex') }],
  ])('%s', (query, owner) => {
    expect(read({ query }).owner).toEqual(owner);
  });
});

describe('status', () => {
  test.each([...statusWords])('%s', (word, status) => {
    expect(read({ query: `status:${word.toUpperCase()}` }).filter.status).toBe(status);
  });

  test('has a word for each value but UNSPECIFIED', () => {
    expect(statusWords.size).toBe(Object.keys(WorkspaceStatus).length - 1);
  });

  test.each(['started', 'succeeded', 'unknown', 'unspecified', '3', '__proto__', 'constructor'])('%s is refused', (word) => {
    expect(refused({ query: `status:${word}` })).toMatchObject({
      reason: 'INVALID_QUERY',
      fields: [['status', expect.any(String)]],
    });
  });
});

describe('order_by', () => {
  test.each(['created_at', 'created_at desc', 'name', 'name desc'])('%s', (orderBy) => {
    expect(read({ orderBy }).orderBy).toBe(orderBy);
    expect(read({ orderBy: ` ${orderBy.replace(' ', '  ')} ` }).orderBy).toBe(orderBy);
  });

  test.each([
    ['current_state.timestamp', 'state_at'],
    ['current_state.timestamp desc', 'state_at desc'],
  ])('%s', (orderBy, order) => {
    for (const query of ['', 'owner:*', 'waiting:true']) expect(read({ orderBy, query }).orderBy).toBe(order);
  });

  test.each([
    'created_at asc',
    'state_at',
    'current_state',
    'current_state.timestamp asc',
    'updated_at',
    'name,created_at',
    'id; drop table users',
  ])('%s is refused', (orderBy) => {
    expect(refused({ orderBy })).toMatchObject({ reason: 'INVALID_ARGUMENT', fields: [['order_by', expect.any(String)]] });
  });

  test.each(['name', 'name desc'])("%s is refused for everyone's tasks", (orderBy) => {
    expect(refused({ orderBy, query: 'owner:*' }).fields).toEqual([['order_by', expect.any(String)]]);
  });
});

describe('keys', () => {
  test.each(['nmae', 'wner', '__proto__', 'constructor', 'toString', ''])('an unknown one is refused: "%s"', (key) => {
    expect(refused({ query: `"${key}":x` })).toMatchObject({
      reason: 'INVALID_QUERY',
      fields: [[key.toLowerCase(), expect.any(String)]],
    });
  });

  test('given twice is refused, but for an empty first value', () => {
    expect(refused({ query: 'name:a name:b' }).fields).toEqual([['name', expect.stringContaining('found 2 times')]]);
    expect(refused({ query: 'name:a b' }).fields).toEqual([['name', expect.stringContaining('found 2 times')]]);
    expect(refused({ query: 'alice/foo owner:bob' }).fields).toEqual([['owner', expect.stringContaining('found 2 times')]]);
    expect(refused({ query: 'name:foo name:""' }).fields).toHaveLength(1);
    expect(read({ query: 'name:"" name:foo' }).filter.name).toBeUndefined();
  });

  const id = '9e9b9475-0fc0-47b2-9170-a5b7b9a075ee';
  test.each([
    [`id:${id} id:x`, 'id', 40],
    [`id:x id:${id} id:y`, 'id', 0],
    [`id:${id} id:${id} id:x,y`, 'id', 80],
    [`name:a id:${id} id:""`, 'id', 47],
    ['param:a=1 param:b=', 'param', 10],
    [`has-agent:a has-agent:"${','.repeat(200)}"`, 'has-agent', 12],
    ['name:a name:b', 'name', 7],
    ['status:nope', 'status', 0],
    ['foo:a foo:b', 'foo', 0],
  ])('an error says where the term stands that is wrong: %s', (query, field, position) => {
    expect(refused({ query }).fields).toEqual([[field, expect.stringContaining(`(at position ${position})`)]]);
  });

  test.each(['id:","', `id:"${id},"`, `id:" ,${id}"`])('an empty id is invalid: %s', (query) => {
    expect(refused({ query })).toMatchObject({ reason: 'INVALID_QUERY', fields: [['id', expect.stringContaining('""')]] });
  });

  test('values keep what would be a wildcard elsewhere', () => {
    expect(read({ query: 'name:100%_\\' }).filter.name).toBe('100%_\\');
  });
});

test('all problems are told at once', () => {
  const { fields } = refused({ query: ':x status:nope foo:bar', pageSize: -1, orderBy: 'size' });
  expect(fields.map(([field]) => field)).toEqual(['query', 'status', 'foo', 'page_size', 'order_by']);
});

test('an error stays small: 20 violations, 4 KiB, 64 characters of what was sent', () => {
  const many = refused({ query: Array.from({ length: 60 }, (_, i) => `${'k'.repeat(50)}${i}:x`).join(' ') });
  expect(many.fields.length).toBeLessThanOrEqual(maxViolations);
  expect(many.fields.at(-1)?.[1]).toMatch(/^and \d+ more$/);
  const told = many.fields.length - 1 + Number(/\d+/.exec(many.fields.at(-1)?.[1] ?? '')?.[0]);
  expect(told).toBe(60);
  const text = many.fields.map(([field, description]) => field + description).join('');
  expect(Buffer.byteLength(text)).toBeLessThan(4096);
  const [[, long] = ['', '']] = refused({ query: `status:${'x'.repeat(3000)}` }).fields;
  expect(long).toContain(`"${'x'.repeat(64)}…"`);
  expect(refused({ query: 'status:a\u0000b\u0007' }).fields[0]?.[1]).toContain('"a\u{fffd}b\u{fffd}"');
});
