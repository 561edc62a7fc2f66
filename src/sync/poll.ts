import { setTimeout as sleep } from 'node:timers/promises';
import type { Database } from '../db/connection.ts';
import { canFollow, changedSince, keysOnly } from './changed-rows.ts';
import { type CoderDatabase, failureText, quote } from './coder-database.ts';
import { compareRows, compareTable } from './compare-tables.ts';
import { copyTables } from './copy.ts';
import { readSource } from './copy-once.ts';
import { parseSnapshot } from './snapshot-visibility.ts';
import { readSourceColumns, type SyncedRow, shapeDigest, type TablePlan } from './source-version.ts';
import type { KeepCopy, SyncContext } from './sync.ts';
import { SyncError } from './sync-error.ts';
import { noteFailure, type SyncState, type SyncStateChanges, writeCopy } from './sync-state.ts';
import { readWriteOptions, removeRows, upsertRows, type WriteOptions } from './target-tables.ts';

/** The settings of polling. */
export interface PollSettings {
  /** How often Coder's tables are read. */
  readonly seconds: number;
  /** How often everything is compared, in milliseconds, at most: ten minutes by default. */
  readonly compareEveryMs?: number;
  /** How long to rest after a pass and after a comparison, as a multiple of how long it took: 9 and 50 by default. */
  readonly restTimes?: { readonly pass: number; readonly comparison: number };
  /** Called after each complete pass. */
  onPass?(): void;
}

/** Tables whose deleted rows are looked for in each pass: they decide rights, and Coder deletes their rows in normal operation. */
const rightsTables: ReadonlySet<string> = new Set([
  'organization_members',
  'groups',
  'group_members',
  'custom_roles',
  'api_keys',
]);

const defaultCompareEveryMs = 600_000;

/**
 * How long to rest, as a multiple of how long it took, however short the interval is: so that Coder's database is not busy with
 * us.
 */
const defaultRestTimes = { pass: 9, comparison: 50 };

/** How long to wait after a comparison that failed, in milliseconds. */
const comparisonRetryMs = 60_000;

/** After so many canceled passes in a row, the operator is asked to act. */
const mostConflicts = 5;

/** Most rows of a pass in one transaction. */
const rowsTogether = 5000;

/** Keys that are compared again in one statement, and most rows to be deleted that are kept in memory. */
const keysAtOnce = 200;
const mostRemembered = 100_000;

/** What polling cannot promise, in one line for the operator. */
export function pollingLimits({ seconds, compareEveryMs = defaultCompareEveryMs }: PollSettings): string {
  return (
    `polling every ${seconds} s: a change is seen so much later, and what happens in between as one change; deleted rows other than ` +
    `members, groups, roles and tokens are found every ${Math.round(compareEveryMs / 60_000)} minutes; each pass scans Coder's tables`
  );
}

/**
 * Keeps a copy by polling Coder's tables, with no more rights than SELECT on them; also on a read replica.
 *
 * Each pass is one snapshot: it reads the rows that were written since the last one by their `xmin`, see {@link changedSince}, and
 * checks whether rights were deleted. From time to time everything is compared, which finds all other deletions.
 */
export function keepByPolling(settings: PollSettings): KeepCopy {
  return async (context, state) => {
    const { coder, database, shape, scope, signal, onProgress } = context;
    const source = await readSource(coder);
    const digest = shapeDigest(shape);
    const end: SyncStateChanges = { mode: 'polling', source, coderVersion: shape.version, shape: digest };
    const why = await whyCopyAgain(coder, state, { source, shape: digest });
    let snapshot = state.snapshot ?? '';
    if (why !== undefined) {
      context.onCopy(why);
      await writeCopy(database, state.epoch, async () => ({ phase: 'copying', source, error: null }));
      const { epoch } = state;
      const result = await copyTables({ coder, database, epoch, shape, scope, end, onProgress, signal }).catch(explainConflict);
      context.onCopied(result);
      snapshot = result.snapshot;
    }
    const polling = new Polling(context, state.epoch, settings, await readWriteOptions(database, scope.withoutTriggers), {
      end,
      snapshot,
    });
    context.onFollowing();
    await polling.run();
  };
}

