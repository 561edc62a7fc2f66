import type { Database } from '../db/connection.ts';
import { enqueueChanges, enqueueInserted } from '../schema/outbox.ts';
import { changeKinds } from '../schema/projected-tables.ts';
import { writeTaskSource } from '../schema/task-source.ts';
import { outboxBypass } from '../schema/triggers.ts';
import type { CoderDatabase } from './coder-database.ts';
import { compareTable, type TableDifferences } from './compare-tables.ts';
import type { CopyScope, SourceShape, SyncedRow, TablePlan } from './source-version.ts';
import { type SyncStateChanges, writeCopy } from './sync-state.ts';
import { syncedTables } from './synced-tables.ts';
import { insertRows, readWriteOptions, removeRows, requireLargePackets, upsertRows, type WriteOptions } from './target-tables.ts';

/** What a copy needs. */
export interface CopyOptions {
  readonly coder: CoderDatabase;
  /** A pool with one connection. */
  readonly database: Database;
  readonly epoch: number;
  readonly shape: SourceShape;
  readonly scope?: CopyScope;
  /** Written to the state with the last change, such as the mode, beside the phase and the snapshot. */
  readonly end: SyncStateChanges;
  readonly onProgress?: (rows: number, about: number) => void;
  readonly signal?: AbortSignal;
}

/** The result of a copy. */
export interface CopyResult {
  /** Rows of Coder that were read. */
  readonly rows: number;
  readonly inserted: number;
  readonly updated: number;
  readonly deleted: number;
  /** The transactions that the copy includes, as `pg_current_snapshot()` writes it. */
  readonly snapshot: string;
}

/** Most rows to be deleted that are kept in memory until all tables are compared; if there are more, tables are compared again. */
const mostRemembered = 100_000;

/** How many tables of tasks newer versions of Coder have. Where all of them exist, their rows are all tasks. */
const optionalTables = syncedTables.filter(({ optional }) => optional).length;

/** Rows that are deleted in one transaction. */
const deletedAtOnce = 1000;

/**
 * Makes the source tables equal to one snapshot of Coder's database, by writing the differences.
 *
 * While there is no workspace, nothing can be listed: then rows bypass the triggers, and all workspaces are inserted in one
 * transaction at the end, each noted once for the projector. A copy that was interrupted continues in this way, or starts again.
 *
 * Where there are workspaces, they are served during the copy. Rows that refer to others are written after these, and deletions
 * come last, in reverse: so a build is never without its job.
 */
export async function copyTables(options: CopyOptions): Promise<CopyResult> {
  const { coder, database, epoch } = options;
  const write = await readWriteOptions(database, options.scope?.withoutTriggers);
  requireLargePackets(write.limit);
  const isFirst = await hasNone(database, 'workspaces');
  const counts = { rows: 0, inserted: 0, updated: 0, deleted: 0 };
  return coder.inSnapshot(async (snapshot) => {
    const about = options.onProgress === undefined ? 0 : await estimateRows(coder, options.shape);
    const copy = new Copy(options, isFirst ? { ...write, notes: false } : write, isFirst, counts, about);
    const hasTasks = options.shape.plans.filter(({ table }) => table.optional).length === optionalTables;
    const end: SyncStateChanges = { ...options.end, phase: 'live', snapshot, hasTasks, error: null, copied: true };
    if (isFirst) await copy.first(end);
    else {
      await copy.differences(options.shape.plans);
      await writeCopy(database, epoch, async (transaction, state) => {
        if (state.hasTasks !== hasTasks) await askForTaskSource(transaction);
        return end;
      });
    }
    return { ...counts, snapshot };
  });
}

/** Makes the projector check from which table the tasks come, by a note of a row that does not exist. */
function askForTaskSource(transaction: Database): Promise<void> {
  return enqueueChanges(transaction, changeKinds.task, [Buffer.alloc(16)]);
}

/** The rows that have been processed so far. */
type Counts = { -readonly [K in keyof Omit<CopyResult, 'snapshot'>]: number };

class Copy {
  readonly #options: CopyOptions;
  readonly #write: WriteOptions;
  readonly #isFirst: boolean;
  readonly #counts: Counts;
  readonly #about: number;
  readonly #extra = new Map<TablePlan, SyncedRow[]>();
  #remembered = 0;

  constructor(options: CopyOptions, write: WriteOptions, isFirst: boolean, counts: Counts, about: number) {
    this.#options = options;
    this.#write = write;
    this.#isFirst = isFirst;
    this.#counts = counts;
    this.#about = about;
  }

