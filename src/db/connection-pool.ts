import type { Socket } from 'node:net';

/** The part of a mysql2 connection that is used on it directly. */
export interface RawConnection {
  query(sql: string, callback: (error: unknown, rows: unknown) => void): void;
  end(callback: () => void): void;
  readonly stream: Socket;
  /** What the driver knows of a connection that has failed, or is about to end. */
  readonly _fatalError?: unknown;
  readonly _protocolError?: unknown;
  readonly _closing?: boolean;
}

/** How a pool behaves. */
export interface ConnectionPoolOptions {
  /** Opens a connection. */
  connect(): Promise<RawConnection>;
  /** Makes a new connection ready for use. */
  prepare(connection: RawConnection): Promise<void>;
  /** Most connections. */
  readonly size: number;
  /** How long somebody waits for a connection, in milliseconds. */
  readonly waitMs: number;
  /** How long a connection in use may be silent before it counts as lost, in milliseconds; 0 means for ever. */
  readonly silenceMs: number;
}

/** A connection that nobody has used for so long is closed, in milliseconds: servers end idle ones, sometimes without a word. */
const idleMs = 60_000;

/** Where other connections are open, how long after one could not be opened the next attempt is made, in milliseconds. */
const retryMs = 200;

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
  resolve(connection: RawConnection): void;
  reject(reason: unknown): void;
}

/**
 * Connections to one database, lent one by one: opened when they are needed, and given to those who wait in the order in which they
 * came. It is the pool of Knex (its option `connectionPool`), whose own one sets two timers and goes through a dozen promises for each
 * statement, which takes longer than the driver does.
 */
export class ConnectionPool {
  readonly #options: ConnectionPoolOptions;
  /** The one that was used last is at the end, and is lent first. */
  readonly #free: RawConnection[] = [];
  readonly #used = new Set<RawConnection>();
  /** Free or lent. */
  readonly #open = new Set<RawConnection>();
  /** Of these, of those that are made ready, and of those that take their leave. */
  readonly #sockets = new Set<Socket>();
  readonly #idleSince = new WeakMap<RawConnection, number>();
  readonly #waiting = new Set<Waiting>();
  readonly #reaper: NodeJS.Timeout;
  #opening = 0;
  /** Runs while no connection is opened, because the last attempt failed. */
  #resting: NodeJS.Timeout | undefined;
  /** How much time lies between two who waited and were lent a connection, on average, and when the last one was. */
  #paceMs = 0;
  #lentAt = 0;
  #isClosed = false;
  /** Called with how long somebody waited for a connection, in seconds, also for one who got none. */
  onWaited: ((seconds: number) => void) | undefined;

  constructor(options: ConnectionPoolOptions) {
    this.#options = options;
    this.#reaper = setInterval(() => this.#closeIdle(), idleMs / 4).unref();
  }

  get size(): number {
    return this.#options.size;
  }

  numFree(): number {
    return this.#free.length;
  }

