import type { CoderDatabase } from './coder-database.ts';

/** How often is looked, in milliseconds. A snapshot that is shorter costs no second connection. */
const lookEveryMs = 1000;

/** Looks, for as long as a snapshot is open, whether somebody waits for it. */
export interface LockGuard {
  stop(): Promise<void>;
}

/**
 * Guards Coder against a snapshot of ours: its transaction holds a lock on each table that it has read, until it ends. Readers and
 * writers do not mind, but a migration of Coder that alters a table waits for it, and all that wants the table then waits behind the
 * migration. So another connection looks whether somebody waits, and then ends the process of PostgreSQL that has the snapshot.
 *
 * @param pid the process that has the snapshot.
 * @param open connects as the same role, which may end its own processes.
 * @param onEnd is called before the process is ended.
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
      // Without a connection to spare the copy goes on as it would without a guard.
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
