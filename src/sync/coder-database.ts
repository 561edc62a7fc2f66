import type { Client } from 'pg';
import { SyncError } from './sync-error.ts';

/** A row of a result: each value as PostgreSQL writes it, or NULL. */
export type SourceRow = readonly (string | null)[];

/** A connection to Coder's database. It is never written to. */
export interface CoderDatabase {
  /** Runs a statement and returns its rows. */
  rows(sql: string, values?: readonly unknown[]): Promise<SourceRow[]>;
  /**
   * Runs work in one snapshot of the whole database: a read-only transaction whose statements all see the same moment.
   *
   * @param work is given the snapshot as `pg_current_snapshot()` writes it: which transactions it has.
   */
  inSnapshot<T>(work: (snapshot: string) => Promise<T>): Promise<T>;
  /** Reads a result in batches, by a cursor. Only within {@link inSnapshot}. */
  batches(sql: string): AsyncGenerator<SourceRow[], void>;
  close(): Promise<void>;
}

/** How long a connection may take, in milliseconds. */
const connectTimeoutMs = 10_000;

/** About how many bytes a batch of a cursor should have, and the bounds of its rows. */
const batchBytes = 2 * 1024 * 1024;
const batchRows = { first: 500, least: 10, most: 5000 };

/**
 * Settings of each session, also of those that replicate, in which values come as the texts that `values.ts` reads; whatever roles
 * and databases have set. It has one way of writing them alone.
 */
export const textSettings = [
  "set datestyle to 'ISO, YMD'",
  "set timezone to 'UTC'",
  "set intervalstyle to 'postgres'",
  "set bytea_output to 'hex'",
  'set extra_float_digits to 1',
].join('; ');

/** Settings of a session that reads tables: it writes nothing, and takes its time. */
const readingSettings = [
  'set default_transaction_read_only to on',
  'set statement_timeout to 0',
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
  const client = new pg.Client(connectionOptions(url, purpose));
  const database = wrap(client);
  try {
    await client.connect();
    await client.query(`${textSettings}; ${readingSettings}`);
  } catch (error) {
    await client.end().catch(() => {});
    throw new SyncError(`Coder's database cannot be reached: ${reasonOf(error)}`, { cause: error });
  }
  return database;
}

function wrap(client: Client): CoderDatabase {
  // Of a connection that was lost while nothing ran, the driver tells why by this event alone: what is run next only hears that it
  // is lost.
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

    async inSnapshot(work) {
      await rows('begin transaction isolation level repeatable read, read only');
      try {
        const [[snapshot] = []] = await rows('select pg_current_snapshot()');
        return await work(snapshot ?? '');
      } finally {
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
          next = rows(`fetch ${nextBatchSize(batch)} from batches`); // while this one is worked on
          next.catch(() => {});
          yield batch;
        }
      } finally {
        await client.query('close batches').catch(() => {});
      }
    },

    close: () => client.end().catch(() => {}),
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

/** Why something of PostgreSQL failed, in one line. Its errors do not repeat the password. */
export function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const { code } = error as { code?: unknown };
  // Of several addresses that were tried, the error of all has no message.
  const text = error.message !== '' ? error.message : error instanceof AggregateError ? reasonOf(error.errors[0]) : String(code);
  return text.replace(/\s+/g, ' ');
}
