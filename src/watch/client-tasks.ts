/** Most tasks that are remembered for one watch, and for all watches of the process; a task takes some 80 bytes. */
const maxPerSubscription = 10_000;
const maxPerProcess = 1_000_000;
let processTotal = 0;

/**
 * Remembers which tasks the client of a watch has, so that `removed` is sent for those alone.
 *
 * Of a task that is not in the map, the baseline says whether the client has it. It is `empty` (the client had no tasks) when the
 * watch began with a snapshot, and `unknown` when it resumed, or when there are too many tasks to remember.
 */
export class ClientTasks {
  #baseline: false | undefined;
  readonly #known = new Map<string, boolean>();

  constructor(baseline: 'empty' | 'unknown') {
    this.#baseline = baseline === 'unknown' ? undefined : false;
  }

  /** Whether the client has a task; undefined when that is unknown. */
  has(key: string): boolean | undefined {
    return this.#known.get(key) ?? this.#baseline;
  }

  set(key: string, has: boolean): void {
    if (has === this.#baseline) this.#forget(key);
    else if (this.#known.has(key)) this.#known.set(key, has);
    else if (this.#known.size >= maxPerSubscription || processTotal >= maxPerProcess) {
      this.clear();
      this.#baseline = undefined;
    } else {
      this.#known.set(key, has);
      processTotal += 1;
    }
  }

  /** Forgets all tasks, which makes room for other watches of the process. */
  clear(): void {
    processTotal -= this.#known.size;
    this.#known.clear();
  }

  #forget(key: string): void {
    if (this.#known.delete(key)) processTotal -= 1;
  }
}
