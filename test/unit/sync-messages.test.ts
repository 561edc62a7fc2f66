import { describe, expect, test } from 'vitest';
import { failureText, openCoderDatabase } from '../../src/sync/coder-database.ts';
import { countAdjusted } from '../../src/sync/sync.ts';

describe('why copying failed', () => {
  test.for([
    [
      'the cause alone, of a statement',
      { sqlMessage: "Data too long\nfor column 'name'" },
      "this service's database: Data too long for column 'name'",
    ],
    ['the cause alone, of a lost connection', { fatal: true }, "this service's database: the connection is closed"],
    ['what PostgreSQL says', {}, 'insert into `users` - the connection is closed'],
  ] as const)('is %s', ([, properties, reason]) => {
    expect(failureText(Object.assign(new Error('insert into `users` - the connection is closed'), properties))).toBe(reason);
  });

  test('names the database also where the file of its authorities is missing', async () => {
    await expect(
      openCoderDatabase('postgres://a:secret@127.0.0.1/coder?sslmode=verify-full&sslrootcert=/nowhere.pem'),
    ).rejects.toThrow(/^Coder's database cannot be reached: ENOENT.*\/nowhere\.pem'$/);
  });
});

describe('values that could not be kept', () => {
  test('are told once a minute and column, with how many there were', () => {
    let now = 0;
    const lines: unknown[] = [];
    const log = { warn: (line: unknown) => lines.push(line) };
    const adjusted = countAdjusted(() => now);
    const write = (table: string): void => {
      adjusted.add(table, 'last_seen_at', 'out of range');
      adjusted.tell(log);
    };
    write('users');
    write('users');
    write('users');
    write('workspaces');
    const line = (table: string, count: number) => ({ column: `${table}.last_seen_at`, why: 'out of range', count });
    expect(lines.splice(0)).toEqual([line('users', 1), line('workspaces', 1)]);
    now = 60_000;
    write('users');
    expect(lines.splice(0)).toEqual([line('users', 3)]);
    now = 120_000;
    adjusted.tell(log);
    expect(lines).toEqual([]);
  });
});
