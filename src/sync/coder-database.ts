import { Socket } from 'node:net';
import type { Client } from 'pg';
import { withTimeLimit } from '../platform/time-limit.ts';
import { guardLocks, type LockGuard } from './lock-guard.ts';
import { SyncError } from './sync-error.ts';

/** A row of a result: each value as PostgreSQL writes it, or NULL. */
export type SourceRow = readonly (string | null)[];

/** A connection to Coder's database. It is never written to. */
export interface CoderDatabase {
  /** Runs a statement and returns its rows. */
  rows(sql: string, values?: readonly unknown[]): Promise<SourceRow[]>;
  /** Runs a statement without a time limit for locks: it may wait until running transactions end. */
  waitingRows(sql: string, values?: readonly unknown[]): Promise<SourceRow[]>;
  /**
   * Runs work in one snapshot of the whole database: a read-only transaction whose statements all see the same moment. It fails
   * when another session waits for a lock that it holds, see {@link guardLocks}.
   *
   * @param work gets the snapshot as `pg_current_snapshot()` writes it: the transactions that it sees.
   */
  inSnapshot<T>(work: (snapshot: string) => Promise<T>): Promise<T>;
  /** Reads a result in batches, by a cursor. Only within {@link inSnapshot}. */
  batches(sql: string): AsyncGenerator<SourceRow[], void>;
  close(): Promise<void>;
}

/** How long opening a connection may take, and closing one, in milliseconds. */
const connectTimeoutMs = 10_000;
const closeTimeoutMs = 2000;

/**
 * How long a statement may take, in milliseconds: sorting a large table, or waiting for transactions when a slot is made, takes
 * long. After that the connection counts as lost, which nothing else detects where a network drops packets.
 */
const queryTimeoutMs = 600_000;

/** About how many bytes a batch of a cursor should have, and the bounds of its rows. */
const batchBytes = 2 * 1024 * 1024;
const batchRows = { first: 500, least: 10, most: 5000 };

/**
 * Settings of each session, also of those that replicate, with which values come as the texts that `values.ts` reads, whatever is
 * set for the role or the database.
 */
export const textSettings = [
  "set datestyle to 'ISO, YMD'",
  "set timezone to 'UTC'",
  "set intervalstyle to 'postgres'",
  "set bytea_output to 'hex'",
  'set extra_float_digits to 1',
].join('; ');

/**
 * How long a statement waits for a locked table, in milliseconds. After a second (`deadlock_timeout`) PostgreSQL looks for a
 * deadlock, and fails the session that looks: it could be a migration of Coder that waits for a table that we have read, while we
 * wait for one that it has altered. So our statement gives up before that.
 */
const lockTimeoutMs = 500;

/** Settings of a session that reads tables: it is read-only, may be slow, and does not wait long for locks. */
const readingSettings = [
  'set default_transaction_read_only to on',
  'set statement_timeout to 0',
  `set lock_timeout to ${lockTimeoutMs}`,
  'set idle_in_transaction_session_timeout to 0',
  'set cursor_tuple_fraction to 1',
].join('; ');

/** The settings of a connection by `pg`: all values as text, and the name by which an administrator finds it. */
export function connectionOptions(url: string, purpose: string) {
  return {
    connectionString: url,
    application_name: `tasks-service ${purpose}`,
    connectionTimeoutMillis: connectTimeoutMs,
    keepAlive: true,
    types: { getTypeParser: () => (value: string) => value },
  };
}

/**
 * Connects to Coder's database.
 *
 * @param url as `pg` reads it: `postgres://user:password@host:5432/coder?sslmode=verify-full`.
 * @throws {SyncError} in one line, without the password, when it cannot.
 */
