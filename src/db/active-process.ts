import type { Database } from './connection.ts';

/** Thrown when another process has become the active one: this one must not write any more. */
export class FencedError extends Error {
  override readonly name = 'FencedError';
}

/** How long one `get_lock` waits, in seconds. A stop can be delayed by as much. */
const standbySeconds = 1;

/**
 * Tries for a short time to take the lock of the one active process of a kind; returns whether it was taken. The server releases
 * the lock when the connection ends, so the pool must have exactly one connection.
 *
 * @param kind up to 7 characters: with it the name has the 64 that MySQL allows.
 */
export async function takeActiveLock(database: Database, kind: 'project' | 'sync'): Promise<boolean> {
  const [[lock]] = (await database.raw(
    `select get_lock(concat('${kind}-', sha2(database(), 224)), ${standbySeconds}) as \`taken\``,
  )) as [{ taken: number | null }[]];
  if (lock === undefined || lock.taken === null) throw new Error('get_lock failed');
  return lock.taken === 1;
}

/**
 * Uses the connection with the lock, which the server ends when it is idle for too long.
 *
 * @throws {Error} when the lock was lost with its connection.
 */
export async function keepActiveLock(database: Database, kind: 'project' | 'sync'): Promise<void> {
  const [[lock]] = (await database.raw(
    `select is_used_lock(concat('${kind}-', sha2(database(), 224))) = connection_id() as \`held\``,
  )) as [{ held: number | null }[]];
  if (lock?.held !== 1) throw new Error('the connection with the lock of the active process was lost');
}
