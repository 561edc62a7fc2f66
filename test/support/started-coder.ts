import type { Client } from 'pg';
import { loadCoderRows } from './coder-rows.ts';
import { type CoderVersion, createCoderSchema } from './coder-schema.ts';
import { type PostgresOptions, type PostgresServer, startPostgres } from './postgres.ts';

/** A PostgreSQL with the recorded rows of a Coder, and a connection to it as their owner. */
export interface StartedCoder {
  readonly server: PostgresServer;
  readonly coder: Client;
}

/** Starts a PostgreSQL with the recorded rows of a version of Coder. The caller stops the server. */
export async function startCoder(version: CoderVersion, options?: PostgresOptions): Promise<StartedCoder> {
  const server = await startPostgres(options);
  try {
    const coder = await server.connect();
    await createCoderSchema(coder, version);
    await loadCoderRows(coder, version);
    return { server, coder };
  } catch (error) {
    await server.stop();
    throw error;
  }
}
