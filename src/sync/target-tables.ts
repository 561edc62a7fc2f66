import type { Database } from '../db/connection.ts';
import { bytesInStatement, type PacketLimit, partsOf, readPacketLimit } from '../db/packet-limit.ts';
import { projectedTables } from '../schema/projected-tables.ts';
import { missingTriggers } from '../schema/triggers.ts';
import type { SyncedRow } from './source-version.ts';
import { CopyOutdatedError, SyncError } from './sync-error.ts';
import type { SyncedTable } from './synced-tables.ts';
import { makesJson, mostTextBytes, type TargetValue } from './values.ts';

/** Most rows in one statement. Locks of rows are kept by the transaction, whatever their number. */
const rowsPerStatement = 1000;

/** Keys in one statement that deletes or reads rows. */
const keysPerStatement = 200;

/** How rows are written. */
export interface WriteOptions {
  readonly limit: PacketLimit;
  /** Whether the workspaces that may change are noted for the projector in the same transaction, since no triggers do it. */
  readonly notes: boolean;
}

/** Finds out how rows are written: notes are made where triggers are missing, or none are wanted (`MIGRATE_TRIGGERS=false`). */
export async function readWriteOptions(database: Database, withoutTriggers = false): Promise<WriteOptions> {
  const notes = withoutTriggers || (await missingTriggers(database)).length > 0;
  return { limit: await readPacketLimit(database), notes };
}

/** Makes sure that a row with two long texts, escaped, fits into one statement. @throws {SyncError} that says what to set. */
export function requireLargePackets({ bytes, valueBytes }: PacketLimit): void {
  if (valueBytes >= 3 * mostTextBytes) return;
  throw new SyncError(`max_allowed_packet of the database is ${bytes}: to copy from Coder it must be at least 4194304`);
}

/**
 * Inserts rows that are not there yet, and notes nothing: what is faster for a first copy.
 *
 *   insert into users (id, …) values (…), (…)
 */
export async function insertRows(
  transaction: Database,
  table: SyncedTable,
  columns: readonly string[],
  rows: readonly SyncedRow[],
  { limit }: Pick<WriteOptions, 'limit'>,
): Promise<void> {
  await write(transaction, table, columns, rows, limit, '');
}

/**
 * Makes rows what Coder says they are, whether they are there or not. What we noted ourselves stays, as its column says. Of several
 * rows with one key, the later ones count, column by column.
 *
 * A row may lack columns that have not changed: then the row must be there, in the database or before it among `rows`.
 *
 *   insert into users (id, …) values (…), (…) on duplicate key update username = values(username), …
 *
 * @throws {CopyOutdatedError} when a row lacks columns and is not there.
 */
export async function upsertRows(
  transaction: Database,
  table: SyncedTable,
  columns: readonly string[],
  rows: readonly SyncedRow[],
  { limit, notes }: WriteOptions,
): Promise<void> {
  const merged = new Map<string, SyncedRow>();
  for (const row of rows) {
    const key = keyBytes(table, row).toString('latin1');
    const before = merged.get(key);
    merged.set(key, before === undefined ? row : { ...before, ...row });
  }
  const whole = await completed(transaction, table, columns, [...merged.values()]);
  const updates = columns
    .filter((column) => !table.key.includes(column))
    .map((column) => `\`${column}\` = ${updateOf(table, column)}`);
  // A row that is its key and nothing else stays as it is.
  const [first = ''] = table.key;
  const update = updates.length === 0 ? `\`${first}\` = values(\`${first}\`)` : updates.join(', ');
  if (notes) await noteRows(transaction, table, whole); // they may belong to another workspace afterwards
  await write(transaction, table, columns, whole, limit, ` on duplicate key update ${update}`);
  if (notes) await noteRows(transaction, table, whole);
}

