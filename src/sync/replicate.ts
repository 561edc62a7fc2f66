import { setTimeout as sleep } from 'node:timers/promises';
import { withTimeLimit } from '../platform/time-limit.ts';
import { type Applied, applyChanges } from './apply-changes.ts';
import { type CoderDatabase, connectionOptions, failureText } from './coder-database.ts';
import { copyTables } from './copy.ts';
import { parseLsn } from './lsn.ts';
import { type PublishedTables, publishedTables, type ReplicationNames } from './publication.ts';
import type { ServerIdentity } from './replication.ts';
import { checkReplication, missingSlot, type ReplicationStanding, type SlotStatus } from './replication-standing.ts';
import { readSourceShape, type SourceShape, shapeDigest } from './source-version.ts';
import type { KeepCopy, SyncContext } from './sync.ts';
import { CopyOutdatedError, SyncError } from './sync-error.ts';
import { readSyncState, type SyncState, type SyncStateChanges, writeCopy } from './sync-state.ts';
import { readWriteOptions } from './target-tables.ts';
import { readTableMarks, UnreplicatedTables } from './unreplicated-tables.ts';

/** What was found at the source. */
type Standing = ReplicationStanding & ServerIdentity & Pick<SyncState, 'shape'>;

/** Why what is there cannot be followed on, and a new copy is needed; undefined when it can. */
export function whyCopyAgain(state: SyncState, standing: Standing, names: ReplicationNames): string | undefined {
  const { slot } = standing;
  if (state.phase === 'none') return 'nothing has been copied yet';
  if (state.phase === 'copying') return `the last copy is not complete${state.error === null ? '' : `: ${state.error}`}`;
  if (state.mode !== 'replication' || state.slot !== names.slot) return `what is there was copied without the slot ${names.slot}`;
  if (state.source !== standing.source) return "Coder's database is another one";
  if (state.timeline !== standing.timeline) {
    return `PostgreSQL has gone on in timeline ${standing.timeline}, after a failover or from a backup`;
  }
  if (slot === undefined) throw missingSlot(names);
  if (slot.confirmed === undefined) {
    return `the slot ${names.slot} was lost: more was written than max_slot_wal_keep_size, ${slot.keepSize}, let it keep`;
  }
  if (slot.confirmed > state.position) return `the slot ${names.slot} has gone on without us, or is a new one`;
  if (state.publications !== standing.publications) return `the publications of ${names.slot} were changed`;
  if (state.shape !== standing.shape) return 'other columns are copied than before';
  return undefined;
}

/** How long a copy waits for transactions that are committing, in milliseconds. */
const mostCommitMs = 30_000;

/**
 * Requires a slot that can begin anew. One that a failover has left behind is made again; one that was never made is the operator's
 * to make.
 *
 * @throws {SyncError} when the slot does not exist, or is in use.
 */
function requireSlot(names: ReplicationNames, standing: Standing, state: SyncState): void {
  const { slot } = standing;
  const isLeftBehind = state.slot === names.slot && state.source === standing.source && state.timeline !== standing.timeline;
  if (slot === undefined && !isLeftBehind) throw missingSlot(names);
  if (slot?.activePid !== undefined) throw slotInUse(names, slot.activePid);
}

/**
 * Lets the slot begin at the present, before a copy: what was written before is in the copy. A slot that is lost is made anew, and
 * so is one that a failover has left behind: nobody else could use it.
 *
 * @returns what the state has to have when the copy is complete.
 */
