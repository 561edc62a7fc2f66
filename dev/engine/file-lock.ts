import { execFileSync } from 'node:child_process';
import { linkSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

/** A lock that this process holds until it releases it or dies. */
export interface FileLock {
  release(): void;
}

/** Another, living process holds the lock. */
export class LockHeldError extends Error {
  override readonly name = 'LockHeldError';
  readonly path: string;
  readonly pid: number;

  constructor(path: string, pid: number) {
    super(`process ${pid} holds ${path}`);
    this.path = path;
    this.pid = pid;
  }
}

/**
 * Takes the lock of the file at `path`. The file names its holder by process id and start time, so the lock of a dead process is
 * taken over even when another process has the same id now.
 *
 * @param waitMs How long to wait for a living holder, in milliseconds.
 * @throws {LockHeldError} when a living process still holds it after that.
 */
export async function takeFileLock(path: string, waitMs = 0): Promise<FileLock> {
  const deadline = performance.now() + waitMs;
  const mine = JSON.stringify({ pid: process.pid, startedAt: processStart(process.pid) });
  for (;;) {
    if (createWith(path, mine)) return { release: () => removeIf(path, mine) };
    const found = read(path);
    const holder = parse(found);
    if (holder === undefined || processStart(holder.pid) !== holder.startedAt) removeIf(path, found);
    else if (performance.now() >= deadline) throw new LockHeldError(path, holder.pid);
    else await sleep(50);
  }
}

/**
 * The start time of a process as an opaque string; undefined when there is no such process. It differs for two processes that had
 * the same id one after the other.
 */
export function processStart(pid: number): string | undefined {
  try {
    if (process.platform === 'linux') {
      // The name, in parentheses, may have blanks; the start time is field 22 of the line, the 20th after the name.
      const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
      const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      if (fields[0] === 'Z') return undefined;
      return `${readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim()}/${fields[19]}`;
    }
    return execFileSync('ps', ['-o', 'lstart=', '-p', String(pid)], { encoding: 'utf8' }).trim() || undefined;
  } catch {
    return undefined;
  }
}

/**
 * Creates the file with its content atomically, unlike O_EXCL and a write; false when it exists already. Everybody may read it: a
 * lock that another user cannot read would look like a free one.
 */
function createWith(path: string, content: string): boolean {
  const draft = `${path}.${process.pid}`;
  writeFileSync(draft, content, { mode: 0o644 });
  try {
    linkSync(draft, path);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  } finally {
    rmSync(draft, { force: true });
  }
}

/** Removes the file if it still has this content: two processes may take over the same lock, and must not remove the new one. */
function removeIf(path: string, content: string | undefined): void {
  const aside = `${path}.${process.pid}.old`;
  try {
    renameSync(path, aside);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return; // removed already
    throw error;
  }
  const moved = read(aside);
  if (moved !== content && moved !== undefined) createWith(path, moved);
  rmSync(aside, { force: true });
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}

function parse(text: string | undefined): { pid: number; startedAt: string } | undefined {
  try {
    const value: unknown = JSON.parse(text ?? '');
    if (typeof value !== 'object' || value === null || !('pid' in value) || !('startedAt' in value)) return undefined;
    const { pid, startedAt } = value;
    return typeof pid === 'number' && typeof startedAt === 'string' ? { pid, startedAt } : undefined;
  } catch {
    return undefined;
  }
}
