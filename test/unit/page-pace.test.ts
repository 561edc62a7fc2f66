import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { type Pace, startPace } from '../../web/pace.ts';

let runs: number[];
let pace: Pace;
beforeEach(() => {
  vi.useFakeTimers({ now: 0 });
  runs = [];
  pace = startPace(
    () => void runs.push(Date.now()),
    3000,
    () => 15_000,
  );
});
afterEach(() => {
  pace.stop();
  vi.useRealTimers();
});

test('what nobody asks for runs now and then', () => {
  vi.advanceTimersByTime(45_000);
  expect(runs).toEqual([15_000, 30_000, 45_000]);
});

test('what is asked for runs at once if it has not just run', () => {
  vi.advanceTimersByTime(5000);
  pace.ask();
  vi.advanceTimersByTime(0);
  expect(runs).toEqual([5000]);
  pace.ask();
  vi.advanceTimersByTime(3000);
  expect(runs).toEqual([5000, 8000]);
});

test('what is asked for all the time runs, and not more often than it may', () => {
  for (let at = 0; at < 12_000; at += 10) {
    pace.ask();
    vi.advanceTimersByTime(10);
  }
  expect(runs).toEqual([3000, 6000, 9000, 12_000]);
});

test('what was stopped does not run', () => {
  pace.ask();
  pace.stop();
  vi.advanceTimersByTime(60_000);
  expect(runs).toEqual([]);
});
