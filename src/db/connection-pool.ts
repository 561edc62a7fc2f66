import { connect, type Socket } from 'node:net';
import type { Knex } from 'knex';
import { type Connection, type ConnectionOptions, createConnection } from 'mysql2';

/** The credentials of a connection. */
export type Credentials = Pick<ConnectionOptions, 'password' | 'ssl'>;

/** How a pool behaves. */
export interface ConnectionPoolOptions {
  /** Where the server is, and how connections to it are made. */
  readonly driver: ConnectionOptions;
  /** Reads the credentials of a new connection, where they may change while the pool is open. */
  credentials?(): Promise<Credentials>;
  /** Makes a new connection ready for use. */
  prepare(connection: Connection): Promise<void>;
  /** Most connections. */
  readonly size: number;
  /** How long a request for a connection waits, in milliseconds. */
  readonly waitMs: number;
  /** How long a connection may be silent before it counts as lost, in milliseconds; 0 means for ever. */
  readonly silenceMs: number;
}

/** After the server has refused a connection while others are open: how long no further one is opened, in milliseconds. */
const refusedMs = 200;

/**
 * A connection that has been idle for this long, in milliseconds, is pinged before it is lent: the server or a proxy may be
 * closing it at this moment. No idle limit of theirs is shorter than a second.
 */
const trustedMs = 500;

/**
 * How long this ping may take, in milliseconds. A connection that does not answer is lent all the same: `silenceMs` ends its
 * statement.
 */
const askedMs = 100;

/** Over how many loans the average interval is taken: they come in bursts. */
const paceOver = 50;

/** Thrown when no connection of the pool became free in time. */
export class ConnectionWaitError extends Error {
  override readonly name = 'ConnectionWaitError';
}

/** A request that waits for a connection. */
interface Waiting {
  readonly since: number;
  readonly timer: NodeJS.Timeout;
  resolve(connection: Connection): void;
  reject(reason: unknown): void;
}

/**
 * A pool of connections to one database, which Knex uses, too (its option `connectionPool`). Each connection is opened with the
 * credentials of that moment and made ready before it is lent. The most recently used connection is lent first, to the request that
 * has waited longest; waits are limited and measured, and connections that fail or do not answer are dropped.
 */
export class ConnectionPool implements Knex.TarnPoolLike {
  readonly #options: ConnectionPoolOptions;
  /** The connections that are ready, each with its socket, and those of them that are free. */
  readonly #open = new Map<Connection, Socket>();
  readonly #free: Connection[] = [];
  readonly #lent = new Set<Connection>();
  readonly #pinged = new WeakSet<Connection>();
  /** When a connection last became free. */
  readonly #freeSince = new WeakMap<Connection, number>();
  readonly #sockets = new Set<Socket>();
  readonly #waiting = new Set<Waiting>();
  readonly #pinging: NodeJS.Timeout | undefined;
  /** How many connections are being opened, and how many there may be at present. */
  #opening = 0;
  #limit: number;
  /** The average time between two loans to waiting requests, and the time of the last one. */
  #paceMs = 0;
  #lentAt = 0;
  #isClosed = false;
  #onReturned: (() => void) | undefined;
  /** Called with how long a request waited for a connection, in seconds, whether or not it got one. */
  onWaited: ((seconds: number) => void) | undefined;

  constructor(options: ConnectionPoolOptions) {
    this.#options = options;
    this.#limit = options.size;
    // Pings find lost connections before a call needs them, and keep the server from closing idle ones.
    if (options.silenceMs > 0) this.#pinging = setInterval(() => this.#ping(), options.silenceMs / 2).unref();
  }

  get size(): number {
    return this.#options.size;
  }

  numFree(): number {
    return this.#free.length;
  }

  numUsed(): number {
    return this.#lent.size;
  }

  numPendingAcquires(): number {
    return this.#waiting.size;
  }

