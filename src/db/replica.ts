import { setMaxListeners } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { Counter, Gauge, type Registry } from 'prom-client';
import type { DatabaseAddress } from '../config.ts';
import type { Logger } from '../platform/log.ts';
import { withTimeLimit } from '../platform/time-limit.ts';
import { closeDatabase, connectionsOf, type Database, openDatabase, type PoolOptions } from './connection.ts';
import { databaseErrorKind } from './database-errors.ts';

/** What a replica is opened with. */
interface ReplicaOptions {
  /** A pool of connections to the primary that calls do not use, so that it can be asked while theirs is busy. */
  readonly primary: Database;
  /** How the pool of the replica behaves. */
  readonly pool: PoolOptions;
  /** How old, in seconds, what is read from the replica may be. */
  readonly maxStalenessSeconds: number;
  readonly log: Logger;
}

/** A replica that is checked continuously: whether it may be read from. */
export interface Replica {
  /** The pool to read from. */
  readonly database: Database;
  /** Checks for the first time, and then periodically. */
  start(): Promise<void>;
  /** Stops checking, and closes the pool. */
  close(): Promise<void>;
  /** The present time of use, whose signal is aborted when it ends; undefined when nothing may be read from the replica. */
  use(): AbortSignal | undefined;
  /** Ends the time of use: a read failed. */
  leave(why: string): void;
  /** An upper bound of the age of what the replica shows, in milliseconds; undefined when it is not known. */
  stalenessMs(): number | undefined;
  /** Why it is not in use, or undefined when it is. */
  whyNot(): string | undefined;
  /** Whether it answers, as far as is known at the moment. */
  answers(): boolean;
  /**
   * Whether more reads wait for it than it can answer in time. A replica that does not answer is not overloaded: it is soon out
   * of use.
   */
  isOverloaded(): boolean;
}

/** How often it is checked, in milliseconds. No replica's age can be known more exactly than this. */
const lookEveryMs = 500;

/** How long a check may take, in milliseconds. A slower replica is not worth reading from. */
const lookLimitMs = 1000;

/** After so many milliseconds without an answer to a check, the replica counts as not answering. */
const slowLookMs = 250;

/**
 * How long a read waits for a connection to a replica that answers at most, in milliseconds: longer than it takes to notice that
 * the replica does not answer, even where timers are late.
 */
const overloadedMs = lookEveryMs + slowLookMs + 200;

/** How many checks in a row must succeed before a replica is used: one that comes and goes is worse than none. */
const goodLooks = 2;

/** What a server knows of the database. */
interface Look {
  readonly now: string;
  readonly beat_at: string;
  /**
   * The generation of the feed: random, so that it tells databases apart. A rebuild makes a new one, which reaches a replica a
   * moment later.
   */
  readonly generation: string | null;
  readonly newest: string | null;
}

/**
 * Opens a replica and checks it: each half second the primary's time is written into `replication_heartbeat` on the primary, and
 * read from the replica. What the replica shows is at most as old as the difference, plus the time since the check.
 *
 * The server's replication status is not asked: it needs rights and covers one hop only, while this sees what a reader sees, behind
 * chains, load balancers and delays. While the primary cannot be written, the replica's age grows with the time that passes.
 *
 * The replica comes into use when it has the same database at the same migration and is not older than half the limit. It goes out
 * of use when it is older than the limit, cannot be reached, or a read fails.
 */
export function openReplica(address: DatabaseAddress, { primary, pool, maxStalenessSeconds, log }: ReplicaOptions): Replica {
  const database = openDatabase(address, pool);
  const looks = openDatabase(address, { size: 1, statementTimeoutMs: lookLimitMs });
  const maxStalenessMs = maxStalenessSeconds * 1000;
  const stopping = new AbortController();
  let running: Promise<void> | undefined;
  let seen: { readonly milliseconds: number; readonly at: number } | undefined;
  let good = 0;
  let lookingSince: number | undefined;
  let inUse: AbortController | undefined;
  let reason: string | undefined = 'nobody has looked at it yet';

  const stalenessMs = (): number | undefined =>
    seen === undefined ? undefined : Math.max(0, seen.milliseconds + performance.now() - seen.at);

  const answers = (): boolean => lookingSince === undefined || performance.now() - lookingSince < slowLookMs;

  const leave = (why: string): void => {
    good = 0;
    if (inUse === undefined) {
      reason = why;
      return;
    }
    log.warn({ why }, 'lists and gets are read from the primary');
    reason = why;
    inUse.abort();
    inUse = undefined;
  };

  async function look(): Promise<void> {
    const at = performance.now();
    lookingSince = at;
    const beat = withTimeLimit(lookLimitMs, writeBeat(primary)).catch(() => undefined);
    const [here, there] = await Promise.all([beat, withTimeLimit(lookLimitMs, readLook(looks))]);
    lookingSince = undefined;
    if (here !== undefined) {
      if (here.generation === null || there.generation !== here.generation) {
        seen = undefined;
        throw new Error('it is no replica of the database of DATABASE_URL, or has not followed a rebuild yet');
      }
      if (there.newest !== here.newest) throw new Error(`its newest migration is ${there.newest}, and should be ${here.newest}`);
      seen = { milliseconds: milliseconds(here.now) - milliseconds(there.beat_at), at };
    }
    const age = stalenessMs() ?? Number.POSITIVE_INFINITY;
    if (age > maxStalenessMs)
      throw new Error(here === undefined ? 'the primary cannot be asked' : `it is ${seconds(age)} behind`);
    good += 1;
    if (inUse !== undefined || good < goodLooks || age > maxStalenessMs / 2) return;
    inUse = new AbortController();
    setMaxListeners(0, inUse.signal); // one for each read that runs
    reason = undefined;
    log.info({ stalenessMs: Math.round(age) }, 'lists and gets are read from the replica');
  }

  async function run(): Promise<void> {
    while (!stopping.signal.aborted) {
      await look().catch((error: unknown) => leave(error instanceof Error ? error.message : String(error)));
      await sleep(lookEveryMs, undefined, { signal: stopping.signal }).catch(() => {});
    }
  }

  return {
    database,
    async start() {
      await look().catch((error: unknown) => leave(error instanceof Error ? error.message : String(error)));
      running ??= run();
    },
    async close() {
      stopping.abort();
      await running;
      await Promise.all([closeDatabase(database), closeDatabase(looks)]);
    },
    use() {
      if (inUse === undefined) return undefined;
      const age = stalenessMs() ?? Number.POSITIVE_INFINITY;
      if (age > maxStalenessMs) leave(`it may be ${seconds(age)} behind`); // it grew too old between two checks
      return inUse?.signal;
    },
    leave,
    stalenessMs,
    whyNot: () => reason,
    answers,
    isOverloaded: () => inUse !== undefined && answers() && connectionsOf(database).longestWaitMs > overloadedMs,
  };
}

