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
 *
 * An allowance refills evenly. What is kept of it is one number, the time at which it will be full: each call moves that time on by
 * its share of the minute, and comes too early when it would be more than a minute ahead.
 */
export function createRateLimit(perMinute: number, now: () => number = performance.now.bind(performance)): RateLimit {
  const shareMs = 60_000 / perMinute;
  const fullAt = new LRUCache<string, number>({ max: maxCounted });
  return {
    take(userId, method) {
      const key = `${userId.toString('base64')} ${method}`;
      const at = now();
      const next = Math.max(at, fullAt.get(key) ?? at) + shareMs;
      const early = next - at - 60_000;
      // A sum of shares is not quite a minute.
      if (early > shareMs / 1000) return early;
      fullAt.set(key, next);
      return undefined;
    },
  };
}
