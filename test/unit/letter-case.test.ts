import fc from 'fast-check';
import { expect, test } from 'vitest';
import { foldCase } from '../../src/db/letter-case.ts';

test.each([
  ['Task-ABC', 'task-abc'],
  ['İstanbul', 'istanbul'],
  ['ΟΔΟΣ', 'οδοσ'],
  ['οδος', 'οδος'],
  ['STRAẞE', 'straße'],
  ['\u212A\u212B', 'kå'],
  ['ǅ', 'ǆ'],
  ['Ꭰ𐐀', 'ꭰ𐐨'],
  ['日本 🙂 ٣', '日本 🙂 ٣'],
])('%s is %s', (text, folded) => {
  expect(foldCase(text)).toBe(folded);
});

test('each character folds by itself, to one that folds no further', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), (text) => {
      const each = [...text].map((character) => foldCase(character));
      expect(foldCase(text)).toBe(each.join(''));
      expect(each.every((character) => [...character].length === 1)).toBe(true);
      expect(foldCase(foldCase(text))).toBe(foldCase(text));
    }),
    { numRuns: 2000 },
  );
});
