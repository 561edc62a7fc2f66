import type { DatabaseAddress } from '../config.ts';
import { closeDatabase, type Database, openDatabase } from '../db/connection.ts';
import { inTransaction } from '../db/transaction.ts';
import type { TaskSourceName } from '../schema/task-source.ts';
import type { SourcedTask } from './sourced-task.ts';
import { readTasks } from './task-source.ts';

/**
 * Reads tasks from their source on another connection; undefined when it cannot, and they have to be read where they are needed.
 */
export type ReadAhead = (source: TaskSourceName, ids: Buffer[]) => Promise<SourcedTask[] | undefined>;

/** A connection that reads tasks while another one writes: where much waits, the server works on both at the same time. */
export interface AheadReader {
  readonly read: ReadAhead;
  close(milliseconds: number): Promise<void>;
}

/**
 * Opens such a connection, on first use.
 *
 * It must see what the other one has seen, which another node of a cluster, or a replica behind a proxy, may not yet. So it reads
 * in a transaction, which stays where it begins, and only if that is the same server.
 *
 * @param server of the other connection, see {@link serverOf}.
 */
export function openAheadReader(address: DatabaseAddress, server: string, statementTimeoutMs: number): AheadReader {
  const database = openDatabase(address, { size: 1, statementTimeoutMs });
  return {
    async read(source, ids) {
      try {
        return await inTransaction(database, async (transaction) =>
          (await serverOf(transaction)) === server ? await readTasks(transaction, source, ids) : undefined,
        );
      } catch {
        return undefined; // the one that needs them fails by the same cause, if it lasts
      }
    },
    close: (milliseconds) => closeDatabase(database, milliseconds),
  };
}

/** Which server a connection is to: its host, port and id. */
export async function serverOf(database: Database): Promise<string> {
  const [[row]] = (await database.raw("select concat_ws(' ', @@hostname, @@port, @@server_id) as `server`")) as [
    [{ server: string }],
  ];
  return row.server;
}
