import type { Database } from '../db/connection.ts';
import { type CoderDatabase, quote } from './coder-database.ts';
import { compareTable } from './compare-tables.ts';
import { parseLsn } from './lsn.ts';
import type { TablePlan } from './source-version.ts';
import { writeCopy } from './sync-state.ts';
import { removeRows, upsertRows, type WriteOptions } from './target-tables.ts';

/** By table: a text that is another one when the table has changed. */
export type TableMarks = Readonly<Record<string, string>>;

/**
 * Reads marks of the tables of which not every change is replicated.
 *
 * Of a small table, the number of its rows and the sum of the transactions that wrote them: the number tells that rows have come or
 * gone, and if as many have come as have gone, the sum is greater, since a later transaction has a greater number.
 *
 * Of the parameters of builds, of which there are many, PostgreSQL's own counters of updates and deletes, and since when it
 * counts: a server that did not shut down in order has lost them and begins again. It writes them down within ten seconds.
 *
 *   select (select count(*) || ' ' || coalesce(sum(t.xmin::text::bigint), 0) from "group_members" as t),
 *     (select concat_ws(' ', s.n_tup_upd, s.n_tup_del, w.stats_reset) from pg_stat_user_tables as s cross join pg_stat_bgwriter as w
 *      where s.relid = '"workspace_build_parameters"'::regclass),
 *     pg_current_wal_flush_lsn()
 *
 * @returns the marks, and up to where the log can be read. Commits that the marks tell of are before it, but for those of
 *   the last moment that nobody waited for (`synchronous_commit = off`).
 */
export async function readTableMarks(
  coder: CoderDatabase,
  plans: readonly TablePlan[],
): Promise<{ readonly marks: TableMarks; readonly position: bigint }> {
  const tables = plans.filter(({ table }) => table.via !== 'replication').map(({ table }) => table);
  const marks = tables.map(({ name, via }) =>
    via === 'comparison'
      ? `(select count(*) || ' ' || coalesce(sum(t.xmin::text::bigint), 0) from ${quote(name)} as t)`
      : `(select concat_ws(' ', s.n_tup_upd, s.n_tup_del, w.stats_reset) from pg_stat_user_tables as s cross join pg_stat_bgwriter as w ` +
        `where s.relid = '${quote(name)}'::regclass)`,
  );
  const [row = []] = await coder.rows(`select ${[...marks, 'pg_current_wal_flush_lsn()'].join(', ')}`);
  return {
    marks: Object.fromEntries(tables.map(({ name }, index) => [name, row[index] ?? ''])),
    position: parseLsn(row.at(-1) ?? ''),
  };
}

/** What the tables are kept with. */
export interface UnreplicatedOptions {
  readonly coder: CoderDatabase;
  readonly database: Database;
  readonly epoch: number;
  readonly plans: readonly TablePlan[];
  readonly write: WriteOptions;
  /** The marks with which the tables were compared, as the state has them. */
  readonly marks: string | null;
}

/** How long PostgreSQL may take to write down that rows were updated or deleted, in milliseconds. */
const countersMs = 12_000;

/** The shortest time between two looks, in milliseconds. */
const leastPauseMs = 1000;

/** How many times as long as a look took, and as the comparison of a large table took, the next one waits. */
const pauses = { look: 100, comparison: 10 };

/** Keeps the tables of which not every change is replicated: looks whether they have changed, and then compares them. */
export class UnreplicatedTables {
  readonly #options: UnreplicatedOptions;
  #marks: TableMarks;
  #lookAt = 0;
  #compareInsertsAt = 0;
  #position = 0n;
  #movedAt = 0;
  /** New marks of tables whose inserts are replicated. They are compared when the inserts before it are applied. */
  readonly #waiting = new Map<string, { readonly mark: string; readonly position: bigint | undefined }>();

  constructor(options: UnreplicatedOptions) {
    this.#options = options;
    this.#marks = options.marks === null ? {} : (JSON.parse(options.marks) as TableMarks);
  }

  /**
   * Looks at the tables, unless it did a moment ago.
   *
   * @param position up to where replicated changes are applied.
   * @returns in how many milliseconds it has to be called again, if nothing happens before.
   */
  async look(position: bigint): Promise<number | undefined> {
    const startedAt = performance.now();
    if (position > this.#position) {
      this.#position = position;
      this.#movedAt = startedAt;
    }
    if (startedAt < this.#lookAt) return this.#lookAt - startedAt;
    const { coder, plans } = this.#options;
    const found = await readTableMarks(coder, plans);
    const seenAt = performance.now();
    this.#lookAt = seenAt + Math.max(leastPauseMs, pauses.look * (seenAt - startedAt));
    const compared: Record<string, string> = {};
    for (const plan of plans) {
      const { name, via } = plan.table;
      const mark = found.marks[name];
      if (mark === undefined || mark === this.#marks[name]) continue;
      if (via === 'comparison') {
        await this.#compare(plan);
        compared[name] = mark;
        continue;
      }
      const waiting = this.#waiting.get(name);
      if (waiting?.mark !== mark) {
        this.#waiting.set(name, { mark, position: undefined });
        continue;
      }
      // A second later, all that the mark tells of can be read.
      const until = waiting.position ?? found.position;
      this.#waiting.set(name, { mark, position: until });
      if (position >= until && performance.now() >= this.#compareInsertsAt) {
        const before = performance.now();
        await this.#compare(plan);
        this.#compareInsertsAt = performance.now() + pauses.comparison * (performance.now() - before);
        this.#waiting.delete(name);
        compared[name] = mark;
      }
    }
    if (Object.keys(compared).length > 0) await this.#store(compared);
    const againMs = Math.max(0, this.#lookAt - performance.now());
    if (this.#waiting.size > 0) return againMs;
    // What was counted for the last position may not be written down yet: looked for after one second, two, four and so on.
    const elapsed = startedAt - this.#movedAt;
    return elapsed < countersMs ? Math.max(againMs, elapsed) : undefined;
  }

  async #compare(plan: TablePlan): Promise<void> {
    const { coder, database, epoch, write } = this.#options;
    const { table, columns } = plan;
    await coder.inSnapshot(async () => {
      for await (const { missing, changed, extra } of compareTable(coder, database, plan)) {
        if (missing.length + changed.length + extra.length === 0) continue;
        await writeCopy(database, epoch, async (transaction) => {
          await removeRows(transaction, table, extra, write);
          await upsertRows(transaction, table, columns, [...missing, ...changed.map(({ row }) => row)], write);
          return {};
        });
      }
    });
  }

  async #store(compared: TableMarks): Promise<void> {
    const { database, epoch } = this.#options;
    this.#marks = { ...this.#marks, ...compared };
    await writeCopy(database, epoch, () => Promise.resolve({ unreplicated: JSON.stringify(this.#marks) }));
  }
}
