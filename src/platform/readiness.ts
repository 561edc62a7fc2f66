import { setTimeout as delay } from 'node:timers/promises';
import { withTimeLimit } from './time-limit.ts';

/**
 * Whether a part of the service can do its work: resolves when it can, with a remark when it cannot but the service can do without
 * it; rejects with an Error that says why it cannot. It should stop waiting when the signal is aborted.
 */
export type ReadinessCheck = (signal: AbortSignal) => Promise<string | void>;

/** How the parts of the service are. */
interface ReadinessReport {
  readonly ready: boolean;
  /** By part: `ok`, why it is not ready, or what is to be said of it although the service is ready. */
  readonly parts: Readonly<Record<string, string>>;
}

/** Finds out whether the service is ready. */
export interface Readiness {
  /** Asks all parts. Those who ask at the same time share one look. */
  check(): Promise<ReadinessReport>;
  /** Asks again and again and tells `watcher`, until the signal is aborted. Its first answer comes before the promise resolves. */
  watch(watcher: (report: ReadinessReport) => void, signal: AbortSignal): Promise<void>;
  /** From now on the service is not ready. */
  drain(): void;
}

/** A part that does not answer for so long is not ready. Probes of Kubernetes give up after a second by default. */
const checkTimeoutMs = 900;

/** How often the parts are asked for those who watch, such as gRPC's health clients. */
const watchEveryMs = 2000;

/** Makes the readiness of the service out of those of its parts. */
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

/** Whether a part holds up the service, and what is told of it. */
interface PartState {
  readonly ready: boolean;
  readonly text: string;
}

async function stateOf(check: ReadinessCheck): Promise<PartState> {
  // One that throws at once counts as one that rejects.
  const checked = async (): Promise<string | void> => check(AbortSignal.timeout(checkTimeoutMs));
  try {
    const remark = await withTimeLimit(checkTimeoutMs, checked());
    return { ready: true, text: remark ?? 'ok' };
  } catch (error) {
    return { ready: false, text: error instanceof Error ? error.message : String(error) };
  }
}
