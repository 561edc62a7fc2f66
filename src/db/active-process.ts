import { randomUUID } from 'node:crypto';
import { hostname } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import type { DatabaseAddress } from '../config.ts';
import { closeDatabase, type Database, openDatabase } from './connection.ts';
import { isConflict } from './database-errors.ts';

/** Thrown when another process has become the active one: this one must not write any more. */
export class FencedError extends Error {
  override readonly name = 'FencedError';
}

/** The work that one process does at a time, each with a row of `leases`. */
export type LeaseName = 'project' | 'sync' | 'migrate';

/** How a lease is kept, in milliseconds. */
export interface LeaseTiming {
  /** A lease that nobody has renewed for so long has run out. */
  readonly expiresMs: number;
  /** How often its holder renews it. */
  readonly renewMs: number;
  /** How often others look at it. */
  readonly lookMs: number;
}

/** A holder that dies is replaced within four seconds; one that misses two renewals is not replaced. */
const defaultTiming: LeaseTiming = { expiresMs: 3000, renewMs: 1000, lookMs: 500 };

/** How long {@link ActiveLease.take} tries, in milliseconds. */
const takeMs = 1000;

/** How long a renewal may take on a healthy server, and the rest before one that failed is tried again, in milliseconds. */
const renewLimitMs = 1000;
const renewAgainMs = { least: 50, most: 250 };

/** How long a clean end waits for the database, in milliseconds. */
const releaseMs = 1000;

const notHeld = 'the lease of the active process was lost';

/** A row of `leases`, as it was seen. */
export interface LeaseRow {
  /** NULL when the last holder has ended cleanly. */
  readonly holder: string | null;
  /** Raised by each takeover and each renewal. */
  readonly renewals: number | string;
}

/**
 * Decides by a row of `leases` which of several processes is active, in a cluster as on one server. The holder renews the row each
 * second, on a connection of its own, so that long transactions do not matter. Another process takes it when it was released, or
 * when it has not changed for three seconds by the clock of the process that looks: no two clocks are compared.
 *
 * The lease only decides who tries. What keeps a process that wrongly believes itself active from writing is the epoch in
 * `projector_state` and `sync_state`, which whoever takes the lease must raise.
 */
export class ActiveLease {
  readonly #address: DatabaseAddress;
  readonly #name: LeaseName;
  readonly #timing: LeaseTiming;
  readonly #holder = `${hostname().slice(0, 200)} ${randomUUID()}`;
  /** The row as it was last seen, since when it has been so, and when it was looked at. */
  #seen: { readonly row: LeaseRow; readonly since: number; readonly at: number } | undefined;
  #held: HeldLease | undefined;

  constructor(address: DatabaseAddress, name: LeaseName, timing: Partial<LeaseTiming> = {}) {
    this.#address = address;
    this.#name = name;
    this.#timing = { ...defaultTiming, ...timing };
  }

