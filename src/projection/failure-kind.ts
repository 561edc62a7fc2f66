import { databaseErrorKind, isConflict } from '../db/database-errors.ts';

/**
 * What an error says of the rows whose projection it ended:
 *
 * - `row`: the data of a row cause it, so that the same work without that row succeeds. The connection is as it was.
 * - `slow`: the same, of a row that takes longer than the statement limit. Each try takes as long.
 * - `server`: every row would fail in the same way, such as on a server that takes no writes.
 * - `locked`: others hold the row, or the whole table; or, in Galera, COMMIT failed, perhaps since the transaction is too large.
 * - `conflict`: another transaction was first, of this server or of another one of a cluster. No row is the cause.
 * - `unclear`: a row may cause it or not, such as a lost connection. It shows when it comes again for one row and for no other.
 */
export type FailureKind = 'row' | 'slow' | 'server' | 'locked' | 'conflict' | 'unclear';

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

/** A lock that was waited for too long, and an error at COMMIT in Galera. */
const lockErrors: ReadonlySet<unknown> = new Set([1180, 1205]);

/** Errors of the server's state, and of the rights of the account, that no single row can cause. */
const serverErrors: ReadonlySet<unknown> = new Set([
  1021, // the disk is full
  1026, // error writing a file
  1041, // out of memory
  1044, // access denied to the database
  1045, // access denied
  1047, // Galera: the node is not part of a quorum
  1049, // no such database
  1053, // shutdown
  1054, // no such column
  1114, // the table is full
  1142, // no right for the table
  1143, // no right for the column
  1146, // no such table
  1223, // a read lock
  1227, // no such privilege
  1290, // read_only
  1370, // no right for the routine
  1792, // a read-only transaction
  1836, // read_only
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
  if (serverErrors.has(errno)) return 'server';
  if (lockErrors.has(errno)) return 'locked';
  if (isConflict(error)) return 'conflict';
  if (fatal === true) return 'unclear'; // the connection is lost
  return dataClasses.has(sqlState.slice(0, 2)) || dataErrors.has(errno) ? 'row' : 'unclear';
}
