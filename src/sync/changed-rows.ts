import { quote } from './coder-database.ts';
import type { SnapshotVisibility } from './snapshot-visibility.ts';
import type { TablePlan } from './source-version.ts';

/** Transaction ids are of 32 bits in rows, and of 64 in snapshots. */
const idsOfRows = 1n << 32n;

/** The first ids are PostgreSQL's own, and older than all others. */
const firstId = 3n;

/** After so many transactions, rows that changed since a snapshot cannot be told from old ones: half of 31 bits. */
const mostTransactions = 1n << 30n;

/** Whether the rows that changed between two snapshots of one server can be found. */
export function canFollow(before: SnapshotVisibility, now: SnapshotVisibility): boolean {
  return now.xmin >= before.xmin && now.xmax - before.xmin < mostTransactions;
}

/**
 * The statement that reads the rows of a table that were written since a snapshot, in the columns of the plan.
 *
 * Each row has the id of the transaction that wrote it, `xmin`. `updated_at` would not do: Coder changes roles, ACLs and more
 * without it, and five tables have none. Transactions that were running at the snapshot are not before its `xmin`, however long
 * they take; no clock is involved. `age` counts the transactions since one, and is the greatest number for frozen rows.
 *
 *   select t."id", t."username", … from "users" as t where age(t.xmin) between 0 and age('1234'::xid)
 */
export function changedSince({ table, sources }: TablePlan, { xmin }: SnapshotVisibility): string {
  const id = xmin % idsOfRows;
  const columns = sources.map((source) => `t.${quote(source)}`).join(', ');
  return (
    `select ${columns} from ${quote(table.name)} as t ` +
    `where age(t.xmin) between 0 and age('${id < firstId ? firstId : id}'::xid)`
  );
}

/** A plan that reads nothing of a table but the keys of its rows. */
export function keysOnly(plan: TablePlan): TablePlan {
  const { table } = plan;
  const sources = table.key.map((column) => table.columns[column]?.source ?? column);
  const from = plan.select.indexOf(' from ');
  return {
    ...plan,
    columns: table.key,
    sources,
    select: `select ${sources.map((source) => `t.${quote(source)}`).join(', ')}${plan.select.slice(from)}`,
    toRow: (texts) => plan.toPartialRow(Object.fromEntries(sources.map((source, index) => [source, texts[index] ?? null]))),
  };
}
