import type { Database } from '../db/connection.ts';
import { formatUuid } from '../db/uuid.ts';
import { type CoderDatabase, nextBatchSize, quote } from './coder-database.ts';
import type { SyncedRow, TablePlan } from './source-version.ts';
import { SyncError } from './sync-error.ts';
import type { SyncedTable } from './synced-tables.ts';
import { firstDifference, isJson, keyBytes, keyCondition, readable } from './target-tables.ts';
import { canonicalJson, type TargetValue } from './values.ts';

/** A row that differs between Coder and the copy. */
export interface ChangedRow {
  readonly row: SyncedRow;
  readonly stored: SyncedRow;
  /** The first column that differs. */
  readonly column: string;
}

/** The differences in a part of a table. */
export interface TableDifferences {
  /** Rows of Coder that this part has. */
  readonly compared: number;
  /** Rows that are in Coder and not in the copy. */
  readonly missing: readonly SyncedRow[];
  readonly changed: readonly ChangedRow[];
  /** Rows that are in the copy and not in Coder. */
  readonly extra: readonly SyncedRow[];
}

/**
 * Compares a table with its copy, both in the order of the key, part by part. Only within a snapshot of Coder's database; of the
 * copy, each part is read as it is then.
 */
export async function* compareTable(
  coder: CoderDatabase,
  database: Database,
  plan: TablePlan,
): AsyncGenerator<TableDifferences, void> {
  const { table, columns } = plan;
  const copy = new StoredRows(database, plan);
  let last: Buffer | undefined;
  for await (const batch of coder.batches(plan.select)) {
    const missing: SyncedRow[] = [];
    const changed: ChangedRow[] = [];
    const extra: SyncedRow[] = [];
    for (const texts of batch) {
      const row = plan.toRow(texts);
      const key = keyBytes(table, row);
      if (last !== undefined && last.compare(key) >= 0) throw new SyncError(`${table.name}: its keys cannot be put in order`);
      last = key;
      let stored = copy.peek() ?? (await copy.read());
      while (stored !== undefined && stored.key.compare(key) < 0) {
        extra.push(stored.row);
        copy.skip();
        stored = copy.peek() ?? (await copy.read());
      }
      if (stored === undefined || !stored.key.equals(key)) missing.push(row);
      else {
        copy.skip();
        const column = firstDifference(table, columns, stored.row, row);
        if (column !== undefined) changed.push({ row, stored: stored.row, column });
      }
    }
    yield { compared: batch.length, missing, changed, extra };
  }
  for (let stored = copy.peek() ?? (await copy.read()); stored !== undefined; stored = copy.peek() ?? (await copy.read())) {
    const extra: SyncedRow[] = [];
    for (let next = copy.peek(); next !== undefined; next = copy.peek()) {
      extra.push(next.row);
      copy.skip();
    }
    yield { compared: 0, missing: [], changed: [], extra };
  }
}

/**
 * Compares some rows of a table again, by their keys, as they are now.
 *
 * @param keys rows with the columns of the key at least; up to some hundred.
 */
export async function compareRows(
  coder: CoderDatabase,
  database: Database,
  plan: TablePlan,
  keys: readonly SyncedRow[],
): Promise<TableDifferences> {
  const { table } = plan;
  const stored = new Map<string, SyncedRow>();
  const { condition, values } = keyCondition(table, keys);
  for (const row of await readStored(database, plan, `(${condition})`, values)) stored.set(keyOf(table, row), row);
  const names = table.key.map((column) => `t.${quote(table.columns[column]?.source ?? column)}`);
  const texts = keys.map((key) => table.key.map((column) => textOf(key[column] ?? null)));
  const places = texts.map((_, i) => `(${names.map((__, j) => `$${i * names.length + j + 1}`).join(', ')})`);
  // select … from organization_members as t where (t.organization_id, t.user_id) in (($1, $2), ($3, $4))
  const found = await coder.rows(
    `select ${plan.sources.map((source) => `t.${quote(source)}`).join(', ')} from ${quote(table.name)} as t ` +
      `where (${names.join(', ')}) in (${places.join(', ')})`,
    texts.flat(),
  );
  const missing: SyncedRow[] = [];
  const changed: ChangedRow[] = [];
  for (const row of found.map((one) => plan.toRow(one))) {
    const key = keyOf(table, row);
    const before = stored.get(key);
    stored.delete(key);
    if (before === undefined) missing.push(row);
    else {
      const column = firstDifference(table, plan.columns, before, row);
      if (column !== undefined) changed.push({ row, stored: before, column });
    }
  }
  return { compared: found.length, missing, changed, extra: [...stored.values()] };
}

