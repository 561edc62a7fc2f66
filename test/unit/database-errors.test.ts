import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { databaseErrorKind, databaseErrors } from '../../src/db/database-errors.ts';
import { provocations, shutsDown } from '../support/database-provocations.ts';

const keysOf = (errors: (typeof databaseErrors)[number]['errors']) =>
  errors.map((error) => (typeof error === 'string' ? error : error[0]));

/** Errors that `test/db/database-errors.test.ts` does not provoke on a server, and why not. */
const notProvoked: Readonly<Record<string, readonly (number | string)[]>> = {
  'a network or a host that fails in a way of its own': [
    'EHOSTDOWN',
    'EHOSTUNREACH',
    'ENETDOWN',
    'ENETUNREACH',
    'ECONNABORTED',
    1042,
    1043,
  ],
  'bytes that a network has cut or changed': [1152, 1154, 1155, 1156, 1157, 1158, 1159, 1160, 1161, 1184, 1835],
  'a proxy': [2002, 2003, 2006, 2013, 2055, 9001],
  'a cluster': [1047, 1180, 3098, 3100, 3101, 3781, 3782, 3783, 3796, 3797, 3798, 4094, 6141],
  'a binary log that is written': [1197, 1534, 1598, 1665, 1705, 1950, 1964],
  'a machine without memory or threads': [5, 34, 1037, 1041, 1119, 1135, 1206, 1436, 3015, 3170, 3950, 3985, 4081, 4082],
  'a disk that is full, or files that cannot be had': [20, 23, 1021, 1637, 1878, 3019, 3231, 3675, 3884, 4139],
  'storage that fails': [
    1, 2, 3, 4, 9, 10, 29, 1004, 1015, 1016, 1017, 1023, 1024, 1026, 1030, 1032, 1033, 1034, 1035, 1039, 1105, 1181, 1194, 1195,
    1296, 1297, 1467, 1712, 1810, 1811, 1812, 1814, 1815, 1817, 1877, 1932, 1939, 3000, 3185,
  ],
  'a server that was started for reading alone': [1036, 1836, 1874],
  'a moment that nobody can choose': [1028, 1689, 3168, 3177],
  'a client of another kind, or a plugin': [1129, 1251, 1275, 1698, 1873, 3159, 3164, 3879, 6038, 6126, 6127, 6444],
  'a proxy that changes servers under a connection': [1243],
  'many at once: it is provoked by itself in that test': [1615],
  'what an account signs in with: `test/unit/credentials.test.ts`, `test/wire/accounts.test.ts`': [
    'CredentialsError',
    'AUTH_SWITCH_PLUGIN_ERROR',
  ],
  'a pool, and no server: `test/db/connection-pool.test.ts`': ['ConnectionWaitError'],
};

describe('the table of errors of the database', () => {
  const all = databaseErrors.flatMap(({ errors }) => keysOf(errors));

  test('has each error once', () => {
    expect(all.filter((key, index) => all.indexOf(key) !== index)).toEqual([]);
  });

  test('has no error that is neither provoked nor said to be beyond that, and why', () => {
    const provoked = [...provocations, shutsDown].flatMap(({ error }) => [error.mariadb, error.mysql].flat());
    const excused = Object.values(notProvoked).flat();
    expect(all.filter((key) => !provoked.includes(key) && !excused.includes(key))).toEqual([]);
    expect(excused.filter((key) => provoked.includes(key) || !all.includes(key))).toEqual([]);
  });

  test('is the one of docs/errors.md', () => {
    const text = readFileSync(new URL('../../docs/errors.md', import.meta.url), 'utf8');
    const section = /\n## What is an error of the database\n([\s\S]*?)\n## /.exec(text)?.[1] ?? '';
    const rows = [...section.matchAll(/^\| (?!cause|---)(.*?) \| `(\w+)` \|/gm)].map(([, cause, reason]) => [cause, reason]);
    const reasons = { unavailable: 'DATABASE_UNAVAILABLE', 'too-expensive': 'QUERY_TOO_EXPENSIVE', busy: 'OVERLOADED' };
    expect(rows).toEqual(databaseErrors.map(({ cause, kind }) => [cause, reasons[kind]]));
  });
});

test.each<[object | undefined | null, ReturnType<typeof databaseErrorKind>]>([
  [{ errno: 1317, code: 'ER_QUERY_INTERRUPTED' }, 'unavailable'],
  [{ errno: -111, code: 'ECONNREFUSED' }, 'unavailable'],
  [{ errno: 1969 }, 'too-expensive'],
  [{ name: 'ConnectionWaitError' }, 'busy'],
  [{ fatal: true }, 'unavailable'], // the driver gave the connection up
  [{ errno: 9999, sqlState: '08S01' }, 'unavailable'], // of a newer server
  [{ errno: 9999, sqlState: '40001' }, 'unavailable'],
  [{ errno: 9999, sqlState: '42000' }, undefined],
  [{ errno: 1054, code: 'ER_BAD_FIELD_ERROR', sqlState: '42S22' }, undefined],
  [new TypeError('x'), undefined],
  [undefined, undefined],
  [null, undefined],
])('%o is %s', (error, kind) => {
  expect(databaseErrorKind(error)).toBe(kind);
});
