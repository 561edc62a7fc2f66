import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { formatUuid, parseUuid } from '../../src/db/uuid.ts';

test('16 bytes come back from their text, in either case', () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 16, maxLength: 16 }), (bytes) => {
      const text = formatUuid(Buffer.from(bytes));
      expect(text).toBe(text.toLowerCase());
      expect(parseUuid(text)).toEqual(Buffer.from(bytes));
      expect(parseUuid(text.toUpperCase())).toEqual(Buffer.from(bytes));
    }),
  );
});

describe('what is no UUID', () => {
  test.each([
    '',
    'me',
    'a7a27450ca1645539a6c59d6f04808569',
    'a7a27450-ca16-4553-a6c5-9d6f0480856',
    'a7a27450-ca16-4553-a6c5-9d6f048085699',
    'a7a27450-ca16-4553-a6c5-9d6f0480856g',
    '{a7a27450-ca16-4553-a6c5-9d6f04808569}',
    ' a7a27450-ca16-4553-a6c5-9d6f04808569',
    'a7a27450-ca16-4553-a6c5-9d6f04808569\n',
    'a7a27450_ca16_4553_a6c5_9d6f04808569',
  ])('%j', (text) => {
    expect(parseUuid(text)).toBeUndefined();
  });
});
