import { createHash } from 'node:crypto';
import type { Config } from '../config.ts';
import { type CoderDatabase, quote, type SourceRow } from './coder-database.ts';
import { SyncError } from './sync-error.ts';
import { type SyncedColumn, type SyncedTable, syncedTables } from './synced-tables.ts';
import { unusedColumns } from './unused-columns.ts';
import { int4, type TargetValue, uuid, ValueError } from './values.ts';

/** A row of ours: values by column. A column that is not there stays as it is. */
export type SyncedRow = Readonly<Record<string, TargetValue>>;

/** How a table is copied from the version of Coder that was met. */
export interface TablePlan {
  readonly table: SyncedTable;
  /** The columns of ours that are written. */
  readonly columns: readonly string[];
  /** The columns of Coder that are read, in order, each once. */
  readonly sources: readonly string[];
  /** Reads all rows in the order of the key. */
  readonly select: string;
  /** Converts a row of {@link select}. */
  toRow(texts: SourceRow): Record<string, TargetValue>;
  /** Converts what is known of a row: values by Coder's columns. What is `undefined` or missing there is missing here. */
  toPartialRow(texts: Readonly<Record<string, string | null | undefined>>): Record<string, TargetValue>;
}

/** Is told of each value that could not be kept as it is. */
export type OnAdjusted = (table: string, column: string, why: string) => void;

/** What was met at the source. */
export interface SourceShape {
  /** Which Coder it is, as far as its columns tell: the month of the newest that was met. */
  readonly version: string;
  readonly plans: readonly TablePlan[];
}

/** A column of Coder's database, and whether the account may read it. */
export interface SourceColumn {
  readonly table: string;
  readonly column: string;
  readonly readable: boolean;
}

/** What is done with less than everything, or without something. */
export interface CopyScope {
  /** Leaves `api_keys` out. */
  readonly withoutSessions?: boolean;
  /** Columns, as `table.column`, that are in neither of our lists and are to be passed over. */
  readonly ignoredColumns?: readonly string[];
  /** No triggers note for the projector what is written, so that whoever writes does. */
  readonly withoutTriggers?: boolean;
}

/** What the settings, or the command line, leave out of a copy. */
export function copyScopeOf(
  {
    CODER_WITHOUT_SESSIONS,
    CODER_IGNORE_COLUMNS,
    MIGRATE_TRIGGERS,
  }: Pick<Config, 'CODER_WITHOUT_SESSIONS' | 'CODER_IGNORE_COLUMNS' | 'MIGRATE_TRIGGERS'>,
  withoutSessions = false,
): CopyScope {
  return {
    withoutSessions: withoutSessions || CODER_WITHOUT_SESSIONS,
    ignoredColumns: CODER_IGNORE_COLUMNS,
    withoutTriggers: !MIGRATE_TRIGGERS,
  };
}

/**
 * A digest of the columns that are copied, and of where they come from. It is another one when Coder or the service was upgraded,
 * or other settings say what is left out: then rows that have not changed have to be copied, too.
 */
export function shapeDigest({ plans }: SourceShape): string {
  const columns = plans.map(({ table, columns: ours, sources }) => [table.name, ours, sources]);
  return createHash('sha256').update(JSON.stringify(columns)).digest('hex');
}

/** Columns, or tables if no column is said, that tell versions of Coder apart: when each came, newest first. */
const marks: readonly (readonly [since: string, table: string, column: string])[] = [
  ['June 2026', 'organizations', 'default_org_member_roles'],
  ['March 2026', 'users', 'is_service_account'],
  ['February 2026', 'templates', 'disable_module_cache'],
  ['January 2026', 'custom_roles', 'is_system'],
  ['November 2025', 'tasks', 'display_name'],
  ['October 2025', 'task_workspace_apps', 'workspace_build_number'],
  ['September 2025', 'api_keys', 'scopes'],
];

/**
 * Reads which columns the synced tables of Coder have, whatever the account may read of them.
 *
 *   select c.relname, a.attname, has_column_privilege(c.oid, a.attnum, 'select') from unnest($1::text[]) as n …
 */
export async function readSourceColumns(coder: CoderDatabase): Promise<SourceColumn[]> {
  const rows = await coder.rows(
    `select n.name, a.attname, has_column_privilege(c.oid, a.attnum, 'select')
     from unnest($1::text[]) as n (name)
     join pg_catalog.pg_class as c on c.oid = to_regclass(quote_ident(n.name))
     join pg_catalog.pg_attribute as a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
     order by c.relname, a.attnum`,
    [syncedTables.map(({ name }) => name)],
  );
  return rows.map(([table, column, readable]) => ({ table: table ?? '', column: column ?? '', readable: readable === 't' }));
}

