/** Random choices that come out the same for the same seed. */
export class Dice {
  #state: number;

  constructor(seed: number) {
    this.#state = seed;
  }

  /** From 0 to 1, without 1; mulberry32, which is small and the same everywhere. */
  fraction(): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let t = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  }

  /** True in this share of the cases. */
  chance(share: number): boolean {
    return this.fraction() < share;
  }

  /** A whole number from 0 to `limit` - 1. */
  below(limit: number): number {
    return Math.floor(this.fraction() * limit);
  }

  pick<T>(list: readonly [T, ...T[]]): T {
    return list[this.below(list.length)] ?? list[0];
  }

  /** One of the list, as often as its weight says. */
  weighted<T>(list: readonly (readonly [weight: number, T])[]): T {
    const total = list.reduce((sum, [weight]) => sum + weight, 0);
    let at = this.fraction() * total;
    for (const [weight, one] of list) {
      at -= weight;
      if (at < 0) return one;
    }
    throw new Error('there is nothing to choose from');
  }
}
