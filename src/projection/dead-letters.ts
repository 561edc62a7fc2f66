import type { Database } from '../db/connection.ts';
import type { OutboxChange } from '../schema/outbox.ts';
import { changeKinds } from '../schema/projected-tables.ts';

/**
 * Processes all items at once. When that fails because of the data of an item, splits the items in halves until the bad ones are
 * found: `deadLetter` is called for each of those, and all others are processed. Any other error, of the server or of the
 * connection, is thrown as it is.
 */
export async function processOrDeadLetter<T>(
  items: readonly T[],
  process: (items: readonly T[]) => Promise<void>,
  deadLetter: (item: T, error: unknown) => Promise<void>,
): Promise<void> {
  try {
    await process(items);
  } catch (error) {
    const [first] = items;
    if (first === undefined || !isDataError(error)) throw error;
    if (items.length === 1) {
      await deadLetter(first, error);
      return;
    }
    const middle = Math.ceil(items.length / 2);
    await processOrDeadLetter(items.slice(0, middle), process, deadLetter);
    await processOrDeadLetter(items.slice(middle), process, deadLetter);
  }
}

/**
 * Classes of SQLSTATE that are about the data: too many rows, a value that does not fit, a constraint, an error that SQL raises.
 */
const dataClasses = new Set(['21', '22', '23', '44', '45']);

/** Errors about the data that have no such SQLSTATE: a wrong character, a failed check, a statement over its time limit. */
const dataErrors = new Set<unknown>([1366, 3819, 1969, 3024]);

/** Whether an error can be caused by the data of one row, so that the same work without that row would succeed. */
function isDataError(error: unknown): boolean {
  const { sqlState, errno, code } = Object(error) as { sqlState?: unknown; errno?: unknown; code?: unknown };
  if (typeof sqlState === 'string') return dataClasses.has(sqlState.slice(0, 2)) || dataErrors.has(errno);
  // Not from the server: a bug of this program in handling a row, unless the connection was lost.
  return error instanceof TypeError || error instanceof RangeError ? code === undefined : false;
}

/** An error as log fields: the code and message of an error of the server, without the statement; any other error as it is. */
export function errorForLog(error: unknown): { readonly err: unknown } | { readonly code: unknown; readonly reason: unknown } {
  const { sqlMessage, code } = Object(error) as { sqlMessage?: unknown; code?: unknown };
  return sqlMessage === undefined ? { err: error } : { code, reason: sqlMessage };
}

/** Characters of an error that are kept. */
const maxErrorCharacters = 1000;

/** Records a change that cannot be projected. A later change of the same workspace is tried again. */
export async function addDeadLetter(
  database: Database,
  { kind, ref }: Pick<OutboxChange, 'kind' | 'ref'>,
  error: unknown,
): Promise<void> {
  const brief = errorForLog(error);
  const text = String('reason' in brief ? brief.reason : error).slice(0, maxErrorCharacters);
  await database.raw(
    'insert into `workspace_changes_failed` (`kind`, `ref`, `error`) values (?, ?, ?) ' +
      'on duplicate key update `error` = values(`error`), `failed_at` = utc_timestamp(6)',
    [kind, ref, text],
  );
}

/** Removes the dead letters of workspaces that have been projected since. */
export async function removeDeadLetters(database: Database, ids: readonly Buffer[]): Promise<void> {
  if (ids.length === 0) return;
  await database('workspace_changes_failed')
    .where('workspace_changes_failed.kind', changeKinds.workspace)
    .whereIn('workspace_changes_failed.ref', ids)
    .delete();
}

/** Counts the dead letters. */
export async function countDeadLetters(database: Database): Promise<number> {
  const [[row]] = (await database.raw('select count(*) as `count` from `workspace_changes_failed`')) as [{ count: number }[]];
  return row?.count ?? 0;
}
