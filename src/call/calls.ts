import type { Logger } from '../platform/log.ts';
import type { TraceCall } from '../platform/tracing.ts';
import { type AdmissionParts, createAdmission } from './admission.ts';
import type { MethodLabels, MethodMetrics } from './call-metrics.ts';
import { shuttingDown } from './errors.ts';
import type { Method } from './method.ts';
import { type CallInfo, type MethodInfo, ServerCall, type SharedByCalls } from './server-call.ts';

/** Services that need no token: they tell how to call the others, and whether they are up. */
const openServices: ReadonlySet<string> = new Set([
  'grpc.health.v1.Health',
  'grpc.reflection.v1.ServerReflection',
  'grpc.reflection.v1alpha.ServerReflection',
]);

/** The calls of one process, over all transports. */
export interface Calls {
  /** Registers a method, so that its counters exist before its first call. Returns the function that begins a call of it. */
  register(method: Pick<Method, 'kind' | 'desc'>): (info: CallInfo) => ServerCall;
  /**
   * Refuses new calls with SHUTTING_DOWN, and ends streams with it, which would never end by themselves. Health checks are still
   * answered. Resolves when no call is running.
   */
  drain(): Promise<void>;
  /** Ends all running calls with SHUTTING_DOWN. */
  abort(): void;
  /** How many calls are running. */
  readonly running: number;
}

/** What calls share. `metrics` makes the counters of a method. */
interface CallsParts extends AdmissionParts {
  readonly log: Logger;
  readonly metrics: (method: MethodLabels) => MethodMetrics;
  /** Starts a span for each call of a service that is not open, if traces are on. */
  readonly trace?: TraceCall | undefined;
}

/** Makes the registry of the calls of a process. */
export function createCalls(parts: CallsParts): Calls {
  const running = new Set<ServerCall>();
  let draining = false;
  let idle: (() => void) | undefined;
  const shared: SharedByCalls = {
    admission: createAdmission(parts),
    reauthenticate: parts.authenticate,
    log: parts.log,
    trace: parts.trace,
    get draining() {
      return draining;
    },
    ended(call) {
      running.delete(call);
      if (running.size === 0) idle?.();
    },
  };

  return {
    register({ kind, desc }) {
      const about: MethodInfo = {
        kind,
        name: `${desc.parent.typeName}/${desc.name}`,
        open: openServices.has(desc.parent.typeName),
        metrics: parts.metrics(desc),
      };
      return (info) => {
        const call = new ServerCall(shared, about, info);
        running.add(call);
        return call;
      };
    },

    drain() {
      draining = true;
      for (const call of running) if (call.kind !== 'unary') call.drain();
      if (running.size === 0) return Promise.resolve();
      return new Promise((resolve) => {
        idle = resolve;
      });
    },

    abort() {
      for (const call of running) call.abort(shuttingDown);
    },

    get running() {
      return running.size;
    },
  };
}
