import type { Timestamp } from '@bufbuild/protobuf/wkt';
import type { CountTasksOverTimeResponse } from '../src/gen/tasks/v1/tasks_pb.ts';
import { milliseconds } from './task-words.ts';

/** What is counted over time. */
export const activities = ['waiting', 'working', 'failed'] as const;

/** One of {@link activities}. */
export type Activity = (typeof activities)[number];

/** How many tasks waited, worked and were failed at a time. */
interface ActivityPoint extends Readonly<Record<Activity, number>> {
  /** In milliseconds. */
  readonly at: number;
}

/** Counts over the last 24 hours. */
export interface ActivityHistory {
  /** The oldest first; the last is of now. */
  readonly points: readonly [ActivityPoint, ...ActivityPoint[]];
  /** Since when the counts are known, in milliseconds, if not for the whole time. */
  readonly since: number | undefined;
  readonly capped: Readonly<Record<Activity, boolean>>;
}

const dayMs = 24 * 3_600_000;

/** What an answer says; undefined if it has no counts. */
export function activityHistory(answer: CountTasksOverTimeResponse): ActivityHistory | undefined {
  const timeOf = (time: Timestamp | undefined): number => (time === undefined ? 0 : milliseconds(time));
  const [first, ...others] = answer.points.map(({ time, waiting, working, failed }) => ({
    at: timeOf(time),
    waiting,
    working,
    failed,
  }));
  if (first === undefined) return undefined;
  return {
    points: [first, ...others],
    since: answer.startTime && milliseconds(answer.startTime),
    capped: { waiting: answer.waitingCapped, working: answer.workingCapped, failed: answer.failedCapped },
  };
}

/** The size of the picture that {@link linesOf} draws into: it is stretched to the room there is. */
export const plotSize = { width: 960, height: 40 };

/**
 * A line for each activity, as the points of a `polyline`: from 24 hours ago at the left to now at the right, and from none at the bottom
 * to the most at the top.
 */
export function linesOf({ points }: ActivityHistory): Readonly<Record<Activity, string>> {
  const end = points.at(-1)?.at ?? 0;
  const most = mostOf(points);
  const { width, height } = plotSize;
  const x = (at: number): number => round((width * (at - end + dayMs)) / dayMs);
  // Room for half a line at the top and at the bottom.
  const y = (count: number): number => round(height - 1 - ((height - 2) * count) / most);
  const line = (of: Activity): string => points.map((point) => `${x(point.at)},${y(point[of])}`).join(' ');
  return { waiting: line('waiting'), working: line('working'), failed: line('failed') };
}

/** The most of anything at any time, and at least one. */
export function mostOf(points: readonly ActivityPoint[]): number {
  return Math.max(1, ...points.flatMap((point) => activities.map((of) => point[of])));
}

/** One point for each full hour, and the last: what a table has. */
export function hourlyOf({ points }: ActivityHistory): readonly ActivityPoint[] {
  return points.filter(({ at }, index) => at % 3_600_000 === 0 || index === points.length - 1);
}

function round(number: number): number {
  return Math.round(number * 10) / 10;
}
