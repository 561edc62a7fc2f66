import { once } from 'node:events';
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import knex, { type Knex } from 'knex';
import type { DatabaseAddress } from '../config.ts';

/** A pool of connections to one database. */
export type Database = Knex;

/**
 * How long a database may be silent beyond the statement limit, in milliseconds, before its connection counts as lost: a host
 * that vanishes, or a network that forgets, ends no connection, and a call on it would wait for a quarter of an hour.
 */
const silenceMs = 3000;

/** Statements that a connection keeps prepared. A server has room for 16,382 of all its connections together, unless told otherwise. */
const maxPreparedStatements = 100;

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
}

/**
 * Opens a pool; it connects on first use.
 *
 * Rows come back without loss: DATETIME(6) as text with its microseconds (a Date would drop them), big numbers as text. Each
 * connection is in UTC, READ COMMITTED (a locking read of the default level would wait for writers), strict, and under the
 * statement limit, whose name differs between MariaDB and MySQL.
 */
export function openDatabase(address: DatabaseAddress, pool: PoolOptions): Database {
  const minded = new Sockets(pool.statementTimeoutMs === 0 ? 0 : pool.statementTimeoutMs + silenceMs);
  const server =
    address.socketPath === undefined
      ? { host: address.host ?? '127.0.0.1', port: address.port ?? 3306 }
      : { socketPath: address.socketPath };
  const database = knex({
    client: 'mysql2',
    version: '8.4', // saves knex a query of its own
    connection: {
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
      maxPreparedStatements,
    },
    pool: {
      min: 0,
      max: pool.size,
      idleTimeoutMillis: 60_000,
      afterCreate(connection: RawConnection, done: (error: unknown, connection: RawConnection) => void) {
        minded.add(connection.stream);
        prepare(connection, pool).then(
          () => {
            minded.rest(connection.stream);
            done(undefined, connection);
          },
          (error: unknown) => {
            connection.destroy(); // the pool forgets it without closing it
            done(error, connection);
          },
        );
      },
    },
    acquireConnectionTimeout: pool.acquireTimeoutMs ?? 2000,
    compileSqlOnError: false, // an error's text keeps its `?`: values never reach a log
    log: { warn: quiet, error: quiet, debug: quiet, deprecate: quiet },
  });
  const waiting = new Map<number, number>();
  opened.set(database, { address, sockets: minded, waiting });
  const connections = (database.client as { pool: PoolOfConnections }).pool;
  connections.on('acquireRequest', (id) => waiting.set(id, performance.now()));
  connections.on('acquireSuccess', (id, { stream }) => {
    waiting.delete(id);
    minded.use(stream);
  });
  connections.on('acquireFail', (id) => waiting.delete(id));
  connections.on('release', ({ stream }) => minded.rest(stream));
  return database;
}

/**
 * Closes a pool when the statements that run have ended, or after so many milliseconds without waiting for them any longer: a
 * database that does not answer must not keep the program from ending.
 */
export async function closeDatabase(database: Database, milliseconds = 2000): Promise<void> {
  const open = opened.get(database);
  const enough = new AbortController();
  // Knex says goodbye to the server, and does not wait for the server to hang up.
  const closed = database.destroy().then(() => open?.sockets.closed());
  await Promise.race([closed, sleep(milliseconds, undefined, { signal: enough.signal })]).catch(() => {});
  enough.abort();
  open?.sockets.destroy();
  if (open?.killer !== undefined) await closeDatabase(open.killer, milliseconds);
}

/** What is kept of a pool that is open. */
interface OpenDatabase {
  readonly address: DatabaseAddress;
  readonly sockets: Sockets;
  /** Since when who waits for a connection: in the order in which they came, which is the one in which they are served. */
  readonly waiting: ReadonlyMap<number, number>;
  /** The pool that ends its statements. */
  killer?: Database;
}
const opened = new WeakMap<Database, OpenDatabase>();

