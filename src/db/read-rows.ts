import type { Database } from './connection.ts';
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
 * connection, and past Knex, whose text it is.
 */
export async function readRows(database: Database, { sql, values }: Statement): Promise<readonly unknown[][]> {
  const client = database.client as {
    acquireConnection(): Promise<ReadingConnection>;
    releaseConnection(connection: ReadingConnection): Promise<void>;
    emit(event: 'query', query: { readonly sql: string; readonly bindings: readonly unknown[] }): void;
  };
  client.emit('query', { sql, bindings: values }); // as Knex does, for whoever listens to its statements
  const connection = await client.acquireConnection();
  const options = { sql, values, rowsAsArray: true } as const;
  try {
    return await new Promise((resolve, reject) => {
      connection.execute(options, (error, rows) => {
        if (error?.errno === tooManyPrepared)
          connection.query(options, (problem, read) => (problem ? reject(problem) : resolve(read)));
        else if (error) reject(error);
        else resolve(rows);
      });
    });
  } finally {
    await client.releaseConnection(connection);
  }
}
