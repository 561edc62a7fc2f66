import { setTimeout as sleep } from 'node:timers/promises';
import type { DatabaseAddress } from '../config.ts';
import { ActiveLease, FencedError, type LeaseTiming } from '../db/active-process.ts';
import { closeDatabase, type Database, openDatabase } from '../db/connection.ts';
import { Membership, NotMemberError } from '../db/membership.ts';
import { readPacketLimit } from '../db/packet-limit.ts';
import type { Logger } from '../platform/log.ts';
import { type RestLimits, restAfterQuiet } from '../platform/rest-after-quiet.ts';
import { newestMigration } from '../schema/migrations.ts';
import {
  type Backlog,
  deleteFromOutbox,
  type OutboxChange,
  outboxBatchSize,
  outboxLagMs,
  readBacklog,
  readOutbox,
  tasksOf,
} from '../schema/outbox.ts';
import { followTaskSource } from '../schema/task-source.ts';
import { createDeadLetterChange } from './dead-letter-change.ts';
import { countDeadLetters, errorForLog, processOrDeadLetter, removeDeadLetters } from './dead-letters.ts';
import { FailedBatches } from './failed-batches.ts';
import { failureKind } from './failure-kind.ts';
import { type EventBatch, type FeedRetention, pruneFeed, takeOver, writeReadModel } from './feed.ts';
import { noteAllTasks } from './note-all-tasks.ts';
import type { ProjectedBatch, ProjectorStatus } from './projector-status.ts';
import { type AheadReader, openAheadReader, serverOf } from './read-ahead.ts';
import { projectTasks } from './read-model.ts';
import { Sweep } from './sweep.ts';
import { pruneTransitions } from './transitions.ts';

/** What a projector needs, and its callbacks. */
export interface ProjectorOptions {
  readonly address: DatabaseAddress;
  readonly log: Logger;
  /** Called after each commit that changed tasks, with the events in the order of the feed. It must not block. */
  readonly onEvents?: (batch: EventBatch) => void;
  /** Called after each batch, for measurements. */
  readonly onBatch?: (batch: ProjectedBatch) => void;
  /** How much of the feed is kept, an hour and a million events by default. */
  readonly retention?: FeedRetention;
  /**
   * The shortest time of a sweep through all workspaces, in milliseconds: by default a minute; Infinity disables it. With 0 it does
   * not even pause between two slices.
   */
  readonly sweepPassMs?: number;
  /** The time limit of a statement, in milliseconds: by default five seconds. */
  readonly statementTimeoutMs?: number;
  /** How its lease is kept, by default as every other process keeps it. */
  readonly lease?: Partial<LeaseTiming>;
}

/** Keeps the read model and the feed in step with the source tables. */
export interface Projector {
  start(): void;
  /** Makes it look into the outbox now: something was written there, perhaps after a quiet time. */
  wake(): void;
  /** Stops after the current batch; resolves when its connection is closed. */
  stop(): Promise<void>;
  status(): ProjectorStatus;
}

/** How long to wait after an empty outbox, by how long it has been empty, and after a batch that was not full, in milliseconds. */
const pollIdle: RestLimits = { least: 20, most: 500 };
const pollBusyMs = 5;

/** Time limit of a statement, in milliseconds; the largest takes some 50. For a row that takes longer all others wait as long. */
const defaultStatementTimeoutMs = 5000;

/**
 * How long to wait before connecting again, from the first failure to the tenth, and while it is looked for a change that makes
 * batches fail, in milliseconds.
 */
const retryMs = { first: 100, most: 1000, lookingForChange: 200 };

/** After this time without a failure, in milliseconds, the next one counts as the first. */
const steadyMs = 5000;

/** How long a projector waits after it was fenced off, or has let others try, in milliseconds. */
const fencedMs = 2000;

/** A projector for which nothing has worked for so long, in milliseconds, lets others try. */
const yieldAfterMs = 10_000;

