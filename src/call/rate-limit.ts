import { LRUCache } from 'lru-cache';

/** How many calls a user may make of a method. */
export interface RateLimit {
  /** Counts a call. Returns how many milliseconds too early it comes, or undefined when it is let through. */
  take(userId: Buffer, method: string): number | undefined;
}

/** Keys, such as a user and a method, that are counted at once; those longest without a call start anew, with a full allowance. */
const maxCounted = 50_000;

/**
 * Lets each user make so many calls of each method a minute, all of them at once if they like (Coder's default is 512,
 * coderd/httpmw/ratelimit.go). Each process counts for itself.
 */
export function createRateLimit(perMinute: number, now?: () => number): RateLimit {
  const allowance = createAllowance(perMinute, now);
  return { take: (userId, method) => allowance.take(`${userId.toString('base64')} ${method}`) };
}

/** How often something may happen for each key. */
export interface Allowance {
  /** How many milliseconds too early it would come, or undefined when it may happen. */
  early(key: string): number | undefined;
  /** The same, and counts it when it may. */
  take(key: string): number | undefined;
  /** Takes one back that was counted. */
  giveBack(key: string): void;
}

/**
 * Allows so much a minute for each key, all of it at once if need be.
 *
 * An allowance refills evenly. What is kept of it is one number, the time at which it will be full: each use moves that time on by
 * its share of the minute, and comes too early when it would be more than a minute ahead.
 */
export function createAllowance(perMinute: number, now: () => number = performance.now.bind(performance)): Allowance {
  const shareMs = 60_000 / perMinute;
  const fullAt = new LRUCache<string, number>({ max: maxCounted });
  const look = (key: string): { readonly next: number; readonly early: number | undefined } => {
    const at = now();
    const next = Math.max(at, fullAt.get(key) ?? at) + shareMs;
    const early = next - at - 60_000;
    // A sum of shares is not quite a minute.
    return { next, early: early > shareMs / 1000 ? early : undefined };
  };
  return {
    early: (key) => look(key).early,
    take(key) {
      const { next, early } = look(key);
      if (early === undefined) fullAt.set(key, next);
      return early;
    },
    giveBack(key) {
      const at = fullAt.get(key);
      if (at !== undefined) fullAt.set(key, at - shareMs);
    },
  };
}
