/**
 * Makes a generator of random numbers from 0 to below 1, which are the same for the same start (sfc32 of PractRand; not for
 * secrets).
 */
export function seededRandom(...start: readonly number[]): () => number {
  let [a = 0x9e3779b9, b = 0x243f6a88, c = 0xb7e15162] = start;
  let counter = 1;
  const next = (): number => {
    const sum = (a + b + counter) | 0;
    counter = (counter + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = ((c << 21) | (c >>> 11)) + sum;
    return sum >>> 0;
  };
  // Similar starts give similar first numbers: skip them.
  for (let round = 0; round < 12; round++) next();
  return () => next() / 2 ** 32;
}
