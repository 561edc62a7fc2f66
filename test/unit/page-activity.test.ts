import { create } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { expect, test } from 'vitest';
import { CountTasksOverTimeResponseSchema } from '../../src/gen/tasks/v1/tasks_pb.ts';
import { activityHistory, hourlyOf, linesOf } from '../../web/activity.ts';

const now = Date.parse('2026-06-02T12:06:00Z');
const answer = (...points: readonly (readonly [at: number, waiting: number, working: number, failed: number])[]) =>
  create(CountTasksOverTimeResponseSchema, {
    points: points.map(([at, waiting, working, failed]) => ({ time: timestampFromMs(at), waiting, working, failed })),
  });

test('lines go from a day ago to now, and from none to the most', () => {
  const history = activityHistory(answer([now - 24 * 3_600_000, 0, 4, 1], [now - 6 * 3_600_000, 2, 0, 1], [now, 4, 3, 1]));
  expect(history && linesOf(history)).toEqual({
    waiting: '0,39 720,20 960,1',
    working: '0,1 720,39 960,10.5',
    failed: '0,29.5 720,29.5 960,29.5',
  });
});

test('nothing is a line at the bottom, and one point is a line of no length', () => {
  const history = activityHistory(answer([now, 0, 0, 0]));
  expect(history && linesOf(history)).toEqual({ waiting: '960,39', working: '960,39', failed: '960,39' });
  expect(activityHistory(answer())).toBeUndefined();
});

test('a table has the full hours, and now', () => {
  const quarter = 15 * 60_000;
  const first = Date.parse('2026-06-02T09:45:00Z');
  const history = activityHistory(
    answer(...Array.from({ length: 10 }, (_, i) => [first + i * quarter, i, 0, 0] as const), [now, 10, 0, 0]),
  );
  expect(history && hourlyOf(history).map(({ waiting }) => waiting)).toEqual([1, 5, 9, 10]);
});
