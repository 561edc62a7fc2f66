import type { Database } from './connection.ts';

/** Thrown when another process has become the active one: this one must not write any more. */
export class FencedError extends Error {
  override readonly name = 'FencedError';
}

/** How long one `get_lock` waits, in seconds. A stop may have to wait as long. */
const standbySeconds = 1;

/**
 * Takes the lock of the one active process of a kind, waiting shortly; returns whether it did. The server frees it with the
 * connection, so that the pool must have one connection.
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