async function beginSlotAnew(
  coder: CoderDatabase,
  names: ReplicationNames,
  standing: Standing,
  shape: SourceShape,
): Promise<SyncStateChanges> {
  const { slot } = standing;
  if (slot !== undefined && slot.confirmed === undefined) await coder.rows('select pg_drop_replication_slot($1)', [names.slot]);
  const [[start] = []] =
    slot?.confirmed === undefined
      ? await coder.waitingRows("select lsn from pg_create_logical_replication_slot($1, 'pgoutput')", [names.slot])
      : await coder.waitingRows('select end_lsn from pg_replication_slot_advance($1, pg_current_wal_lsn())', [names.slot]);
  await waitForCommits(coder);
  const { marks } = await readTableMarks(coder, shape.plans);
  return {
    mode: 'replication',
    source: standing.source,
    timeline: standing.timeline,
    publications: standing.publications,
    shape: standing.shape,
    slot: names.slot,
    position: parseLsn(start ?? ''),
    unreplicated: JSON.stringify(marks),
  };
}

/**
 * Waits until all transactions that run now have ended. One whose commit is in the log already may not be seen by others yet, above
 * all where it waits for a synchronous standby: the slot would not tell it, and a copy would not have it.
 *
 *   select l.transactionid from pg_locks as l where l.locktype = 'transactionid' and l.mode = 'ExclusiveLock' and l.granted
 */
async function waitForCommits(coder: CoderDatabase): Promise<void> {
  const running =
    "select l.transactionid from pg_locks as l where l.locktype = 'transactionid' and l.mode = 'ExclusiveLock' and l.granted";
  const ids = (await coder.rows(running)).map(([id]) => id);
  const deadline = performance.now() + mostCommitMs;
  let pauseMs = 10;
  while (performance.now() < deadline) {
    const left = await coder.rows(`${running} and l.transactionid::text = any($1)`, [ids]);
    if (left.length === 0) return;
    await new Promise((resolve) => setTimeout(resolve, pauseMs));
    pauseMs = Math.min(2 * pauseMs, 500);
  }
}

/** How a replication is used, and who is told of it. */
export interface ReplicationSettings {
  readonly names: ReplicationNames;
  onApplied?(applied: Applied): void;
  /** Is told how the slot is doing, when it was looked at. */
  onSlot?(slot: SlotStatus | undefined): void;
  /** How often publications, slot and columns are looked at while the log goes on, in milliseconds: 15 seconds by default. */
  readonly checkEveryMs?: number;
  /** After this time without a word of PostgreSQL, in milliseconds, the connection counts as lost: 45 seconds by default. */
  readonly silenceMs?: number;
}

/**
 * Keeps a copy by logical replication: copies Coder's tables if need be, and then applies their changes as they are committed.
 *
 * It fails with a `SyncError` when somebody has to do something, and with other errors when PostgreSQL or the database is away or
 * something has changed there: then it is tried again.
 */
export function keepByReplication(settings: ReplicationSettings): KeepCopy {
  return async (context, state) => {
    const { coder, database, shape, scope, signal } = context;
    const { names } = settings;
    const standing = {
      ...(await checkReplication(coder, names, tablesOf(shape))),
      ...(await identify(context.url)),
      shape: shapeDigest(shape),
    };
    settings.onSlot?.(standing.slot);
    const why = whyCopyAgain(state, standing, names);
    const { epoch } = state;
    if (why === undefined) {
      if (state.coderVersion !== shape.version) await writeCopy(database, epoch, async () => ({ coderVersion: shape.version }));
      return follow(context, settings, state);
    }
    requireSlot(names, standing, state);
    context.onCopy(why);
    const end = await beginSlotAnew(coder, names, standing, shape);
    await writeCopy(database, epoch, async () => ({ phase: 'copying', error: null }));
    const { onProgress } = context;
    context.onCopied(
      await copyTables({
        coder,
        database,
        epoch,
        shape,
        scope,
        end: { ...end, coderVersion: shape.version },
        onProgress,
        signal,
      }),
    );
    return follow(context, settings, await readSyncState(database));
  };
}

async function identify(url: string): Promise<ServerIdentity> {
  const { identifyServer } = await import('./replication.ts'); // a service without a Coder never loads its library
  try {
    return await identifyServer(connectionOptions(url, 'replication'));
  } catch (error) {
    throw new SyncError(`Coder's PostgreSQL does not let the role replicate, see sync grants: ${failureText(error)}`, {
      cause: error,
    });
  }
}

