/** Runs a function again and again: soon when something asks for it, and now and then anyway. */
export interface Pace {
  /** Asks for a run. The next one comes soon, however often this is called. */
  ask(): void;
  stop(): void;
}

/**
 * Starts a pace. Two runs are at least `soonestMs` apart, also when changes never pause, and at most `latestMs()`.
 *
 * @param latestMs asked anew after each run: a hidden tab may be slower.
 */
export function startPace(run: () => void, soonestMs: number, latestMs: () => number): Pace {
  let last = Date.now();
  let isAsked = false;
  let timer = setTimeout(fire, latestMs());
  function fire(): void {
    last = Date.now();
    isAsked = false;
    timer = setTimeout(fire, latestMs());
    run();
  }
  return {
    ask() {
      if (isAsked) return;
      isAsked = true;
      clearTimeout(timer);
      timer = setTimeout(fire, Math.max(0, last + soonestMs - Date.now()));
    },
    stop: () => clearTimeout(timer),
  };
}
