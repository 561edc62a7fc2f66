import type { Database } from '../db/connection.ts';
import { ChangeBuffer, type MovedRow, moveRow, type RowChange } from './change-buffer.ts';
import type { Replication, ReplicationMessage, TextRow } from './replication.ts';
import { parseSnapshot, type SnapshotVisibility } from './snapshot-visibility.ts';
import type { TablePlan } from './source-version.ts';
import { CopyOutdatedError, SyncError } from './sync-error.ts';
import { type SyncState, writeCopy } from './sync-state.ts';
import type { WriteOptions } from './target-tables.ts';
import { unusedColumns } from './unused-columns.ts';
import { ValueError } from './values.ts';

/** The result of one transaction of applied changes. */
export interface Applied {
  /** The latest commit among them, in milliseconds since 1970 by PostgreSQL's clock. */
  readonly committedAt: number;
  readonly transactions: number;
  readonly changes: number;
}

/** The options of applying changes. */
export interface ApplyOptions {
  readonly database: Database;
  /** The state as this process took it over. */
  readonly state: SyncState;
  readonly replication: Replication;
  readonly plans: readonly TablePlan[];
  /** Columns, as `table.column`, that are ignored. */
  readonly ignoredColumns: readonly string[];
  readonly write: WriteOptions;
  /** A position in the log, read after the copy was taken: what the copy has was committed before it. */
  readonly copiedBefore: bigint;
  onApplied(applied: Applied): void;
  /**
   * Runs between two transactions, when the log has advanced or the time that it asked for has passed.
   *
   * @param position all that was committed before it and is published is applied.
   * @returns after how many milliseconds it must run again, if at all.
   */
  between(position: bigint): Promise<number | undefined>;
}

/**
 * The shortest time from one transaction of ours to the next, in milliseconds: Coder commits many small ones, and applied together
 * they cost a tenth. A change after a pause is applied at once.
 */
const paceMs = 20;

/** How long transactions are collected while more keep coming, in milliseconds. */
const gatherMs = 100;

/** How often the position is stored and confirmed while there is nothing to apply, in milliseconds. */
const storeEveryMs = 10_000;

/**
 * Applies the messages of a replication, transaction by transaction: each is applied whole, in one transaction of ours that also
 * stores the position behind it. While there are many, several are applied in one. A transaction of any size takes the memory of a
 * thousand rows.
 *
 * Only what is stored is confirmed to PostgreSQL, so that the position of the slot is never beyond ours.
 *
 * @returns never; it ends with an error.
 * @throws {CopyOutdatedError} when a table has other columns, or a column other values, than it had when it was copied.
 */
export async function applyChanges(options: ApplyOptions): Promise<never> {
  const applier = new ChangeApplier(options);
  for (;;) await applier.next();
}

class ChangeApplier {
  readonly #options: ApplyOptions;
  readonly #plans: ReadonlyMap<string, TablePlan>;
  readonly #buffer: ChangeBuffer;
  /** The transactions that the copy already contains; undefined once the log has been read beyond all of them. */
  #copied: { readonly snapshot: SnapshotVisibility; readonly until: bigint } | undefined;
  /** The position up to which the log has been read, and the position that is stored. */
  #reached: bigint;
  #stored: bigint;
  #storedAt = performance.now();
  #writtenAt = 0;
  /** Whether PostgreSQL has asked for our position. */
  #isAsked = false;
  /** The transaction that is being received. */
  #current: Extract<ReplicationMessage, { kind: 'begin' }> | undefined;
  #isSkipped = false;
  /** The changes collected since the last transaction of ours. */
  #gathered = { committedAt: 0, transactions: 0, changes: 0 };
  #moved: { readonly moved: MovedRow; readonly row: TextRow } | undefined;
  /** When `between` must run again. */
  #betweenAt: number | undefined = 0;

  constructor(options: ApplyOptions) {
    const { state, plans, write } = options;
    this.#options = options;
    this.#plans = new Map(plans.map((plan) => [plan.table.name, plan]));
    this.#buffer = new ChangeBuffer(write);
    this.#copied = state.snapshot === null ? undefined : { snapshot: parseSnapshot(state.snapshot), until: options.copiedBefore };
    this.#reached = state.position;
    this.#stored = state.position;
  }