function tablesOf({ plans }: SourceShape): PublishedTables {
  return publishedTables(plans.map(({ table }) => table));
}

const defaultCheckEveryMs = 15_000;

/** How long an answer may take then, in milliseconds. */
const answerMs = 30_000;

/**
 * How long changes that are being applied have to end, in milliseconds, when the replication has ended: they may wait for
 * nothing.
 */
const endMs = 5000;

/** Applies Coder's changes from the position of the state on, until the signal is given. */
async function follow(context: SyncContext, settings: ReplicationSettings, state: SyncState): Promise<void> {
  const { names, onApplied, onSlot, checkEveryMs = defaultCheckEveryMs, silenceMs } = settings;
  const { coder, database, shape, signal } = context;
  const write = await readWriteOptions(database, context.scope.withoutTriggers);
  const { openReplication } = await import('./replication.ts');
  const [[present] = []] = await coder.rows('select pg_current_wal_insert_lsn()');
  const replication = await openReplication({
    connection: connectionOptions(context.url, 'replication'),
    slot: names.slot,
    publications: [names.publication, names.inserts],
    from: state.position,
    silenceMs,
  });
  const close = (): void => void replication.close();
  signal.addEventListener('abort', close);
  try {
    signal.throwIfAborted();
    context.onFollowing();
    const tables = new UnreplicatedTables({
      coder,
      database,
      epoch: state.epoch,
      plans: shape.plans,
      write,
      marks: state.unreplicated,
    });
    let checkAt = performance.now() + checkEveryMs;
    const applying = applyChanges({
      database,
      state,
      replication,
      plans: shape.plans,
      ignoredColumns: context.scope.ignoredColumns ?? [],
      write,
      copiedBefore: parseLsn(present ?? ''),
      onApplied(applied) {
        context.onApplied(applied.changes);
        onApplied?.(applied);
      },
      async between(position) {
        if (performance.now() >= checkAt) {
          const standing = await withTimeLimit(answerMs, checkReplication(coder, names, tablesOf(shape)));
          onSlot?.(standing.slot);
          if (standing.publications !== state.publications) throw new SyncError(`the publications of ${names.slot} were changed`);
          await requireSameShape(context);
          checkAt = performance.now() + checkEveryMs;
        }
        return tables.look(position);
      },
    });
    // It learns of the end by what it reads next, but for what it waits for on another connection.
    await Promise.race([applying, replication.ended.then((error) => failAfter(endMs, error))]);
  } catch (error) {
    if (signal.aborted) return;
    // The next attempt makes the copy anew; what is there stays until then.
    if (error instanceof CopyOutdatedError) {
      await writeCopy(database, state.epoch, () => Promise.resolve({ phase: 'copying' as const, error: error.message }));
    }
    throw error;
  } finally {
    signal.removeEventListener('abort', close);
    await replication.close();
  }
}

/**
 * Requires the columns that Coder had when it was connected to. A migration that changes no row of a table is told by no message;
 * one that does is met by the changes themselves.
 */
async function requireSameShape({ coder, shape, scope }: SyncContext): Promise<void> {
  const present = await withTimeLimit(answerMs, readSourceShape(coder, scope));
  if (present.version !== shape.version || shapeDigest(present) !== shapeDigest(shape)) throw new Error('Coder was upgraded');
}

async function failAfter(milliseconds: number, error: unknown): Promise<never> {
  await sleep(milliseconds, undefined, { ref: false });
  throw error;
}

function slotInUse({ slot }: ReplicationNames, pid: string): SyncError {
  return new SyncError(
    `the slot ${slot} is read already, by process ${pid} of PostgreSQL: a second installation needs a slot of its own, see CODER_SLOT`,
  );
}
