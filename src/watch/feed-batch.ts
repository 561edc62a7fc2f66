import { isDeepStrictEqual } from 'node:util';
import type { Task } from '../gen/tasks/v1/tasks_pb.ts';
import type { TaskAccess } from '../tasks/scope.ts';
import type { WatchedRow } from '../tasks/store/tables.ts';
import { maxPageBytes } from '../tasks/store/task-repository.ts';
import { toTask } from '../tasks/task-mapper.ts';
import type { FeedEvent, FeedRepository } from './feed-repository.ts';

/** Events that are read in one statement. */
export const eventsAtOnce = 100;

/** The tasks that some consecutive events are about, each once, as they are now. */
export interface FeedBatch {
  /** The last of these events. */
  readonly to: number;
  /** In the order of their newest events. */
  readonly tasks: readonly TaskUpdate[];
}

/** Thrown when events after a point are missing in the feed: watchers must start over. */
export class FeedGapError extends Error {
  override readonly name = 'FeedGapError';
}

/** A task that changed. All watchers of the process share one instance. */
export class TaskUpdate {
  readonly id: Buffer;
  /** The id as a key of maps. */
  readonly key: string;
  /** Its newest event. */
  readonly seq: number;
  /** Its present row; undefined when it is removed. */
  readonly row: WatchedRow | undefined;
  /** Who could read it before each of the events. */
  readonly before: readonly TaskAccess[];
  #forOwner: Task | undefined;
  #forOthers: Task | undefined;

  constructor(id: Buffer, seq: number, row: WatchedRow | undefined, before: readonly TaskAccess[]) {
    this.id = id;
    this.key = taskKey(id);
    this.seq = seq;
    this.row = row;
    this.before = before;
  }

  /** The number of characters of its texts. */
  get length(): number {
    return this.row === undefined ? 0 : this.row.prompt.length + this.row.state_message.length + this.row.state_uri.length;
  }

  /** Its message, which is made once for the owner and once for everybody else. */
  task(row: WatchedRow, callerId: Buffer): Task {
    if (row.owner_id.equals(callerId)) {
      this.#forOwner ??= toTask(row, callerId);
      return this.#forOwner;
    }
    this.#forOthers ??= toTask(row, callerId);
    return this.#forOthers;
  }
}

/** The id of a task as a key of maps, shorter than its text. */
export function taskKey(id: Buffer): string {
  return id.toString('latin1');
}

/**
 * Reads the changes after one event, at most up to another. The batch ends earlier when the texts of its tasks are long, or
 * before an event that gives a task other readers than an earlier event of the batch.
 *
 * @param parameterNames the parameters that the query of any watcher names.
 * @param most most events of the batch.
 * @throws {FeedGapError} when events between the two are missing.
 */
export async function readFeedBatch(
  feed: FeedRepository,
  after: number,
  upTo: number,
  parameterNames: readonly string[],
  most: number = eventsAtOnce,
): Promise<FeedBatch> {
  const found = (await feed.events(after, Math.min(most, upTo - after))).filter(({ seq }) => seq <= upTo);
  if (found.length === 0 || found.some(({ seq }, index) => seq !== after + 1 + index)) {
    throw new FeedGapError(`the feed has no event ${after + 1}, or one behind it is missing`);
  }
  const usable = found.slice(0, countUntilReadersChange(found));
  const ids = new Map(usable.map(({ taskId }) => [taskKey(taskId), taskId]));
  const { rows, covered } = await feed.tasks([...ids.values()], { parameterNames, maxBytes: maxPageBytes });
  const read = new Set([...ids.keys()].slice(0, covered));
  const end = usable.findIndex(({ taskId }) => !read.has(taskKey(taskId)));
  const events = end === -1 ? usable : usable.slice(0, end);

  const byId = new Map(rows.map((row) => [taskKey(row.id), row]));
  const newest = new Map(events.map((event) => [taskKey(event.taskId), event]));
  const tasks = [...newest.values()]
    .toSorted((a, b) => a.seq - b.seq)
    .map(({ taskId, seq }) => {
      const row = byId.get(taskKey(taskId));
      // An event without readers did not change them: they are the present ones. A task keeps its workspace; of one that is gone
      // nobody knows it, so that a token for some workspaces is not told of it.
      const before = events.flatMap(({ taskId: of, before: place }) =>
        place !== undefined && of.equals(taskId)
          ? [{ workspaceId: row?.workspace_id ?? null, readers: row?.readers ?? [], ...place }]
          : [],
      );
      return new TaskUpdate(taskId, seq, row, before);
    });
  return { to: after + events.length, tasks };
}

/** The number of events before the first one that gives a task other readers than an earlier one. */
function countUntilReadersChange(events: readonly FeedEvent[]): number {
  const places = new Map<string, FeedEvent['before']>();
  const end = events.findIndex(({ taskId, before }) => {
    const key = taskKey(taskId);
    const earlier = places.get(key);
    places.set(key, before);
    return earlier !== undefined && !isDeepStrictEqual(earlier, before);
  });
  return end === -1 ? events.length : end;
}