  /** Tries for a second to become the holder, and returns whether this process is. A holder that has lost it may take it again. */
  async take(database: Database, signal?: AbortSignal): Promise<boolean> {
    const until = performance.now() + takeMs;
    for (;;) {
      if (await this.#tryToTake(database)) return true;
      if (signal?.aborted === true || performance.now() + this.#timing.lookMs > until) return false;
      await sleep(this.#timing.lookMs, undefined, { signal }).catch(() => {});
    }
  }

  async #tryToTake(database: Database): Promise<boolean> {
    if (this.#held?.isValid() === true) return true;
    await this.abandon();
    const row = await readLease(database, this.#name);
    const now = performance.now();
    const before = this.#seen;
    const isSame = before !== undefined && before.row.holder === row.holder && before.row.renewals === row.renewals;
    // While the server was away, or this process was paused, nobody could renew it, or nobody looked.
    const isWatched = isSame && now - before.at < this.#timing.expiresMs / 2;
    this.#seen = { row, since: isWatched ? before.since : now, at: now };
    const isOver = row.holder === null || row.holder === this.#holder || now - this.#seen.since >= this.#timing.expiresMs;
    if (!isOver || !(await claim(database, this.#name, this.#holder, row))) return false;
    this.#held = new HeldLease(this.#address, this.#name, this.#holder, this.#timing, now);
    return true;
  }

  /** @throws {FencedError} when this process does not hold the lease any more, or not for sure. */
  requireHeld(): void {
    if (this.#held?.isValid() !== true) throw new FencedError(notHeld);
  }

  /** Is aborted when the lease is lost that is held now. */
  get lost(): AbortSignal {
    return this.#held?.lost ?? AbortSignal.abort(new FencedError(notHeld));
  }

  /** Renews it no more, and lets it run out: on a server that has left its cluster, nothing must be written. */
  async abandon(): Promise<void> {
    const held = this.#held;
    this.#held = undefined;
    await held?.end(false);
  }

  /** Lets another process take it at once. Never rejects: where the database cannot be reached, the lease runs out. */
  async release(): Promise<void> {
    const held = this.#held;
    this.#held = undefined;
    await held?.end(true);
  }
}

/** A lease that this process has taken, and renews until it is lost or ended. */
class HeldLease {
  readonly #name: LeaseName;
  readonly #holder: string;
  readonly #timing: LeaseTiming;
  readonly #database: Database;
  readonly #ending = new AbortController();
  readonly #lost = new AbortController();
  readonly #renewing: Promise<void>;
  #renewedAt: number;

  constructor(address: DatabaseAddress, name: LeaseName, holder: string, timing: LeaseTiming, takenAt: number) {
    this.#name = name;
    this.#holder = holder;
    this.#timing = timing;
    this.#renewedAt = takenAt;
    this.#database = openDatabase(address, {
      size: 1,
      statementTimeoutMs: renewLimitMs,
      acquireTimeoutMs: renewLimitMs,
      session: { innodb_lock_wait_timeout: 1, lock_wait_timeout: 1 },
    });
    this.#renewing = this.#renew();
  }

  get lost(): AbortSignal {
    return this.#lost.signal;
  }

  isValid(): boolean {
    return !this.#lost.signal.aborted && performance.now() - this.#renewedAt < this.#timing.expiresMs;
  }

  async #renew(): Promise<void> {
    const { signal } = this.#ending;
    let restMs = this.#timing.renewMs;
    while (!signal.aborted && !this.#lost.signal.aborted) {
      await sleep(restMs, undefined, { signal, ref: false }).catch(() => {});
      if (signal.aborted) return;
      const sentAt = performance.now();
      try {
        if (await renew(this.#database, this.#name, this.#holder)) this.#renewedAt = sentAt;
        else this.#lose('another process is active now');
        restMs = this.#timing.renewMs;
      } catch {
        if (!this.isValid()) this.#lose('the lease of the active process could not be renewed');
        restMs = renewAgainMs.least + Math.random() * (renewAgainMs.most - renewAgainMs.least);
      }
    }
  }

  #lose(why: string): void {
    this.#lost.abort(new FencedError(why));
  }

  async end(released: boolean): Promise<void> {
    this.#ending.abort();
    const late = setTimeout(() => void closeDatabase(this.#database, 0), releaseMs);
    await this.#renewing;
    if (released && !this.#lost.signal.aborted) await give(this.#database, this.#name, this.#holder).catch(() => {});
    clearTimeout(late);
    await closeDatabase(this.#database, releaseMs);
    this.#lose('the lease of the active process was released');
  }
}

/** Reads a row of `leases`. */
export async function readLease(database: Database, name: LeaseName): Promise<LeaseRow> {
  const [[row]] = (await database.raw('select `l`.`holder`, `l`.`renewals` from `leases` as `l` where `l`.`name` = ?', [
    name,
  ])) as [LeaseRow[]];
  if (row === undefined) throw new Error(`leases has lost a row: insert one with the name ${name}`);
  return row;
}

/** Makes this process the holder, if the row is as it was seen; in a cluster, whoever commits first. */
async function claim(
  database: Database,
  name: LeaseName,
  holder: string,
  { holder: before, renewals }: LeaseRow,
): Promise<boolean> {
  try {
    const [{ affectedRows }] = (await database.raw(
      'update `leases` set `holder` = ?, `renewals` = `renewals` + 1, `renewed_at` = utc_timestamp(6) ' +
        'where `name` = ? and `holder` <=> ? and `renewals` = ?',
      [holder, name, before, renewals],
    )) as [{ affectedRows: number }];
    return affectedRows > 0;
  } catch (error) {
    if (isConflict(error)) return false;
    throw error;
  }
}

async function renew(database: Database, name: LeaseName, holder: string): Promise<boolean> {
  const [{ affectedRows }] = (await database.raw(
    'update `leases` set `renewals` = `renewals` + 1, `renewed_at` = utc_timestamp(6) where `name` = ? and `holder` = ?',
    [name, holder],
  )) as [{ affectedRows: number }];
  return affectedRows > 0;
}

async function give(database: Database, name: LeaseName, holder: string): Promise<void> {
  await database.raw(
    'update `leases` set `holder` = null, `renewals` = `renewals` + 1, `renewed_at` = utc_timestamp(6) where `name` = ? and `holder` = ?',
    [name, holder],
  );
}