/** Why passes cannot continue from the last one, so that everything has to be compared first. */
async function whyCopyAgain(
  coder: CoderDatabase,
  { phase, mode, snapshot, source, shape }: SyncState,
  present: Pick<SyncState, 'source' | 'shape'>,
): Promise<string | undefined> {
  if (phase === 'none') return 'nothing has been copied yet';
  if (phase === 'copying') return 'the last copy is not complete';
  if (source !== present.source) return "Coder's database is another one";
  if (mode !== 'polling' || snapshot === null) return 'what is there was not polled';
  if (shape !== present.shape) return 'other columns are copied than before';
  const now = await coder.inSnapshot((text) => Promise.resolve(parseSnapshot(text)));
  return canFollow(parseSnapshot(snapshot), now) ? undefined : 'too much has happened since the last pass';
}

class Polling {
  readonly #context: SyncContext;
  readonly #epoch: number;
  readonly #settings: PollSettings;
  readonly #write: WriteOptions;
  readonly #end: SyncStateChanges;
  /** The snapshot of the last pass. */
  #snapshot: string;
  /** The columns of Coder's tables; when they change, Coder was upgraded. */
  #columns: string | undefined;
  #conflicts = 0;
  #passAt = 0;
  #compareAt: number;

  constructor(
    context: SyncContext,
    epoch: number,
    settings: PollSettings,
    write: WriteOptions,
    { end, snapshot }: { readonly end: SyncStateChanges; readonly snapshot: string },
  ) {
    this.#context = context;
    this.#epoch = epoch;
    this.#settings = settings;
    this.#write = write;
    this.#end = end;
    this.#snapshot = snapshot;
    this.#compareAt = performance.now() + this.#compareEveryMs;
  }

  async run(): Promise<void> {
    const { signal } = this.#context;
    while (!signal.aborted) {
      await this.#passIfDue();
      if (performance.now() >= this.#compareAt) await this.#compareAll();
      const restMs = Math.min(this.#passAt, this.#compareAt) - performance.now();
      await sleep(Math.max(0, restMs), undefined, { signal }).catch(() => {});
    }
  }

  get #compareEveryMs(): number {
    return this.#settings.compareEveryMs ?? defaultCompareEveryMs;
  }

  get #restTimes(): { readonly pass: number; readonly comparison: number } {
    return this.#settings.restTimes ?? defaultRestTimes;
  }

