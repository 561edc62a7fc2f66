import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { Code, ConnectError } from '@connectrpc/connect';
import { expect, test } from 'vitest';
import { ErrorInfoSchema } from '../../src/gen/google/rpc/error_details_pb.ts';
import { TasksService } from '../../src/gen/tasks/v1/tasks_pb.ts';
import { projectAll } from '../../src/projection/rebuild.ts';
import { makeGrpcClient } from '../support/clients.ts';
import { describeOnEngines } from '../support/database.ts';
import { freePort } from '../support/free-port.ts';
import { Load } from '../support/load.ts';
import { startServedEngine } from '../support/served-engine.ts';
import { type RunningService, startService } from '../support/service.ts';

/** What clients are told to set: all servers in turn, and what is UNAVAILABLE is tried again. */
const serviceConfig = readFileSync(new URL('../../proto/tasks/v1/tasks_grpc_service_config.json', import.meta.url), 'utf8');

/**
 * Watches all tasks and reads two messages; the rest waits in the service. Then `readOn` reads to the end, and resolves to its code
 * and reason.
 */
async function slowWatcher(address: string, token: string): Promise<{ readOn(): Promise<string> }> {
  const client = makeGrpcClient(address);
  const headers = { 'coder-session-token': token };
  const stream = client.serverStream(TasksService.method.watchTasks, { includeInitial: true }, { headers });
  const messages = stream[Symbol.asyncIterator]();
  for (let read = 0; read < 2; read++) await messages.next();
  return {
    async readOn() {
      try {
        while ((await messages.next()).done !== true);
        return 'ended without an error';
      } catch (error) {
        const failure = ConnectError.from(error);
        return `${Code[failure.code]} ${failure.findDetails(ErrorInfoSchema)[0]?.reason}`;
      } finally {
        client.close();
      }
    },
  };
}

describeOnEngines(
  'three processes that are restarted one after the other',
  (engine) => {
    test('fail no call of a client that follows the rules of gRPC, and tell slow watchers that they stop', async () => {
      const served = await startServedEngine(engine);
      const ports = [await freePort(), await freePort(), await freePort()];
      const start = (port: number): Promise<RunningService> =>
        startService(served.address, { GRPC_PORT: `${port}`, DATABASE_POOL_SIZE: '3' });
      const services = await Promise.all(ports.map(start));
      const client = makeGrpcClient(`ipv4:${ports.map((port) => `127.0.0.1:${port}`).join(',')}`, {
        'grpc.service_config': serviceConfig,
      });
      // More than what fits into the windows of a connection and the client's buffer.
      await served.database('workspace_build_parameters').update({ value: 'p'.repeat(200_000) });
      await projectAll(served.database);
      const load = new Load([client], served.owner, { deadlineMs: 15_000 });
      try {
        load.start(60);
        await load.recovered();
        for (const [index, port] of ports.entries()) {
          const watchers = await Promise.all([1, 2].map(() => slowWatcher(`127.0.0.1:${port}`, served.owner.token)));
          const stopped = services[index]?.stop();
          await sleep(300);
          expect(await Promise.all(watchers.map((watcher) => watcher.readOn()))).toEqual(
            Array(2).fill('Unavailable SHUTTING_DOWN'),
          );
          expect(await stopped).toBe(0);
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
