import { overloaded } from '../call/errors.ts';

/** Lets look-ups of session tokens into the database, a few at once. */
export interface TokenLookups {
  /**
   * Runs a look-up when its turn comes: addresses take turns, so that one that sends many tokens waits behind itself.
   *
   * @throws {ConnectError} UNAVAILABLE, to be tried again, when too many wait already.
   */
  run<T>(address: string, lookup: () => Promise<T>): Promise<T>;
}

/** How many look-ups may run, and wait, at once. */
export interface TokenLookupLimits {
  /** At once, of all addresses. Each takes a connection of the pool for a fraction of a millisecond. */
  readonly running: number;
  /** Waiting, of all addresses. Each holds the headers of its call, and at most 64 KiB that its client sends meanwhile. */
  readonly waiting: number;
  /** Waiting, of one address. */
  readonly waitingPerAddress: number;
}

/** A fifth of a pool of ten answers some thousand new tokens a second. */
export const tokenLookupLimits: TokenLookupLimits = { running: 2, waiting: 256, waitingPerAddress: 128 };

/**
 * Makes the limit of work that callers nobody knows yet can cause. Tokens are free to make up, so that their number cannot be
 * limited without refusing somebody's good one behind the same proxy; what is limited is how many are looked up at once.
 */
export function createTokenLookups(limits: TokenLookupLimits = tokenLookupLimits): TokenLookups {
  const queues = new Map<string, (() => void)[]>();
  let running = 0;
  let waiting = 0;

  const next = (): void => {
    for (const [address, queue] of queues) {
      const start = queue.shift();
      queues.delete(address);
      if (queue.length > 0) queues.set(address, queue); // behind the other addresses
      if (start === undefined) continue;
      waiting -= 1;
      start();
      return;
    }
  };

  const turn = (address: string): Promise<void> | undefined => {
    if (running < limits.running) {
      running += 1;
      return undefined;
    }
    const queue = queues.get(address) ?? [];
    if (waiting >= limits.waiting || queue.length >= limits.waitingPerAddress) throw overloaded();
    waiting += 1;
    return new Promise((resolve) => {
      queue.push(() => {
        running += 1;
        resolve();
      });
      queues.set(address, queue);
    });
  };

  return {
    async run(address, lookup) {
      await turn(address);
      try {
        return await lookup();
      } finally {
        running -= 1;
        next();
      }
    },
  };
}
