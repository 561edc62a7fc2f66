/** Keeps this process from everything for so many milliseconds, as a pause of its machine would. */
export function blockFor(milliseconds: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, milliseconds);
}
