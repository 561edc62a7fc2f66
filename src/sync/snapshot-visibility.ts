/** Which transactions a snapshot of PostgreSQL sees. */
export interface SnapshotVisibility {
  /** All transactions below this number had ended. */
  readonly xmin: bigint;
  /** From this number on none had begun. */
  readonly xmax: bigint;
  /** Whether the rows of a committed transaction are in the snapshot, by the lower 32 bits of its number. */
  sees(xid: number): boolean;
}

const wrap = 1n << 32n;

/**
 * Reads the text of `pg_current_snapshot()`, such as `739:742:739,741`: all transactions below the first number had ended, none
 * from the second on had, and between them those that are listed had not.
 *
 * Replication names a transaction by the lower 32 bits of its number alone. The transactions that it is asked about ran within two
 * thousand million of the snapshot, which PostgreSQL itself relies on, so that the nearest number with these bits is meant.
 *
 * @throws {TypeError} when the text is not a snapshot.
 */
export function parseSnapshot(text: string): SnapshotVisibility {
  const [, first, second, listed] = /^(\d+):(\d+):((?:\d+(?:,\d+)*)?)$/.exec(text) ?? [];
  if (first === undefined || second === undefined || listed === undefined) {
    throw new TypeError(`${text} is no snapshot of PostgreSQL`);
  }
  const xmin = BigInt(first);
  const xmax = BigInt(second);
  const running = new Set(listed === '' ? [] : listed.split(',').map(BigInt));
  return {
    xmin,
    xmax,
    sees(xid) {
      const full = nearest(xmax, xid);
      return full < xmin || (full < xmax && !running.has(full));
    },
  };
}

/** The number next to another one whose lower 32 bits are these. */
export function nearest(other: bigint, xid: number): bigint {
  const candidate = (other / wrap) * wrap + BigInt(xid);
  if (candidate - other > wrap / 2n && candidate >= wrap) return candidate - wrap;
  if (other - candidate > wrap / 2n) return candidate + wrap;
  return candidate;
}
