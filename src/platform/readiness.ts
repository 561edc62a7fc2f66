import { setTimeout as delay } from 'node:timers/promises';
import { withTimeLimit } from './time-limit.ts';

/**
 * Checks whether a part of the service can do its work. Resolves when it can, or with a remark when it cannot but the service works
 * without it; rejects with an Error that says why it cannot. It should stop waiting when the signal is aborted.
 */
export type ReadinessCheck = (signal: AbortSignal) => Promise<string | void>;

/** The readiness of the service and its parts. */
interface ReadinessReport {
  readonly ready: boolean;
  /** By part: `ok`, why it is not ready, or a remark. */
  readonly parts: Readonly<Record<string, string>>;
}

/** Checks whether the service is ready. */
export interface Readiness {
  /** Checks all parts. Concurrent callers share one check. */
  check(): Promise<ReadinessReport>;
  /** Checks periodically and tells `watcher`, until the signal is aborted. The promise resolves after the first result. */
  watch(watcher: (report: ReadinessReport) => void, signal: AbortSignal): Promise<void>;
  /** From now on the service is not ready. */
  drain(): void;
}

/**
 * A part that does not answer within this time is not ready, in milliseconds. Kubernetes' probes time out after a second by
 * default.
 */
const checkTimeoutMs = 900;

/** How often the parts are checked for watchers, such as gRPC's health clients, in milliseconds. */
const watchEveryMs = 2000;

/** Combines the readiness of all parts into that of the service. */
export function createReadiness(checks: Readonly<Record<string, ReadinessCheck>>): Readiness {
  let draining = false;
  let underWay: Promise<ReadinessReport> | undefined;

  const look = async (): Promise<ReadinessReport> => {
    const states = await Promise.all(Object.entries(checks).map(async ([part, check]) => [part, await stateOf(check)] as const));
    if (draining) states.push(['server', { ready: false, text: 'shutting down' }]);
    return {
      ready: states.every(([, { ready }]) => ready),
      parts: Object.fromEntries(states.map(([part, { text }]) => [part, text])),
    };
  };

  const check = (): Promise<ReadinessReport> => {
    underWay ??= look().finally(() => {
      underWay = undefined;
    });
    return underWay;
  };

  return {
    check,

    async watch(watcher, signal) {
      watcher(await check());
      void (async () => {
        while (!signal.aborted) {
          await delay(watchEveryMs, undefined, { signal, ref: false });
          watcher(await check());
        }
      })().catch(() => {}); // the signal
    },

    drain() {
      draining = true;
    },
  };
}

/** Whether a part makes the service not ready, and what is reported of it. */
interface PartState {
  readonly ready: boolean;
  readonly text: string;
}

async function stateOf(check: ReadinessCheck): Promise<PartState> {
  // A check that throws synchronously counts as one that rejects.
  const checked = async (): Promise<string | void> => check(AbortSignal.timeout(checkTimeoutMs));
  try {
    const remark = await withTimeLimit(checkTimeoutMs, checked());
    return { ready: true, text: remark ?? 'ok' };
  } catch (error) {
    return { ready: false, text: error instanceof Error ? error.message : String(error) };
  }
}