/**
 * The methods of `primary`, each answered by `copy` while the replica is in use.
 *
 * A read is repeated on the primary when it fails on the replica, has not ended when the replica goes out of use, or finds
 * nothing, since the primary may have what is new. The statement limit, a busy pool and a canceled call are final: the primary
 * would not help.
 */
export function preferReplica<T extends object>(primary: T, copy: T, replica: Replica, fellBack: () => void): T {
  type Method = (...args: unknown[]) => Promise<unknown>;
  const methods = Object.entries(primary).map(([name, onPrimary]: [string, Method]) => {
    const onReplica = (copy as Record<string, Method>)[name] as Method;
    const read: Method = async (...args) => {
      const use = replica.use();
      if (use === undefined) return onPrimary(...args);
      try {
        const found = await whileUsed(use, onReplica(...args));
        if (found !== undefined) return found;
      } catch (error) {
        const left = args.some((arg) => arg instanceof AbortSignal && arg.aborted);
        if (left || (!use.aborted && replica.answers() && isSameAnywhere(error))) throw error;
        if (!use.aborted) replica.leave(error instanceof Error ? error.message : String(error));
        fellBack();
      }
      return onPrimary(...args);
    };
    return [name, read] as const;
  });
  return Object.fromEntries(methods) as T;
}

/** Adds the metrics of a replica. Returns what counts a read that was done again by the primary. */
export function addReplicaMetrics(registry: Registry, replica: Replica): () => void {
  new Gauge({
    name: 'tasks_replica_in_use',
    help: 'Whether lists and gets are read from the replica (1) or from the primary (0).',
    registers: [registry],
    collect() {
      this.set(replica.whyNot() === undefined ? 1 : 0);
    },
  });
  new Gauge({
    name: 'tasks_replica_staleness_seconds',
    help: 'At most how old what the replica shows is, in seconds; NaN when nobody knows.',
    registers: [registry],
    collect() {
      this.set((replica.stalenessMs() ?? Number.NaN) / 1000);
    },
  });
  const fallbacks = new Counter({
    name: 'tasks_replica_fallbacks_total',
    help: 'Reads that the replica failed and the primary answered.',
    registers: [registry],
  });
  return () => fallbacks.inc();
}

/** The statement limit, and a pool that is busy. */
function isSameAnywhere(error: unknown): boolean {
  const kind = databaseErrorKind(error);
  return kind === 'too-expensive' || kind === 'busy';
}

/** The work's result, unless the time of use ends before. */
function whileUsed<T>(use: AbortSignal, work: Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const ended = (): void => reject(new Error('the replica is no longer used'));
    use.addEventListener('abort', ended, { once: true });
    work.then(resolve, reject).finally(() => use.removeEventListener('abort', ended));
  });
}

const lookSql =
  'select cast(utc_timestamp(6) as char) as `now`, `h`.`beat_at`, ' +
  '(select `p`.`generation` from `projector_state` as `p` where `p`.`id` = 1) as `generation`, ' +
  '(select max(`m`.`name`) from `knex_migrations` as `m`) as `newest` from `replication_heartbeat` as `h` where `h`.`id` = 1';

async function readLook(database: Database): Promise<Look> {
  const [[row]] = (await database.raw(lookSql)) as [[Look | undefined]];
  if (row === undefined) throw new Error('its replication_heartbeat is empty');
  return row;
}

async function writeBeat(database: Database): Promise<Look> {
  await database.raw('update `replication_heartbeat` set `beat_at` = utc_timestamp(6) where `id` = 1');
  return readLook(database);
}

/** A DATETIME(6) in whole milliseconds since 1970. */
function milliseconds(text: string): number {
  return Date.parse(`${text.slice(0, 10)}T${text.slice(11, 23)}Z`);
}

function seconds(milliseconds: number): string {
  return `${(milliseconds / 1000).toFixed(1)} s`;
}
