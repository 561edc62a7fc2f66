/** Writers that run until they are told to end, with what they have done. */
export interface Writers<Outcome extends string> {
  /** How many transactions ended in each way. */
  readonly done: Readonly<Record<Outcome, number>>;
  /** Ends them and their connections; rejects with the first error that no writer may meet. */
  stop(): Promise<void>;
}

/**
 * Runs so many writers at once.
 *
 * @param write what one of them does, until it is told to stop.
 * @param begin what comes before all of them.
 */
export function runWriters<Outcome extends string>(
  writers: number,
  done: Readonly<Record<Outcome, number>>,
  write: (isStopped: () => boolean) => Promise<void>,
  begin: () => Promise<void> = async () => {},
): Writers<Outcome> {
  let stopped = false;
  const running = begin().then(() => Promise.all(Array.from({ length: writers }, () => write(() => stopped))));
  running.catch(() => {}); // told by stop
  return {
    done,
    async stop() {
      stopped = true;
      await running;
    },
  };
}
