import { FencedError } from '../db/active-process.ts';
import type { Database } from '../db/connection.ts';
import { appendInPieces, bytesInStatement, partsOf, readPacketLimit, type TextValue } from '../db/packet-limit.ts';
import { inTransaction } from '../db/transaction.ts';
import type { ModelChange } from './read-model.ts';
import { firstVersionWithTransitions, writeTransitions } from './transitions.ts';

/** The values of `task_events.kind`. */
export const eventKinds = { upserted: 1, removed: 2 } as const;

/** A row of `task_events`: a task changed. Its present state is in the read model. */
interface TaskEvent {
  /** One more than that of the event before, in commit order. A gap means that events are lost. */
  readonly seq: number;
  readonly kind: (typeof eventKinds)[keyof typeof eventKinds];
  readonly taskId: Buffer;
  /** The task's owner and organization now. Absent when it is removed. */
  readonly ownerId: Buffer | undefined;
  readonly organizationId: Buffer | undefined;
  /** Its owner and organization before the change. Absent when it is new. */
  readonly oldOwnerId: Buffer | undefined;
  readonly oldOrganizationId: Buffer | undefined;
  /** If the workspace's ACL changed, the subjects who could read the task before: 17 bytes each, kind and id. */
  readonly oldReaders: Buffer | undefined;
}

/** Events that were committed together. */
export interface EventBatch {
  /** Identifies the feed. A feed of another generation does not continue this one. */
  readonly generation: string;
  readonly events: readonly TaskEvent[];
}

/** The row of `projector_state`, while its lock is held. */
interface ProjectorState {
  readonly epoch: number;
  readonly seq: number;
  readonly floor_seq: number;
  readonly generation: string;
  /** The newest migration that the projector of `version_epoch` knew. */
  readonly version: string | null;
  readonly version_epoch: number;
}

/**
 * Starts a new epoch: from now on every projector with a lower one is fenced off.
 *
 * `sameVersion` says whether the projector of the epoch before was of the same version. One of another version may have projected
 * other rows from what it took from the outbox: then write every workspace to the outbox, and {@link recordVersion}.
 *
 * The history of `task_transitions` begins here if the projector of the epoch before did not write it.
 */
export function takeOver(
  database: Database,
  version: string,
): Promise<{ readonly epoch: number; readonly sameVersion: boolean }> {
  return inTransaction(database, async (transaction) => {
    const state = await lockState(transaction);
    const epoch = state.epoch + 1;
    const before = state.version_epoch === state.epoch ? state.version : null;
    const sameVersion = before === version;
    const wroteTransitions = before !== null && before >= firstVersionWithTransitions;
    await transaction.raw(
      'update `projector_state` set `epoch` = ?, `version_epoch` = ?, ' +
        '`transitions_since` = coalesce(if(?, `transitions_since`, null), utc_timestamp(6)) where `id` = 1',
      [epoch, sameVersion ? epoch : state.version_epoch, wroteTransitions],
    );
    return { epoch, sameVersion };
  });
}

/** Records that the read model is of a version, or will be once the outbox is empty; unless another projector has taken over. */
export async function recordVersion(database: Database, epoch: number, version: string): Promise<void> {
  await database.raw('update `projector_state` set `version` = ?, `version_epoch` = ? where `id` = 1 and `epoch` = ?', [
    version,
    epoch,
    epoch,
  ]);
}

/**
 * Runs one transaction that may write the read model, and appends its changes to the feed.
 *
 * It begins by locking the row of `projector_state` and ends by writing to it. So there is one writer at a time, the sequence has
 * no gaps and follows the order of the commits, and a projector that was paused meanwhile is fenced off by the epoch, without any
 * clock. (In Galera, where row locks are local to a node, that write makes the second commit fail.)
 *
 * `work` returns its changes, or undefined when it wrote nothing. Without an epoch the transaction may run beside the active
 * projector: the row lock serializes the two.
 *
 * @throws {FencedError} when the epoch is not the present one.
 */
