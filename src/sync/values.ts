import { createHash } from 'node:crypto';

/** A value as it is bound for a column of ours, and as it is read back. */
export type TargetValue = Buffer | string | number | null;

/** Is told that a value could not be kept as it is, and why in a few words. */
export type Adjusted = (why: 'cut' | 'out of range' | 'unreadable') => void;

/**
 * Turns a value's text in PostgreSQL (datestyle ISO, bytea_output hex) into ours. @throws {ValueError} when it is of no such
 * type.
 */
export type Conversion = (text: string, adjusted: Adjusted) => TargetValue;

/** A text that is no value of the type that a column has in every version of Coder that we know. It never says the value. */
export class ValueError extends Error {
  override readonly name = 'ValueError';
}

/**
 * Most bytes of a long text or of JSON. A prompt is cut to 1 MiB and marked when it is projected: here it keeps some more, so that
 * this is seen. A row with it fits into one statement.
 */
export const mostTextBytes = 17 * 65_536;

/** `uuid` as 16 bytes. PostgreSQL writes it in one way alone, so that its length and its digits tell. */
export const uuid: Conversion = (text) => {
  const digits = text.slice(0, 8) + text.slice(9, 13) + text.slice(14, 18) + text.slice(19, 23) + text.slice(24);
  const bytes = Buffer.from(digits, 'hex');
  if (text.length !== 36 || bytes.length !== 16) throw new ValueError('a value is no uuid');
  return bytes;
};

/** `boolean` as 1 or 0. */
export const flag: Conversion = (text) => {
  if (text === 't') return 1;
  if (text === 'f') return 0;
  throw new ValueError('a value is no boolean');
};

/** An integer, as a number where that has all of its digits, which is how the driver reads it, too. It is not more than `most`. */
export function integer(most = 9_223_372_036_854_775_807n): Conversion {
  return (text, adjusted) => {
    if (!/^-?\d{1,19}$/.test(text)) throw new ValueError('a value is no integer');
    const number = Number(text);
    if (Number.isSafeInteger(number) && BigInt(number) <= most) return number;
    const whole = BigInt(text);
    if (whole <= most) return text;
    adjusted('out of range');
    return Number.isSafeInteger(Number(most)) ? Number(most) : String(most);
  };
}

/** An integer of 32 bits, which may be a part of a key. */
export const int4: Conversion = integer(2_147_483_647n);

/** A text of up to so many characters; a longer one is cut. */
export function text(characters: number): Conversion {
  return (value, adjusted) => {
    if (value.length <= characters) return value;
    const cut = firstCharacters(value, characters);
    if (cut.length < value.length) adjusted('cut');
    return cut;
  };
}

/**
 * A text of a key, of up to so many characters. A longer one ends in the digest of the whole, so that no two become the same.
 */
export function keyText(characters: number): Conversion {
  return (value, adjusted) => {
    if (value.length <= characters || firstCharacters(value, characters).length === value.length) return value;
    adjusted('cut');
    return `${firstCharacters(value, characters - 65)}…${createHash('sha256').update(value).digest('hex')}`;
  };
}

/** A text of up to so many bytes of UTF-8; a longer one is cut. */
export function longText(bytes: number = mostTextBytes): Conversion {
  return (value, adjusted) => {
    if (value.length * 3 <= bytes || Buffer.byteLength(value) <= bytes) return value;
    adjusted('cut');
    const cut = Buffer.from(value).subarray(0, bytes + 1);
    let end = bytes;
    while (isContinuation(cut[end])) end -= 1;
    return cut.toString('utf8', 0, end);
  };
}

/** `bytea` of up to so many bytes. */
export function bytes(most: number): Conversion {
  return (value, adjusted) => {
    if (!/^\\x(?:[0-9a-f]{2})*$/.test(value)) throw new ValueError('a value is no bytea');
    const all = Buffer.from(value.slice(2), 'hex');
    if (all.length <= most) return all;
    adjusted('cut');
    return all.subarray(0, most);
  };
}

const earliest = '0001-01-01 00:00:00.000000';
const latest = '9999-12-31 23:59:59.999999';
const timestamp = /^(\d{4,6})-(\d\d)-(\d\d) (\d\d):(\d\d):(\d\d)(?:\.(\d{1,6}))?(?:([+-])(\d\d)(?::(\d\d))?(?::(\d\d))?)?( BC)?$/;

/**
 * `timestamptz`, or `timestamp` in UTC, as DATETIME(6) in UTC. What is before the year 1 or after 9999, the infinities among it, is
 * the first or the last moment of these years.
 */
