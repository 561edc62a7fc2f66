import { setTimeout as sleep } from 'node:timers/promises';
import knex, { type Knex } from 'knex';
import type { Connection } from 'mysql2';
import type { DatabaseAddress } from '../config.ts';
import { withTimeLimit } from '../platform/time-limit.ts';
import { authPluginsFor } from './auth-plugins.ts';
import { ConnectionPool, ConnectionWaitError } from './connection-pool.ts';
import { commandLimitMs, createCredentials } from './credentials.ts';
import { isAway } from './database-errors.ts';
import { type ConnectionIdentity, runOn, type SessionOptions, setUpSession, whyNotWritable } from './session.ts';

/** A pool of connections to one database. */
export type Database = Knex;

/**
 * How long a database may be silent beyond the statement limit, in milliseconds, before its connection counts as lost: when a host
 * vanishes, or a network device forgets a connection, TCP reports it only after a quarter of an hour.
 */
const silenceMs = 3000;

/** Prepared statements that a connection keeps. A server's default limit is 16,382 over all its connections. */
const maxPreparedStatements = 100;

/** A statement as it is sent. */
export interface SentStatement {
  readonly sql: string;
  readonly values: readonly unknown[];
}

/** How a pool behaves. */
export interface PoolOptions extends SessionOptions {
  /** Most connections. */
  readonly size: number;
  /**
   * The server ends a statement after this many milliseconds, and a server that is silent for longer counts as lost; 0 means no
   * limit.
   */
  readonly statementTimeoutMs: number;
  /** How long a caller waits for a connection, in milliseconds. */
  readonly acquireTimeoutMs?: number;
  /** Prepares a new connection further. */
  prepare?(connection: Connection): Promise<void>;
  readonly migrations?: Knex.MigratorConfig;
  /** Called with each statement, before it is sent. */
  onStatement?(statement: SentStatement): void;
}

/**
 * Opens a pool; it connects on first use.
 *
 * Rows come back without loss: DATETIME(6) as text with its microseconds (a Date would drop them), big numbers as text. What
 * a statement relies on in its session is set when a connection is made, see `session.ts`.
 */
export function openDatabase(address: DatabaseAddress, pool: PoolOptions): Database {
  const server =
    address.socketPath === undefined
      ? { host: address.host ?? '127.0.0.1', port: address.port ?? 3306 }
      : { socketPath: address.socketPath };
  const { onStatement } = pool;
  const connections = new ConnectionPool({
    driver: {
      ...server,
      user: address.user,
      database: address.database,
      authPlugins: authPluginsFor(address),
      charset: 'utf8mb4_bin', // the driver encodes text by it; the server is told again, since it may ignore the handshake
      timezone: 'Z',
      dateStrings: true,
      supportBigNumbers: true,
      connectTimeout: 2000,
      maxPreparedStatements,
    },
    credentials: createCredentials(address),
    size: pool.size,
    waitMs: pool.acquireTimeoutMs ?? 2000,
    silenceMs: pool.statementTimeoutMs === 0 ? 0 : pool.statementTimeoutMs + silenceMs,
    async prepare(connection) {
      identities.set(connection, await setUpSession(connection, pool));
      await pool.prepare?.(connection);
    },
  });
  const database = knex({
    client: 'mysql2',
    version: '8.4', // saves knex a query of its own
    connectionPool: connections,
    compileSqlOnError: false, // an error's text keeps its `?`: values never reach a log
    log: { warn: quiet, error: quiet, debug: quiet, deprecate: quiet },
    ...(pool.migrations === undefined ? {} : { migrations: pool.migrations }),
  });
  if (onStatement !== undefined) {
    database.on('query', ({ sql, bindings }: Knex.Sql) => onStatement({ sql, values: bindings }));
  }
  opened.set(database, { address, connections, onStatement });
  return database;
}

/**
 * Closes a pool when its running statements have ended, and at the latest after so many milliseconds: a database that does not
 * answer must not keep the program from ending. `destroy()` of Knex does not close it.
 */
export async function closeDatabase(database: Database, milliseconds = 2000): Promise<void> {
  const open = opened.get(database);
  if (open !== undefined) open.isClosed = true;
  await withTimeLimit(milliseconds, Promise.resolve(open?.connections.destroy())).catch(() => {});
  open?.connections.cut();
  if (open?.killer !== undefined) await closeDatabase(open.killer, milliseconds);
}

/** What is known of an open pool. */
interface OpenDatabase {
  readonly address: DatabaseAddress;
  readonly connections: ConnectionPool;
  readonly onStatement: PoolOptions['onStatement'];
  /** The pool that ends its statements. */
  killer?: Database;
  isClosed?: true;
}
const opened = new WeakMap<Database, OpenDatabase>();

function openedAs(database: Database): OpenDatabase {
  const open = opened.get(database);
  if (open === undefined) throw new Error('the database was not opened by openDatabase');
  return open;
}

/** Where a database is. */
export function addressOf(database: Database): DatabaseAddress {
  return openedAs(database).address;
}