/** How long the first who waits for a connection of the pool has been waiting, in milliseconds; 0 when nobody waits. */
export function longestWaitMs(database: Database): number {
  for (const since of opened.get(database)?.waiting.values() ?? []) return performance.now() - since;
  return 0;
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
  const client = database.client as ClientOfConnections;
  const connection = await client.acquireConnection();
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
    await ending;
    await client.releaseConnection(connection);
  }
}

/** Ends the statement that runs on a connection, if one does. Never rejects: the statement limit stands behind it. */
async function endStatement(database: Database, connection: RawConnection): Promise<void> {
  const open = opened.get(database);
  const victim = identities.get(connection);
  if (open === undefined || victim === undefined) return;
  open.killer ??= openDatabase(open.address, { size: 1, statementTimeoutMs: killTimeoutMs, acquireTimeoutMs: killTimeoutMs });
  try {
    await withConnection(open.killer, undefined, async (killer) => {
      // Behind a balancer, or after a failover, the same number is the connection of somebody else.
      if (identities.get(killer)?.server !== victim.server || connection.stream.destroyed) return;
      await run(killer, `kill query ${victim.id}`);
    });
    // Where the statement ended just before, an engine may keep the order for the next one: this is the next one.
    await run(connection, 'do 0');
  } catch {}
}

/** The sockets of a pool: those in use end when nothing comes for too long, and take the idle ones with them. */
class Sockets {
  readonly #limitMs: number;
  readonly #all = new Set<Socket>();
  readonly #idle = new Set<Socket>();

  /** @param limitMs how long one in use may be silent, in milliseconds; 0 means for ever. */
  constructor(limitMs: number) {
    this.#limitMs = limitMs;
  }

  use(socket: Socket): void {
    this.#idle.delete(socket);
    socket.setTimeout(this.#limitMs);
  }

  rest(socket: Socket): void {
    this.#idle.add(socket);
    socket.setTimeout(0);
  }

  add(socket: Socket): void {
    this.#all.add(socket);
    socket.once('close', () => {
      this.#all.delete(socket);
      this.#idle.delete(socket);
    });
    socket.on('timeout', () => {
      socket.destroy(Object.assign(new Error('the database has gone silent'), { code: 'ETIMEDOUT' }));
      for (const idle of this.#idle) idle.destroy(); // they are as old, and lead to the same host
    });
    this.use(socket);
  }

  /** Resolves when none is open. */
  async closed(): Promise<void> {
    await Promise.all(Array.from(this.#all, (socket) => once(socket, 'close')));
  }

  destroy(): void {
    for (const socket of this.#all) socket.destroy();
  }
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

/** The part of a mysql2 connection that is used on it directly. */
export interface RawConnection {
  query(sql: string, callback: (error: unknown, rows: unknown) => void): void;
  destroy(): void;
  on(event: 'error', listener: () => void): this;
  removeAllListeners(): this;
  readonly stream: Socket;
}

/** The part of knex's client that is used on it directly. */
interface ClientOfConnections {
  acquireConnection(): Promise<RawConnection>;
  releaseConnection(connection: RawConnection): Promise<void>;
}

/** The part of knex's pool that is used on it directly. */
interface PoolOfConnections {
  on(event: 'acquireRequest' | 'acquireFail', listener: (id: number) => void): void;
  on(event: 'acquireSuccess', listener: (id: number, connection: RawConnection) => void): void;
  on(event: 'release', listener: (connection: RawConnection) => void): void;
}

/** mysql2 checks whose certificate it is when it is told to, and else takes any that a known authority signed. */
function tlsOptions(ssl: 'verify' | 'no-verify', ca: string | undefined): object {
  return { rejectUnauthorized: ssl === 'verify', verifyIdentity: ssl === 'verify', ...(ca === undefined ? {} : { ca }) };
}

async function prepare(connection: RawConnection, { statementTimeoutMs, session = {} }: PoolOptions): Promise<void> {
  // Knex takes all listeners off a connection that it ends. A write that fails after that would be an error nobody listens to,
  // which ends the process.
  const { removeAllListeners } = connection;
  connection.removeAllListeners = () => removeAllListeners.call(connection).on('error', quiet);

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
