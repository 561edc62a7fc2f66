import { describe, type TestFunction, test } from 'vitest';

// Tests that make no sense somewhere are not defined there. `runIf` would count them as skipped, as it counts what could not be run.
const leaveOut = (): void => {};

/** Defines a test where it applies: on some engines, or for one of several worlds. */
export function testWhere(applies: boolean): (name: string, body: TestFunction) => void {
  return applies ? test : leaveOut;
}

/** Defines a group of tests where it applies: on some engines, or for one of several worlds. */
export function describeWhere(applies: boolean): (name: string, define: () => void) => void {
  return applies ? describe : leaveOut;
}
