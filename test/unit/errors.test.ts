import { readFileSync } from 'node:fs';
import { Code, ConnectError } from '@connectrpc/connect';
import { describe, expect, test } from 'vitest';
import {
  canceled,
  deadlineExceeded,
  echo,
  invalidArgument,
  maxViolations,
  reasonOf,
  shuttingDown,
  toConnectError,
  unreadableRequest,
  unsupportedRequest,
  type Violation,
} from '../../src/call/errors.ts';
import { BadRequestSchema } from '../../src/gen/google/rpc/error_details_pb.ts';

const call = { requestId: 'the-id', signal: new AbortController().signal };

describe('what is thrown below is seen outside as', () => {
  test.each<[unknown, string, string]>([
    [new Error('x'), 'Internal', 'INTERNAL'],
    ['a string', 'Internal', 'INTERNAL'],
    [undefined, 'Internal', 'INTERNAL'],
    [null, 'Internal', 'INTERNAL'],
    [Object.assign(new Error('x'), { code: 'ER_BAD_FIELD_ERROR', errno: 1054 }), 'Internal', 'INTERNAL'],
    [Object.assign(new Error('x'), { code: 'ECONNREFUSED' }), 'Unavailable', 'DATABASE_UNAVAILABLE'],
    [Object.assign(new Error('x'), { name: 'ConnectionWaitError' }), 'Unavailable', 'OVERLOADED'],
    [Object.assign(new Error('x'), { errno: 1927 }), 'Unavailable', 'DATABASE_UNAVAILABLE'],
    [Object.assign(new Error('x'), { errno: 1969 }), 'ResourceExhausted', 'QUERY_TOO_EXPENSIVE'],
    [Object.assign(new Error('x'), { errno: 3024 }), 'ResourceExhausted', 'QUERY_TOO_EXPENSIVE'],
    [shuttingDown(), 'Unavailable', 'SHUTTING_DOWN'],
  ])('%s: %s %s', (thrown, code, reason) => {
    const error = toConnectError(thrown, call);
    expect([Code[error.code], reasonOf(error)]).toEqual([code, reason]);
  });

  test('the reason of the abort, when the call was aborted', () => {
    const late = { requestId: 'x', signal: AbortSignal.abort(deadlineExceeded()) };
    expect(Code[toConnectError(new Error('killed'), late).code]).toBe('DeadlineExceeded');
    const gone = { requestId: 'x', signal: AbortSignal.abort() };
    expect(Code[toConnectError(new Error('killed'), gone).code]).toBe('Canceled');
  });

  test('the cause is kept for the log', () => {
    const cause = new Error('why');
    expect(toConnectError(cause, call).cause).toBe(cause);
  });
});

describe('a request that cannot be read', () => {
  test('has one violation, short and without control characters', () => {
    const error = unreadableRequest(`bad \u0000 ${'x'.repeat(10_000)}`);
    const [details] = error.findDetails(BadRequestSchema);
    expect(details?.fieldViolations.map(({ field }) => field)).toEqual(['request']);
    expect(details?.fieldViolations[0]?.description).toMatch(/^cannot be read: bad \u{fffd} x{100,200}…$/u);
  });

  test('for its compression is UNIMPLEMENTED', () => {
    const { code, rawMessage } = unsupportedRequest('unknown compression "x"');
    expect([Code[code], rawMessage]).toEqual(['Unimplemented', 'unknown compression "x"']);
    expect(reasonOf(unsupportedRequest('x'))).toBe('INVALID_ARGUMENT');
  });
});

test('a message with half a surrogate pair can be percent-encoded', () => {
  const error = invalidArgument([{ field: 'query', description: 'has \ud800 in it' }]);
  expect(() => encodeURI(error.rawMessage)).not.toThrow();
});

test.each([
  ['', ''],
  ['short', 'short'],
  ['x'.repeat(64), 'x'.repeat(64)],
  ['x'.repeat(65), `${'x'.repeat(64)}…`],
  ['🙂'.repeat(65), `${'🙂'.repeat(64)}…`],
  ['a\nb\u0000c\ud800', 'a\u{fffd}b\u{fffd}c\u{fffd}'],
])('%j is repeated as %j', (text, expected) => {
  expect(echo(text)).toBe(expected);
});

test.each([1, 2, maxViolations, maxViolations + 1, 1000])('of %d violations at most 20 are told', (number) => {
  const violations = Array.from({ length: number }, (_, i) => ({ field: `f${i}`, description: 'is wrong' }));
  const error = invalidArgument(violations as unknown as [Violation]);
  const told = error.findDetails(BadRequestSchema)[0]?.fieldViolations ?? [];
  expect(told.length).toBe(Math.min(number, maxViolations));
  if (number > maxViolations) expect(told.at(-1)?.description).toBe(`and ${number - maxViolations + 1} more`);
});

test('a client that is gone is told nothing', () => {
  expect(canceled()).toBeInstanceOf(ConnectError);
  expect(reasonOf(canceled())).toBeUndefined();
});

describe('docs/errors.md', () => {
  const read = (name: string) => readFileSync(new URL(`../../${name}`, import.meta.url), 'utf8');
  const reasons = [...(/\ntype Reason =([^;]*);/.exec(read('src/call/errors.ts'))?.[1] ?? '').matchAll(/'(\w+)'/g)].map(
    ([, reason]) => reason,
  );

  test('has a row for each reason, and the proto names it', () => {
    expect(reasons.length).toBeGreaterThan(10);
    const rows = new Set([...read('docs/errors.md').matchAll(/^\| `([A-Z_]+)` \|/gm)].map(([, reason]) => reason));
    expect(rows).toEqual(new Set(reasons));
    for (const reason of reasons) expect(read('proto/tasks/v1/tasks.proto')).toContain(reason);
  });
});