  async first(end: SyncStateChanges): Promise<void> {
    const { coder, database, epoch, shape } = this.#options;
    const last = shape.plans.find(({ table }) => table.name === 'workspaces');
    await this.differences(shape.plans.filter((plan) => plan !== last));
    await writeCopy(database, epoch, async (transaction) => {
      // Tokens from before the copy belong to users that do not exist any more; tokens that are made later are kept.
      if (shape.plans.some(({ table }) => table.name === 'api_keys'))
        await transaction.raw('delete from `api_keys` where `api_keys`.`coder_expires_at` is null');
      if (last === undefined) return end;
      await withoutNotes(transaction, async () => {
        for await (const part of compareTable(coder, transaction, last)) {
          await this.#apply(transaction, last, part, true);
          this.#progress(part);
        }
      });
      // Noted by owner, and here: the projector, when it saw another source, would note them again, in no order of use.
      const source = end.hasTasks === true ? 'tasks' : 'workspaces';
      await enqueueInserted(transaction, source);
      await writeTaskSource(transaction, source); // last: the projector waits for this row
      return end;
    });
  }

  /** Makes tables equal to Coder's, and repeats that while there is more to delete than fits into memory. */
  async differences(plans: readonly TablePlan[]): Promise<void> {
    do {
      this.#remembered = 0;
      this.#counts.rows = 0;
      for (const plan of plans) await this.#table(plan);
    } while (await this.#removeExtra());
  }

  /** Writes the missing and changed rows of a table, and remembers those to delete. The next part is read while one is written. */
  async #table(plan: TablePlan): Promise<void> {
    const { coder, database, epoch } = this.#options;
    const isEmpty = this.#isFirst && (await hasNone(database, plan.table.name));
    let written = Promise.resolve();
    try {
      for await (const part of compareTable(coder, database, plan)) {
        await written;
        if (part.missing.length + part.changed.length > 0) {
          written = writeCopy(database, epoch, async (transaction) => {
            const apply = () => this.#apply(transaction, plan, part, isEmpty);
            await (this.#isFirst ? withoutNotes(transaction, apply) : apply());
            return {};
          });
          written.catch(() => {}); // awaited with the next part
        }
        this.#remember(plan, part.extra);
        this.#progress(part);
      }
    } finally {
      await written;
    }
  }

  async #apply(transaction: Database, { table, columns }: TablePlan, part: TableDifferences, isEmpty: boolean): Promise<void> {
    const write = isEmpty ? insertRows : upsertRows;
    await write(transaction, table, columns, part.missing, this.#write);
    await upsertRows(
      transaction,
      table,
      columns,
      part.changed.map(({ row }) => row),
      this.#write,
    );
    this.#counts.inserted += part.missing.length;
    this.#counts.updated += part.changed.length;
  }

  #remember(plan: TablePlan, rows: readonly SyncedRow[]): void {
    const { key } = plan.table;
    const keys = this.#extra.get(plan) ?? [];
    this.#extra.set(plan, keys);
    for (const row of rows) {
      this.#remembered += 1;
      if (this.#remembered <= mostRemembered) keys.push(Object.fromEntries(key.map((column) => [column, row[column] ?? null])));
    }
  }

  /** Deletes rows that are not in Coder, children before their parents. Returns whether there are more. */
  async #removeExtra(): Promise<boolean> {
    const { database, epoch } = this.#options;
    for (const [plan, keys] of [...this.#extra].reverse()) {
      for (let from = 0; from < keys.length; from += deletedAtOnce) {
        const part = keys.slice(from, from + deletedAtOnce);
        await writeCopy(database, epoch, async (transaction) => {
          await removeRows(transaction, plan.table, part, this.#write);
          return {};
        });
        this.#counts.deleted += part.length;
      }
    }
    this.#extra.clear();
    return this.#remembered > mostRemembered;
  }

  #progress({ compared }: TableDifferences): void {
    this.#options.signal?.throwIfAborted();
    this.#counts.rows += compared;
    this.#options.onProgress?.(this.#counts.rows, Math.max(this.#about, this.#counts.rows));
  }
}

/** Runs work whose inserts the triggers do not note. */
async function withoutNotes(transaction: Database, work: () => Promise<void>): Promise<void> {
  await transaction.raw(`set @${outboxBypass} = 1`);
  const endBypass = (): Promise<unknown> => transaction.raw(`set @${outboxBypass} = null`);
  try {
    await work();
  } catch (error) {
    await endBypass().catch(() => {}); // on a connection that was lost it fails, too: the first error tells why
    throw error;
  }
  await endBypass();
}

async function hasNone(database: Database, table: string): Promise<boolean> {
  const [rows] = (await database.raw('select 1 from ?? limit 1', [table])) as [unknown[]];
  return rows.length === 0;
}

/** The number of rows of all tables, as PostgreSQL's statistics estimate it. */
async function estimateRows(coder: CoderDatabase, { plans }: SourceShape): Promise<number> {
  const [[rows] = []] = await coder.rows(
    'select sum(greatest(c.reltuples, 0))::bigint from unnest($1::text[]) as n (name) ' +
      'join pg_catalog.pg_class as c on c.oid = to_regclass(quote_ident(n.name))',
    [plans.map(({ table }) => table.name)],
  );
  return Number(rows ?? 0);
}