/** Finds out which Coder is at the source, and how its tables are copied. @throws {SyncError} as {@link planTables}. */
export async function readSourceShape(
  coder: CoderDatabase,
  scope: CopyScope = {},
  onAdjusted: OnAdjusted = () => {},
): Promise<SourceShape> {
  return planTables(await readSourceColumns(coder), scope, onAdjusted);
}

/**
 * Decides how each table is copied.
 *
 * @throws {SyncError} that names the table and the column, when one is missing, or may not be read, or is in neither of our lists.
 */
export function planTables(columns: readonly SourceColumn[], scope: CopyScope, onAdjusted: OnAdjusted): SourceShape {
  const tables = syncedTables.filter(
    (table) => !(scope.withoutSessions === true && table.name === 'api_keys') && !(table.optional && isAbsent(table, columns)),
  );
  const plans = tables.map((table) => planTable(table, columns, scope, onAdjusted));
  const [version = 'August 2025'] =
    marks.find(([, table, column]) => columns.some((has) => has.table === table && has.column === column)) ?? [];
  return { version: `Coder of ${version} or later`, plans };
}

/** Whether a version of Coder lacks a table, or a column of it without which its rows say nothing. */
function isAbsent({ name, columns }: SyncedTable, all: readonly SourceColumn[]): boolean {
  const found = new Set(all.filter(({ table }) => table === name).map(({ column }) => column));
  return Object.entries(columns).some(([column, { source = column, absent }]) => absent === undefined && !found.has(source));
}

function planTable(
  table: SyncedTable,
  all: readonly SourceColumn[],
  { ignoredColumns = [] }: CopyScope,
  onAdjusted: OnAdjusted,
): TablePlan {
  const { name } = table;
  const found = new Map(all.filter((has) => has.table === name).map(({ column, readable }) => [column, readable]));
  if (found.size === 0)
    throw new SyncError(
      `Coder's database has no table ${name}, or the role may not use its schema, or has it not on its search_path: see sync grants`,
    );
  const sourceOf = (column: string): string => table.columns[column]?.source ?? column;
  const known = new Set([...Object.keys(table.columns).map(sourceOf), ...(unusedColumns[name] ?? [])]);
  const unknown = [...found.keys()].find((column) => !known.has(column) && !ignoredColumns.includes(`${name}.${column}`));
  if (unknown !== undefined) {
    throw new SyncError(
      `${name}.${unknown} is a column that no known version of Coder has: use a newer tasks-service, or name it in CODER_IGNORE_COLUMNS`,
    );
  }
  const copied: CopiedColumn[] = [];
  const defaults: Record<string, TargetValue> = {};
  for (const [column, synced] of Object.entries(table.columns)) {
    const source = sourceOf(column);
    const readable = found.get(source);
    if (readable === undefined && synced.absent === undefined) {
      throw new SyncError(`${name}.${source} is missing: this is no version of Coder from August 2025 to June 2026`);
    }
    if (readable === false) throw new SyncError(`${name}.${source} may not be read: grant SELECT on it, see "sync grants"`);
    if (readable === undefined) defaults[column] = synced.absent ?? null;
    else copied.push({ column, source, synced });
  }
  const sources = [...new Set(copied.map(({ source }) => source))];
  const positions = copied.map(({ source }) => sources.indexOf(source));

  const convert = ({ column, synced }: CopiedColumn, value: string | null): TargetValue => {
    if (value === null) return null;
    try {
      return synced.convert(value, (why) => onAdjusted(name, column, why));
    } catch (error) {
      if (error instanceof ValueError) throw new SyncError(`${name}.${column}: ${error.message}`, { cause: error });
      throw error;
    }
  };
  // PostgreSQL orders text by its collation, which is not ours; both sides must agree.
  const order = table.key.map((column) => `t.${quote(sourceOf(column))}${isText(table.columns[column]) ? ' collate "C"' : ''}`);
  return {
    table,
    columns: [...copied.map(({ column }) => column), ...Object.keys(defaults)],
    sources,
    select: `select ${sources.map((source) => `t.${quote(source)}`).join(', ')} from ${quote(name)} as t order by ${order.join(', ')}`,
    toRow(texts) {
      const row: Record<string, TargetValue> = {};
      for (const [index, one] of copied.entries()) row[one.column] = convert(one, texts[positions[index] ?? 0] ?? null);
      return Object.assign(row, defaults);
    },
    toPartialRow(texts) {
      const row: Record<string, TargetValue> = {};
      for (const one of copied) {
        const value = texts[one.source];
        if (value !== undefined) row[one.column] = convert(one, value);
      }
      return Object.assign(row, defaults);
    },
  };
}

interface CopiedColumn {
  readonly column: string;
  readonly source: string;
  readonly synced: SyncedColumn;
}

/** Whether a column of a key is a text, and neither an id nor a number. */
function isText(column: SyncedColumn | undefined): boolean {
  return column?.convert !== uuid && column?.convert !== int4;
}
