import { setTimeout as sleep } from 'node:timers/promises';
import type { Database } from '../db/connection.ts';
import { formatUuid } from '../db/uuid.ts';
import type { CoderDatabase } from './coder-database.ts';
import { compareRows, compareTable, describeKey, type TableDifferences } from './compare-tables.ts';
import type { SourceShape, SyncedRow, TablePlan } from './source-version.ts';
import { keyBytes } from './target-tables.ts';
import type { TargetValue } from './values.ts';

/** What is compared, and how long changes may be under way. */
export interface VerifyOptions {
  readonly coder: CoderDatabase;
  readonly database: Database;
  readonly shape: SourceShape;
  /** How long a difference has to last until it counts, in milliseconds: what Coder has just written may not have arrived. */
  readonly patienceMs: number;
  readonly onProgress?: (rows: number) => void;
}

/** Rows that are compared again at once, and how often. */
const rowsAtOnce = 200;
const lookEveryMs = 500;

/** Columns whose values are nobody's business. */
const secret: ReadonlySet<string> = new Set(['hashed_secret', 'email']);

/**
 * Compares Coder's tables with their copy, and reports each difference as a line, such as
 * `workspaces 9f0e… name: stored "a", expected "b"`; returns how many there are.
 */
export async function verifyCopy(options: VerifyOptions, report: (line: string) => void): Promise<number> {
  const { coder, database, shape } = options;
  let count = 0;
  let rows = 0;
  for (const plan of shape.plans) {
    let suspects: SyncedRow[] = [];
    const judge = async (): Promise<void> => {
      const lines = await lasting(options, plan, suspects);
      count += lines.length;
      lines.forEach(report);
      suspects = [];
    };
    // Each table is a snapshot of its own: the next one sees what was committed meanwhile.
    const parts = await collect(coder, database, plan, (part) => {
      rows += part.compared;
      options.onProgress?.(rows);
    });
    for (const row of parts) {
      suspects.push(row);
      if (suspects.length === rowsAtOnce) await judge();
    }
    if (suspects.length > 0) await judge();
  }
  return count;
}

/** Most differing rows of a table that are looked at. */
const mostSuspects = 10_000;

/** The rows of a table that differ, as they are found. */
async function collect(
  coder: CoderDatabase,
  database: Database,
  plan: TablePlan,
  onPart: (part: TableDifferences) => void,
): Promise<SyncedRow[]> {
  const found: SyncedRow[] = [];
  await coder.inSnapshot(async () => {
    for await (const part of compareTable(coder, database, plan)) {
      onPart(part);
      const rows = [...part.missing, ...part.extra, ...part.changed.map(({ row }) => row)];
      found.push(...rows.slice(0, mostSuspects - found.length));
    }
  });
  return found;
}

/** Looks at rows again until they do not differ any more, or for too long. */
async function lasting(
  { coder, database, patienceMs }: VerifyOptions,
  plan: TablePlan,
  rows: readonly SyncedRow[],
): Promise<string[]> {
  const deadline = performance.now() + patienceMs;
  for (let suspects = rows; ; ) {
    const differences = await compareRows(coder, database, plan, suspects);
    const { missing, extra, changed } = differences;
    if (missing.length + extra.length + changed.length === 0) return [];
    if (performance.now() >= deadline) return describe(plan, differences);
    const left = new Set(
      [...missing, ...extra, ...changed.map(({ row }) => row)].map((row) => keyBytes(plan.table, row).toString('latin1')),
    );
    suspects = suspects.filter((row) => left.has(keyBytes(plan.table, row).toString('latin1')));
    await sleep(lookEveryMs);
  }
}

function describe({ table }: TablePlan, { missing, extra, changed }: TableDifferences): string[] {
  const line = (row: SyncedRow, what: string) => `${table.name} ${describeKey(table, row)} ${what}`;
  return [
    ...missing.map((row) => line(row, 'is missing')),
    ...extra.map((row) => line(row, 'is not in Coder')),
    ...changed.map(({ row, stored, column }) =>
      line(
        row,
        secret.has(column) ? `${column}: differs` : `${column}: stored ${show(stored[column])}, expected ${show(row[column])}`,
      ),
    ),
  ];
}

/** Characters of a value that are shown. */
const mostShown = 120;

function show(value: TargetValue | undefined): string {
  if (value === null || value === undefined) return 'NULL';
  const text = Buffer.isBuffer(value) ? (value.length === 16 ? formatUuid(value) : 'bytes') : JSON.stringify(value);
  return text.length > mostShown ? `${text.slice(0, mostShown)}… (${text.length} characters)` : text;
}