  /** @throws {SyncError} when a replica has canceled some passes in a row. */
  async #passIfDue(): Promise<void> {
    const began = performance.now();
    if (began < this.#passAt) return;
    try {
      await this.#pass();
      this.#conflicts = 0;
      this.#settings.onPass?.();
    } catch (error) {
      if (!isConflict(error)) throw error;
      this.#conflicts += 1;
      if (this.#conflicts >= mostConflicts) explainConflict(error);
    }
    const now = performance.now();
    this.#passAt = Math.max(began + this.#settings.seconds * 1000, now + this.#restTimes.pass * (now - began));
  }

  /** Writes the changes since the last pass, in one transaction unless there are many. */
  async #pass(): Promise<void> {
    const { coder, database, shape, onApplied } = this.#context;
    await this.#requireSameColumns();
    const before = parseSnapshot(this.#snapshot);
    await coder.inSnapshot(async (snapshot) => {
      let pending: { readonly plan: TablePlan; readonly rows: readonly SyncedRow[] }[] = [];
      let changes = 0;
      const write = async (transaction: Database): Promise<void> => {
        for (const { plan, rows } of pending) await upsertRows(transaction, plan.table, plan.columns, rows, this.#write);
      };
      for (const plan of shape.plans) {
        for await (const batch of coder.batches(changedSince(plan, before))) {
          pending.push({ plan, rows: batch.map((texts) => plan.toRow(texts)) });
          changes += batch.length;
          if (pending.reduce((sum, { rows }) => sum + rows.length, 0) < rowsTogether) continue;
          await writeCopy(database, this.#epoch, async (transaction) => {
            await write(transaction);
            return {};
          });
          pending = [];
        }
      }
      await writeCopy(database, this.#epoch, async (transaction) => {
        await write(transaction);
        changes += await this.#removeRights(transaction);
        return { ...this.#end, snapshot };
      });
      this.#snapshot = snapshot;
      if (changes > 0) onApplied(changes);
    });
  }

  /**
   * Deletes the rows of rights that Coder has deleted. The copy has all of Coder's rows by now: only if it has more rows, some were
   * deleted, and the keys are compared.
   */
  async #removeRights(transaction: Database): Promise<number> {
    const { coder, shape } = this.#context;
    let removed = 0;
    for (const plan of shape.plans.filter(({ table }) => rightsTables.has(table.name)).reverse()) {
      const { name, only } = plan.table;
      const [[theirs] = []] = await coder.rows(`select count(*) from ${quote(name)} as t`);
      const [[ours]] = (await transaction.raw(
        `select count(*) as \`count\` from \`${name}\`${only === undefined ? '' : ` where ${only}`}`,
      )) as [[{ count: number } | undefined]];
      if (Number(ours?.count) <= Number(theirs)) continue;
      const extra: SyncedRow[] = [];
      for await (const part of compareTable(coder, transaction, keysOnly(plan))) extra.push(...part.extra);
      await removeRows(transaction, plan.table, extra, this.#write);
      removed += extra.length;
    }
    return removed;
  }

  /** Compares everything, with passes in between. A failure is noted, and the comparison tried again later. */
  async #compareAll(): Promise<void> {
    const { database, shape } = this.#context;
    const began = performance.now();
    try {
      const extra = new Map<TablePlan, SyncedRow[]>();
      for (const plan of shape.plans) {
        extra.set(plan, await this.#compareOne(plan));
        await this.#passIfDue();
      }
      for (const [plan, rows] of [...extra].reverse()) await this.#removeIfGone(plan, rows);
      await writeCopy(database, this.#epoch, () => Promise.resolve({ copied: true as const, error: null }));
      const now = performance.now();
      this.#compareAt = now + Math.max(this.#compareEveryMs, this.#restTimes.comparison * (now - began));
    } catch (error) {
      if (!isConflict(error)) throw error;
      await noteFailure(database, this.#epoch, `a comparison was not complete: ${conflictAdvice(error)}`);
      this.#compareAt = performance.now() + Math.min(comparisonRetryMs, this.#compareEveryMs);
    }
  }

  /** Writes the differences of a table, in a snapshot of its own. Returns the rows that are not in Coder. */
  async #compareOne(plan: TablePlan): Promise<SyncedRow[]> {
    const { coder, database, signal, onApplied } = this.#context;
    const extra: SyncedRow[] = [];
    await coder.inSnapshot(async () => {
      for await (const part of compareTable(coder, database, plan)) {
        signal.throwIfAborted();
        extra.push(...part.extra.slice(0, mostRemembered - extra.length)); // the next comparison finds more
        const rows = [...part.missing, ...part.changed.map(({ row }) => row)];
        if (rows.length === 0) continue;
        await writeCopy(database, this.#epoch, async (transaction) => {
          await upsertRows(transaction, plan.table, plan.columns, rows, this.#write);
          return {};
        });
        onApplied(rows.length);
      }
    });
    return extra;
  }

  /** Deletes rows that are not in Coder, children before their parents. A row that has come back since the comparison is kept. */
  async #removeIfGone(plan: TablePlan, rows: readonly SyncedRow[]): Promise<void> {
    const { coder, database, onApplied } = this.#context;
    for (let from = 0; from < rows.length; from += keysAtOnce) {
      const { extra } = await compareRows(coder, database, plan, rows.slice(from, from + keysAtOnce));
      if (extra.length === 0) continue;
      await writeCopy(database, this.#epoch, async (transaction) => {
        await removeRows(transaction, plan.table, extra, this.#write);
        return {};
      });
      onApplied(extra.length);
    }
  }

  /** Adding a column with a default changes no row's `xmin`: then the connection is made and everything compared anew. */
  async #requireSameColumns(): Promise<void> {
    const columns = JSON.stringify(await readSourceColumns(this.#context.coder));
    this.#columns ??= columns;
    if (this.#columns !== columns) throw new Error('Coder was upgraded');
  }
}

/** Whether a replica has canceled a statement, or ended the connection, since it had to apply what the primary has done. */
function isConflict(error: unknown): boolean {
  return error instanceof Error && /conflict with recovery/.test(error.message);
}

function conflictAdvice(error: unknown): string {
  return `${failureText(error)}: set hot_standby_feedback = on on the replica, or raise its max_standby_streaming_delay`;
}

function explainConflict(error: unknown): never {
  if (isConflict(error)) throw new SyncError(conflictAdvice(error), { cause: error });
  throw error;
}
