/** Signals within this time count as one, in milliseconds: Ctrl-C comes from the terminal, and again from npm and the launcher. */
const sameRequestMs = 1000;

/** How often to check whether the launcher still runs, in milliseconds. */
const launcherCheckMs = 500;

/**
 * An AbortSignal that SIGINT, SIGTERM and SIGHUP abort, and the death of the launcher that started this process. A signal more
 * than a second after the first ends the program at once, without a drain.
 */
export function stopSignal(): AbortSignal {
  const controller = new AbortController();
  let askedAt = 0;
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(name, () => {
      if (controller.signal.aborted && performance.now() - askedAt > sameRequestMs) process.exit(1);
      askedAt ||= performance.now();
      controller.abort();
    });
  }
  // A launcher killed with -9 cannot pass a signal on. LAUNCHER_PID is inherited by grandchildren, too: it counts only if it is
  // our parent.
  const launcher = process.ppid;
  if (process.env['LAUNCHER_PID'] === String(launcher)) {
    const check = setInterval(() => {
      if (process.ppid === launcher) return;
      clearInterval(check);
      controller.abort();
    }, launcherCheckMs);
    check.unref();
  }
  return controller.signal;
}

/** Resolves when a signal is aborted. */
export function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}
