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
  sockets.set(database, minded);
  const connections = (database.client as { pool: PoolOfConnections }).pool;
  connections.on('acquireSuccess', (_id, { stream }) => minded.use(stream));
  connections.on('release', ({ stream }) => minded.rest(stream));
  return database;
}

/**
 * Closes a pool when the statements that run have ended, or after so many milliseconds without waiting for them any longer: a
 * database that does not answer must not keep the program from ending.
 */
export async function closeDatabase(database: Database, milliseconds = 2000): Promise<void> {
  const open = sockets.get(database);
  const enough = new AbortController();
  // Knex says goodbye to the server, and does not wait for the server to hang up.
  const closed = database.destroy().then(() => open?.closed());
  await Promise.race([closed, sleep(milliseconds, undefined, { signal: enough.signal })]).catch(() => {});
  enough.abort();
  open?.destroy();
}

const sockets = new WeakMap<Database, Sockets>();

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

/** The part of knex's pool that is used on it directly. */
interface PoolOfConnections {
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

  const run = (sql: string) =>
    new Promise<unknown>((resolve, reject) => {
      connection.query(sql, (error, rows) => (error ? reject(error as Error) : resolve(rows)));
    });
  const [row] = (await run('select version() as version')) as [{ version: string }];
  const limit = /MariaDB/i.test(row.version)
    ? `max_statement_time = ${statementTimeoutMs / 1000}`
    : `max_execution_time = ${statementTimeoutMs}`;
  const variables = Object.entries(session).map(([name, value]) => `${name} = ${value}, `);
  await run('set session transaction isolation level read committed');
  await run(
    `set session ${variables.join('')}time_zone = '+00:00', ${limit}, ` +
      "sql_mode = 'STRICT_TRANS_TABLES,ONLY_FULL_GROUP_BY,NO_ZERO_IN_DATE,NO_ZERO_DATE,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION'",
  );
}

/** Knex prints what it also throws; whoever catches it logs it. */
function quiet(): void {}
