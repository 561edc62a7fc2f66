import type { RowDataPacket } from 'mysql2';
import { type Database, tellStatement, withConnection } from './connection.ts';

/** A statement as the driver takes it: a text with a `?` for each value. */
export interface Statement {
  readonly sql: string;
  readonly values: readonly Value[];
}

/**
 * A value that is bound to a statement. The driver sends numbers as floating-point, which MySQL's `limit` refuses: pass it text.
 */
export type Value = Buffer | string | number;

/**
 * Errors of preparing a statement rather than of the statement itself, by number: the server is at its limit of prepared
 * statements, has forgotten this one, or gave up because its tables were flushed or changed each time it was prepared again. The
 * statement is then run once without preparing, where none of these can happen.
 */
const runUnprepared: ReadonlySet<number | undefined> = new Set([1461, 1243, 1615]);

/**
 * Reads the rows of a statement, each as an array of its values: by a prepared statement, which the server parses once for each
 * connection, and directly by the driver; Knex only writes the text. The statement ends when the signal is aborted.
 *
 * @typeParam Row the values of a row, as the columns of the statement have them.
 */
export function readRows<Row = unknown[]>(
  database: Database,
  statement: Statement,
  signal?: AbortSignal,
): Promise<readonly Row[]> {
  tellStatement(database, statement);
  return withConnection(
    database,
    signal,
    (connection) =>
      new Promise((resolve, reject) => {
        const options = { sql: statement.sql, values: [...statement.values], rowsAsArray: true };
        connection.execute<RowDataPacket[][]>(options, (error, rows) => {
          if (error !== null && runUnprepared.has(error.errno)) {
            connection.query<RowDataPacket[][]>(options, (failure, found) =>
              failure ? reject(failure) : resolve(found as readonly unknown[] as readonly Row[]),
            );
          } else if (error) reject(error);
          else resolve(rows as readonly unknown[] as readonly Row[]);
        });
      }),
  );
}
