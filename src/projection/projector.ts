import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { DatabaseAddress } from '../config.ts';
import { closeDatabase, type Database, openDatabase } from '../db/connection.ts';
import { formatUuid } from '../db/uuid.ts';
import type { Logger } from '../platform/log.ts';
import { newestMigration } from '../schema/migrations.ts';
import { changeKinds } from '../schema/noted-tables.ts';
import {
  type Backlog,
  type Change,
  changesPerBatch,
  deleteChanges,
  noteEveryWorkspace,
  oldestChangeMs,
  readBacklog,
  readChanges,
  workspaceIdsAfter,
  workspacesOf,
  workspacesThatWait,
} from '../schema/outbox.ts';
import { briefly, countParked, parkChange, unparkWorkspaces, workOrPark } from './failed-changes.ts';
import { type EventBatch, type FeedRetention, FencedError, noteVersion, pruneFeed, takeOver, writeReadModel } from './feed.ts';
import { applyDifferences, compareWorkspaces, differingColumns, partsOf, projectWorkspaces } from './read-model.ts';

/** What a projector needs, and whom it tells. */
export interface ProjectorOptions {
  readonly address: DatabaseAddress;
  readonly log: Logger;
  /** Called after each commit that changed tasks, with the events in the order of the feed. It must not block. */
  readonly onEvents?: (batch: EventBatch) => void;
  /** Called after each batch, for measurements. */
  readonly onBatch?: (batch: ProjectedBatch) => void;
  /** How much of the feed is kept, an hour and a million events by default. */
  readonly retention?: FeedRetention;
  /** At least how long the sweep takes to go once through all workspaces, in milliseconds; a minute by default, never if Infinity. */
  readonly sweepPassMs?: number;
}

/** What a batch did. */
export interface ProjectedBatch {
  /** Rows taken from the outbox. */
  readonly changes: number;
  readonly events: number;
  readonly seconds: number;
}

/** How a projector is doing. The counters are this process's, since it started. */
export interface ProjectorStatus {
  /** Whether it is the one that projects; another process may be. */
  readonly active: boolean;
  /** Milliseconds since the oldest change that is not projected yet; 0 when there is none; undefined while the database is away. */
  readonly lagMs: number | undefined;
  /** What waits in the outbox, and how long the feed is, as seen within the last second or so; undefined while the database is away. */
  readonly backlog: Backlog | undefined;
  /** Looks into the outbox, and how long they took in all. */
  readonly polls: number;
  readonly pollSeconds: number;
  readonly batches: number;
  /** How long the batches took in all. */
  readonly batchSeconds: number;
  /** Rows taken from the outbox. */
  readonly changes: number;
  readonly events: number;
  /** Workspaces that the sweep compared with their sources. */
  readonly swept: number;
  /** Tasks that the sweep found wrong and put right. Anything but 0 means that changes went by without a note. */
  readonly repairs: number;
  /** Changes that could not be projected and wait in `workspace_changes_failed`, as the active projector last saw. */
  readonly parked: number;
}

/** Keeps the read model and the feed true to the source tables. */
export interface Projector {
  start(): void;
  /** Ends it after the batch at hand; resolves when it holds no connection any more. */
  stop(): Promise<void>;
  status(): ProjectorStatus;
}

/** How long to wait before looking into an empty outbox again, and after a batch that was not full, in milliseconds. */
const pollIdleMs = 20;
const pollBusyMs = 5;

/** How long a process waits in one statement to become active, in seconds: as long as a stop may have to wait for it. */
const standbySeconds = 1;

/** The server ends a statement of the projector after so many milliseconds; the largest takes some 50. */
const statementTimeoutMs = 10_000;

/** How long to wait before connecting again, from the first failure to the tenth, in milliseconds. */
const retryMs = { first: 100, most: 1000 };

/** How long it must have worked before a failure counts as a new one, in milliseconds. */
const steadyMs = 5000;

/**
 * How long one that was fenced off stays away, in milliseconds: where `get_lock` reaches one node of several, two would otherwise
 * take over from each other all the time.
 */