/**
 * How long it waits at most before it tries again after a transaction was refused, at random: after the first, after many, and where
 * other changes may be projected meanwhile, in milliseconds.
 */
const conflictRestMs = { first: 50, most: 1000, besideOthers: 400 };

/** How long a connection may take to close, and the current batch to end when the projector is stopped, in milliseconds. */
const closeMs = 1000;
const stopMs = 2000;

/**
 * Session variables of the projector's connection. A process that is paused in a transaction holds the lock on the state: the
 * server closes its connection after five idle seconds. A lock of another session is waited for two seconds at most.
 */
const session = { wait_timeout: 5, innodb_lock_wait_timeout: 2, lock_wait_timeout: 5 };

/** How often the feed and the transitions are pruned, by ten thousand rows each at most, by how long the outbox has been empty, in milliseconds. */
const pruneEvery: RestLimits = { least: 1000, most: 10_000 };
const prunesAtOnce = 10;

/** How often the rows of the outbox, and dead letters, are counted, by how long the outbox has been empty, in milliseconds. */
const countEvery: RestLimits = { least: 1000, most: 10_000 };

/** When the outbox was last read longer ago than this, in milliseconds, it may not be empty. A standby reads it each second. */
const unseenMs = 2000;

/** Housekeeping waits while the lag is greater than this, in milliseconds. */
const lagForHousekeepingMs = 1000;

const defaultRetention: FeedRetention = { seconds: 3600, events: 1_000_000 };

/**
 * Makes a projector. Any number of processes may run one: one of them is active, the others stand by and take over at once when
 * it ends, and within five seconds when it is killed or paused.
 *
 * An {@link ActiveLease} decides which one is active. The epoch in `projector_state` keeps a process that wrongly believes itself
 * active from writing, see `writeReadModel`.
 *
 * A batch is one transaction: lock the state, read the outbox, find the workspaces, compare, write the differences and their
 * events, delete the rows taken from the outbox, store the sequence. A workspace that makes it fail becomes a dead letter in
 * `workspace_changes_failed`, and the others are projected: at once when its data are refused; after some tries when it ends the
 * connection, since that has other causes, too.
 */
