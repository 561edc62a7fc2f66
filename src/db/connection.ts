import { setTimeout as sleep } from 'node:timers/promises';
import knex, { type Knex } from 'knex';
import type { Connection } from 'mysql2';
import type { DatabaseAddress } from '../config.ts';
import { withTimeLimit } from '../platform/time-limit.ts';
import { authPluginsFor } from './auth-plugins.ts';
import { ConnectionPool, ConnectionWaitError } from './connection-pool.ts';
import { commandLimitMs, createCredentials } from './credentials.ts';
import { type ConnectionIdentity, runOn, type SessionOptions, setUpSession, whyNotWritable } from './session.ts';

/** A pool of connections to one database. */
export type Database = Knex;

/**
 * How long a database may be silent beyond the statement limit, in milliseconds, before its connection counts as lost: a host
 * that vanishes, or a network that forgets, ends no connection, and a call on it would wait for a quarter of an hour.
 */
const silenceMs = 3000;

/** Statements that a connection keeps prepared. A server has room for 16,382 of all its connections together, unless told otherwise. */
const maxPreparedStatements = 100;

/** A statement that is sent. */
export interface SentStatement {
  readonly sql: string;
  readonly values: readonly unknown[];
}

/** How a pool behaves. */
export interface PoolOptions extends SessionOptions {
  /** Most connections. */
  readonly size: number;
  /** The server ends a statement after this many milliseconds, and a server that is silent for longer is lost; 0 means no limit. */
  readonly statementTimeoutMs: number;
  /** How long a caller waits for a connection, in milliseconds. */
  readonly acquireTimeoutMs?: number;
  /** What else makes a new connection ready. */
  prepare?(connection: Connection): Promise<void>;
  readonly migrations?: Knex.MigratorConfig;
  /** Is told of each statement, before it is sent. */
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
 * Closes a pool when the statements that run have ended, or after so many milliseconds without waiting for them any longer: a
 * database that does not answer must not keep the program from ending. `destroy()` of Knex does not close it.
 */
export async function closeDatabase(database: Database, milliseconds = 2000): Promise<void> {
  const open = opened.get(database);
  if (open !== undefined) open.isClosed = true;
  await withTimeLimit(milliseconds, Promise.resolve(open?.connections.destroy())).catch(() => {});
  open?.connections.cut();
  if (open?.killer !== undefined) await closeDatabase(open.killer, milliseconds);
}

/** What is kept of a pool that is open. */
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

/** Tells whoever listens to the statements of a database of one that goes past Knex. */
export function tellStatement(database: Database, statement: SentStatement): void {
  openedAs(database).onStatement?.(statement);
}

/** The connections of a database. */
export function connectionsOf(database: Database): ConnectionPool {
  return openedAs(database).connections;
}

const identities = new WeakMap<Connection, ConnectionIdentity>();

/** How long the end of a statement may take, in milliseconds, on a server that is well: some 1 is usual. */
const killTimeoutMs = 1000;

/**
 * Lends a connection of the pool to some work. When the signal is aborted, the statement that the work is waiting for is ended in
 * the server, which by itself would go on: it does not notice that nobody waits any more.
 *
 * The connection goes back to the pool when the server has said that it has ended the statement, and not before: else the one of
 * the next who gets the connection would be hit.
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
    signal?.throwIfAborted(); // it waited for the connection in vain
    signal?.addEventListener('abort', end, { once: true });
    return await work(connection);
  } finally {
    signal?.removeEventListener('abort', end);
    if (ending !== undefined) await ending;
    connections.release(connection);
  }
}

/** When a statement has not ended for so long, in milliseconds, the order is given again; and then after twice as long each time. */
const againAfterMs = 20;

const isTrue = (): boolean => true;

/** Ends the statement that runs on a connection, if one does. Never rejects: the statement limit stands behind it. */
async function endStatement(database: Database, connection: Connection): Promise<void> {
  const open = opened.get(database);
  const victim = identities.get(connection);
  if (open === undefined || open.isClosed === true || victim === undefined) return;
  open.killer ??= openDatabase(open.address, { size: 1, statementTimeoutMs: killTimeoutMs, acquireTimeoutMs: killTimeoutMs });
  const { killer } = open;
  try {
    for (let waitMs = againAfterMs; ; waitMs *= 2) {
      await withConnection(killer, undefined, async (connected) => {
        // Behind a balancer, or after a failover, the same number is the connection of somebody else.
        if (identities.get(connected)?.server !== victim.server || hasEnded(connection)) return;
        await runOn(connected, `kill query ${victim.id}`);
      });
      // Where the statement ended just before, an engine may keep the order for the next one: this is the next one.
      const ended = runOn(connection, 'do 0').then(isTrue, isTrue);
      // MySQL forgets an order that comes while it takes the statement in.
      if (await Promise.race([ended, sleep(waitMs, false, { ref: false })])) return;
    }
  } catch {}
}

function hasEnded({ state }: Connection): boolean {
  return state === 'error' || state === 'disconnected';
}

/** How long a program that starts waits for its first connection, in milliseconds, at most. A command may have to make the password. */
const firstConnectionMs = commandLimitMs + 2000;

/** The database cannot be used, for a reason that whoever started the program can do something about. */
class DatabaseError extends Error {
  override readonly name = 'DatabaseError';
}

/**
 * Makes sure that the database answers, and can be used.
 *
 * @throws {DatabaseError} that says why not, without a password.
 */
export async function requireDatabase(database: Database): Promise<void> {
  const began = performance.now();
  for (;;) {
    try {
      const why = await whyNotWritable(database);
      if (why === undefined) return;
      throw new DatabaseError(`the database cannot be used: ${why}`);
    } catch (error) {
      if (error instanceof DatabaseError) throw error;
      // Calls do not wait as long as a busy machine may take to open the first connection, which is there for the next attempt.
      if (error instanceof ConnectionWaitError && performance.now() - began < firstConnectionMs) continue;
      throw new DatabaseError(`the database cannot be reached: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
}

/** Knex prints what it also throws; whoever catches it logs it. */
function quiet(): void {}