const fencedMs = 2000;

/** How long a connection may take to close, and the work at hand to end when the projector is stopped, in milliseconds. */
const closeMs = 1000;
const stopMs = 2000;

/**
 * A session of the projector. A process that is paused in a transaction holds the lock of the state: after five seconds of silence
 * the server ends its connection. A lock of others is waited for two seconds at most.
 */
const session = { wait_timeout: 5, innodb_lock_wait_timeout: 2, lock_wait_timeout: 5 };

/** How many workspaces the sweep compares at once, and at least how long it rests after that, in milliseconds. */
const sweepWorkspaces = 50;
const sweepPauseMs = 200;

/** The sweep rests so many times as long as it worked: it takes about three hundredths of a core. */
const sweepRest = 30;

/** How often the feed is pruned, and what is parked is counted, in milliseconds. Each time it deletes at most ten thousand events. */
const pruneEveryMs = 1000;
const prunesAtOnce = 10;

/** How often what waits in the outbox is counted, in milliseconds. */
const countEveryMs = 1000;

/** After so many milliseconds without a look into the outbox, something may wait in it. A standby looks each second. */
const unseenMs = 2000;

/** Housekeeping waits while the lag is greater than this, in milliseconds. */
const lagForHousekeepingMs = 1000;

const defaultRetention: FeedRetention = { seconds: 3600, events: 1_000_000 };

/**
 * Makes a projector. Any number of processes may run one: one of them is active, the others stand by and take over at once when
 * it ends, and within five seconds when it is paused.
 *
 * Who is active is decided by `get_lock`, which the server frees with the connection. That only keeps the others quiet: what
 * keeps a second writer from doing harm is the epoch in `projector_state`, see `writeReadModel`.
 *
 * A batch is one transaction: lock the state, read the outbox, find the workspaces, compare, write the differences and their
 * events, delete the rows taken from the outbox, store the sequence. Whatever happens to the process or the server, it is done
 * as a whole or not at all. What fails because of one workspace is parked in `workspace_changes_failed`, and the rest goes on.
 */
