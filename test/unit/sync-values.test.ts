import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { formatUuid } from '../../src/db/uuid.ts';
import {
  array,
  bytes,
  type Conversion,
  canonicalJson,
  flag,
  integer,
  jsonObject,
  keyText,
  longText,
  mostTextBytes,
  text,
  time,
  uuid,
  ValueError,
} from '../../src/sync/values.ts';

/** Converts a text, and says what was told of it. */
function convert(conversion: Conversion, value: string): { readonly value: unknown; readonly adjusted: readonly string[] } {
  const adjusted: string[] = [];
  return { value: conversion(value, (why) => adjusted.push(why)), adjusted };
}
const kept = (value: unknown) => ({ value, adjusted: [] });

test('a uuid is its 16 bytes', () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 16, maxLength: 16 }), (random) => {
      expect(convert(uuid, formatUuid(Buffer.from(random)))).toEqual(kept(Buffer.from(random)));
    }),
  );
});

/** A moment as PostgreSQL writes it in a session that is so many minutes east of UTC. */
function inZone(milliseconds: number, minutes: number, fraction: string): string {
  const local = new Date(milliseconds + minutes * 60_000).toISOString().slice(0, 19).replace('T', ' ');
  const [hours, rest] = [Math.trunc(Math.abs(minutes) / 60), Math.abs(minutes) % 60];
  const two = (number: number) => String(number).padStart(2, '0');
  return `${local}${fraction === '' ? '' : `.${fraction}`}${minutes < 0 ? '-' : '+'}${two(hours)}${rest === 0 ? '' : `:${two(rest)}`}`;
}

describe('times', () => {
  const seconds = fc.integer({ min: Date.UTC(2, 0) / 1000 - 1900 * 31_557_600, max: Date.UTC(9998, 0) / 1000 });
  const fraction = fc.integer({ min: 0, max: 999_999 }).map((micros) => String(micros).padStart(6, '0'));

  test('keep their microseconds, whatever the zone of the session', () => {
    fc.assert(
      fc.property(seconds, fraction, fc.integer({ min: -15 * 60, max: 15 * 60 }), (second, micros, minutes) => {
        const short = micros.replace(/0+$/, ''); // as PostgreSQL writes them
        const expected = `${new Date(second * 1000).toISOString().slice(0, 19).replace('T', ' ')}.${micros}`;
        expect(convert(time, inZone(second * 1000, minutes, short))).toEqual(kept(expected));
      }),
    );
  });

  test.each([
    ['0001-01-01 00:00:00+00', '0001-01-01 00:00:00.000000'], // Go's zero time
    ['0001-01-01 00:00:00', '0001-01-01 00:00:00.000000'],
    ['0999-12-31 23:59:59.000001+00', '0999-12-31 23:59:59.000001'],
    ['9999-12-31 23:59:59.999999+00', '9999-12-31 23:59:59.999999'],
    ['2024-02-29 12:00:00.5+00', '2024-02-29 12:00:00.500000'],
    ['2025-08-22 15:06:39.697094+05:45', '2025-08-22 09:21:39.697094'],
    ['2025-08-22 01:00:00+00:00:28', '2025-08-22 00:59:32.000000'],
  ])('%s is %s', (given, expected) => {
    expect(convert(time, given)).toEqual(kept(expected));
  });

  test.each([
    ['infinity', '9999-12-31 23:59:59.999999'],
    ['-infinity', '0001-01-01 00:00:00.000000'],
    ['0044-03-15 12:00:00+00 BC', '0001-01-01 00:00:00.000000'],
    ['4713-11-24 00:00:00+00 BC', '0001-01-01 00:00:00.000000'],
    ['10000-01-01 00:00:00+00', '9999-12-31 23:59:59.999999'],
    ['294276-12-31 23:59:59.999999+00', '9999-12-31 23:59:59.999999'],
    ['9999-12-31 23:30:00-01', '9999-12-31 23:59:59.999999'],
    ['0001-01-01 00:30:00+01', '0001-01-01 00:00:00.000000'],
  ])('%s is out of range: %s', (given, value) => {
    expect(convert(time, given)).toEqual({ value, adjusted: ['out of range'] });
  });
});

