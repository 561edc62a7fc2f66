import type { Knex } from 'knex';
import type { Database } from './connection.ts';

/**
 * Runs work in a transaction. When it fails, the first error is thrown: where the connection was lost, the ROLLBACK fails as well,
 * and its error would hide the cause.
 */
export async function inTransaction<T>(
  database: Database,
  work: (transaction: Database) => Promise<T>,
  options?: Knex.TransactionConfig,
): Promise<T> {
  const errors: unknown[] = [];
  const firstError = (error: unknown): never => {
    errors.push(error);
    throw error;
  };
  return database
    .transaction((transaction) => work(transaction).catch(firstError), options)
    .catch((error: unknown) => {
      throw errors.length > 0 ? errors[0] : error;
    });
}
