import type { Database } from '../db/connection.ts';
import type { TaskChange } from './read-model.ts';

/** What happened to a task: the value of `task_events.kind`. */
export const eventKinds = { upserted: 1, removed: 2 } as const;

/** One event of the feed: a task changed. What it looks like now is in the read model. */
export interface TaskEvent {
  /** Its place in the feed: one more than the event before, in the order of the commits. A hole means that events are lost. */
  readonly seq: number;
  readonly kind: (typeof eventKinds)[keyof typeof eventKinds];
  readonly taskId: Buffer;
  /** Whose task it is now, and where. Absent when it is removed. */
  readonly ownerId: Buffer | undefined;
  readonly organizationId: Buffer | undefined;
  /** Whose task it was before, and where. Absent when it is new. */
  readonly oldOwnerId: Buffer | undefined;
  readonly oldOrganizationId: Buffer | undefined;
  /** Whether the subjects of the workspace's own ACL changed. */
  readonly aclChanged: boolean;
  /** If they changed, those before: 17 bytes each, kind and id. */
  readonly oldReaders: Buffer | undefined;
}

/** Events that were committed together. */
export interface EventBatch {
  /** Which feed they belong to. Another generation does not go on where the last one ended. */
  readonly generation: string;
  readonly events: readonly TaskEvent[];
}

/** Thrown when another projector has taken over: whoever meets it must write nothing more. */
export class FencedError extends Error {
  override readonly name = 'FencedError';
}

/** The row of `projector_state`, while its lock is held. */
export interface ProjectorState {
  readonly epoch: number;
  readonly seq: number;
  readonly floor_seq: number;
  readonly generation: string;
  /** The newest migration that the projector of `version_epoch` knew. */
  readonly version: string | null;
  readonly version_epoch: number;
}

/**
 * Becomes the one projector: from here on everyone with a lower epoch is fenced off.
 *
 * `goesOn` says whether the one before was of the same version. Another may have made other rows of what it took from the outbox:
 * then note every workspace, and {@link noteVersion}.
 */
export function takeOver(database: Database, version: string): Promise<{ readonly epoch: number; readonly goesOn: boolean }> {
  return database.transaction(async (transaction) => {
    const state = await lockState(transaction);
    const epoch = state.epoch + 1;
    const goesOn = state.version === version && state.version_epoch === state.epoch;
    await transaction.raw('update `projector_state` set `epoch` = ?, `version_epoch` = ? where `id` = 1', [
      epoch,
      goesOn ? epoch : state.version_epoch,
    ]);
    return { epoch, goesOn };
  });
}

/** Remembers that the read model is of a version, or will be, once the outbox is empty; unless another has taken over. */
export async function noteVersion(database: Database, epoch: number, version: string): Promise<void> {
  await database.raw('update `projector_state` set `version` = ?, `version_epoch` = ? where `id` = 1 and `epoch` = ?', [
    version,
    epoch,
    epoch,
  ]);
}

/**
 * Runs one transaction that may write the read model, and appends what it changed to the feed.
 *
 * It begins with the lock of the state's row and ends with a write to it. So there is one writer at a time, the sequence has no
 * holes and is the order of the commits, and who was paused meanwhile is told by the epoch. No clock is asked. (Where row locks
 * do not reach other nodes, as in Galera, it is the write that makes the second commit fail.)
 *
 * `work` returns what it changed, or undefined when it wrote nothing at all. Pass no epoch to write beside the projector: the lock
 * alone keeps the two apart.
 *
 * @throws {FencedError} when the epoch is not the present one.
 */
export function writeReadModel(
  database: Database,
  epoch: number | undefined,
  work: (transaction: Database) => Promise<readonly TaskChange[] | undefined>,
): Promise<EventBatch> {
  return database.transaction(async (transaction) => {
    const state = await lockState(transaction);
    if (epoch !== undefined && epoch !== state.epoch) throw new FencedError('another projector has taken over');
    const changes = await work(transaction);
    if (changes === undefined) return { generation: state.generation, events: [] };
    const events = changes.map((change, index) => eventOf(change, state.seq + 1 + index));
    await appendEvents(transaction, events);
    await transaction.raw('update `projector_state` set `seq` = ?, `projected_at` = utc_timestamp(6) where `id` = 1', [
      state.seq + events.length,
    ]);
    return { generation: state.generation, events };
  });
}