/** An array as PostgreSQL writes it. */
function arrayText(elements: readonly string[]): string {
  const written = elements.map((element) =>
    element === '' || /[{}",\\\s]/.test(element) || /^null$/i.test(element)
      ? `"${element.replace(/["\\]/g, String.raw`\$&`)}"`
      : element,
  );
  return `{${written.join(',')}}`;
}

describe('arrays', () => {
  test('keep their elements, in order', () => {
    fc.assert(
      fc.property(
        fc.array(fc.oneof(fc.string({ unit: 'binary' }), fc.constantFrom('', 'NULL', 'null', '"', '\\', 'a\nb', '{}'))),
        (elements) => {
          const whole = elements.map((element) => element.replaceAll('\0', '').toWellFormed());
          expect(convert(array, arrayText(whole))).toEqual(kept(JSON.stringify(whole)));
        },
      ),
    );
  });

  test.each([
    ['{NULL,a}', '["a"]'],
    ['[0:1]={a,b}', '["a","b"]'],
  ])('%s is %s', (given, expected) => {
    expect(convert(array, given)).toEqual(kept(expected));
  });
});

describe('JSON', () => {
  test('is the same, however it is written', () => {
    fc.assert(
      fc.property(fc.dictionary(fc.string(), fc.jsonValue({ maxDepth: 4 })), (value) => {
        const { value: written } = convert(jsonObject, JSON.stringify(value, undefined, 1));
        expect(JSON.parse(String(written))).toEqual(JSON.parse(JSON.stringify(value)));
        expect(canonicalJson(JSON.stringify(Object.fromEntries(Object.entries(value).reverse())))).toBe(
          canonicalJson(JSON.stringify(value)),
        );
      }),
    );
  });

  test.each([
    ['too deep', '['.repeat(40) + ']'.repeat(40)],
    ['too long', JSON.stringify('x'.repeat(mostTextBytes))],
  ])('%s for our engines grants nothing', (_, given) => {
    expect(convert(jsonObject, given)).toEqual({ value: '{}', adjusted: ['unreadable'] });
  });
});

describe('texts', () => {
  const wellFormed = fc.string({ unit: 'binary', maxLength: 200 });

  test('are cut between two characters, and that is told', () => {
    fc.assert(
      fc.property(wellFormed, fc.integer({ min: 1, max: 100 }), (given, most) => {
        const characters = [...given];
        const expected = characters.slice(0, most).join('');
        expect(convert(text(most), given)).toEqual({ value: expected, adjusted: expected === given ? [] : ['cut'] });
      }),
    );
  });

  test('that are long are cut by their bytes', () => {
    fc.assert(
      fc.property(wellFormed, fc.integer({ min: 4, max: 200 }), (given, most) => {
        const { value, adjusted } = convert(longText(most), given);
        const cut = String(value);
        expect(given.startsWith(cut)).toBe(true);
        expect(Buffer.byteLength(cut)).toBeLessThanOrEqual(most);
        expect(adjusted).toEqual(cut === given ? [] : ['cut']);
        if (cut !== given) expect(Buffer.byteLength(cut)).toBeGreaterThan(most - 4);
      }),
    );
  });

  test('of keys stay apart when they are cut', () => {
    const name = 'n'.repeat(700);
    expect(convert(keyText(700), name)).toEqual(kept(name));
    const [a, b] = [`${name}a`, `${name}b`].map((long) => convert(keyText(700), long));
    expect(a?.adjusted).toEqual(['cut']);
    expect(String(a?.value)).toHaveLength(700);
    expect(a?.value).not.toBe(b?.value);
  });
});

test.each([
  ['0', 0],
  ['-2147483648', -2_147_483_648],
  ['9007199254740991', 9_007_199_254_740_991],
  ['9007199254740993', '9007199254740993'],
])('the integer %s has all of its digits', (given, value) => {
  expect(convert(integer(), given)).toEqual(kept(value));
});

test('an integer that is too great for what is made of it is the greatest', () => {
  expect(convert(integer(100n), '9223372036854775807')).toEqual({ value: 100, adjusted: ['out of range'] });
  expect(convert(integer(100n), '101')).toEqual({ value: 100, adjusted: ['out of range'] });
});

test('bytes and booleans', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 40 }), (random) => {
      const given = Buffer.from(random);
      expect(convert(bytes(32), `\\x${given.toString('hex')}`)).toEqual({
        value: given.subarray(0, 32),
        adjusted: given.length > 32 ? ['cut'] : [],
      });
    }),
  );
  expect([convert(flag, 't'), convert(flag, 'f')]).toEqual([kept(1), kept(0)]);
});

test.each([
  ['uuid', uuid, 'a7a27450-ca16-4553-a6c5-9d6f0480856'],
  ['uuid', uuid, 'a7a27450-ca16-4553-a6c5-9d6f0480856g'],
  ['timestamp', time, '22/08/2025 09:21:39 UTC'],
  ['boolean', flag, 'true'],
  ['integer', integer(), '1.5'],
  ['bytea', bytes(32), '\\000'],
  ['array', array, '[1,2]'],
  ['array of arrays', array, '{{a},{b}}'],
])('what is no %s is refused, and not told', (_, conversion, given) => {
  expect(() => convert(conversion, given)).toThrow(ValueError);
  expect(() => convert(conversion, given)).not.toThrow(given);
});