  /** Waits for messages, and applies them. */
  async next(): Promise<void> {
    const before = this.#reached;
    const startedAt = performance.now();
    const isWhole = await this.#gather(this.#idleMs(startedAt), () => Math.max(startedAt, this.#writtenAt + paceMs));
    if (isWhole && this.#buffer.isEmpty) await this.#storeIdlePosition();
    else await this.#apply(isWhole);
    const isDue = this.#betweenAt !== undefined && performance.now() >= this.#betweenAt;
    if (!isDue && this.#reached === before) return;
    const againMs = await this.#options.between(this.#reached);
    this.#betweenAt = againMs === undefined ? undefined : performance.now() + againMs;
  }

  /** How long to wait for a message; undefined when nothing else is to be done. */
  #idleMs(now: number): number | undefined {
    const times: number[] = [];
    if (this.#betweenAt !== undefined) times.push(this.#betweenAt);
    if (this.#reached > this.#stored) times.push(this.#storedAt + storeEveryMs);
    return times.length === 0 ? undefined : Math.max(0, Math.min(...times) - now);
  }

  /** Writes the collected changes, with the rest of a transaction that is not complete yet. */
  async #apply(isWhole: boolean): Promise<void> {
    const { replication, database, state } = this.#options;
    await writeCopy(database, state.epoch, async (transaction) => {
      await this.#write(transaction);
      for (let whole = isWhole; !whole; ) {
        whole = await this.#gather(undefined, () => 0);
        await this.#write(transaction);
      }
      return this.#stateChanges();
    });
    this.#isStored();
    this.#writtenAt = performance.now();
    const applied = this.#gathered;
    this.#gathered = { committedAt: 0, transactions: 0, changes: 0 };
    this.#options.onApplied(applied);
    replication.acknowledge(this.#stored);
  }

  /**
   * Reads messages until none is left at a deadline, or the buffer is full.
   *
   * @param firstMs how long to wait for the first message.
   * @returns whether it ended between two transactions.
   */
  async #gather(firstMs: number | undefined, deadline: () => number): Promise<boolean> {
    const { replication } = this.#options;
    let waitMs = this.#current === undefined ? firstMs : undefined;
    let startedAt: number | undefined;
    for (;;) {
      const message = await replication.next(waitMs);
      if (message === undefined) return true;
      const now = performance.now();
      startedAt ??= now;
      this.#take(message);
      if (this.#moved !== undefined) return false;
      if (this.#current !== undefined) {
        if (this.#buffer.isFull) return false;
        waitMs = undefined;
        continue;
      }
      if (this.#buffer.isFull || now - startedAt > gatherMs || message.kind === 'position') return true;
      waitMs = this.#buffer.isEmpty ? 0 : Math.max(0, deadline() - now);
    }
  }

  #take(message: ReplicationMessage): void {
    switch (message.kind) {
      case 'begin':
        this.#current = message;
        this.#isSkipped =
          this.#copied !== undefined && message.commitLsn < this.#copied.until && this.#copied.snapshot.sees(message.xid);
        return;
      case 'commit':
        this.#gathered.committedAt = this.#current?.committedAt ?? 0;
        this.#gathered.transactions += 1;
        this.#current = undefined;
        this.#reach(message.endLsn);
        return;
      case 'position':
        this.#reach(message.lsn);
        this.#isAsked ||= message.asked;
        return;
      case 'relation':
        this.#checkColumns(message.table, message.columns);
        return;
      case 'truncate':
        if (this.#isSkipped) return;
        for (const table of message.tables) {
          const plan = this.#plans.get(table);
          if (plan !== undefined) this.#buffer.clear(plan);
        }
        return;
      case 'insert':
      case 'update':
      case 'delete': {
        const plan = this.#plans.get(message.table);
        // Tables that are compared as a whole may already be newer than this change.
        if (this.#isSkipped || plan === undefined || plan.table.via === 'comparison') return;
        this.#gathered.changes += 1;
        const moved = this.#add(plan, message);
        if (moved !== undefined && message.kind === 'update') this.#moved = { moved, row: message.row };
        return;
      }
    }
  }

  /**
   * @throws {CopyOutdatedError} when a value has another type than the column: perhaps the type was changed, and changed back
   * since.
   */
  #add(plan: TablePlan, change: RowChange): MovedRow | undefined {
    try {
      return this.#buffer.add(plan, change);
    } catch (error) {
      if (error instanceof SyncError && error.cause instanceof ValueError)
        throw new CopyOutdatedError(error.message, { cause: error });
      throw error;
    }
  }

  async #write(transaction: Database): Promise<void> {
    await this.#buffer.writeTo(transaction, this.#plans);
    if (this.#moved === undefined) return;
    const { moved, row } = this.#moved;
    this.#moved = undefined;
    await moveRow(transaction, moved, this.#options.write);
    this.#buffer.add(moved.plan, { kind: 'update', old: undefined, row });
  }

  /** Fails when a table has a column more or less than it had when it was copied. */
  #checkColumns(name: string, columns: readonly string[]): void {
    const plan = this.#plans.get(name);
    if (plan === undefined) return;
    const { ignoredColumns } = this.#options;
    const isKnown = (column: string): boolean =>
      plan.sources.includes(column) ||
      unusedColumns[name]?.includes(column) === true ||
      ignoredColumns.includes(`${name}.${column}`);
    const column = plan.sources.find((source) => !columns.includes(source)) ?? columns.find((one) => !isKnown(one));
    if (column !== undefined) throw new CopyOutdatedError(`Coder's table ${name} has got or lost the column ${column}`);
  }

  #reach(position: bigint): void {
    if (position <= this.#reached) return;
    this.#reached = position;
  }

  /** Stores the position while the log has no changes for us, so that PostgreSQL need not keep the log. */
  async #storeIdlePosition(): Promise<void> {
    const isDue = this.#isAsked || performance.now() >= this.#storedAt + storeEveryMs;
    if (!isDue) return;
    this.#isAsked = false;
    if (this.#reached > this.#stored) {
      const { database, state } = this.#options;
      await writeCopy(database, state.epoch, () => Promise.resolve(this.#stateChanges()));
      this.#isStored();
    }
    this.#options.replication.acknowledge(this.#stored);
  }

  #stateChanges() {
    const isBeyondCopy = this.#copied !== undefined && this.#reached >= this.#copied.until;
    return { position: this.#reached, ...(isBeyondCopy ? { snapshot: null } : {}) };
  }

  #isStored(): void {
    this.#stored = this.#reached;
    this.#storedAt = performance.now();
    if (this.#copied !== undefined && this.#stored >= this.#copied.until) this.#copied = undefined;
  }
}
