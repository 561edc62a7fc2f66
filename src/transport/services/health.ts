import { EventEmitter, once } from 'node:events';
import { create } from '@bufbuild/protobuf';
import { Code, ConnectError } from '@connectrpc/connect';
import { type Method, serverStreaming, unary } from '../../call/method.ts';
import {
  HealthCheckResponseSchema,
  HealthListResponseSchema,
  Health as HealthService,
  HealthCheckResponse_ServingStatus as ServingStatus,
} from '../../gen/grpc/health/v1/health_pb.ts';

/** The state of services as `grpc.health.v1.Health` tells it. */
interface Health {
  readonly methods: readonly Method[];
  /** Sets the state of a service, and tells its watchers. */
  setServing(service: string, serving: boolean): void;
  /** Sets all services to NOT_SERVING, for good. */
  drain(): void;
}

/**
 * Makes the health service.
 *
 * The empty name means the process as a whole, which serves from the start; named services serve once they are set to.
 */
export function createHealth(services: readonly string[]): Health {
  const statuses = new Map<string, ServingStatus>(services.map((service) => [service, ServingStatus.NOT_SERVING]));
  statuses.set('', ServingStatus.SERVING);
  const changes = new EventEmitter().setMaxListeners(0); // one for each watcher
  let draining = false;

  const set = (service: string, status: ServingStatus): void => {
    if (statuses.get(service) === status) return;
    statuses.set(service, status);
    changes.emit('change');
  };

  const { check, watch, list } = HealthService.method;
  return {
    methods: [
      unary(check, ({ service }) => {
        const status = statuses.get(service);
        if (status === undefined) throw new ConnectError('unknown service', Code.NotFound);
        return Promise.resolve(create(HealthCheckResponseSchema, { status }));
      }),

      serverStreaming(watch, async function* ({ service }, { signal }) {
        let told: ServingStatus | undefined;
        for (;;) {
          const status = statuses.get(service) ?? ServingStatus.SERVICE_UNKNOWN;
          if (status === told) await once(changes, 'change', { signal });
          else {
            told = status;
            yield create(HealthCheckResponseSchema, { status });
          }
        }
      }),

      unary(list, () =>
        Promise.resolve(
          create(HealthListResponseSchema, {
            statuses: Object.fromEntries([...statuses].map(([service, status]) => [service, { status }])),
          }),
        ),
      ),
    ],

    setServing(service, serving) {
      if (!draining) set(service, serving ? ServingStatus.SERVING : ServingStatus.NOT_SERVING);
    },

    drain() {
      draining = true;
      for (const service of statuses.keys()) set(service, ServingStatus.NOT_SERVING);
    },
  };
}
