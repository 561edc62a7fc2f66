import type { Database } from '../db/connection.ts';
import type { TextRow } from './replication.ts';
import type { SyncedRow, TablePlan } from './source-version.ts';
import { keyBytes, keyCondition, noteRows, removeAllRows, removeRows, upsertRows, type WriteOptions } from './target-tables.ts';

/** A change of one row. */
export type RowChange =
  | { readonly kind: 'insert'; readonly row: TextRow }
  | { readonly kind: 'update'; readonly old: TextRow | undefined; readonly row: TextRow }
  | { readonly kind: 'delete'; readonly old: TextRow };

/** A row whose key was changed, and of which some columns are not known. */
export interface MovedRow {
  readonly plan: TablePlan;
  readonly from: SyncedRow;
  readonly to: SyncedRow;
}

/** Most rows in the buffer, and most of their characters. */
const most = { rows: 1000, characters: 4 * 1024 * 1024 };

/** The collected changes of a table. */
interface TableChanges {
  readonly plan: TablePlan;
  /** Whether all rows are deleted first. */
  isCleared: boolean;
  /** By key: the row's new columns, or undefined when the row is deleted. */
  readonly rows: Map<string, { readonly key: SyncedRow; readonly row: SyncedRow | undefined }>;
}

/**
 * Collects changes and writes their result: of several changes of a row, only the last is written. Tables are written one after
 * another: no foreign key connects them, and triggers note a change by the ids in the row alone.
 */
export class ChangeBuffer {
  readonly #options: WriteOptions;
  readonly #tables = new Map<string, TableChanges>();
  #count = 0;
  #characters = 0;

  constructor(options: WriteOptions) {
    this.#options = options;
  }

  get isEmpty(): boolean {
    return this.#tables.size === 0;
  }

  get isFull(): boolean {
    return this.#count >= most.rows || this.#characters >= most.characters;
  }

  /**
   * Adds a change.
   *
   * @returns a row whose key was changed and of which some columns are not known. Then nothing was added: write the buffer,
   *   {@link moveRow}, and add the change as an update without an old key.
   */
  add(plan: TablePlan, change: RowChange): MovedRow | undefined {
    const changes = this.#changesOf(plan);
    if (change.kind === 'delete') {
      const key = plan.toPartialRow(change.old);
      this.#set(changes, key, undefined);
      return undefined;
    }
    const row = plan.toPartialRow(change.row);
    if (change.kind === 'update' && change.old !== undefined) {
      const old = plan.toPartialRow(change.old);
      if (!keyBytes(plan.table, old).equals(keyBytes(plan.table, row))) {
        if (plan.columns.some((column) => row[column] === undefined)) return { plan, from: old, to: row };
        this.#set(changes, old, undefined);
      }
    }
    this.#set(changes, row, row);
    for (const value of Object.values(row)) if (typeof value === 'string') this.#characters += value.length;
    return undefined;
  }

  /** Adds that a table was emptied. */
  clear(plan: TablePlan): void {
    const changes = this.#changesOf(plan);
    changes.isCleared = true;
    changes.rows.clear();
    this.#count += 1;
  }

  /** Writes the collected changes, and empties the buffer. */
  async writeTo(transaction: Database, plans: ReadonlyMap<string, TablePlan>): Promise<void> {
    const tables = [...this.#tables.values()];
    this.#tables.clear();
    this.#count = 0;
    this.#characters = 0;
    const goneBuilds: SyncedRow[] = [];
    for (const { plan, isCleared, rows } of tables) {
      if (isCleared) await removeAllRows(transaction, plan.table, this.#options);
      const entries = [...rows.values()];
      const gone = entries.filter(({ row }) => row === undefined).map(({ key }) => key);
      const present = entries.flatMap(({ row }) => (row === undefined ? [] : [row]));
      if (gone.length > 0) await removeRows(transaction, plan.table, gone, this.#options);
      if (present.length > 0) await upsertRows(transaction, plan.table, plan.columns, present, this.#options);
      if (plan.table.name === 'workspace_builds') goneBuilds.push(...gone);
    }
    // PostgreSQL deletes them by a foreign key, and their deletes are not replicated.
    const parameters = plans.get('workspace_build_parameters');
    if (goneBuilds.length > 0 && parameters !== undefined) {
      const keys = goneBuilds.map(({ id = null }) => ({ workspace_build_id: id }));
      await removeRows(transaction, { ...parameters.table, key: ['workspace_build_id'] }, keys, this.#options);
    }
  }

  #changesOf(plan: TablePlan): TableChanges {
    const { name } = plan.table;
    let changes = this.#tables.get(name);
    if (changes === undefined) {
      changes = { plan, isCleared: false, rows: new Map() };
      this.#tables.set(name, changes);
    }
    return changes;
  }

  #set({ plan, rows }: TableChanges, key: SyncedRow, row: SyncedRow | undefined): void {
    const name = keyBytes(plan.table, key).toString('latin1');
    const before = rows.get(name)?.row;
    rows.set(name, { key, row: row === undefined || before === undefined ? row : { ...before, ...row } });
    this.#count += 1;
  }
}

/**
 * Gives a row another key, and leaves the rest as it is.
 *
 *   update workspaces set id = ? where workspaces.id in (?)
 */
export async function moveRow(
  transaction: Database,
  { plan: { table }, from, to }: MovedRow,
  options: Pick<WriteOptions, 'notes'>,
): Promise<void> {
  const { condition, values } = keyCondition(table, [from]);
  await removeRows(transaction, table, [to], options);
  if (options.notes) await noteRows(transaction, table, [from]);
  await transaction.raw(
    `update \`${table.name}\` set ${table.key.map((column) => `\`${column}\` = ?`).join(', ')} where ${condition}`,
    [...table.key.map((column) => to[column] ?? null), ...values] as never,
  );
  if (options.notes) await noteRows(transaction, table, [to]);
}
