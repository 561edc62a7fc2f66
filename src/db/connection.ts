import { setTimeout as sleep } from 'node:timers/promises';
import knex, { type Knex } from 'knex';
import { type ConnectionOptions, createConnection } from 'mysql2';
import type { DatabaseAddress } from '../config.ts';
import { ConnectionPool, type RawConnection } from './connection-pool.ts';

/** A pool of connections to one database. */
export type Database = Knex;

/**
 * How long a database may be silent beyond the statement limit, in milliseconds, before its connection counts as lost: a host
 * that vanishes, or a network that forgets, ends no connection, and a call on it would wait for a quarter of an hour.
 */
const silenceMs = 3000;

/** Statements that a connection keeps prepared. A server has room for 16,382 of all its connections together, unless told otherwise. */
export const maxPreparedStatements = 100;

/** How a pool behaves. */
export interface PoolOptions {
  /** Most connections. */
  readonly size: number;
  /** The server ends a statement after this many milliseconds, and a server that is silent for longer is lost; 0 means no limit. */
  readonly statementTimeoutMs: number;
  /** How long a caller waits for a connection, in milliseconds. */
  readonly acquireTimeoutMs?: number;
  /** Session variables that each connection gets besides, such as `wait_timeout`. */
  readonly session?: Readonly<Record<string, number>>;
  /** What else makes a new connection ready. */
  prepare?(connection: RawConnection): Promise<void>;
  readonly migrations?: Knex.MigratorConfig;
}

/**
 * Opens a pool; it connects on first use.
 *
 * Rows come back without loss: DATETIME(6) as text with its microseconds (a Date would drop them), big numbers as text. Each
 * connection is in UTC, READ COMMITTED (a locking read of the default level would wait for writers), strict, and under the
 * statement limit, whose name differs between MariaDB and MySQL.
 */
