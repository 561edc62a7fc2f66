import { randomUUID } from 'node:crypto';
import { Code } from '@connectrpc/connect';
import { expect, inject, test } from 'vitest';
import { RetryInfoSchema } from '../../src/gen/google/rpc/error_details_pb.ts';
import { TasksService } from '../../src/gen/tasks/v1/tasks_pb.ts';
import { makeGrpcClient } from '../support/clients.ts';
import { describeOnEngines } from '../support/database.ts';
import { freePort } from '../support/free-port.ts';
import { startServedEngine } from '../support/served-engine.ts';
import { startService } from '../support/service.ts';
import { Watching, watchOverGrpcJs } from '../support/watching.ts';

/** A busy machine may take its time. */
const within = { timeout: 30_000, interval: 100 };

describeOnEngines(
  'a member of a group that has left it',
  (engine) => {
    const cannotStartOne = process.env['TEST_MYSQL_URL'] !== undefined || inject('engines')[engine] === undefined;

    test.skipIf(cannotStartOne)(
      'is not served from, nor projected to, and is again when it is back',
      { timeout: 120_000 },
      async () => {
        // A group of one. Of the same kind is a member that was started without its group, and shows what it had when it left.
        const served = await startServedEngine(engine, {
          tasks: 3,
          options: [
            '--skip-networking=OFF',
            '--bind-address=127.0.0.1',
            `--port=${await freePort()}`,
            '--server-id=1',
            '--log-bin=log',
            '--log-bin-trust-function-creators=ON',
            '--gtid-mode=ON',
            '--enforce-gtid-consistency=ON',
            '--performance-schema=ON', // has the members of the group
            '--plugin-load-add=group_replication.so',
            '--loose-group-replication-start-on-boot=OFF',
            `--loose-group-replication-group-name=${randomUUID()}`,
            `--loose-group-replication-local-address=127.0.0.1:${await freePort()}`,
            '--loose-group-replication-message-cache-size=128M',
          ],
        });
        const { database, owner } = served;
        await database.raw('grant select on `performance_schema`.`replication_group_members` to service@localhost');
        const service = await startService(served.address);
        const client = makeGrpcClient(service.grpc);
        const call = () =>
          client
            .unary(TasksService.method.listTasks, {}, { headers: { 'coder-session-token': owner.token } })
            .then(({ message }) => message.tasks.length)
            .catch((error: unknown) => error);
        const ready = async () => {
          const response = await fetch(`http://${service.ops}/readyz`);
          return { code: response.status, text: await response.text() };
        };
        const isActive = async () =>
          (await (await fetch(`http://${service.ops}/metrics`)).text()).includes('tasks_projector_active 1');
        const isRefused = {
          code: Code.Unavailable,
          message: expect.stringContaining('the database is unavailable') as string,
        };
        try {
          expect(await ready()).toEqual({
            code: 503,
            text: expect.stringContaining('no sound member of its group: it is OFFLINE') as string,
          });
          expect(await call()).toMatchObject(isRefused);
          await expect.poll(() => service.output(), within).toContain('no sound member of its group');
          expect(await isActive()).toBe(false);

          await database.raw('set global group_replication_bootstrap_group = on');
          await database.raw('start group_replication');
          await expect.poll(async () => (await ready()).code, within).toBe(200);
          await expect.poll(isActive, within).toBe(true);
          expect(await call()).toBe(3);
          const watching = new Watching(watchOverGrpcJs(service.grpc), { includeInitial: true }, owner.token);
          await expect.poll(() => watching.told.includes('synced'), within).toBe(true);

          await database.raw('stop group_replication');
          await expect.poll(async () => (await ready()).code, within).toBe(503);
          await expect.poll(() => watching.ended, within).toMatchObject(isRefused);
          const refused = await call();
          expect(refused).toMatchObject(isRefused);
          expect((refused as { findDetails(schema: unknown): unknown[] }).findDetails(RetryInfoSchema)).toHaveLength(1);
          await expect.poll(isActive, within).toBe(false);

          await database.raw('start group_replication');
          await expect.poll(async () => (await ready()).code, within).toBe(200);
          await database('workspaces').where('workspaces.name', owner.tasks[0]?.name).update({ name: 'renamed' });
          await expect.poll(async () => (await database('workspace_tasks').where('name', 'renamed')).length, within).toBe(1);
        } finally {
          client.close();
          await service.stop();
          await served.stop();
        }
      },
    );
  },
  ['mysql'],
);
