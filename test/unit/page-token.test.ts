import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { formatDatetime, parseDatetime } from '../../src/db/datetime.ts';
import { createPageTokens, type TokenScope } from '../../src/tasks/page-token.ts';
import { decodePosition, encodePosition } from '../../src/tasks/position.ts';

const key = Buffer.alloc(32, 7);
const scope: TokenScope = { callerId: Buffer.alloc(16, 1), query: 'owner:me', orderBy: '' };
const tokens = createPageTokens([key]);
const position = fc.uint8Array({ maxLength: 100 }).map((bytes) => Buffer.from(bytes));

test('a token gives its position back, and is URL-safe', () => {
  fc.assert(
    fc.property(position, (bytes) => {
      const token = tokens.encode(bytes, scope);
      expect(token).toMatch(/^[A-Za-z0-9_-]+$/);
      expect(tokens.decode(token, scope)).toEqual(bytes);
    }),
  );
});

test('every edit of one character is refused', () => {
  const token = tokens.encode(Buffer.from('some position'), scope);
  const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_=+/ ';
  for (let at = 0; at < token.length; at++) {
    for (const character of alphabet) {
      if (character === token[at]) continue;
      expect(tokens.decode(token.slice(0, at) + character + token.slice(at + 1), scope)).toBeUndefined();
    }
    expect(tokens.decode(token.slice(0, at), scope)).toBeUndefined();
    expect(tokens.decode(token.slice(0, at) + token.slice(at + 1), scope)).toBeUndefined();
  }
  for (const tail of ['=', '==', 'A', '\n', ' ']) expect(tokens.decode(token + tail, scope)).toBeUndefined();
});

describe('a token belongs to its', () => {
  test.each<[string, TokenScope]>([
    ['caller', { ...scope, callerId: Buffer.alloc(16, 2) }],
    ['query', { ...scope, query: 'owner:m' }],
    ['order', { ...scope, orderBy: 'name' }],
    ['query and order, not to their joined text', { ...scope, query: '', orderBy: 'owner:me' }],
  ])('%s', (_name, other) => {
    expect(tokens.decode(tokens.encode(Buffer.from('x'), scope), other)).toBeUndefined();
  });
});

test('a token of another format is refused, even when it is signed', () => {
  const bytes = Buffer.from(tokens.encode(Buffer.from('x'), scope), 'base64url');
  bytes[0] = 0;
  expect(tokens.decode(bytes.toString('base64url'), scope)).toBeUndefined();
});

test('an older key is accepted while it is configured', () => {
  const old = tokens.encode(Buffer.from('x'), scope);
  const fresh = Buffer.alloc(32, 8);
  expect(createPageTokens([fresh, key]).decode(old, scope)).toEqual(Buffer.from('x'));
  expect(createPageTokens([fresh]).decode(old, scope)).toBeUndefined();
});

test('any text is refused without throwing', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 2000 }), (text) => {
      expect(tokens.decode(text, scope)).toBeUndefined();
    }),
  );
});

describe('positions', () => {
  const id = Buffer.alloc(16, 9);
  test('of a sort key', () => {
    expect(decodePosition(encodePosition([Buffer.from('k')]), 'key')).toEqual([Buffer.from('k')]);
  });

  test('of a name', () => {
    for (const name of ['', 'a', 'x'.repeat(256)]) {
      expect(decodePosition(encodePosition([Buffer.from(name), id]), 'name desc')).toEqual([Buffer.from(name), id]);
    }
  });

  test('of a time, to the microsecond', () => {
    fc.assert(
      fc.property(fc.bigInt({ min: -62135596800000000n, max: 253402300799999999n }), (microseconds) => {
        const rest = ((microseconds % 1_000_000n) + 1_000_000n) % 1_000_000n;
        const text = formatDatetime({ seconds: (microseconds - rest) / 1_000_000n, nanos: Number(rest) * 1000 });
        expect(parseDatetime(text)).toEqual({ seconds: (microseconds - rest) / 1_000_000n, nanos: Number(rest) * 1000 });
        expect(decodePosition(encodePosition([text, id]), 'created_at desc')).toEqual([text, id]);
      }),
    );
  });

  test.each([0, 8, 15, 16, 23, 25])('of %d bytes are not a position of a time', (length) => {
    expect(decodePosition(Buffer.alloc(length), 'created_at')).toBeUndefined();
  });
});

describe('times', () => {
  test.each<[string, bigint, number]>([
    ['2025-08-22 09:21:39.697094', 1755854499n, 697094000],
    ['2025-08-22 09:21:39', 1755854499n, 0],
    ['1970-01-01 00:00:00.000001', 0n, 1000],
    ['1969-12-31 23:59:59.999999', -1n, 999999000],
    ['0001-01-01 00:00:00.000000', -62135596800n, 0],
    ['9999-12-31 23:59:59.999999', 253402300799n, 999999000],
  ])('%s', (text, seconds, nanos) => {
    expect(parseDatetime(text)).toEqual({ seconds, nanos });
  });

  test.each(['', 'now', '2025-08-22', '2025-13-22 09:21:39', '2025-08-22T09:21:39Z', '2025-08-22 09:21:39.1234567'])(
    '%j is not a time',
    (text) => {
      expect(() => parseDatetime(text)).toThrow(TypeError);
    },
  );

  test('the calendar is that of the engine, in every year', () => {
    for (let day = Date.UTC(2000, 0) / 86_400_000; day < Date.UTC(2401, 0) / 86_400_000; day++) {
      const text = new Date(day * 86_400_000).toISOString().slice(0, 10);
      expect(parseDatetime(`${text} 00:00:00`).seconds).toBe(BigInt(day * 86_400));
    }
  });

  test('a fraction may have fewer digits, and any other character makes it no time', () => {
    expect(parseDatetime('2025-08-22 09:21:39.5')).toEqual(parseDatetime('2025-08-22 09:21:39.500000'));
    const text = '2025-08-22 09:21:39.697094';
    for (let at = 0; at < text.length; at++) {
      const wrong = ['x', '/', ':', '-', ' ', '.', '', 'é'].filter((character) => character !== text[at]);
      for (const character of wrong.filter((one) => one !== '' || at < 19)) {
        const broken = text.slice(0, at) + character + text.slice(at + 1);
        expect(() => parseDatetime(broken), broken).toThrow(TypeError);
      }
    }
    expect(() => parseDatetime('2025-08-22 09:21:39.')).toThrow(TypeError);
  });
});