/** Deletes the rows with some keys; each key has the values of the table's key columns, as a row has. */
export async function removeRows(
  transaction: Database,
  table: SyncedTable,
  keys: readonly SyncedRow[],
  { notes }: Pick<WriteOptions, 'notes'>,
): Promise<void> {
  if (notes) await noteRows(transaction, table, keys);
  for (let from = 0; from < keys.length; from += keysPerStatement) {
    const { condition, values } = keyCondition(table, keys.slice(from, from + keysPerStatement));
    await transaction.raw(`delete from \`${table.name}\` where ${condition}`, values as never);
  }
}

/** Deletes all rows of a table that are Coder's, row by row, so that its triggers see each. */
export async function removeAllRows(
  transaction: Database,
  table: SyncedTable,
  { notes }: Pick<WriteOptions, 'notes'>,
): Promise<void> {
  if (notes) await noteWhere(transaction, table, 'true', []);
  await transaction.raw(`delete from \`${table.name}\`${table.only === undefined ? '' : ` where ${table.only}`}`);
}

/** Notes the workspaces of rows as they are now, as the triggers would. A change of any column is noted. */
export async function noteRows(transaction: Database, table: SyncedTable, keys: readonly SyncedRow[]): Promise<void> {
  for (let from = 0; from < keys.length; from += keysPerStatement) {
    const { condition, values } = keyCondition(table, keys.slice(from, from + keysPerStatement));
    await noteWhere(transaction, table, condition, values);
  }
}

/**
 * Notes what rows belong to, each once.
 *
 *   insert into workspace_changes (kind, ref) select distinct 1, workspace_builds.workspace_id from workspace_builds
 *   where (workspace_builds.id in (?, …))
 */
async function noteWhere(
  transaction: Database,
  { name }: SyncedTable,
  condition: string,
  values: readonly TargetValue[],
): Promise<void> {
  const projected = projectedTables[name];
  if (projected === undefined) return;
  const { kind, key, only } = projected;
  await transaction.raw(
    `insert into \`workspace_changes\` (\`kind\`, \`ref\`) select distinct ${kind}, \`${name}\`.\`${key}\` from \`${name}\` ` +
      `where (${condition})${only === undefined ? '' : ` and \`${name}\`.\`${only[0]}\` = ?`}`,
    [...values, ...(only === undefined ? [] : [only[1]])] as never,
  );
}

/**
 * The key of a row as bytes that sort as both databases sort it: ids and numbers are of one length, and a text is the last part.
 */
export function keyBytes(table: SyncedTable, row: SyncedRow): Buffer {
  const parts = table.key.map((column) => {
    const value = row[column];
    if (Buffer.isBuffer(value)) return value;
    if (typeof value !== 'number') return Buffer.from(String(value));
    const number = Buffer.alloc(4);
    number.writeUInt32BE(value + 2 ** 31); // an integer of 32 bits: negative ones come first
    return number;
  });
  const [only] = parts;
  return parts.length === 1 && only !== undefined ? only : Buffer.concat(parts);
}

/**
 * Whether what is stored is what Coder says: whether {@link upsertRows} would leave the row as it is.
 *
 * @returns the first column that differs.
 */
export function firstDifference(
  table: SyncedTable,
  columns: readonly string[],
  stored: SyncedRow,
  row: SyncedRow,
): string | undefined {
  return columns.find((column) => {
    const [ours, theirs] = [stored[column] ?? null, row[column] ?? null];
    if (isSame(ours, theirs)) return false;
    switch (table.columns[column]?.own) {
      case 'later':
        return theirs !== null && (ours === null || String(ours) < String(theirs));
      case 'active':
        return !(ours === 'active' && theirs === 'dormant');
      case 'extended': // its other column tells
        return ours === null;
      case undefined:
        return true;
    }
  });
}

/** What reads a column back the way a conversion makes it. MySQL gives JSON as objects, unless it is asked for text. */
export function readable(table: SyncedTable, column: string): string {
  const name = `\`${table.name}\`.\`${column}\``;
  return isJson(table, column) ? `cast(${name} as char character set utf8mb4) as \`${column}\`` : name;
}

