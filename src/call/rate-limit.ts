import { LRUCache } from 'lru-cache';

/** How many calls a user may make of a method. */
export interface RateLimit {
  /** Counts a call. Returns after how many milliseconds it would be allowed, or undefined when it is allowed now. */
  take(userId: Buffer, method: string): number | undefined;
}

/**
 * Most keys (a user and a method) that are tracked; beyond, the one longest without a call is forgotten, and starts with a full
 * allowance.
 */
const maxCounted = 50_000;

/**
 * Limits each user to so many calls of each method a minute, with bursts of as many (Coder's default is 512,
 * coderd/httpmw/ratelimit.go). Each process counts for itself.
 *
 * An allowance refills evenly. It is kept as one number, the time at which it will be full: each call moves that time by its
 * share of the minute, and is refused when it would be more than a minute ahead.
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
      // The sum of all shares is not exactly a minute, by rounding.
      if (early > shareMs / 1000) return early;
      fullAt.set(key, next);
      return undefined;
    },
  };
}
