import type { FeedRepository, TaskPlace } from '../db/feed-repository.ts';
import type { WatchedRow } from '../db/tables.ts';
import type { Task } from '../gen/tasks/v1/tasks_pb.ts';
import { toTask } from '../tasks/task-mapper.ts';

/** Events that are read at once: their tasks are in memory together, with prompts of 1 MiB at most. */
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
  readonly before: readonly TaskPlace[];
  #forOwner: Task | undefined;
  #forOthers: Task | undefined;

  constructor(id: Buffer, seq: number, row: WatchedRow | undefined, before: readonly TaskPlace[]) {
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
 * Reads what changed after one event, up to another one at most.
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
  const events = (await feed.events(after, Math.min(eventsAtOnce, upTo - after))).filter(({ seq }) => seq <= upTo);
  if (events.length === 0 || events.some(({ seq }, index) => seq !== after + 1 + index)) {
    throw new LostEventsError(`the feed has no event ${after + 1}, or one behind it is missing`);
  }
  // A task moves to the place of its newest event.
  const byTask = new Map<string, typeof events>();
  for (const event of events) {
    const key = keyOf(event.taskId);
    const earlier = byTask.get(key) ?? [];
    byTask.delete(key);
    byTask.set(key, [...earlier, event]);
  }
  const ids = Array.from(byTask.values(), ([event]) => event?.taskId).filter((id) => id !== undefined);
  const rows = new Map((await feed.tasks(ids, parameterNames)).map((row) => [keyOf(row.id), row]));
  const tasks = Array.from(byTask, ([key, ofTask]) => {
    const row = rows.get(key);
    const last = ofTask.at(-1) as (typeof events)[number];
    // Where an event does not say who the readers were, they are those of now.
    const before = ofTask.flatMap(({ before: place }) =>
      place === undefined ? [] : [{ readers: row?.readers ?? [], ...place }],
    );
    return new ChangedTask(last.taskId, last.seq, row, before);
  });
  return { to: after + events.length, tasks };
}
