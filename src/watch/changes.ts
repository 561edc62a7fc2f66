import { isDeepStrictEqual } from 'node:util';
import type { Task } from '../gen/tasks/v1/tasks_pb.ts';
import type { WatchedRow } from '../tasks/store/tables.ts';
import { maxPageBytes } from '../tasks/store/task-repository.ts';
import { toTask } from '../tasks/task-mapper.ts';
import type { FeedEvent, FeedRepository, TaskAccess } from './feed-repository.ts';

/** Events that are read at once. */
const eventsAtOnce = 100;

/** Tasks that changed one after the other, each once, as they are now. */
export interface Changes {
  /** The last event among them: with it, everything up to it is told. */
  readonly to: number;
  /** In the order of their newest events. */
  readonly tasks: readonly ChangedTask[];
}

/** Thrown when the feed does not have all events after a point: who watches must begin anew. */
export class LostEventsError extends Error {
  override readonly name = 'LostEventsError';
}

/** A task that changed, for all watchers together. */
export class ChangedTask {
  readonly id: Buffer;
  /** The id as a key of maps. */
  readonly key: string;
  /** Its newest event. */
  readonly seq: number;
  /** As it is now; undefined when it is gone. */
  readonly row: WatchedRow | undefined;
  /** Where it was before each of the events. */
  readonly before: readonly TaskAccess[];
  #forOwner: Task | undefined;
  #forOthers: Task | undefined;

  constructor(id: Buffer, seq: number, row: WatchedRow | undefined, before: readonly TaskAccess[]) {
    this.id = id;
    this.key = keyOf(id);
    this.seq = seq;
    this.row = row;
    this.before = before;
  }

  /** How many characters its texts have. */
  get length(): number {
    return this.row === undefined ? 0 : this.row.prompt.length + this.row.state_message.length + this.row.state_uri.length;
  }

  /** The message of a row that is there, made once for its owner and once for everybody else. */
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
export function keyOf(id: Buffer): string {
  return id.toString('latin1');
}

/**
 * Reads what changed after one event, up to another one at most: fewer events where their tasks' texts are long, and none behind a
 * change of who could read one of the tasks, so that each of its events says of the tasks before it who could.
 *
 * @param parameterNames the parameters that somebody's query asks about.
 * @throws {LostEventsError} when events between the two are missing.
 */
export async function readChanges(
  feed: FeedRepository,
  after: number,
  upTo: number,
  parameterNames: readonly string[],
): Promise<Changes> {
  const found = (await feed.events(after, Math.min(eventsAtOnce, upTo - after))).filter(({ seq }) => seq <= upTo);
  if (found.length === 0 || found.some(({ seq }, index) => seq !== after + 1 + index)) {
    throw new LostEventsError(`the feed has no event ${after + 1}, or one behind it is missing`);
  }
  const alike = found.slice(0, withOnePlaceEach(found));
  const ids = new Map(alike.map(({ taskId }) => [keyOf(taskId), taskId]));
  const { rows, covered } = await feed.tasks([...ids.values()], { parameterNames, maxBytes: maxPageBytes });
  const read = new Set([...ids.keys()].slice(0, covered));
  const end = alike.findIndex(({ taskId }) => !read.has(keyOf(taskId)));
  const events = end === -1 ? alike : alike.slice(0, end);

  const byId = new Map(rows.map((row) => [keyOf(row.id), row]));
  const newest = new Map(events.map((event) => [keyOf(event.taskId), event]));
  const tasks = [...newest.values()]
    .toSorted((a, b) => a.seq - b.seq)
    .map(({ taskId, seq }) => {
      const row = byId.get(keyOf(taskId));
      // Where an event does not say who the readers were, they are those of now.
      const before = events.flatMap(({ taskId: of, before: place }) =>
        place !== undefined && of.equals(taskId) ? [{ readers: row?.readers ?? [], ...place }] : [],
      );
      return new ChangedTask(taskId, seq, row, before);
    });
  return { to: after + events.length, tasks };
}

/** How many of the events it takes until one says of its task that others could read it than an event before said. */
function withOnePlaceEach(events: readonly FeedEvent[]): number {
  const places = new Map<string, FeedEvent['before']>();
  const end = events.findIndex(({ taskId, before }) => {
    const key = keyOf(taskId);
    const earlier = places.get(key);
    places.set(key, before);
    return earlier !== undefined && !isDeepStrictEqual(earlier, before);
  });
  return end === -1 ? events.length : end;
}
