import { type Database, withConnection } from './connection.ts';
import type { Statement } from './statement-shapes.ts';

/** A connection of mysql2, as far as rows are read on it. */
interface ReadingConnection {
  execute(options: RowsQuery, callback: RowsCallback): void;
  query(options: RowsQuery, callback: RowsCallback): void;
}
type RowsQuery = { readonly sql: string; readonly values: readonly unknown[]; readonly rowsAsArray: true };
type RowsCallback = (error: (Error & { errno?: number }) | null, rows: readonly unknown[][]) => void;

/** The server has no room for another prepared statement. */
const tooManyPrepared = 1461;

/**
 * Reads the rows of a statement, each as an array of its values: by a prepared statement, which the server parses once for each
 * connection, and past Knex, whose text it is. The statement ends when the signal is aborted.
 */
export function readRows(database: Database, { sql, values }: Statement, signal?: AbortSignal): Promise<readonly unknown[][]> {
  const client = database.client as {
    emit(event: 'query', query: { readonly sql: string; readonly bindings: readonly unknown[] }): void;
  };
  client.emit('query', { sql, bindings: values }); // as Knex does, for whoever listens to its statements
  const options = { sql, values, rowsAsArray: true } as const;
  return withConnection(
    database,
    signal,
    (connection) =>
      new Promise((resolve, reject) => {
        const reading = connection as unknown as ReadingConnection;
        reading.execute(options, (error, rows) => {
          if (error?.errno === tooManyPrepared)
            reading.query(options, (problem, read) => (problem ? reject(problem) : resolve(read)));
          else if (error) reject(error);
          else resolve(rows);
        });
      }),
  );
}
