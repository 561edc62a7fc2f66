import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { makeGrpcClient } from '../support/clients.ts';
import { describeOnEngines } from '../support/database.ts';
import { freePort } from '../support/free-port.ts';
import { Load } from '../support/load.ts';
import { startServedEngine } from '../support/served-engine.ts';
import { type RunningService, startService } from '../support/service.ts';

/** What docs/ports.md tells clients to set: all servers in turn, and what is UNAVAILABLE is tried again. */
const serviceConfig = {
  loadBalancingConfig: [{ round_robin: {} }],
  methodConfig: [
    {
      name: [{ service: 'tasks.v1.TasksService' }],
      retryPolicy: {
        maxAttempts: 5,
        initialBackoff: '0.05s',
        maxBackoff: '1s',
        backoffMultiplier: 2,
        retryableStatusCodes: ['UNAVAILABLE'],
      },
    },
  ],
};

describeOnEngines(
  'three processes that are restarted one after the other',
  (engine) => {
    test('fail no call of a client that follows the rules of gRPC', async () => {
      const served = await startServedEngine(engine);
      const ports = [await freePort(), await freePort(), await freePort()];
      const start = (port: number): Promise<RunningService> =>
        startService(served.address, { GRPC_PORT: `${port}`, DATABASE_POOL_SIZE: '3' });
      const services = await Promise.all(ports.map(start));
      const client = makeGrpcClient(`ipv4:${ports.map((port) => `127.0.0.1:${port}`).join(',')}`, {
        'grpc.service_config': JSON.stringify(serviceConfig),
      });
      const load = new Load([client], served.owner, { deadlineMs: 15_000 });
      try {
        load.start(60);
        await load.recovered();
        for (const [index, port] of ports.entries()) {
          expect(await services[index]?.stop()).toBe(0);
          await sleep(300);
          services[index] = await start(port);
          // As a rollout does, which waits until the new one is ready and known.
          await sleep(1000);
        }
        await load.stop();
        expect(load.wrong).toEqual([]);
        expect(load.calls.length).toBeGreaterThan(200);
        expect(load.outcomes()).toEqual({ OK: load.calls.length });
      } finally {
        await load.stop();
        client.close();
        await Promise.all(services.map((service) => service.stop()));
        await served.stop();
      }
    });
  },
  ['mariadb'],
);