/** The key of a row for people: ids and names. */
export function describeKey(table: SyncedTable, row: SyncedRow): string {
  return table.key.map((column) => textOf(row[column] ?? null)).join(' ');
}

interface StoredRow {
  readonly key: Buffer;
  readonly row: SyncedRow;
}

/** The rows of a copy in the order of the key. */
class StoredRows {
  readonly #database: Database;
  readonly #plan: TablePlan;
  #rows: readonly SyncedRow[] = [];
  #at = 0;
  #current: StoredRow | undefined;
  #last: SyncedRow | undefined;
  #size = 500;
  #isAtEnd = false;

  constructor(database: Database, plan: TablePlan) {
    this.#database = database;
    this.#plan = plan;
  }

  /** The present row, if it has been read. */
  peek(): StoredRow | undefined {
    if (this.#current !== undefined) return this.#current;
    const row = this.#rows[this.#at];
    if (row === undefined) return undefined;
    this.#current = { key: keyBytes(this.#plan.table, row), row };
    return this.#current;
  }

  /** Advances to the next row. */
  skip(): void {
    this.#at += 1;
    this.#current = undefined;
  }

  /** Reads on, and returns the present row, if there is one. */
  async read(): Promise<StoredRow | undefined> {
    if (this.#isAtEnd) return undefined;
    const { table } = this.#plan;
    const after = this.#last === undefined ? undefined : afterKey(table, this.#last);
    const order = table.key.map((column) => `\`${table.name}\`.\`${column}\``).join(', ');
    this.#rows = await readStored(
      this.#database,
      this.#plan,
      after?.condition ?? 'true',
      after?.values ?? [],
      ` order by ${order} limit ${this.#size}`,
    );
    this.#at = 0;
    this.#last = this.#rows.at(-1);
    this.#isAtEnd = this.#rows.length < this.#size;
    this.#size = nextBatchSize(this.#rows.map((row) => Object.values(row)));
    return this.peek();
  }
}

/**
 * `id > ?`, or `(organization_id > ? or (organization_id = ? and user_id > ?))`: a comparison of pairs is no range for every
 * engine.
 */
function afterKey(table: SyncedTable, row: SyncedRow): { readonly condition: string; readonly values: readonly TargetValue[] } {
  const [first = '', second] = table.key.map((column) => `\`${table.name}\`.\`${column}\``);
  const [a = null, b = null] = table.key.map((column) => row[column] ?? null);
  if (second === undefined) return { condition: `${first} > ?`, values: [a] };
  return { condition: `(${first} > ? or (${first} = ? and ${second} > ?))`, values: [a, a, b] };
}

/** Reads rows of a copy the way conversions make them. */
async function readStored(
  database: Database,
  { table, columns }: TablePlan,
  condition: string,
  values: readonly TargetValue[],
  end = '',
): Promise<SyncedRow[]> {
  const list = columns.map((column) => readable(table, column)).join(', ');
  const where = table.only === undefined ? condition : `${table.only} and ${condition}`;
  const [rows] = (await database.raw(`select ${list} from \`${table.name}\` where ${where}${end}`, values as never)) as [
    Record<string, TargetValue>[],
  ];
  const json = columns.filter((column) => isJson(table, column));
  if (json.length > 0) {
    for (const row of rows) {
      for (const column of json) {
        const value = row[column];
        if (typeof value === 'string' && value.length > 2) row[column] = canonicalJson(value) ?? value;
      }
    }
  }
  return rows;
}

function keyOf(table: SyncedTable, row: SyncedRow): string {
  return keyBytes(table, row).toString('latin1');
}

function textOf(value: TargetValue): string {
  return Buffer.isBuffer(value) ? formatUuid(value) : String(value);
}