export async function openCoderDatabase(url: string, purpose = 'sync'): Promise<CoderDatabase> {
  const { default: pg } = await import('pg'); // a service without a Coder never loads it
  const socket = new Socket();
  let client: Client | undefined;
  try {
    client = new pg.Client({ ...connectionOptions(url, purpose), query_timeout: queryTimeoutMs, stream: () => socket });
    const database = wrap(client, socket, url);
    await client.connect();
    await client.query(`${textSettings}; ${readingSettings}`);
    return database;
  } catch (error) {
    socket.destroy();
    const reason = isPasswordMissing(error) ? 'it asks for a password, and CODER_DATABASE_URL has none' : failureText(error);
    throw new SyncError(`Coder's database cannot be reached: ${reason}`, { cause: error });
  }
}

/** Whether PostgreSQL asks for a password and the address has none, which the driver reports in terms of the protocol. */
function isPasswordMissing(error: unknown): boolean {
  return error instanceof Error && /client password must be a string/.test(error.message);
}

function wrap(client: Client, socket: Socket, url: string): CoderDatabase {
  // When an idle connection is lost, only this event has the reason: the next statement just fails because it is lost.
  let lost: Error | undefined;
  client.on('error', (error) => {
    lost ??= error;
  });
  const rows = async (sql: string, values: readonly unknown[] = []): Promise<SourceRow[]> => {
    try {
      return (await client.query<(string | null)[]>({ text: sql, values: [...values], rowMode: 'array' })).rows;
    } catch (error) {
      throw lost ?? error;
    }
  };
  return {
    rows,

    async waitingRows(sql, values) {
      await rows('set lock_timeout to 0');
      try {
        return await rows(sql, values);
      } finally {
        await rows(`set lock_timeout to ${lockTimeoutMs}`).catch(() => {});
      }
    },

    async inSnapshot(work) {
      await rows('begin transaction isolation level repeatable read, read only');
      let guard: LockGuard | undefined;
      try {
        const [[snapshot, pid] = []] = await rows('select pg_current_snapshot(), pg_backend_pid()');
        guard = guardLocks(
          pid ?? '',
          () => openCoderDatabase(url, 'lock guard'),
          () => {
            lost ??= new Error('Coder waited for a table that was being read, as a migration does: it is read again later');
          },
        );
        return await work(snapshot ?? '');
      } finally {
        await guard?.stop();
        await client.query('rollback').catch(() => {});
      }
    },

    async *batches(sql) {
      await rows(`declare batches no scroll cursor for ${sql}`);
      try {
        let next = rows(`fetch ${batchRows.first} from batches`);
        for (;;) {
          const batch = await next;
          if (batch.length === 0) return;
          next = rows(`fetch ${nextBatchSize(batch)} from batches`); // while this one is processed
          next.catch(() => {});
          yield batch;
        }
      } finally {
        await client.query('close batches').catch(() => {});
      }
    },

    async close() {
      // If the server does not answer, the driver would wait for it to close the connection.
      await withTimeLimit(closeTimeoutMs, client.end()).catch(() => {});
      socket.destroy();
    },
  };
}

/** How many rows the next batch should have, by the size of those of the last. */
export function nextBatchSize(rows: readonly (readonly (string | number | Buffer | null)[])[]): number {
  let bytes = 0;
  for (const row of rows) {
    for (const value of row) bytes += value === null || typeof value === 'number' ? 8 : value.length;
  }
  return Math.min(batchRows.most, Math.max(batchRows.least, Math.round((rows.length * batchBytes) / Math.max(1, bytes))));
}

/** A name as PostgreSQL takes it. */
export function quote(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}

/** Why something of PostgreSQL, or of our own database, failed, in one line. Their errors do not repeat the password. */
export function failureText(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const { code, fatal, sqlMessage } = error as { code?: unknown; fatal?: unknown; sqlMessage?: unknown };
  // An error of our own database: its message begins with the whole statement.
  if (typeof sqlMessage === 'string') return `this service's database: ${sqlMessage.replace(/\s+/g, ' ')}`;
  if (fatal === true) return `this service's database: ${error.message.split(' - ').at(-1) ?? ''}`;
  // When several addresses were tried, the error for all of them has no message.
  const text =
    error.message !== '' ? error.message : error instanceof AggregateError ? failureText(error.errors[0]) : String(code);
  return text.replace(/\s+/g, ' ');
}