export function writeReadModel(
  database: Database,
  epoch: number | undefined,
  work: (transaction: Database) => Promise<readonly ModelChange[] | undefined>,
): Promise<EventBatch> {
  return inTransaction(database, async (transaction) => {
    const state = await lockState(transaction);
    if (epoch !== undefined && epoch !== state.epoch) throw new FencedError('another projector has taken over');
    const changes = await work(transaction);
    if (changes === undefined) return { generation: state.generation, events: [] };
    const events = changes.map((change, index) => eventOf(change, state.seq + 1 + index));
    await appendEvents(transaction, events);
    await writeTransitions(transaction, changes, state.seq + 1);
    await transaction.raw('update `projector_state` set `seq` = ?, `projected_at` = utc_timestamp(6) where `id` = 1', [
      state.seq + events.length,
    ]);
    return { generation: state.generation, events };
  });
}

/** Starts a new generation of the feed at this point, so that no watcher continues the old one. */
export function startGeneration(database: Database): Promise<void> {
  return inTransaction(database, async (transaction) => {
    const { seq } = await lockState(transaction);
    await transaction.raw('update `projector_state` set `generation` = ?, `floor_seq` = ? where `id` = 1', [
      crypto.randomUUID(),
      seq,
    ]);
  });
}

/** How much of the feed is kept: events up to this age, and up to this number. */
export interface FeedRetention {
  readonly seconds: number;
  readonly events: number;
}

/** Events that are deleted in one transaction, which locks the row of `projector_state`. */
const prunedAtOnce = 1000;

/**
 * Deletes the oldest thousand events if all of them are beyond the retention, and records the last one deleted. Returns whether
 * it did; then there may be more.
 */
export function pruneFeed(database: Database, epoch: number, retention: FeedRetention): Promise<boolean> {
  return inTransaction(database, async (transaction) => {
    const { epoch: present, seq, floor_seq } = await lockState(transaction);
    if (epoch !== present) throw new FencedError('another projector has taken over');
    // Events of older generations are below the floor.
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

function eventOf({ id, old, now, oldReaders }: ModelChange, seq: number): TaskEvent {
  return {
    seq,
    kind: now === undefined ? eventKinds.removed : eventKinds.upserted,
    taskId: id,
    ownerId: now?.owner_id,
    organizationId: now?.organization_id,
    oldOwnerId: old?.owner_id,
    oldOrganizationId: old?.organization_id,
    oldReaders,
  };
}

async function appendEvents(transaction: Database, events: readonly TaskEvent[]): Promise<void> {
  if (events.length === 0) return;
  const limit = await readPacketLimit(transaction);
  const bytesOf = (event: TaskEvent) => bytesInStatement(valuesOf(event));
  const large = new Set(events.filter((event) => bytesOf(event) > limit.valueBytes));
  // The readers of a large one are appended.
  const inserted = events.map((event) => (large.has(event) ? { ...event, oldReaders: Buffer.alloc(0) } : event));
  for (const part of partsOf(inserted, bytesOf, limit)) {
    await transaction.raw(
      'insert into `task_events` (`seq`, `task_id`, `kind`, `owner_id`, `organization_id`, `old_owner_id`, `old_organization_id`, ' +
        '`old_readers`) values ?',
      [part.map(valuesOf) as never],
    );
  }
  for (const { seq, oldReaders } of large) {
    const update = 'update `task_events` set `old_readers` = concat(`old_readers`, ?) where `seq` = ?';
    await appendInPieces(transaction, update, oldReaders ?? '', [seq], limit);
  }
}

function valuesOf(event: TaskEvent): TextValue[] {
  return [
    event.seq,
    event.taskId,
    event.kind,
    event.ownerId ?? null,
    event.organizationId ?? null,
    event.oldOwnerId ?? null,
    event.oldOrganizationId ?? null,
    event.oldReaders ?? null,
  ];
}