  /** How long the oldest waiting request has been waiting, in milliseconds; 0 when none waits. */
  get longestWaitMs(): number {
    for (const { since } of this.#waiting) return performance.now() - since;
    return 0;
  }

  /** How long a new request would wait behind the others, in milliseconds, at the rate at which connections become free now. */
  get expectedWaitMs(): number {
    return this.#waiting.size * this.#paceMs;
  }

  /** Lends a connection, as Knex asks for one. */
  acquire(): { readonly promise: Promise<Connection> } {
    return { promise: this.take() };
  }

  /**
   * Lends a connection. {@link release} must follow.
   *
   * @throws {ConnectionWaitError} when none became free in time; and the error of opening one.
   */
  take(): Promise<Connection> {
    if (this.#isClosed) return Promise.reject(closed());
    const free = this.#free.pop();
    if (free !== undefined) {
      this.#lent.add(free);
      if (performance.now() - (this.#freeSince.get(free) ?? 0) > trustedMs) return this.#lendIfAlive(free);
      this.onWaited?.(0);
      return Promise.resolve(free);
    }
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
      this.#serve();
    });
  }

  /** Takes a connection back. @returns whether it was lent. */
  release(connection: Connection): boolean {
    if (!this.#lent.delete(connection)) return false;
    const { state } = connection;
    if (state === 'error' || state === 'disconnected') this.#drop(connection);
    else if (this.#open.has(connection)) this.#setFree(connection);
    if (this.#lent.size === 0) this.#onReturned?.();
    this.#serve();
    return true;
  }

  /** Refuses waiting requests, waits for lent connections, and closes all in order. */
  async destroy(): Promise<void> {
    this.#isClosed = true;
    clearInterval(this.#pinging);
    for (const waiting of this.#waiting) if (this.#settle(waiting)) waiting.reject(closed());
    if (this.#lent.size > 0) {
      await new Promise<void>((resolve) => {
        this.#onReturned = resolve;
      });
    }
    for (const connection of this.#open.keys()) connection.end(() => {});
    await Promise.all(Array.from(this.#sockets, (socket) => new Promise((resolve) => socket.once('close', resolve))));
  }

  /** Closes all connections at once, also those in use. */
  cut(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  /** Lends free connections to waiting requests, and opens connections for the others, up to the limit. */
  #serve(): void {
    for (const waiting of this.#waiting) {
      const connection = this.#free.pop();
      if (connection === undefined) break;
      this.#lend(connection, waiting);
    }
    while (this.#opening < this.#waiting.size && this.#open.size + this.#opening < this.#limit) {
      this.#opening += 1;
      this.#openConnection()
        .catch((error: unknown) => this.#refused(error))
        .finally(() => {
          this.#opening -= 1;
          this.#serve();
        });
    }
  }

  #setFree(connection: Connection): void {
    this.#freeSince.set(connection, performance.now());
    this.#free.push(connection);
  }

  /** Lends a connection that counts as lent already, or, if it turns out to be lost, another one. */
  async #lendIfAlive(connection: Connection): Promise<Connection> {
    const began = performance.now();
    if (await isAlive(connection)) {
      this.onWaited?.((performance.now() - began) / 1000);
      return connection;
    }
    this.#lent.delete(connection);
    this.#drop(connection);
    if (this.#lent.size === 0) this.#onReturned?.();
    return this.take();
  }

  #lend(connection: Connection, waiting: Waiting): void {
    this.#settle(waiting);
    this.#lent.add(connection);
    const now = performance.now();
    this.#paceMs += (now - this.#lentAt - this.#paceMs) / paceOver;
    this.#lentAt = now;
    waiting.resolve(connection);
  }

  /** Opens a connection and makes it ready. */
  async #openConnection(): Promise<void> {
    const credentials = await this.#options.credentials?.();
    if (this.#isClosed) return;
    const socket = this.#openSocket();
    const connection = createConnection({ ...this.#options.driver, ...credentials, stream: socket });
    // A statement that runs learns of the error by its callback; without a listener the event would end the process.
    connection.on('error', () => {});
    try {
      await new Promise<void>((resolve, reject) => connection.connect((error) => (error ? reject(error) : resolve())));
      await this.#options.prepare(connection);
    } catch (error) {
      socket.destroy();
      throw error;
    }
    if (this.#isClosed) connection.end(() => {});
    else if (!socket.destroyed) {
      this.#open.set(connection, socket);
      this.#setFree(connection);
      socket.once('close', () => this.#drop(connection));
    }
  }

  /**
   * Where others are open, the server may be at its limit: for a while no further one is opened, and waiting requests get one of
   * these.
   */
  #refused(error: unknown): void {
    if (this.#open.size > 0 && !this.#isClosed) {
      this.#limit = this.#open.size;
      setTimeout(() => {
        this.#limit = this.size;
        this.#serve();
      }, refusedMs).unref();
      return;
    }
    const [first] = this.#waiting;
    if (first !== undefined && this.#settle(first)) first.reject(error);
  }

  /** Ends a wait. @returns whether it had not ended before. */
  #settle(waiting: Waiting): boolean {
    if (!this.#waiting.delete(waiting)) return false;
    clearTimeout(waiting.timer);
    this.onWaited?.((performance.now() - waiting.since) / 1000);
    return true;
  }

  /**
   * The socket is made here and given to the driver, which could otherwise close a silent connection only by waiting for the
   * server.
   */
  #openSocket(): Socket {
    const { host = '127.0.0.1', port = 3306, socketPath } = this.#options.driver;
    const tcp = { host, port, noDelay: true, keepAlive: true, keepAliveInitialDelay: 30_000 };
    const socket = connect(socketPath === undefined ? tcp : { path: socketPath });
    this.#sockets.add(socket);
    socket.once('close', () => this.#sockets.delete(socket));
    socket.setTimeout(this.#options.silenceMs, () => {
      socket.destroy();
      for (const connection of [...this.#free]) this.#drop(connection); // they lead to the same host
    });
    return socket;
  }

  #drop(connection: Connection): void {
    const at = this.#free.indexOf(connection);
    if (at !== -1) this.#free.splice(at, 1);
    this.#open.get(connection)?.destroy();
    if (this.#open.delete(connection)) this.#serve();
  }

  #ping(): void {
    for (const connection of this.#free) {
      if (this.#pinged.has(connection)) continue;
      this.#pinged.add(connection);
      connection.ping(() => this.#pinged.delete(connection));
    }
  }
}

/** Whether a connection is alive, as far as a ping tells in time. */
function isAlive(connection: Connection): Promise<boolean> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => resolve(true), askedMs);
    connection.ping((error) => {
      clearTimeout(timer);
      resolve(!error);
    });
  });
}

function closed(): Error {
  return new Error('the pool of connections is closed');
}
