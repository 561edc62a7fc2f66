/** Ctrl-C arrives several times, from the terminal and from npm and the launcher, which pass it on: within this time it is one, in milliseconds. */
const sameRequestMs = 1000;

/** How often to look whether the launcher is still there, in milliseconds. */
const launcherCheckMs = 500;

/**
 * An AbortSignal that SIGINT, SIGTERM and SIGHUP abort, and the death of the launcher that started this process. A signal more
 * than a second after the first ends the program at once: whoever asks twice does not want to wait for a drain.
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
  // A launcher killed with -9 can pass on nothing. LAUNCHER_PID is inherited further down; it speaks of us only if it is our parent.
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
