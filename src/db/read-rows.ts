import type { RowDataPacket } from 'mysql2';
import { type Database, tellStatement, withConnection } from './connection.ts';

/** A statement as the driver takes it: a text with a `?` for each value. */
export interface Statement {
  readonly sql: string;
  readonly values: readonly Value[];
}

/** What is bound to a statement. A number is sent as a floating-point one, which `limit` of MySQL does not take: that wants text. */
export type Value = Buffer | string | number;

/**
 * Errors that are no fault of a statement but of its being prepared, by their numbers: the server has no room for another one, or does
 * not know it any more; or each time that it had prepared it again, its tables were flushed or changed before it could be run. It is
 * run once more without being prepared, which none of these can happen to.
 */
const runUnprepared: ReadonlySet<number | undefined> = new Set([1461, 1243, 1615]);

/**
 * Reads the rows of a statement, each as an array of its values: by a prepared statement, which the server parses once for each
 * connection, and past Knex, whose text it is. The statement ends when the signal is aborted.
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