/** Whether a column of ours is JSON. */
export function isJson(table: SyncedTable, column: string): boolean {
  const synced = table.columns[column];
  return synced !== undefined && makesJson(synced.convert);
}

/** `(id = ? and user_id = ?) or …`: a list of pairs is no range for every engine. */
export function keyCondition(
  table: SyncedTable,
  keys: readonly SyncedRow[],
): { readonly condition: string; readonly values: readonly TargetValue[] } {
  const columns = table.key.map((column) => `\`${table.name}\`.\`${column}\``);
  if (columns.length === 1) {
    return {
      condition: `${columns[0] ?? ''} in (${keys.map(() => '?').join(', ')})`,
      values: keys.map((key) => key[table.key[0] ?? ''] ?? null),
    };
  }
  const one = `(${columns.map((column) => `${column} = ?`).join(' and ')})`;
  return {
    condition: keys.map(() => one).join(' or '),
    values: keys.flatMap((key) => table.key.map((column) => key[column] ?? null)),
  };
}

function updateOf(table: SyncedTable, column: string): string {
  const [stored, given] = [`\`${table.name}\`.\`${column}\``, `values(\`${column}\`)`];
  switch (table.columns[column]?.own) {
    case 'later':
      return `greatest(coalesce(${stored}, ${given}), coalesce(${given}, ${stored}))`;
    case 'active':
      return `if(${stored} = 'active' and ${given} = 'dormant', ${stored}, ${given})`;
    case 'extended': {
      // Before the assignment of Coder's own: it still has what Coder said last. Coder may also end a token, by an earlier time.
      const last = `\`${table.name}\`.\`coder_${column}\``;
      return `if(${last} is null or ${given} < ${last}, ${given}, greatest(${stored}, ${given}))`;
    }
    case undefined:
      return given;
  }
}

async function write(
  transaction: Database,
  table: SyncedTable,
  columns: readonly string[],
  rows: readonly SyncedRow[],
  limit: PacketLimit,
  end: string,
): Promise<void> {
  const names = columns.map((column) => `\`${column}\``).join(', ');
  const values = rows.map((row) => columns.map((column) => row[column] ?? null));
  const parts = [...partsOf(values, bytesInStatement, limit, rowsPerStatement)];
  // The driver sends one when the last has ended. Here they are made meanwhile, and so is what comes next.
  await Promise.all(
    parts.map((part) => transaction.raw(`insert into \`${table.name}\` (${names}) values ?${end}`, [part as never])),
  );
}

/** The rows with all of their columns: those that a row lacks are read from the database. */
async function completed(
  transaction: Database,
  table: SyncedTable,
  columns: readonly string[],
  rows: readonly SyncedRow[],
): Promise<SyncedRow[]> {
  const partial = rows.filter((row) => columns.some((column) => row[column] === undefined));
  if (partial.length === 0) return [...rows];
  const stored = new Map<string, SyncedRow>();
  for (let from = 0; from < partial.length; from += keysPerStatement) {
    const { condition, values } = keyCondition(table, partial.slice(from, from + keysPerStatement));
    const list = columns.map((column) => readable(table, column)).join(', ');
    const [found] = (await transaction.raw(`select ${list} from \`${table.name}\` where ${condition}`, values as never)) as [
      SyncedRow[],
    ];
    for (const row of found) stored.set(keyBytes(table, row).toString('latin1'), row);
  }
  return rows.map((row) => {
    if (!partial.includes(row)) return row;
    const before = stored.get(keyBytes(table, row).toString('latin1'));
    if (before === undefined) throw new CopyOutdatedError(`a row of ${table.name} that Coder has changed is not in the copy`);
    return { ...before, ...row };
  });
}

function isSame(a: TargetValue, b: TargetValue): boolean {
  return a === b || (Buffer.isBuffer(a) && Buffer.isBuffer(b) && a.equals(b));
}
