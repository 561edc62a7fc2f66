import type { Database } from '../db/connection.ts';
import { changeKinds } from '../schema/noted-tables.ts';
import type { Change } from '../schema/outbox.ts';

/**
 * Works on all items at once. When that fails because of one of them, finds it by halves: the others are worked on, and `park`
 * takes the ones that fail alone. Any other error, of the server or of the connection, is thrown as it is.
 */
export async function workOrPark<T>(
  items: readonly T[],
  work: (items: readonly T[]) => Promise<void>,
  park: (item: T, error: unknown) => Promise<void>,
): Promise<void> {
  try {
    await work(items);
  } catch (error) {
    const [first] = items;
    if (first === undefined || !isPoison(error)) throw error;
    if (items.length === 1) {
      await park(first, error);
      return;
    }
    const middle = Math.ceil(items.length / 2);
    await workOrPark(items.slice(0, middle), work, park);
    await workOrPark(items.slice(middle), work, park);
  }
}

/** Classes of SQLSTATE that are about the data: too many rows, a value that does not fit, a constraint, an error that SQL raises. */
const dataClasses = new Set(['21', '22', '23', '44', '45']);

/** The same, where the server has no such class: a wrong character, a failed check, a statement that takes longer than it may. */
const dataErrors = new Set<unknown>([1366, 3819, 1969, 3024]);

/** Whether an error can be the fault of one row, so that the same work without that row would succeed. */
function isPoison(error: unknown): boolean {
  const { sqlState, errno, code } = Object(error) as { sqlState?: unknown; errno?: unknown; code?: unknown };
  if (typeof sqlState === 'string') return dataClasses.has(sqlState.slice(0, 2)) || dataErrors.has(errno);
  // Not from the server: a bug of ours about a row, if it is no lost connection.
  return error instanceof TypeError || error instanceof RangeError ? code === undefined : false;
}

/** An error for the log: of one that the server answered its code and its words, without the statement; any other whole. */
export function briefly(error: unknown): { readonly err: unknown } | { readonly code: unknown; readonly reason: unknown } {
  const { sqlMessage, code } = Object(error) as { sqlMessage?: unknown; code?: unknown };
  return sqlMessage === undefined ? { err: error } : { code, reason: sqlMessage };
}

/** Characters of an error that are kept. */
const maxErrorCharacters = 1000;

/** Keeps a change that cannot be projected, for people to look at; a later change of the same workspace is tried again. */
export async function parkChange(database: Database, { kind, ref }: Pick<Change, 'kind' | 'ref'>, error: unknown): Promise<void> {
  const brief = briefly(error);
  const text = String('reason' in brief ? brief.reason : error).slice(0, maxErrorCharacters);
  await database.raw(
    'insert into `workspace_changes_failed` (`kind`, `ref`, `error`) values (?, ?, ?) ' +
      'on duplicate key update `error` = values(`error`), `failed_at` = utc_timestamp(6)',
    [kind, ref, text],
  );
}

/** Forgets that these workspaces could not be projected: they have been. */
export async function unparkWorkspaces(database: Database, ids: readonly Buffer[]): Promise<void> {
  if (ids.length === 0) return;
  await database('workspace_changes_failed')
    .where('workspace_changes_failed.kind', changeKinds.workspace)
    .whereIn('workspace_changes_failed.ref', ids)
    .delete();
}

/** How many changes are parked. */
export async function countParked(database: Database): Promise<number> {
  const [[row]] = (await database.raw('select count(*) as `parked` from `workspace_changes_failed`')) as [{ parked: number }[]];
  return row?.parked ?? 0;
}
