import { FencedError } from '../db/active-process.ts';
import type { Database } from '../db/connection.ts';
import { inTransaction } from '../db/transaction.ts';

/** How far a copy is: `copying` from its beginning until it is complete, also a new one, while the rows of the last are served. */
export type SyncPhase = 'none' | 'copying' | 'live';

/** The row of `sync_state`. */
export interface SyncState {
  readonly epoch: number;
  readonly phase: SyncPhase;
  /** How changes come after the copy. */
  readonly mode: '' | 'once' | 'replication' | 'polling';
  /** Which database is copied: its system identifier and name. */
  readonly source: string;
  readonly coderVersion: string;
  readonly slot: string;
  /** The LSN up to which changes are applied. */
  readonly position: bigint;
  /** The timeline of PostgreSQL's log in which position is: another server after a failover begins another. */
  readonly timeline: number;
  /** A digest of the columns that are copied, see `shapeDigest`. */
  readonly shape: string;
  /** Whether the Coder that was copied has a table of tasks, which then are its tasks. */
  readonly hasTasks: boolean;
  /** Which publications, with which tables, told of the changes. */
  readonly publications: string | null;
  /** Of the tables that are not replicated: what tells, as JSON, that they have not changed since they were compared. */
  readonly unreplicated: string | null;
  /** The snapshot of the last copy, until the stream has passed all that it has. */
  readonly snapshot: string | null;
  /** When the last copy was complete, and when the state was last written, as DATETIME(6). */
  readonly copiedAt: string | null;
  readonly changedAt: string | null;
  /** Why it does not go on. */
  readonly error: string | null;
}

/** What a transaction may write to the state, with what it changed. */
export type SyncStateChanges = Partial<Omit<SyncState, 'epoch' | 'copiedAt' | 'changedAt'>> & {
  /** Sets `copied_at` to the present. */
  readonly copied?: true;
};

const columns: Readonly<Record<keyof Omit<SyncStateChanges, 'copied'>, string>> = {
  phase: 'phase',
  mode: 'mode',
  source: 'source',
  coderVersion: 'coder_version',
  slot: 'slot',
  position: 'position',
  timeline: 'timeline',
  shape: 'shape',
  hasTasks: 'has_tasks',
  publications: 'publications',
  unreplicated: 'unreplicated',
  snapshot: 'snapshot',
  error: 'error',
};

/** Reads the state. */
export function readSyncState(database: Database): Promise<SyncState> {
  return read(database, '');
}

/** What is to be said of the copy, if it is not complete or does not go on; undefined when it is live. */
export function whyNotLive({ phase, copiedAt, error }: SyncState): string | undefined {
  const copied = copiedAt === null ? 'nothing has been copied from Coder yet' : 'what was copied before is served';
  if (error !== null) return `copying from Coder failed: ${error}; ${copied}`;
  return phase === 'live' ? undefined : copied;
}

/** Starts a new epoch: from now on every other process that copies is fenced off. */
export function takeOverSync(database: Database): Promise<SyncState> {
  return inTransaction(database, async (transaction) => {
    const state = await read(transaction, ' for update');
    await transaction.raw('update `sync_state` set `epoch` = ? where `id` = 1', [state.epoch + 1]);
    return { ...state, epoch: state.epoch + 1 };
  });
}

/**
 * Runs one transaction that may write the source tables, and writes what it returns to the state, in the same transaction. It
 * begins by locking the state, so that a process that was paused meanwhile is fenced off by the epoch.
 *
 * @throws {FencedError} when the epoch is not the present one.
 */
export function writeCopy(
  database: Database,
  epoch: number,
  work: (transaction: Database, state: SyncState) => Promise<SyncStateChanges>,
): Promise<void> {
  return inTransaction(database, async (transaction) => {
    const state = await read(transaction, ' for update');
    if (state.epoch !== epoch) throw new FencedError('another process copies from Coder now');
    const { copied, ...changes } = await work(transaction, state);
    const entries = Object.entries(changes).map(
      ([name, value]) => [columns[name as keyof typeof columns], typeof value === 'bigint' ? String(value) : value] as const,
    );
    const sets = [
      ...entries.map(([column]) => `\`${column}\` = ?`),
      ...(copied === true ? ['`copied_at` = utc_timestamp(6)'] : []),
    ];
    await transaction.raw(
      `update \`sync_state\` set ${[...sets, '`changed_at` = utc_timestamp(6)'].join(', ')} where \`id\` = 1`,
      entries.map(([, value]) => value ?? null),
    );
  });
}

/** Writes why it does not go on, or that it does; unless another process has taken over. */
export async function noteFailure(database: Database, epoch: number, error: string | null): Promise<void> {
  await database.raw('update `sync_state` set `error` = ? where `id` = 1 and `epoch` = ?', [error, epoch]);
}

async function read(database: Database, lock: string): Promise<SyncState> {
  const [[row]] = (await database.raw(
    'select `s`.`epoch`, `s`.`phase`, `s`.`mode`, `s`.`source`, `s`.`coder_version`, `s`.`slot`, `s`.`position`, ' +
      '`s`.`timeline`, `s`.`shape`, `s`.`has_tasks`, `s`.`publications`, `s`.`unreplicated`, `s`.`snapshot`, ' +
      `\`s\`.\`copied_at\`, \`s\`.\`changed_at\`, \`s\`.\`error\` from \`sync_state\` as \`s\` where \`s\`.\`id\` = 1${lock}`,
  )) as [SyncStateRow[]];
  if (row === undefined) throw new Error('sync_state has lost its row: insert one with id 1');
  const { coder_version: coderVersion, copied_at: copiedAt, changed_at: changedAt, has_tasks, position, ...rest } = row;
  return { ...rest, position: BigInt(position), coderVersion, copiedAt, changedAt, hasTasks: has_tasks === 1 };
}

interface SyncStateRow extends Omit<SyncState, 'position' | 'coderVersion' | 'copiedAt' | 'changedAt' | 'hasTasks'> {
  readonly position: number | string;
  readonly coder_version: string;
  readonly copied_at: string | null;
  readonly changed_at: string | null;
  readonly has_tasks: number;
}