export function createProjector(options: ProjectorOptions): Projector {
  const { address, log, onEvents, onBatch, retention = defaultRetention, sweepPassMs = 60_000 } = options;
  const { statementTimeoutMs = defaultStatementTimeoutMs } = options;
  const counters = {
    polls: 0,
    pollSeconds: 0,
    batches: 0,
    batchSeconds: 0,
    changes: 0,
    events: 0,
    swept: 0,
    repairs: 0,
    deadLetters: 0,
  };
  const stopping = new AbortController();
  /** Ends the rest after an empty outbox. */
  let woken = new AbortController();
  let running: Promise<void> | undefined;
  let database: Database | undefined;
  let reader: AheadReader | undefined;
  let active = false;
  let lag: { readonly milliseconds: number; readonly seenAt: number } | undefined;
  let backlog: Backlog | undefined;
  let countedAt = 0;
  /** When the outbox was last seen with a row in it. */
  let changedAt = performance.now();
  const lease = new ActiveLease(address, 'project', options.lease);
  const membership = new Membership(log);
  const failed = new FailedBatches();
  const sweep = new Sweep({ log, passMs: sweepPassMs, counters, tell });
  /** Failures since it last worked for a while; only the first is logged as a warning. */
  let failures = 0;
  /** Since when nothing has worked while this process was the active one. */
  let failingSince: number | undefined;

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
          rest = failed.isEmpty ? Math.min(retryMs.first * failures, retryMs.most) : retryMs.lookingForChange;
          log[failures === 1 ? 'warn' : 'debug'](errorForLog(error), 'the projector failed and tries again');
          if (error instanceof NotMemberError) await lease.abandon();
          failingSince ??= performance.now();
          if (performance.now() - failingSince > yieldAfterMs) {
            failingSince = undefined;
            await lease.release();
            rest = fencedMs;
          }
        }
      }
      active = false;
      await Promise.all([closeDatabase(database, closeMs), reader?.close(closeMs)]);
      reader = undefined;
      await pause(rest);
    }
    await lease.release();
  }

  /** Stands by until this process becomes active, then projects until it is stopped or something fails. */
  async function project(database: Database): Promise<void> {
    const began = performance.now();
    for (;;) {
      if (stopping.signal.aborted) return;
      forgetFailures(began);
      await measureLag(database);
      await membership.require(database);
      if (await lease.take(database, stopping.signal)) break;
      failingSince = undefined;
    }
    await readPacketLimit(database); // fails by itself where it is too low for any row
    const { epoch, sameVersion } = await takeOver(database, await newestMigration());
    if (!sameVersion) await noteAllTasks(database, epoch);
    counters.deadLetters = await countDeadLetters(database);
    reader = openAheadReader(address, await serverOf(database), statementTimeoutMs);
    active = true;
    log[failures === 0 ? 'info' : 'debug']({ epoch }, 'the projector is active');
    const keepHouse = housekeeping(database, epoch);
    let conflicts = 0;
    while (!stopping.signal.aborted) {
      lease.requireHeld();
      forgetFailures(began);
      woken = new AbortController(); // before it looks: what is written from now on may be seen or not
      try {
        await membership.require(database);
        const taken = await projectAndKeepHouse(database, epoch, keepHouse);
        conflicts = 0;
        failingSince = undefined;
        if (taken === outboxBatchSize) continue;
        if (taken > 0) await pause(pollBusyMs);
        else await pause(restAfterQuiet(performance.now() - changedAt, pollIdle), woken.signal);
      } catch (error) {
        // The next transaction sees by the epoch whether it was another projector's.
        const kind = failureKind(error);
        if (kind !== 'conflict' && kind !== 'transient') throw error;
        failingSince ??= performance.now();
        if (performance.now() - failingSince > yieldAfterMs) throw error;
        conflicts += 1;
        log.debug(errorForLog(error), 'a transaction was refused, and is tried again');
        const mostMs = failed.isEmpty ? conflictRestMs.most : conflictRestMs.besideOthers;
        await pause(Math.random() * Math.min(conflictRestMs.first * 2 ** conflicts, mostMs));
      }
    }
  }

  /** Projects the next batch, and keeps house unless there is more to do; returns how many rows the outbox had. */
  async function projectAndKeepHouse(database: Database, epoch: number, keepHouse: () => Promise<void>): Promise<number> {
    const waits = await measureLag(database);
    const taken = waits === undefined ? 0 : await projectNext(database, epoch);
    if (taken < outboxBatchSize && (waits ?? 0) < lagForHousekeepingMs) await keepHouse();
    return taken;
  }

  /** Lets the next failure count as a new one, once this connection has worked for a while. */
  function forgetFailures(began: number): void {
    if (failures === 0 || performance.now() - began < steadyMs) return;
    failures = 0;
    log.info('the projector works again');
  }

  async function measureLag(database: Database): Promise<number | undefined> {
    const started = performance.now();
    const waits = await outboxLagMs(database);
    lag = { milliseconds: waits ?? 0, seenAt: performance.now() };
    counters.polls += 1;
    counters.pollSeconds += (lag.seenAt - started) / 1000;
    if (waits !== undefined) changedAt = lag.seenAt;
    const countRestMs = restAfterQuiet(lag.seenAt - changedAt, countEvery);
    if (backlog === undefined || lag.seenAt - countedAt >= countRestMs) {
      backlog = await readBacklog(database);
      counters.deadLetters = backlog.deadLetters; // a rebuild adds some, too
      countedAt = lag.seenAt;
    }
    return waits;
  }

  /** Projects the next batch, and returns how many rows the outbox had for it. */
  async function projectNext(database: Database, epoch: number): Promise<number> {
    // No lock is needed yet: as long as the epoch is ours, nobody else deletes rows.
    const changes = await readOutbox(database);
    // Behind the changes, of which one may say that the deployment has tasks of its own now.
    if (changes.length > 0 && (await followTaskSource(database, epoch))) {
      log.info('the tasks of this deployment are others now, and projected anew');
      await noteAllTasks(database, epoch);
    }
    const deadLetterChange = createDeadLetterChange({ database, epoch, log, counters });
    const done = new Set<OutboxChange>();
    for (const { change, error, wasRead } of failed.takeFound(changes)) {
      for (const one of await deadLetterChange(change, error, changes.filter(wasRead))) done.add(one);
    }
    await processOrDeadLetter(
      failed.next(changes.filter((change) => !done.has(change))),
      (some) => {
        const left = some.filter((change) => !done.has(change));
        return left.length === 0 ? Promise.resolve() : projectChanges(database, epoch, left);
      },
      async (change, error) => {
        for (const one of await deadLetterChange(change, error, changes)) done.add(one);
      },
    );
    return changes.length;
  }

  async function projectChanges(database: Database, epoch: number, changes: readonly OutboxChange[]): Promise<void> {
    const startedAt = performance.now();
    let begun = false;
    let written: EventBatch;
    try {
      written = await writeReadModel(database, epoch, async (transaction) => {
        begun = true;
        const ids = await tasksOf(transaction, changes);
        const done = await projectTasks(transaction, ids, reader?.read);
        if (counters.deadLetters > 0) await removeDeadLetters(transaction, ids);
        await deleteFromOutbox(transaction, changes);
        return done;
      });
    } catch (error) {
      const kind = failureKind(error);
      // Before it has begun, no change can be the cause.
      if (!begun || kind === 'row' || kind === 'server' || kind === 'conflict') throw error;
      failed.add(changes, error, kind);
      if (kind !== 'slow') throw error;
      log.warn({ ...errorForLog(error), changes: changes.length }, 'changes took too long and are tried in smaller parts');
      return;
    }
    failed.succeeded();
    if (counters.deadLetters > 0) counters.deadLetters = await countDeadLetters(database);
    const seconds = (performance.now() - startedAt) / 1000;
    counters.batches += 1;
    counters.batchSeconds += seconds;
    counters.changes += changes.length;
    tell(written);
    onBatch?.({ changes: changes.length, events: written.events.length, seconds });
  }

  /** Returns what runs between batches: now and then a slice of the sweep, and the pruning of the feed and the transitions. */
  function housekeeping(database: Database, epoch: number): () => Promise<void> {
    let pruneAt = performance.now();
    return async () => {
      const now = performance.now();
      if (now >= pruneAt) {
        for (let i = 0; i < prunesAtOnce && (await pruneFeed(database, epoch, retention)); i++);
        for (let i = 0; i < prunesAtOnce && (await pruneTransitions(database)); i++);
        pruneAt = now + restAfterQuiet(now - changedAt, pruneEvery);
      } else if (sweep.isDue) await sweep.run(database, epoch);
    };
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

  async function pause(milliseconds: number, signal = stopping.signal): Promise<void> {
    await sleep(milliseconds, undefined, { signal }).catch(() => {});
  }

  return {
    start() {
      running ??= run();
    },
    wake() {
      woken.abort();
    },
    async stop() {
      stopping.abort();
      woken.abort();
      const late = setTimeout(() => database !== undefined && void closeDatabase(database, 0), stopMs);
      await running;
      clearTimeout(late);
    },
    status() {
      const elapsed = lag === undefined ? 0 : performance.now() - lag.seenAt;
      // The outbox has not been read for a while: anything written since is not projected.
      const waits = lag !== undefined && (lag.milliseconds > 0 || elapsed > unseenMs);
      return { active, lagMs: lag === undefined ? undefined : waits ? lag.milliseconds + elapsed : 0, backlog, ...counters };
    },
  };
}
