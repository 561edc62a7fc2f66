import type { CoderDatabase } from './coder-database.ts';

/** How often locks are checked, in milliseconds. A shorter snapshot needs no second connection. */
const lookEveryMs = 1000;

/** Checks, while a snapshot is open, whether another session waits for its locks. */
export interface LockGuard {
  stop(): Promise<void>;
}

/**
 * Ends a snapshot of ours when it blocks Coder. Its transaction holds a lock on each table that it has read, until it ends. This
 * blocks no reader or writer, but a migration of Coder that alters a table waits for it, and every other statement on that table
 * then waits behind the migration. So a second connection checks whether a session waits, and then terminates the backend of the
 * snapshot.
 *
 * @param pid the backend of the snapshot.
 * @param open connects as the same role, which may end its own processes.
 * @param onEnd called before the backend is terminated.
 */
export function guardLocks(pid: string, open: () => Promise<CoderDatabase>, onEnd: () => void): LockGuard {
  let stopped = false;
  let running = Promise.resolve();
  let timer: NodeJS.Timeout | undefined;
  let coder: CoderDatabase | undefined;

  const look = async (): Promise<void> => {
    coder ??= await open();
    if (stopped || !(await isWaitedFor(coder, pid)) || stopped) return;
    onEnd();
    await coder.rows('select pg_terminate_backend($1)', [pid]);
  };
  const lookLater = (): void => {
    timer = setTimeout(() => {
      // If no second connection can be opened, the copy continues without a guard.
      running = look().then(
        () => (stopped ? undefined : lookLater()),
        () => {},
      );
    }, lookEveryMs);
    timer.unref();
  };
  lookLater();
  return {
    async stop() {
      stopped = true;
      clearTimeout(timer);
      await running;
      await coder?.close();
    },
  };
}

/** select exists (select from pg_locks as l where not l.granted and $1::int = any (pg_blocking_pids(l.pid))) */
async function isWaitedFor(coder: CoderDatabase, pid: string): Promise<boolean> {
  const [[found] = []] = await coder.rows(
    'select exists (select from pg_locks as l where not l.granted and $1::int = any (pg_blocking_pids(l.pid)))',
    [pid],
  );
  return found === 't';
}
