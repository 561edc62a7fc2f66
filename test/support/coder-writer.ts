import { setTimeout as sleep } from 'node:timers/promises';
import type { Client } from 'pg';
import { insertCoderWorld, type Run } from './coder-inserts.ts';
import { coderOperations } from './coder-operations.ts';
import type { CoderVersion } from './coder-schema.ts';
import { Dice } from './dice.ts';
import { runWriters, type Writers } from './writers.ts';

/**
 * Writers that change Coder's tables in PostgreSQL at random, all at the same time, as Coder's programs and worse would. They tell
 * how many transactions were committed, and were not: rolled back on purpose, refused by the server, or lost with a connection, of
 * which some may have been committed.
 */
export type CoderWriters = Writers<'committed' | 'rolledBack' | 'refused' | 'lost'>;

/** How the writers write. */
export interface CoderWriterOptions {
  /** Opens a connection for one writer, and another one when the server has ended it: `() => server.connect()`. */
  connect(): Promise<Client>;
  /** Of which version the tables are. */
  readonly version: CoderVersion;
  /** How many write at once, each on a connection of its own. */
  readonly writers: number;
  /** Makes the choices repeatable; what happens at the same time is not. */
  readonly seed: number;
  /** Milliseconds that a writer rests between two transactions. */
  readonly pauseMs?: number;
}

/**
 * What two writers may do to each other: a serialization failure, a deadlock, a lock wait; a duplicate, a parent or a child that
 * does not let go, a parent that nobody has any more, a check.
 */
const allowed = new Set<unknown>(['40001', '40P01', '55P03', '23001', '23502', '23503', '23505', '23514']);

/**
 * Starts the writers. In tables without organizations they make some, with people and templates; all else they make themselves, at
 * most some 150 workspaces at a time.
 */
export function startCoderWriters({ connect, version, writers, seed, pauseMs = 0 }: CoderWriterOptions): CoderWriters {
  const done = { committed: 0, rolledBack: 0, refused: 0, lost: 0 };
  const dice = new Dice(seed);
  const operations = coderOperations(version, dice);

  /** A transaction of one or several operations: some wait in it, some are rolled back, in part or as a whole. */
  async function transaction(run: Run): Promise<void> {
    await run(dice.chance(0.2) ? 'begin isolation level repeatable read' : 'begin');
    if (dice.chance(0.1)) await sleep(dice.below(100));
    const count = dice.chance(0.6) ? 1 : 1 + dice.below(6);
    for (let i = 0; i < count; i++) {
      const operation = dice.weighted(operations);
      if (dice.chance(0.8)) {
        await operation(run);
        continue;
      }
      await run('savepoint part');
      await operation(run);
      await run(dice.chance(0.4) ? 'rollback to savepoint part' : 'release savepoint part');
    }
    if (dice.chance(0.1)) {
      await run('rollback');
      done.rolledBack += 1;
    } else {
      await run('commit');
      done.committed += 1;
    }
  }

  /** Writes on one connection, until it is to stop or the connection ends. */
  async function writeOn(client: Client, isStopped: () => boolean): Promise<void> {
    const run: Run = async (sql, values = []) => (await client.query<Record<string, unknown>>(sql, [...values])).rows;
    await run('select setseed($1)', [dice.fraction()]);
    await run("set lock_timeout = '10s'");
    while (!isStopped()) {
      try {
        await transaction(run);
      } catch (error) {
        if (!allowed.has(codeOf(error))) throw error;
        await run('rollback');
        done.refused += 1;
      }
      if (pauseMs > 0) await sleep(pauseMs);
    }
  }

  async function write(isStopped: () => boolean): Promise<void> {
    while (!isStopped()) {
      try {
        const client = await connect();
        try {
          await writeOn(client, isStopped);
        } finally {
          await client.end();
        }
      } catch (error) {
        if (!isConnectionLost(error)) throw error;
        done.lost += 1;
        await sleep(50);
      }
    }
  }

  return runWriters(writers, done, write, () => begin(connect, version, dice));
}

async function begin(connect: () => Promise<Client>, version: CoderVersion, dice: Dice): Promise<void> {
  const client = await connect();
  const run: Run = async (sql, values = []) => (await client.query<Record<string, unknown>>(sql, [...values])).rows;
  try {
    if ((await run('select 1 from organizations limit 1')).length === 0) await insertCoderWorld(run, version, dice);
  } finally {
    await client.end();
  }
}

function codeOf(error: unknown): unknown {
  return (Object(error) as { code?: unknown }).code;
}

/** Whether the server has ended or is not there (yet). */
function isConnectionLost(error: unknown): boolean {
  const code = codeOf(error);
  if (typeof code === 'string') return /^(57P0[123]|08|ECONN|ENOENT|EPIPE)/.test(code);
  return error instanceof Error && /connection/i.test(error.message);
}