/** Reports a statement that does not go through Knex to the database's `onStatement`. */
export function tellStatement(database: Database, statement: SentStatement): void {
  openedAs(database).onStatement?.(statement);
}

/** The connections of a database. */
export function connectionsOf(database: Database): ConnectionPool {
  return openedAs(database).connections;
}

const identities = new WeakMap<Connection, ConnectionIdentity>();

/** How long ending a statement may take on a healthy server, in milliseconds: about 1 is usual. */
const killTimeoutMs = 1000;

/**
 * Lends a connection of the pool to some work. When the signal is aborted, the statement that the work is waiting for is ended in
 * the server, which would otherwise run it to its end: it does not notice that nobody waits for the result.
 *
 * The connection goes back to the pool only when the server has confirmed that the statement has ended: otherwise the next
 * statement on this connection could be ended instead.
 */
export async function withConnection<T>(
  database: Database,
  signal: AbortSignal | undefined,
  work: (connection: Connection) => Promise<T>,
): Promise<T> {
  signal?.throwIfAborted();
  const { connections } = openedAs(database);
  const connection = await connections.take();
  let ending: Promise<void> | undefined;
  const end = (): void => {
    ending = endStatement(database, connection);
  };
  try {
    signal?.throwIfAborted(); // it may have been aborted while it waited for the connection
    signal?.addEventListener('abort', end, { once: true });
    return await work(connection);
  } finally {
    signal?.removeEventListener('abort', end);
    if (ending !== undefined) await ending;
    connections.release(connection);
  }
}

/** When a statement has not ended after so many milliseconds, KILL QUERY is sent again; then after twice as long each time. */
const againAfterMs = 20;

const isTrue = (): boolean => true;

/** Ends the statement that runs on a connection, if one does. Never rejects: the statement limit is the fallback. */
async function endStatement(database: Database, connection: Connection): Promise<void> {
  const open = opened.get(database);
  const victim = identities.get(connection);
  if (open === undefined || open.isClosed === true || victim === undefined) return;
  open.killer ??= openDatabase(open.address, { size: 1, statementTimeoutMs: killTimeoutMs, acquireTimeoutMs: killTimeoutMs });
  const { killer } = open;
  try {
    for (let waitMs = againAfterMs; ; waitMs *= 2) {
      await withConnection(killer, undefined, async (connected) => {
        // Behind a load balancer, or after a failover, this number may be another client's connection.
        if (identities.get(connected)?.server !== victim.server || hasEnded(connection)) return;
        await runOn(connected, `kill query ${victim.id}`);
      });
      // Where the statement had just ended, an engine may apply KILL QUERY to the next one: this is the next one.
      const ended = runOn(connection, 'do 0').then(isTrue, isTrue);
      // MySQL ignores a KILL QUERY that arrives while it is still parsing the statement.
      if (await Promise.race([ended, sleep(waitMs, false, { ref: false })])) return;
    }
  } catch {}
}

function hasEnded({ state }: Connection): boolean {
  return state === 'error' || state === 'disconnected';
}

/** How long a starting program waits for its first connection at most, in milliseconds. A command may have to make the password. */
const firstConnectionMs = commandLimitMs + 2000;

/** Thrown when the database cannot be used for a reason that the operator can change. */
class DatabaseError extends Error {
  override readonly name = 'DatabaseError';
}

/** How a program waits for a database that is away. */
interface Waiting {
  /** Ends the wait; then it resolves as if the database was there. */
  readonly signal: AbortSignal;
  /** Is told why it waits, when that has changed. */
  onWait(why: string): void;
}

/** How long to wait before the second attempt to connect, and at most, in milliseconds. */
const reconnectMs = { first: 250, most: 5000 };

/**
 * Makes sure that the database answers, and can be used.
 *
 * @param waiting for a program that waits while the database cannot be reached or is starting. One that refuses the account, or is
 *   set up in a way that it cannot be used, is not waited for.
 * @throws {DatabaseError} that says why not, without a password.
 */
export async function requireDatabase(database: Database, waiting?: Waiting): Promise<void> {
  const began = performance.now();
  let told: string | undefined;
  for (let restMs = reconnectMs.first; ; restMs = Math.min(2 * restMs, reconnectMs.most)) {
    try {
      const why = await whyNotWritable(database);
      if (why === undefined) return;
      throw new DatabaseError(`the database cannot be used: ${why}`);
    } catch (error) {
      if (error instanceof DatabaseError) throw error;
      // On a busy machine the first connection may take longer to open than a call waits; the next attempt finds it ready.
      if (error instanceof ConnectionWaitError && performance.now() - began < firstConnectionMs) continue;
      if (waiting !== undefined && isAway(error)) {
        const why = error instanceof Error ? error.message : String(error);
        if (why !== told) waiting.onWait(why);
        told = why;
        await sleep(restMs, undefined, { signal: waiting.signal }).catch(() => {});
        if (waiting.signal.aborted) return;
        continue;
      }
      throw new DatabaseError(`the database cannot be reached: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
}

/** Keeps Knex from printing errors that it also throws: they are logged where they are caught. */
function quiet(): void {}
