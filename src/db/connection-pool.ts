import { connect, type Socket } from 'node:net';
import type { Knex } from 'knex';
import { createPool, type PoolOptions as DriverOptions, type Pool, type PoolConnection } from 'mysql2';

/** How a pool behaves. */
export interface ConnectionPoolOptions {
  /** Where the server is, and how connections to it are made. */
  readonly driver: DriverOptions;
  /** Makes a new connection ready for use. */
  prepare(connection: PoolConnection): Promise<void>;
  /** Most connections. */
  readonly size: number;
  /** How long somebody waits for a connection, in milliseconds. */
  readonly waitMs: number;
  /** How long a connection may be silent before it counts as lost, in milliseconds; 0 means for ever. */
  readonly silenceMs: number;
}

/** When the server has refused a connection beside those that are open, how long no other one is opened, in milliseconds. */
const refusedMs = 200;

/** Over how many loans the pace is averaged: they come in bursts. */
const paceOver = 50;

/** No connection of the pool came free in time. */
export class ConnectionWaitError extends Error {
  override readonly name = 'ConnectionWaitError';
}

/** Somebody who waits for a connection. */
interface Waiting {
  readonly since: number;
  readonly timer: NodeJS.Timeout;
  resolve(connection: PoolConnection): void;
  reject(reason: unknown): void;
}

/**
 * The driver's pool of connections to one database, which Knex uses, too (its option `connectionPool`). The driver opens
 * connections, drops those that fail, and lends them in the order of coming. This class adds what it does not have: a limit of the
 * wait and its measure, connections that are made ready before they are lent, and the loss of connections that are silent.
 */
export class ConnectionPool implements Knex.TarnPoolLike {
  readonly #options: ConnectionPoolOptions;
  readonly #pool: Pool;
  readonly #sockets = new Set<Socket>();
  readonly #open = new Set<PoolConnection>();
  readonly #ready = new WeakSet<PoolConnection>();
  readonly #lent = new Set<PoolConnection>();
  readonly #pinged = new WeakSet<PoolConnection>();
  readonly #waiting = new Set<Waiting>();
  readonly #pinging: NodeJS.Timeout | undefined;
  /** How much time lies between two who waited and were lent a connection, on average, and when the last one was. */
  #paceMs = 0;
  #lentAt = 0;
  #isClosed = false;
  #onReturned: (() => void) | undefined;
  /** Called with how long somebody waited for a connection, in seconds, also for one who got none. */
  onWaited: ((seconds: number) => void) | undefined;

