import { setTimeout as sleep } from 'node:timers/promises';
import type { DatabaseAddress } from '../config.ts';
import { ActiveLease, FencedError } from '../db/active-process.ts';
import { closeDatabase, type Database, openDatabase } from '../db/connection.ts';
import { Membership } from '../db/membership.ts';
import type { Logger } from '../platform/log.ts';
import { type CoderDatabase, failureText, openCoderDatabase } from './coder-database.ts';
import type { CopyResult } from './copy.ts';
import { type CopyScope, readSourceShape, type SourceShape } from './source-version.ts';
import { SyncError } from './sync-error.ts';
import { noteFailure, readSyncState, type SyncState, takeOverSync } from './sync-state.ts';

/** What keeps a copy: it copies if need be, and then follows the changes until the signal is given. */
export type KeepCopy = (context: SyncContext, state: SyncState) => Promise<void>;

/** What a {@link KeepCopy} works with. */
export interface SyncContext {
  readonly url: string;
  readonly coder: CoderDatabase;
  /** A pool with one connection. */
  readonly database: Database;
  readonly shape: SourceShape;
  readonly scope: CopyScope;
  readonly signal: AbortSignal;
  /** Is told why everything is copied, before it is. */
  onCopy(why: string): void;
  onProgress(rows: number, about: number): void;
  onCopied(result: CopyResult): void;
  /** Is told when changes are being followed. */
  onFollowing(): void;
  /** Is told of changes that were written. */
  onApplied(changes: number): void;
}

/** What a sync needs. */
export interface SyncOptions {
  readonly address: DatabaseAddress;
  /** Coder's database, as `pg` reads it. */
  readonly url: string;
  readonly log: Logger;
  readonly keep: KeepCopy;
  readonly scope?: CopyScope;
  readonly onProgress?: (rows: number, about: number) => void;
  /** Called when a whole copy is complete, before that is logged. */
  readonly onCopied?: () => void;
  /** Called after each transaction that changed the copy, and after a whole copy. It must not block. */
  readonly onWritten?: () => void;
}

/** How a sync of this process is doing. The counters are this process's, since it started. */
export interface SyncStatus {
  readonly activity: 'connecting' | 'standby' | 'copying' | 'following' | 'failed' | 'stopped';
  /** Why it failed, in one line. */
  readonly error?: string | undefined;
  /** Which Coder was met. */
  readonly version?: string | undefined;
  readonly copies: number;
  /** Rows of the copy that is being made, and about how many there are. */
  readonly progress?: { readonly rows: number; readonly about: number } | undefined;
  /** Changes of Coder that were written. */
  readonly changes: number;
  readonly failures: number;
}

/** Keeps the source tables a copy of Coder's. */
export interface Sync {
  start(): void;
  /** Stops after the transaction that runs; resolves when its connections are closed. */
  stop(): Promise<void>;
  status(): SyncStatus;
}

/** How long to wait before trying again, after the first failure and at most, in milliseconds. */
const retryMs = { first: 500, most: 10_000 };

/** After this time without a failure, in milliseconds, the next one counts as the first. */
const steadyMs = 60_000;

/** How long a process waits after it was fenced off, in milliseconds. */
const fencedMs = 2000;

/** How long a statement may take, in milliseconds: a table that is emptied is one statement. */
const statementTimeoutMs = 600_000;

/**
 * Session variables of the connection that writes. A process that is paused in a transaction holds the lock on the state until the
 * server ends it; a transaction also waits for Coder's next rows.
 */
const session = { wait_timeout: 120, innodb_lock_wait_timeout: 10, lock_wait_timeout: 60 };

/** How long the stop of a sync may take, in milliseconds. */
const stopMs = 3000;

/**
 * Makes a sync. Any number of processes may run one: one of them is active, the others stand by and take over when it ends.
 *
 * An {@link ActiveLease} decides which one is active, and the epoch in `sync_state` keeps a process that wrongly believes itself
 * active from writing, see `writeCopy`.
 */