  numUsed(): number {
    return this.#used.size;
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
  acquire(): { readonly promise: Promise<RawConnection> } {
    return { promise: Promise.resolve(this.take()) };
  }

  /**
   * Lends a connection: at once if one is free. {@link release} must follow.
   *
   * @throws {ConnectionWaitError} when none came free in time; and what opening one failed with.
   */
  take(): RawConnection | Promise<RawConnection> {
    if (this.#isClosed) return Promise.reject(new Error('the pool of connections is closed'));
    for (let connection = this.#free.pop(); connection !== undefined; connection = this.#free.pop()) {
      if (isBroken(connection)) {
        this.#discard(connection);
        continue;
      }
      this.#lend(connection);
      this.onWaited?.(0);
      return connection;
    }
    return new Promise((resolve, reject) => {
      const waiting: Waiting = {
        since: performance.now(),
        timer: setTimeout(() => this.#giveUp(waiting), this.#options.waitMs),
        resolve,
        reject,
      };
      if (this.#waiting.size === 0) this.#lentAt = waiting.since;
      this.#waiting.add(waiting);
      this.#grow();
    });
  }

  /** Takes a connection back. @returns whether it was lent. */
  release(connection: RawConnection): boolean {
    if (!this.#used.delete(connection)) return false;
    if (isBroken(connection)) this.#discard(connection);
    else if (this.#isClosed) this.#end(connection);
    else this.#offer(connection);
    return true;
  }

  /** Refuses who waits, waits for what is lent, and says goodbye to the server. */
  async destroy(): Promise<void> {
    this.#isClosed = true;
    clearInterval(this.#reaper);
    clearTimeout(this.#resting);
    for (const waiting of this.#waiting) this.#settle(waiting).reject(new Error('the pool of connections is closed'));
    for (const connection of this.#free.splice(0)) this.#end(connection);
    await Promise.all(Array.from(this.#sockets, (socket) => new Promise((resolve) => socket.once('close', resolve))));
  }

  /** Ends all connections at once, whoever uses them. */
  cut(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  /** Opens connections for those who wait, as far as there is room. */
  #grow(): void {
    if (this.#resting !== undefined && this.#open.size > 0) return;
    while (this.#opening < this.#waiting.size && this.#open.size + this.#opening < this.size) {
      this.#opening += 1;
      this.#openOne()
        .catch((error: unknown) => {
          // Where some are open, the server may have no more to give: one of these comes free for who waits.
          if (this.#open.size > 0) return this.#rest();
          // Else who has waited longest learns it; the next one tries anew.
          for (const waiting of this.#waiting) return this.#settle(waiting).reject(error);
        })
        .finally(() => {
          this.#opening -= 1;
          this.#grow();
        });
    }
  }

  #rest(): void {
    clearTimeout(this.#resting);
    this.#resting = setTimeout(() => {
      this.#resting = undefined;
      this.#grow();
    }, retryMs).unref();
  }

  async #openOne(): Promise<void> {
    const connection = await this.#options.connect();
    const { stream } = connection;
    this.#mind(connection);
    stream.setTimeout(this.#options.silenceMs);
    try {
      if (!this.#isClosed) await this.#options.prepare(connection);
      if (this.#isClosed || isBroken(connection)) {
        throw Object.assign(new Error('the connection ended as soon as it was open'), { code: 'PROTOCOL_CONNECTION_LOST' });
      }
    } catch (error) {
      stream.destroy();
      throw error;
    }
    this.#open.add(connection);
    this.#offer(connection);
  }

  #mind(connection: RawConnection): void {
    const { stream } = connection;
    this.#sockets.add(stream);
    stream.once('close', () => {
      this.#sockets.delete(stream);
      if (!this.#open.delete(connection)) return;
      const place = this.#free.indexOf(connection);
      if (place >= 0) this.#free.splice(place, 1);
      this.#grow();
    });
    stream.on('timeout', () => {
      stream.destroy(Object.assign(new Error('the database has gone silent'), { code: 'ETIMEDOUT' }));
      for (const free of this.#free) free.stream.destroy(); // they are as old, and lead to the same host
    });
  }

  /** Gives a connection to who has waited longest, or keeps it for the next. */
  #offer(connection: RawConnection): void {
    for (const waiting of this.#waiting) {
      this.#lend(connection);
      this.#settle(waiting).resolve(connection);
      const now = performance.now();
      this.#paceMs += (now - this.#lentAt - this.#paceMs) / paceOver;
      this.#lentAt = now;
      return;
    }
    connection.stream.setTimeout(0);
    this.#idleSince.set(connection, performance.now());
    this.#free.push(connection);
  }

  #lend(connection: RawConnection): void {
    this.#used.add(connection);
    connection.stream.setTimeout(this.#options.silenceMs);
  }

  #giveUp(waiting: Waiting): void {
    this.#settle(waiting).reject(new ConnectionWaitError(`no connection came free within ${this.#options.waitMs} ms`));
  }

  #settle(waiting: Waiting): Waiting {
    clearTimeout(waiting.timer);
    this.#waiting.delete(waiting);
    this.onWaited?.((performance.now() - waiting.since) / 1000);
    return waiting;
  }

  #closeIdle(): void {
    const since = performance.now() - idleMs;
    // The first ones were used longest ago.
    const used = this.#free.findIndex((connection) => (this.#idleSince.get(connection) ?? 0) >= since);
    for (const connection of this.#free.splice(0, used === -1 ? this.#free.length : used)) this.#end(connection);
  }

  /** Says goodbye to the server, which then hangs up. There is room for another at once: a host that is gone does not answer. */
  #end(connection: RawConnection): void {
    this.#open.delete(connection);
    connection.stream.setTimeout(this.#options.silenceMs);
    connection.end(() => {});
  }

  /** Drops a connection that has failed. */
  #discard(connection: RawConnection): void {
    this.#open.delete(connection);
    connection.stream.destroy();
    this.#grow();
  }
}

function isBroken({ stream, _fatalError, _protocolError, _closing }: RawConnection): boolean {
  return stream.destroyed || _closing === true || Boolean(_fatalError) || Boolean(_protocolError);
}