  constructor(options: ConnectionPoolOptions) {
    this.#options = options;
    this.#pool = createPool({ ...options.driver, connectionLimit: options.size, stream: () => this.#openSocket() });
    this.#pool.on('connection', (connection) => {
      this.#open.add(connection);
      for (const event of ['end', 'error']) connection.on(event, () => this.#open.delete(connection));
    });
    // The answers tell idle connections from lost ones before somebody needs them, and no server ends the idle ones.
    if (options.silenceMs > 0) this.#pinging = setInterval(() => this.#ping(), options.silenceMs / 2).unref();
  }

  get size(): number {
    return this.#options.size;
  }

  numFree(): number {
    return Math.max(0, this.#open.size - this.#lent.size);
  }

  numUsed(): number {
    return this.#lent.size;
  }

  numPendingAcquires(): number {
    return this.#waiting.size;
  }

  /** How long the first who waits has been waiting, in milliseconds; 0 when nobody waits. */
  get longestWaitMs(): number {
    for (const { since } of this.#waiting) return performance.now() - since;
    return 0;
  }

  /** How long whoever comes now would wait behind the others, in milliseconds, as fast as connections come free at present. */
  get expectedWaitMs(): number {
    return this.#waiting.size * this.#paceMs;
  }

  /** Lends a connection, as Knex asks for one. */
  acquire(): { readonly promise: Promise<PoolConnection> } {
    return { promise: this.take() };
  }

  /**
   * Lends a connection. {@link release} must follow.
   *
   * @throws {ConnectionWaitError} when none came free in time; and what opening one failed with.
   */
  take(): Promise<PoolConnection> {
    if (this.#isClosed) return Promise.reject(closed());
    return new Promise((resolve, reject) => {
      const waiting: Waiting = {
        since: performance.now(),
        timer: setTimeout(() => {
          if (this.#settle(waiting)) reject(new ConnectionWaitError(`no connection came free within ${this.#options.waitMs} ms`));
        }, this.#options.waitMs),
        resolve,
        reject,
      };
      if (this.#waiting.size === 0) this.#lentAt = waiting.since;
      this.#waiting.add(waiting);
      this.#ask(waiting);
    });
  }

  /** Takes a connection back. @returns whether it was lent. */
  release(connection: PoolConnection): boolean {
    if (!this.#lent.delete(connection)) return false;
    connection.release();
    if (this.#lent.size === 0) this.#onReturned?.();
    return true;
  }

  /** Refuses who waits, waits for what is lent, and says goodbye to the server. */
  async destroy(): Promise<void> {
    this.#isClosed = true;
    clearInterval(this.#pinging);
    for (const waiting of this.#waiting) if (this.#settle(waiting)) waiting.reject(closed());
    if (this.#lent.size > 0) {
      await new Promise<void>((resolve) => {
        this.#onReturned = resolve;
      });
    }
    this.#pool.end(() => {});
    await Promise.all(Array.from(this.#sockets, (socket) => new Promise((resolve) => socket.once('close', resolve))));
  }

  /** Ends all connections at once, whoever uses them. */
  cut(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  #ask(waiting: Waiting): void {
    this.#pool.getConnection((error, connection) => {
      if (error) this.#refused(waiting, error);
      else if (!this.#waiting.has(waiting)) connection.release();
      else if (this.#ready.has(connection)) this.#lend(connection, waiting);
      else {
        this.#options.prepare(connection).then(
          () => {
            this.#ready.add(connection);
            this.#lend(connection, waiting);
          },
          (reason: unknown) => {
            this.#drop(connection);
            if (this.#settle(waiting)) waiting.reject(reason);
          },
        );
      }
    });
  }

  #lend(connection: PoolConnection, waiting: Waiting): void {
    if (!this.#settle(waiting)) return connection.release();
    this.#lent.add(connection);
    const now = performance.now();
    this.#paceMs += (now - this.#lentAt - this.#paceMs) / paceOver;
    this.#lentAt = now;
    waiting.resolve(connection);
  }

  /** Where others are open, the server may have no more to give: these are all there are for a while, and one of them comes free. */
  #refused(waiting: Waiting, error: unknown): void {
    if (this.#open.size > 0 && !this.#isClosed) {
      this.#pool.config.connectionLimit = this.#open.size;
      setTimeout(() => {
        this.#pool.config.connectionLimit = this.size;
      }, refusedMs).unref();
      if (this.#waiting.has(waiting)) this.#ask(waiting);
    } else if (this.#settle(waiting)) waiting.reject(error);
  }

  /** Ends a wait. @returns whether it had not ended before. */
  #settle(waiting: Waiting): boolean {
    if (!this.#waiting.delete(waiting)) return false;
    clearTimeout(waiting.timer);
    this.onWaited?.((performance.now() - waiting.since) / 1000);
    return true;
  }

  /** The driver is given the socket, since it can end a connection that is silent only by waiting for the server. */
  #openSocket(): Socket {
    const { host = '127.0.0.1', port = 3306, socketPath } = this.#options.driver;
    const tcp = { host, port, noDelay: true, keepAlive: true, keepAliveInitialDelay: 30_000 };
    const socket = connect(socketPath === undefined ? tcp : { path: socketPath });
    this.#sockets.add(socket);
    socket.once('close', () => this.#sockets.delete(socket));
    socket.setTimeout(this.#options.silenceMs, () => {
      socket.destroy();
      for (const connection of this.#open) if (!this.#lent.has(connection)) this.#drop(connection); // they lead to the same host
    });
    return socket;
  }

  #drop(connection: PoolConnection): void {
    this.#open.delete(connection);
    connection.destroy();
  }

  #ping(): void {
    for (const connection of this.#open) {
      if (this.#lent.has(connection) || this.#pinged.has(connection)) continue;
      this.#pinged.add(connection);
      connection.ping(() => this.#pinged.delete(connection));
    }
  }
}

function closed(): Error {
  return new Error('the pool of connections is closed');
}