export function createProjector(options: ProjectorOptions): Projector {
  const { address, log, onEvents, onBatch, retention = defaultRetention, sweepPassMs = 60_000 } = options;
  const counters = {
    polls: 0,
    pollSeconds: 0,
    batches: 0,
    batchSeconds: 0,
    changes: 0,
    events: 0,
    swept: 0,
    repairs: 0,
    parked: 0,
  };
  const stopping = new AbortController();
  let running: Promise<void> | undefined;
  let database: Database | undefined;
  let active = false;
  let lag: { readonly milliseconds: number; readonly seenAt: number } | undefined;
  let backlog: Backlog | undefined;
  let countAt = 0;

  /** How often it failed since it last worked for a while; told once. */
  let failures = 0;

  async function run(): Promise<void> {
    while (!stopping.signal.aborted) {
      database = openDatabase(address, { size: 1, statementTimeoutMs, acquireTimeoutMs: 5000, session });
      let rest = 0;
      try {
        await project(database);
      } catch (error) {
        lag = undefined;
        backlog = undefined;
        if (error instanceof FencedError) {
          rest = fencedMs;
          log.info('another projector is active now');
        } else {
          failures += 1;
          rest = Math.min(retryMs.first * failures, retryMs.most);
          log[failures === 1 ? 'warn' : 'debug'](briefly(error), 'the projector failed and tries again');
        }
      }
      active = false;
      await closeDatabase(database, closeMs);
      await pause(rest);
    }
  }

  /** Stands by until it is this process's turn, then projects until it is told to stop, or something fails. */
  async function project(database: Database): Promise<void> {
    const began = performance.now();
    do {
      if (stopping.signal.aborted) return;
      forgetFailures(began);
      await measureLag(database);
    } while (!(await becomeActive(database)));
    const version = await newestMigration();
    const { epoch, goesOn } = await takeOver(database, version);
    if (!goesOn) {
      await noteEveryWorkspace(database);
      await noteVersion(database, epoch, version);
    }
    counters.parked = await countParked(database);
    active = true;
    log[failures === 0 ? 'info' : 'debug']({ epoch }, 'the projector is active');
    const keepHouse = housekeeping(database, epoch);
    while (!stopping.signal.aborted) {
      forgetFailures(began);
      const waits = await measureLag(database);
      const taken = waits === undefined ? 0 : await projectNext(database, epoch);
      if (taken === changesPerBatch) continue;
      if ((waits ?? 0) < lagForHousekeepingMs) await keepHouse();
      await pause(taken > 0 ? pollBusyMs : pollIdleMs);
    }
  }

  /** Lets the next failure count as a new one, once this connection has worked for a while. */
  function forgetFailures(began: number): void {
    if (failures === 0 || performance.now() - began < steadyMs) return;
    failures = 0;
    log.info('the projector works again');
  }

  async function measureLag(database: Database): Promise<number | undefined> {
    const started = performance.now();
    const waits = await oldestChangeMs(database);
    lag = { milliseconds: waits ?? 0, seenAt: performance.now() };
    counters.polls += 1;
    counters.pollSeconds += (lag.seenAt - started) / 1000;
    if (lag.seenAt >= countAt) {
      backlog = await readBacklog(database);
      countAt = lag.seenAt + countEveryMs;
    }
    return waits;
  }

  /** Projects the next batch, and returns how many rows it took from the outbox. */
  async function projectNext(database: Database, epoch: number): Promise<number> {
    // Before the lock, which is as good: as long as the epoch is ours, nobody else takes rows out.
    const changes = await readChanges(database);
    await workOrPark(
      changes,
      (some) => projectChanges(database, epoch, some),
      (change, error) => park(database, epoch, change, error),
    );
    return changes.length;
  }

  async function projectChanges(database: Database, epoch: number, changes: readonly Change[]): Promise<void> {
    const began = performance.now();
    const written = await writeReadModel(database, epoch, async (transaction) => {
      const ids = await workspacesOf(transaction, changes);
      const done = await projectWorkspaces(transaction, ids);
      if (counters.parked > 0) await unparkWorkspaces(transaction, ids);
      await deleteChanges(transaction, changes);
      return done;
    });
    if (counters.parked > 0) counters.parked = await countParked(database);
    const seconds = (performance.now() - began) / 1000;
    counters.batches += 1;
    counters.batchSeconds += seconds;
    counters.changes += changes.length;
    tell(written);
    onBatch?.({ changes: changes.length, events: written.events.length, seconds });
  }

  async function park(database: Database, epoch: number, change: Change, error: unknown): Promise<void> {
    await writeReadModel(database, epoch, async (transaction) => {
      const ids = await workspacesOf(transaction, [change]);
      const parked = ids.length === 0 ? [change] : ids.map((ref) => ({ kind: changeKinds.workspace, ref }));
      for (const one of parked) await parkChange(transaction, one, error);
      await deleteChanges(transaction, [change]);
      return [];
    });
    counters.parked = await countParked(database);
    log.error(
      { ...briefly(error), kind: change.kind, ref: formatUuid(change.ref) },
      'a workspace cannot be projected and is parked',
    );
  }

  /** Returns what is done between batches: from time to time a slice of the sweep, and the pruning of the feed. */
  function housekeeping(database: Database, epoch: number): () => Promise<void> {
    let after: Buffer | undefined = randomBytes(16); // not always the same ones first
    const start = performance.now();
    let sweepAt = sweepPassMs === Number.POSITIVE_INFINITY ? sweepPassMs : start;
    let passAt = start;
    let pruneAt = start;
    return async () => {
      const now = performance.now();
      if (now >= pruneAt) {
        for (let i = 0; i < prunesAtOnce && (await pruneFeed(database, epoch, retention)); i++);
        counters.parked = await countParked(database); // a rebuild parks, too
        pruneAt = now + pruneEveryMs;
      } else if (now >= sweepAt) {
        after = await sweepSlice(database, epoch, after);
        const took = performance.now() - now;
        sweepAt = now + Math.max(sweepPauseMs, sweepRest * took);
        if (after === undefined) {
          sweepAt = Math.max(sweepAt, passAt + sweepPassMs);
          passAt = sweepAt;
        }
      }
    };
  }

  /**
   * Compares some workspaces with their sources and puts right what differs, unless a change in the outbox explains it: the
   * sources are read before the outbox, so a change that the first saw is in the second. Returns the last id, or undefined at
   * the end.
   */
  async function sweepSlice(database: Database, epoch: number, after: Buffer | undefined): Promise<Buffer | undefined> {
    const ids = await workspaceIdsAfter(database, after, sweepWorkspaces);
    const repair = async (some: readonly Buffer[]): Promise<void> => {
      let repaired = 0;
      const written = await writeReadModel(database, epoch, async (transaction) => {
        const differences = await compareWorkspaces(transaction, [...some]);
        if (differences.length === 0) {
          if (counters.parked === 0) return undefined;
          await unparkWorkspaces(transaction, [...some]); // whatever kept them from being projected, they are right
          return [];
        }
        const waiting = await workspacesThatWait(
          transaction,
          differences.map(({ id }) => id),
        );
        const wrong = differences.filter(({ id }) => !waiting.has(id.toString('hex')));
        if (wrong.length === 0) return undefined;
        for (const { id, stored, expected, aclDiffers } of wrong) {
          const columns = [...differingColumns(stored.row, expected.row), ...(aclDiffers ? ['acl'] : [])];
          log.warn({ task: formatUuid(id), columns }, 'the sweep found a task that was not what its sources say');
        }
        repaired = wrong.length;
        const changes = await applyDifferences(transaction, wrong);
        if (counters.parked > 0) await unparkWorkspaces(transaction, [...some]);
        return changes;
      });
      counters.swept += some.length;
      counters.repairs += repaired;
      tell(written);
    };
    for await (const part of partsOf(database, ids)) {
      await workOrPark(part, repair, (ref, error) => parkSwept(database, epoch, ref, error));
    }
    if (counters.parked > 0) counters.parked = await countParked(database);
    return ids.length < sweepWorkspaces ? undefined : ids.at(-1);
  }

  async function parkSwept(database: Database, epoch: number, ref: Buffer, error: unknown): Promise<void> {
    await writeReadModel(database, epoch, async (transaction) => {
      await parkChange(transaction, { kind: changeKinds.workspace, ref }, error);
      return [];
    });
    counters.parked = await countParked(database);
    log.error({ ...briefly(error), ref: formatUuid(ref) }, 'a workspace still cannot be projected and stays parked');
  }

  function tell(written: EventBatch): void {
    if (written.events.length === 0) return;
    counters.events += written.events.length;
    try {
      onEvents?.(written);
    } catch (error) {
      log.error({ err: error }, 'a listener of the feed failed');
    }
  }

  async function pause(milliseconds: number): Promise<void> {
    await sleep(milliseconds, undefined, { signal: stopping.signal }).catch(() => {});
  }

  return {
    start() {
      running ??= run();
    },
    async stop() {
      stopping.abort();
      const late = setTimeout(() => database !== undefined && void closeDatabase(database, 0), stopMs);
      await running;
      clearTimeout(late);
    },
    status() {
      const elapsed = lag === undefined ? 0 : performance.now() - lag.seenAt;
      // Nobody has looked for a while: then whatever came since waits.
      const waits = lag !== undefined && (lag.milliseconds > 0 || elapsed > unseenMs);
      return { active, lagMs: lag === undefined ? undefined : waits ? lag.milliseconds + elapsed : 0, backlog, ...counters };
    },
  };
}

/** Whether this connection is now the active projector's; waits for that, but not long. The lock's name has the 64 characters MySQL allows. */
async function becomeActive(database: Database): Promise<boolean> {
  const [[lock]] = (await database.raw(
    `select get_lock(concat('project-', sha2(database(), 224)), ${standbySeconds}) as \`taken\``,
  )) as [{ taken: number | null }[]];
  if (lock === undefined || lock.taken === null) throw new Error('get_lock failed');
  return lock.taken === 1;
}
