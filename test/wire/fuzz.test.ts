import { expect, test } from 'vitest';
import { fuzz } from '../fuzz/fuzz.ts';
import { startTarget } from '../fuzz/target.ts';
import { createTestDatabase } from '../support/database.ts';

/** How long it may take in a whole run, in milliseconds. `npm run fuzz` takes hours. */
const milliseconds = 20_000;

test('bytes, frames, headers, messages and tokens of any kind get clean answers, and leave nothing behind', async () => {
  const seed = Math.floor(Math.random() * 2 ** 40);
  console.log(`fuzzing from seed ${seed}; again: npm run fuzz -- --seed ${seed}`);
  const testDatabase = await createTestDatabase('mariadb');
  const target = await startTarget(testDatabase.address);
  try {
    const { cases, answers } = await fuzz(target.service, target.known, { seed, milliseconds });
    console.log(`${cases} cases: ${[...answers].map(([what, times]) => `${times} x ${what}`).join(', ')}`);
    expect(cases).toBeGreaterThan(100);
    // It gets past the door: calls are answered, and refused for what they ask.
    expect([...answers.keys()]).toEqual(
      expect.arrayContaining(['gRPC OK', 'gRPC InvalidArgument', 'HTTP/2 200', 'HTTP/2 400', 'raw']),
    );
  } finally {
    expect(await target.stop()).toBe(0);
    await testDatabase.drop();
  }
});