export function createSync(options: SyncOptions): Sync {
  const { log } = options;
  const stopping = new AbortController();
  const { signal } = stopping;
  const status = {
    activity: 'connecting' as SyncStatus['activity'],
    error: undefined as string | undefined,
    version: undefined as string | undefined,
    copies: 0,
    progress: undefined as SyncStatus['progress'],
    changes: 0,
    failures: 0,
  };
  let running: Promise<void> | undefined;
  const lease = new ActiveLease(options.address, 'sync');
  const membership = new Membership(log);

  async function run(): Promise<void> {
    let failures = 0;
    while (!signal.aborted) {
      const began = performance.now();
      const database = openSyncDatabase(options.address);
      let rest = 0;
      try {
        await keep(database);
      } catch (error) {
        if (signal.aborted) break;
        if (performance.now() - began > steadyMs) failures = 0;
        failures += 1;
        rest = error instanceof FencedError ? fencedMs : Math.min(retryMs.first * 2 ** (failures - 1), retryMs.most);
        fail(error);
        // Another process may reach Coder, or may be configured for it.
        await lease.release();
      } finally {
        await closeDatabase(database, 1000);
      }
      await sleep(rest, undefined, { signal }).catch(() => {});
    }
    await lease.release();
    status.activity = 'stopped';
  }

  function fail(error: unknown): void {
    status.failures += 1;
    status.progress = undefined;
    if (error instanceof FencedError) {
      status.activity = 'standby';
      log.info('another process copies from Coder now');
      return;
    }
    const reason = failureText(error);
    // What an operator has to change is said once, and not again at each attempt.
    const level = status.error === reason ? 'debug' : error instanceof SyncError ? 'error' : 'warn';
    status.activity = 'failed';
    status.error = reason;
    log[level]({ reason }, 'copying from Coder failed and is tried again');
  }

  async function keep(database: Database): Promise<void> {
    await membership.require(database);
    while (!(await lease.take(database, signal))) {
      if (signal.aborted) return;
      if (status.activity !== 'standby') log.info('another process copies from Coder: this one stands by');
      status.activity = 'standby';
      await membership.require(database);
    }
    if (status.activity !== 'failed') status.activity = 'connecting';
    const state = await takeOverSync(database);
    try {
      await keepActive(database, state);
    } catch (error) {
      if (!signal.aborted && !(error instanceof FencedError))
        await noteFailure(database, state.epoch, failureText(error)).catch(() => {});
      throw error;
    }
  }

  async function keepActive(database: Database, state: SyncState): Promise<void> {
    const { url, scope = {} } = options;
    const coder = await openCoderDatabase(url);
    const close = (): void => void coder.close();
    const { lost } = lease;
    const ending = AbortSignal.any([signal, lost]);
    ending.addEventListener('abort', close);
    const adjusted = countAdjusted();
    try {
      const shape = await readSourceShape(coder, scope, adjusted.add);
      if (status.version !== shape.version) log.info({ version: shape.version }, 'connected to Coder');
      status.version = shape.version;
      await options.keep(
        {
          url,
          coder,
          database,
          shape,
          scope,
          signal: ending,
          onCopy(why) {
            status.activity = 'copying';
            log.info({ why }, 'copying from Coder');
          },
          onProgress(rows, about) {
            status.progress = { rows, about };
            options.onProgress?.(rows, about);
          },
          onCopied({ rows, inserted, updated, deleted }) {
            status.copies += 1;
            status.progress = undefined;
            options.onCopied?.();
            log.info({ rows, inserted, updated, deleted }, 'copied from Coder');
            options.onWritten?.();
            adjusted.tell(log);
          },
          onFollowing() {
            status.activity = 'following';
            status.error = undefined;
            noteFailure(database, state.epoch, null).catch(() => {});
            log.info('following Coder');
          },
          onApplied(changes) {
            status.changes += changes;
            options.onWritten?.();
            adjusted.tell(log);
          },
        },
        state,
      );
      lost.throwIfAborted();
    } catch (error) {
      lost.throwIfAborted(); // whatever failed because of it
      throw error;
    } finally {
      ending.removeEventListener('abort', close);
      await coder.close();
    }
  }

  return {
    start() {
      running ??= run();
    },

    async stop() {
      stopping.abort();
      await Promise.race([running, sleep(stopMs, undefined, { ref: false })]);
    },

    status: () => ({ ...status }),
  };
}

/** Opens the connection of a process that may become the active one. */
export function openSyncDatabase(address: DatabaseAddress): Database {
  return openDatabase(address, { size: 1, statementTimeoutMs, acquireTimeoutMs: 60_000, session });
}

/** Values that could not be kept as they are, by column. */
export interface AdjustedValues {
  add(table: string, column: string, why: string): void;
  /** Logs what is new, a line for each column at most once a minute, with how many there were. */
  tell(log: Pick<Logger, 'warn'>): void;
}

/** A row with such a value may be written again and again: so often a column is told at most, in milliseconds. */
const tellEveryMs = 60_000;

/** Counts values that could not be kept as they are. */
export function countAdjusted(now: () => number = () => performance.now()): AdjustedValues {
  const counts = new Map<string, { readonly column: string; readonly why: string; count: number; toldAt: number }>();
  return {
    add(table, column, why) {
      const key = `${table}.${column} ${why}`;
      const entry = counts.get(key) ?? { column: `${table}.${column}`, why, count: 0, toldAt: Number.NEGATIVE_INFINITY };
      entry.count += 1;
      counts.set(key, entry);
    },
    tell(log) {
      for (const entry of counts.values()) {
        if (entry.count === 0 || now() < entry.toldAt + tellEveryMs) continue;
        const { column, why, count } = entry;
        log.warn({ column, why, count }, 'values of Coder could not be kept as they are');
        entry.count = 0;
        entry.toldAt = now();
      }
    },
  };
}

/** The state as others see it, for `--status` and readiness: of whatever process is active. */
export async function describeSync(database: Database): Promise<string[]> {
  const state = await readSyncState(database);
  const lines: string[] = [];
  const phases = { none: 'nothing has been copied', copying: 'a copy is being made', live: 'copied' };
  lines.push(`phase: ${phases[state.phase]}${state.copiedAt === null ? '' : `; last complete at ${state.copiedAt} UTC`}`);
  if (state.coderVersion !== '') lines.push(`source: ${state.coderVersion}, ${state.source}`);
  if (state.mode !== '') lines.push(`mode: ${state.mode}`);
  if (state.changedAt !== null) lines.push(`last written: ${state.changedAt} UTC`);
  if (state.error !== null) lines.push(`error: ${state.error}`);
  return lines;
}
