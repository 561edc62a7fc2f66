import { LRUCache } from 'lru-cache';
import { type Database, maxPreparedStatements, withConnection } from './connection.ts';
import type { RawConnection } from './connection-pool.ts';

/** A statement as the driver takes it: a text with a `?` for each value. Numbers stand in the text. */
export interface Statement {
  readonly sql: string;
  readonly values: readonly Value[];
}

/** What is bound to a statement. */
export type Value = Buffer | string;

/** A connection of mysql2, as far as rows are read on it. */
interface ReadingConnection extends RawConnection {
  prepare(options: { readonly sql: string }, callback: (error: DriverError, statement: PreparedStatement) => void): void;
  unprepare(options: { readonly sql: string }): void;
  query(sql: string | (Statement & { readonly rowsAsArray: true }), callback: RowsCallback): void;
}
interface PreparedStatement {
  /** Gives nothing where the connection has closed, which the callback has been told then. */
  execute(values: readonly Value[], callback: RowsCallback): RunningStatement | undefined;
}
/** What the driver keeps of a statement that runs. `options` are there when it has been sent. */
interface RunningStatement {
  readonly _executeOptions: { rowsAsArray?: boolean };
  readonly options?: { rowsAsArray?: boolean };
}
type RowsCallback = (error: DriverError, rows: unknown) => void;
type DriverError = (Error & { readonly errno?: number }) | null;

/** The server has no room for another prepared statement. */
const tooManyPrepared = 1461;

/** The prepared statements of each connection, by their texts. */
const preparedOn = new WeakMap<ReadingConnection, LRUCache<string, PreparedStatement>>();

/**
 * Reads the rows of a statement, each as an array of its values: by a prepared statement, which the server parses once for each
 * connection, and past Knex, whose text it is. The statement ends when the signal is aborted.
 */
export function readRows(database: Database, statement: Statement, signal?: AbortSignal): Promise<readonly unknown[][]> {
  const client = database.client as {
    emit(event: 'query', query: { readonly sql: string; readonly bindings: readonly unknown[] }): void;
  };
  client.emit('query', { sql: statement.sql, bindings: statement.values }); // as Knex does, for whoever listens to its statements
  return withConnection(
    database,
    signal,
    (connection) =>
      new Promise((resolve, reject) => {
        execute(connection as ReadingConnection, statement, signal, (error, rows) => {
          if (error) reject(error);
          else resolve(rows as unknown[][]);
        });
      }),
  );
}

function execute(
  connection: ReadingConnection,
  { sql, values }: Statement,
  signal: AbortSignal | undefined,
  done: RowsCallback,
): void {
  let prepared = preparedOn.get(connection);
  if (prepared === undefined) {
    prepared = new LRUCache({ max: maxPreparedStatements, dispose: (_, unused) => connection.unprepare({ sql: unused }) });
    preparedOn.set(connection, prepared);
  }
  const known = prepared.get(sql);
  if (known !== undefined) return run(known, values, done);
  connection.prepare({ sql }, (error, statement) => {
    if (!error) prepared.set(sql, statement);
    // The order to end it may have come too late for the preparation, and too early for the statement.
    if (signal?.aborted === true) done(signal.reason as Error, undefined);
    else if (!error) run(statement, values, done);
    else if (error.errno === tooManyPrepared) connection.query({ sql, values, rowsAsArray: true }, done);
    else done(error, undefined);
  });
}

/** Sends a statement for rows as arrays, which the driver offers only where it looks the statement up by its text: that takes longer. */
function run(statement: PreparedStatement, values: readonly Value[], done: RowsCallback): void {
  const running = statement.execute(values, done);
  for (const options of [running?._executeOptions, running?.options]) if (options !== undefined) options.rowsAsArray = true;
}