export const time: Conversion = (value, adjusted) => {
  const clamped = (moment: string): string => {
    adjusted('out of range');
    return moment;
  };
  // What nearly all look like: 2025-08-22 09:21:39.697094+00
  if (value.length <= 29 && value.length >= 22 && value.endsWith('+00') && value[4] === '-' && value[10] === ' ') {
    return `${value.slice(0, 19)}.${value.slice(20, -3).padEnd(6, '0')}`;
  }
  if (value === 'infinity') return clamped(latest);
  if (value === '-infinity') return clamped(earliest);
  const parts = timestamp.exec(value);
  if (parts === null) throw new ValueError('a value is no timestamp');
  const [, year = '', month = '', day = '', hour = '', minute = '', second = '', fraction = '', sign, ...rest] = parts;
  const [offsetHours = '0', offsetMinutes = '0', offsetSeconds = '0', era] = rest;
  const micros = fraction.padEnd(6, '0');
  if (era !== undefined) return clamped(earliest);
  if (year.length > 4) return clamped(latest);
  const offset = Number(offsetHours) * 3600 + Number(offsetMinutes) * 60 + Number(offsetSeconds);
  if (offset === 0) return `${year}-${month}-${day} ${hour}:${minute}:${second}.${micros}`;
  // A session that is not in UTC.
  const moment = new Date(0);
  moment.setUTCFullYear(Number(year), Number(month) - 1, Number(day));
  moment.setUTCHours(Number(hour), Number(minute), Number(second) - (sign === '-' ? -offset : offset));
  if (moment.getUTCFullYear() < 1) return clamped(earliest);
  if (moment.getUTCFullYear() > 9999) return clamped(latest);
  return `${moment.toISOString().slice(0, 19).replace('T', ' ')}.${micros}`;
};

/** JSON in other JSON, at most. MariaDB takes 32. */
const mostDepth = 30;

/**
 * `jsonb` as JSON text in one way of writing it: engines give it back in different ones. What the engines cannot store, or is too
 * long for one statement, is empty, which grants nothing: an empty object here, and an empty list with {@link jsonList}.
 */
export const jsonObject = json('{}');

/** `jsonb` as {@link jsonObject}, where an empty list is what grants nothing. */
export const jsonList = json('[]');

/** Whether a conversion makes JSON. */
export function makesJson(conversion: Conversion): boolean {
  return conversion === jsonObject || conversion === jsonList || conversion === array;
}

function json(empty: '{}' | '[]'): Conversion {
  return (value, adjusted) => {
    if (value === '{}' || value === '[]') return value;
    const written = Buffer.byteLength(value) > mostTextBytes ? undefined : canonicalJson(value);
    if (written !== undefined) return written;
    adjusted('unreadable');
    return empty;
  };
}

/** JSON with the keys of its objects in order, and without spaces; undefined when it is too deep, or no JSON. */
export function canonicalJson(value: string): string | undefined {
  try {
    return JSON.stringify(sorted(JSON.parse(value) as unknown, 0));
  } catch {
    return undefined;
  }
}

function sorted(value: unknown, depth: number): unknown {
  if (typeof value !== 'object' || value === null) return value;
  if (depth >= mostDepth) throw new ValueError('a value is too deep');
  if (Array.isArray(value)) return value.map((element) => sorted(element, depth + 1));
  const entries = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
  return Object.fromEntries(entries.map(([key, inner]) => [key, sorted(inner, depth + 1)]));
}

/** An array of text or of an enum, of one dimension, as a JSON array of strings; NULL among them is left out. */
export const array: Conversion = (value, adjusted) => {
  if (value === '{}') return '[]';
  const written = JSON.stringify(readArray(value));
  if (Buffer.byteLength(written) <= mostTextBytes) return written;
  adjusted('unreadable');
  return '[]';
};

/** An element in quotes, with backslashes before quotes and backslashes; or one without. */
const element = /"((?:[^"\\]|\\.)*)"|([^{}",\\]+)/sy;

function readArray(value: string): string[] {
  const elements: string[] = [];
  let at = value.indexOf('{') + 1;
  if (at === 0 || !value.endsWith('}')) throw new ValueError('a value is no array');
  while (at < value.length) {
    element.lastIndex = at;
    const [found, quoted, plain] = element.exec(value) ?? [];
    if (found === undefined) throw new ValueError('a value is no array of one dimension');
    if (quoted !== undefined) elements.push(quoted.replace(/\\(.)/gs, '$1'));
    else if (plain !== undefined && plain !== 'NULL') elements.push(plain);
    at += found.length + 1; // a comma, or the end
  }
  return elements;
}

function firstCharacters(value: string, characters: number): string {
  let end = 0;
  for (let count = 0; count < characters && end < value.length; count++) end += (value.codePointAt(end) ?? 0) > 0xffff ? 2 : 1;
  return value.slice(0, end);
}

function isContinuation(byte: number | undefined): boolean {
  return byte !== undefined && (byte & 0xc0) === 0x80;
}