/** Starts a feed of a new generation at this point, so that nobody continues the old one. */
export function startGeneration(database: Database): Promise<void> {
  return database.transaction(async (transaction) => {
    const { seq } = await lockState(transaction);
    await transaction.raw('update `projector_state` set `generation` = ?, `floor_seq` = ? where `id` = 1', [
      crypto.randomUUID(),
      seq,
    ]);
  });
}

/** How much of the feed is kept: what is older than so many seconds goes, and what is more than so many events. */
export interface FeedRetention {
  readonly seconds: number;
  readonly events: number;
}

/** Events that are deleted at once: the state's row is locked meanwhile. */
export const prunedAtOnce = 1000;

/**
 * Deletes the oldest thousand events if all of them are past keeping, and notes up to where the feed is gone. Returns whether it
 * did, and then there may be more.
 */
export function pruneFeed(database: Database, epoch: number, retention: FeedRetention): Promise<boolean> {
  return database.transaction(async (transaction) => {
    const { epoch: present, seq, floor_seq } = await lockState(transaction);
    if (epoch !== present) throw new FencedError('another projector has taken over');
    // What a new generation left behind lies below the floor.
    const [{ affectedRows: leftovers }] = (await transaction.raw(
      'delete from `task_events` where `seq` <= ? order by `seq` limit ?',
      [floor_seq, prunedAtOnce],
    )) as [{ affectedRows: number }];
    if (leftovers > 0) return true;
    const end = floor_seq + prunedAtOnce;
    if (end > seq) return false;
    if (seq - end < retention.events) {
      const [rows] = (await transaction.raw(
        'select 1 from `task_events` as `e` where `e`.`seq` = ? and `e`.`created_at` < utc_timestamp(6) - interval ? second',
        [end, retention.seconds],
      )) as [unknown[]];
      if (rows.length === 0) return false;
    }
    await transaction.raw('delete from `task_events` where `seq` <= ?', [end]);
    await transaction.raw('update `projector_state` set `floor_seq` = ? where `id` = 1', [end]);
    return true;
  });
}

async function lockState(transaction: Database): Promise<ProjectorState> {
  const [[state]] = (await transaction.raw(
    'select `s`.`epoch`, `s`.`seq`, `s`.`floor_seq`, `s`.`generation`, `s`.`version`, `s`.`version_epoch` ' +
      'from `projector_state` as `s` where `s`.`id` = 1 for update',
  )) as [ProjectorState[]];
  if (state === undefined) throw new Error('projector_state has lost its row: insert one with id 1 and a new generation');
  return state;
}

function eventOf({ id, old, now, aclChanged, oldReaders }: TaskChange, seq: number): TaskEvent {
  return {
    seq,
    kind: now === undefined ? eventKinds.removed : eventKinds.upserted,
    taskId: id,
    ownerId: now?.owner_id,
    organizationId: now?.organization_id,
    oldOwnerId: old?.owner_id,
    oldOrganizationId: old?.organization_id,
    aclChanged,
    oldReaders,
  };
}

async function appendEvents(transaction: Database, events: readonly TaskEvent[]): Promise<void> {
  if (events.length === 0) return;
  const rows: readonly unknown[] = events.map((event) => [
    event.seq,
    event.taskId,
    event.kind,
    event.ownerId ?? null,
    event.organizationId ?? null,
    event.oldOwnerId ?? null,
    event.oldOrganizationId ?? null,
    event.aclChanged,
    event.oldReaders ?? null,
  ]);
  await transaction.raw(
    'insert into `task_events` (`seq`, `task_id`, `kind`, `owner_id`, `organization_id`, `old_owner_id`, `old_organization_id`, ' +
      '`acl_changed`, `old_readers`) values ?',
    [rows as never],
  );
}
