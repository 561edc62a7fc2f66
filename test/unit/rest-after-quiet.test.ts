import { expect, test } from 'vitest';
import { restAfterQuiet } from '../../src/platform/rest-after-quiet.ts';

test('rests a tenth of the time for which nothing came, within limits', () => {
  const limits = { least: 20, most: 250 };
  expect([0, 100, 200, 1000, 2400, 2500, 60_000].map((quietMs) => restAfterQuiet(quietMs, limits))).toEqual([
    20, 20, 20, 100, 240, 250, 250,
  ]);
});
