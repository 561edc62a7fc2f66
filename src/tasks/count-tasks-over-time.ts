import { create } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import type { Call } from '../call/call.ts';
import { formatDatetime } from '../db/datetime.ts';
import {
  type CountTasksOverTimeRequest,
  type CountTasksOverTimeResponse,
  CountTasksOverTimeResponseSchema,
} from '../gen/tasks/v1/tasks_pb.ts';
import type { ResolveQuery } from './resolve-query.ts';
import { scopeOf } from './scope.ts';
import { type ActivityHistory, maxOfActivity, stepSeconds, steps } from './store/over-time-query.ts';
import type { TaskRepository } from './store/task-repository.ts';
import { readTaskQuery } from './task-query.ts';

/** The method CountTasksOverTime. It does not know which transport called it. */
export type CountTasksOverTime = (request: CountTasksOverTimeRequest, call: Call) => Promise<CountTasksOverTimeResponse>;

/** What CountTasksOverTime is made of. */
interface CountTasksOverTimeParts {
  readonly tasks: TaskRepository;
  readonly resolveQuery: ResolveQuery;
  /** The time, in milliseconds. */
  readonly clock?: () => number;
}

const stepMs = stepSeconds * 1000;

/** What is counted where nothing can be found. */
const nothing: ActivityHistory = { now: [0, 0, 0], growth: new Map(), knownAfter: Number.NEGATIVE_INFINITY };

/** Makes the method CountTasksOverTime. */
export function createCountTasksOverTime({ tasks, resolveQuery, clock = Date.now }: CountTasksOverTimeParts): CountTasksOverTime {
  return async ({ query }, call) => {
    const { filter } = await resolveQuery(readTaskQuery({ query, orderBy: '', pageSize: 0 }), query, call);
    const now = clock();
    const first = (Math.floor(now / stepMs) - steps + 1) * stepMs;
    const history =
      filter && (await tasks.countOverTime(scopeOf(call.caller), filter, formatDatetime(timestampFromMs(first)), call.signal));
    return toCountTasksOverTimeResponse(history ?? nothing, first, now);
  };
}

/** The message for a history: the counts of now, and going back from these. */
function toCountTasksOverTimeResponse(
  { now, growth, knownAfter }: ActivityHistory,
  first: number,
  end: number,
): CountTasksOverTimeResponse {
  const capped = now.map((count) => count > maxOfActivity);
  const point = (time: number, counts: readonly number[]) => {
    const [waiting = 0, working = 0, failed = 0] = counts.map((count, i) => (capped[i] === true ? maxOfActivity : count));
    return { time: timestampFromMs(time), waiting, working, failed };
  };
  const points = [point(end, now)];
  let counts = now;
  for (let step = steps - 1; step >= 0 && knownAfter !== undefined && step * stepSeconds > knownAfter; step--) {
    counts = counts.map((count, i) => count - (growth.get(step)?.[i] ?? 0));
    points.push(point(first + step * stepMs, counts));
  }
  const start = points.length > steps ? undefined : first + Math.max(0, knownAfter ?? steps * stepSeconds) * 1000;
  const [waitingCapped = false, workingCapped = false, failedCapped = false] = capped;
  return create(CountTasksOverTimeResponseSchema, {
    points: points.toReversed(),
    ...(start === undefined ? {} : { startTime: timestampFromMs(Math.min(start, end)) }),
    waitingCapped,
    workingCapped,
    failedCapped,
  });
}