export function openDatabase(address: DatabaseAddress, pool: PoolOptions): Database {
  const server =
    address.socketPath === undefined
      ? { host: address.host ?? '127.0.0.1', port: address.port ?? 3306 }
      : { socketPath: address.socketPath };
  const settings: ConnectionOptions = {
    ...server,
    user: address.user,
    password: address.password ?? '',
    database: address.database,
    ...(address.ssl === undefined ? {} : { ssl: tlsOptions(address.ssl, address.ca) }),
    charset: 'utf8mb4_bin',
    timezone: 'Z',
    dateStrings: true,
    supportBigNumbers: true,
    connectTimeout: 2000,
    // More than we keep, so that it is we who close the ones that nobody needs: the driver does not see which are used.
    maxPreparedStatements: maxPreparedStatements + 20,
  };
  const connections = new ConnectionPool({
    size: pool.size,
    waitMs: pool.acquireTimeoutMs ?? 2000,
    silenceMs: pool.statementTimeoutMs === 0 ? 0 : pool.statementTimeoutMs + silenceMs,
    connect: () => connect(settings),
    async prepare(connection) {
      await prepare(connection, pool);
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
  Object.assign(database.client as object, { _ownsPool: true }); // so that destroy() of Knex closes it
  opened.set(database, { address, connections });
  return database;
}

function connect(settings: ConnectionOptions): Promise<RawConnection> {
  return new Promise((resolve, reject) => {
    const connection = createConnection(settings);
    connection.on('error', quiet); // a connection that fails while nobody uses it
    connection.connect((error) => (error ? reject(error) : resolve(connection as unknown as RawConnection)));
  });
}

/**
 * Closes a pool when the statements that run have ended, or after so many milliseconds without waiting for them any longer: a
 * database that does not answer must not keep the program from ending.
 */
export async function closeDatabase(database: Database, milliseconds = 2000): Promise<void> {
  const open = opened.get(database);
  if (open !== undefined) open.isClosed = true;
  const enough = new AbortController();
  await Promise.race([database.destroy(), sleep(milliseconds, undefined, { signal: enough.signal })]).catch(() => {});
  enough.abort();
  open?.connections.cut();
  if (open?.killer !== undefined) await closeDatabase(open.killer, milliseconds);
}

/** What is kept of a pool that is open. */
interface OpenDatabase {
  readonly address: DatabaseAddress;
  readonly connections: ConnectionPool;
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

/** The connections of a database. */
export function connectionsOf(database: Database): ConnectionPool {
  return openedAs(database).connections;
}

/** How the server knows a connection: which server it is, and the connection's number there. */
interface ConnectionIdentity {
  readonly server: string;
  readonly id: number | string;
}
const identities = new WeakMap<RawConnection, ConnectionIdentity>();

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
  work: (connection: RawConnection) => Promise<T>,
): Promise<T> {
  signal?.throwIfAborted();
  const { connections } = openedAs(database);
  const lent = connections.take();
  const connection = lent instanceof Promise ? await lent : lent;
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
async function endStatement(database: Database, connection: RawConnection): Promise<void> {
  const open = opened.get(database);
  const victim = identities.get(connection);
  if (open === undefined || open.isClosed === true || victim === undefined) return;
  open.killer ??= openDatabase(open.address, { size: 1, statementTimeoutMs: killTimeoutMs, acquireTimeoutMs: killTimeoutMs });
  const { killer } = open;
  try {
    for (let waitMs = againAfterMs; ; waitMs *= 2) {
      await withConnection(killer, undefined, async (connected) => {
        // Behind a balancer, or after a failover, the same number is the connection of somebody else.
        if (identities.get(connected)?.server !== victim.server || connection.stream.destroyed) return;
        await run(connected, `kill query ${victim.id}`);
      });
      // Where the statement ended just before, an engine may keep the order for the next one: this is the next one.
      const ended = run(connection, 'do 0').then(isTrue, isTrue);
      // MySQL forgets an order that comes while it takes the statement in.
      if (await Promise.race([ended, sleep(waitMs, false, { ref: false })])) return;
    }
  } catch {}
}

/** The database cannot be used, for a reason that whoever started the program can do something about. */
export class DatabaseError extends Error {
  override readonly name = 'DatabaseError';
}

/**
 * Makes sure that the database answers.
 *
 * @throws {DatabaseError} that says why not, without a password.
 */
export async function requireDatabase(database: Database): Promise<void> {
  try {
    await database.raw('select 1');
  } catch (error) {
    throw new DatabaseError(`the database cannot be reached: ${error instanceof Error ? error.message : String(error)}`);
  }
}

/** mysql2 checks whose certificate it is when it is told to, and else takes any that a known authority signed. */
function tlsOptions(ssl: 'verify' | 'no-verify', ca: string | undefined): object {
  return { rejectUnauthorized: ssl === 'verify', verifyIdentity: ssl === 'verify', ...(ca === undefined ? {} : { ca }) };
}

async function prepare(connection: RawConnection, { statementTimeoutMs, session = {} }: PoolOptions): Promise<void> {
  const [row] = (await run(
    connection,
    "select version() as version, connection_id() as id, concat_ws(' ', @@hostname, @@port, @@server_id) as server",
  )) as [{ version: string } & ConnectionIdentity];
  identities.set(connection, { server: row.server, id: row.id });
  const limit = /MariaDB/i.test(row.version)
    ? `max_statement_time = ${statementTimeoutMs / 1000}`
    : `max_execution_time = ${statementTimeoutMs}`;
  const variables = Object.entries(session).map(([name, value]) => `${name} = ${value}, `);
  await run(connection, 'set session transaction isolation level read committed');
  await run(
    connection,
    `set session ${variables.join('')}time_zone = '+00:00', ${limit}, ` +
      "sql_mode = 'STRICT_TRANS_TABLES,ONLY_FULL_GROUP_BY,NO_ZERO_IN_DATE,NO_ZERO_DATE,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION'",
  );
}

function run(connection: RawConnection, sql: string): Promise<unknown> {
  return new Promise((resolve, reject) => {
    connection.query(sql, (error, rows) => (error ? reject(error as Error) : resolve(rows)));
  });
}

/** Knex prints what it also throws; whoever catches it logs it. */
function quiet(): void {}
