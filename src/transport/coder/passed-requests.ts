import { Counter, Gauge, type Registry } from 'prom-client';
import { requestIdOf } from '../../call/access-log.ts';
import type { Logger } from '../../platform/log.ts';
import { coderRoutes } from './coder-routes.ts';

/** A request that is being passed on. */
export interface PassedRequest {
  /** The client's own, or a new one. */
  readonly requestId: string;
  /** Logs for this request. */
  readonly log: Logger | undefined;
  /** Counts it, and writes its line of the access log, once. */
  end(status: number): void;
}

/** Records what is passed on to Coder, in metrics and in the access log. */
export interface PassedRequests {
  /** @param route one of {@link coderRoutes}. */
  begin(route: string, peer: string, givenId: string | undefined): PassedRequest;
  /** A WebSocket has been opened; returns what is to be called at its end. */
  streamOpened(): () => void;
}

/** The status of a request whose client left before its answer, as nginx writes it. */
export const clientLeft = 499;

/** Statuses that are counted by themselves; any other, which Coder has no use for, is `other`. */
const countedStatuses: ReadonlySet<number> = new Set([
  101,
  200,
  201,
  202,
  204,
  304,
  400,
  401,
  403,
  404,
  405,
  408,
  409,
  412,
  413,
  429,
  clientLeft,
  500,
  502,
  503,
  504,
]);

/** Makes the recorder of the requests that are passed on. Without a registry nothing is counted, and without a log nothing is logged. */
export function createPassedRequests(registry?: Registry, log?: Logger): PassedRequests {
  const registers = registry === undefined ? [] : [registry];
  const requests = new Counter({
    name: 'tasks_coder_requests_total',
    help: 'Requests that were passed on to Coder, by route and status.',
    labelNames: ['route', 'status'],
    registers,
  });
  // Each route is there from the start, so that `rate` sees its first failure.
  for (const route of coderRoutes) for (const status of ['200', '502', '504']) requests.inc({ route, status }, 0);
  const streams = new Gauge({
    name: 'tasks_coder_streams',
    help: 'WebSockets that are passed on to Coder and are open.',
    registers,
  });

  return {
    begin(route, peer, givenId) {
      const startedAt = performance.now();
      const requestId = requestIdOf(givenId);
      let ended = false;
      return {
        requestId,
        log: log?.child({ requestId }),
        end(status) {
          if (ended) return;
          ended = true;
          requests.inc({ route, status: countedStatuses.has(status) ? String(status) : 'other' });
          const durationMs = Math.round((performance.now() - startedAt) * 1000) / 1000;
          const line = { method: route, protocol: 'coder', status, durationMs, requestId, peer };
          if (status >= 500) log?.warn(line, 'passed on to Coder, failed');
          else log?.info(line, 'passed on to Coder');
        },
      };
    },
    streamOpened() {
      streams.inc();
      return () => streams.dec();
    },
  };
}
