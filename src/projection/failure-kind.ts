import { databaseErrorKind, errorsOfCause, isConflict, lockCause, noClientsCause, noWritesCause } from '../db/database-errors.ts';

/**
 * What an error says of the rows whose projection it ended:
 *
 * - `row`: the data of a row cause it, so that the same work without that row succeeds. The connection is as it was.
 * - `slow`: the same, of a row that takes longer than the statement limit. Each try takes as long.
 * - `server`: every row would fail in the same way, such as on a server that takes no writes.
 * - `conflict`: another transaction was first, of this server or of another one of a cluster. No row is the cause.
 * - `transient`: others hold the row, or the whole table; or COMMIT failed, perhaps since the transaction is too large. No row is the
 *   cause, however often it comes, and smaller parts of the work may succeed.
 * - `unclear`: a row may cause it or not, such as a lost connection. It shows when it comes again for one row and for no other.
 */
export type FailureKind = 'row' | 'slow' | 'server' | 'conflict' | 'transient' | 'unclear';

/**
 * Classes of SQLSTATE that are about the data: too many rows, a value that does not fit, a constraint, an error that SQL raises.
 */
const dataClasses: ReadonlySet<string> = new Set(['21', '22', '23', '44', '45']);

/** Errors about the data that have no such SQLSTATE. */
const dataErrors: ReadonlySet<unknown> = new Set([
  1118, // the row is too large for a page
  1267, // illegal mix of collations
  1300, // invalid character string
  1301, // the result of a function is larger than max_allowed_packet
  1366, // incorrect value for the column
  1411, // incorrect value for a function
  1436, // thread stack overrun, by a deep JSON
  1525, // incorrect DATETIME value
  1977, // MariaDB: a character cannot be converted
  3140, // MySQL: invalid JSON text
  3819, // MySQL: a check is violated
  3854, // MySQL: a string cannot be converted
]);

/** Errors of locks, and of transactions that a server or its cluster refuses at COMMIT, among others for their size. */
const transientErrors: ReadonlySet<unknown> = new Set([
  ...errorsOfCause(lockCause).filter((error) => error !== 1020 && error !== 1213), // these are conflicts
  1197, // larger than max_binlog_cache_size
  1206, // more locks than there is room for
  3100, // Group Replication: larger than group_replication_transaction_size_limit, or the node has just left
  3231, // Group Replication: more keys than its certification takes
]);

/** Errors of the server's state, and of the rights of the account, that no single row can cause. */
const serverErrors: ReadonlySet<unknown> = new Set([
  ...errorsOfCause(noClientsCause),
  ...errorsOfCause(noWritesCause),
  1021, // the disk is full
  1026, // error writing a file
  1041, // out of memory
  1044, // access denied to the database
  1045, // access denied
  1049, // no such database
  1054, // no such column
  1114, // the table is full
  1142, // no right for the table
  1143, // no right for the column
  1146, // no such table
  1223, // a read lock
  1227, // no such privilege
  1370, // no right for the routine
  3906, // super_read_only
]);

/** Tells of an error what it says of the rows. */
export function failureKind(error: unknown): FailureKind {
  const { sqlState, errno, code, fatal } = Object(error) as Record<'sqlState' | 'errno' | 'code' | 'fatal', unknown>;
  if (typeof sqlState !== 'string') {
    // Not from the server: a bug of this program in handling a row, unless the connection was lost.
    return (error instanceof TypeError || error instanceof RangeError) && code === undefined ? 'row' : 'unclear';
  }
  if (databaseErrorKind(error) === 'too-expensive') return 'slow';
  if (transientErrors.has(errno)) return 'transient';
  if (isConflict(error)) return 'conflict';
  if (serverErrors.has(errno)) return 'server';
  if (fatal === true) return 'unclear'; // the connection is lost
  return dataClasses.has(sqlState.slice(0, 2)) || dataErrors.has(errno) ? 'row' : 'unclear';
}
