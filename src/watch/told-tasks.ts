/** Most tasks that are remembered for one watch, and for all watches of the process, at some 80 bytes each. */
const maxOfWatch = 10_000;
const maxOfProcess = 1_000_000;
let ofProcess = 0;

/**
 * Which tasks the client of a watch has been told of, so that it is told of the end of those and of no others.
 *
 * Of all that it has not been told of here, the client has none when the watch began with the initial state; otherwise that is
 * unknown, as it is for everything once there is too much to remember.
 */
export class ToldTasks {
  #others: false | undefined;
  readonly #told = new Map<string, boolean>();

  constructor(begin: 'with the initial state' | 'unknown') {
    this.#others = begin === 'unknown' ? undefined : false;
  }

  /** Whether the client has a task; undefined when it may. */
  has(key: string): boolean | undefined {
    return this.#told.get(key) ?? this.#others;
  }

  set(key: string, has: boolean): void {
    if (has === this.#others) this.#forget(key);
    else if (this.#told.has(key)) this.#told.set(key, has);
    else if (this.#told.size >= maxOfWatch || ofProcess >= maxOfProcess) {
      this.clear();
      this.#others = undefined;
    } else {
      this.#told.set(key, has);
      ofProcess += 1;
    }
  }

  /** Gives back its place in the memory of the process. */
  clear(): void {
    ofProcess -= this.#told.size;
    this.#told.clear();
  }

  #forget(key: string): void {
    if (this.#told.delete(key)) ofProcess -= 1;
  }
}
