import { setTimeout as sleep } from 'node:timers/promises';
import { create, toBinary } from '@bufbuild/protobuf';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { ListTasksRequestSchema } from '../../src/gen/tasks/v1/tasks_pb.ts';
import { startScript } from '../support/child-script.ts';
import { type GrpcClient, makeGrpcClient } from '../support/clients.ts';
import { createTestDatabase, describeOnEngines, type TestDatabase } from '../support/database.ts';
import type { FloodQuestion, FloodResult } from '../support/flood.ts';
import { Load, quantileMs } from '../support/load.ts';
import { Network } from '../support/network.ts';
import { insertOwnerWithTasks } from '../support/owner-with-tasks.ts';
import { type RunningService, startService } from '../support/service.ts';

describeOnEngines(
  'five times as many calls as the database can answer',
  (engine) => {
    let testDatabase: TestDatabase;
    let network: Network;
    let service: RunningService;
    let clients: GrpcClient[];
    let load: Load;

    beforeAll(async () => {
      testDatabase = await createTestDatabase(engine);
      const owner = await insertOwnerWithTasks(testDatabase.database, { tasks: 50 });
      // The way to the database makes each statement take 80 ms: four connections do 50 a second, whatever else the machine does.
      network = new Network(testDatabase.address);
      network.delayMs = 80;
      service = await startService(await network.open(), {
        DATABASE_POOL_SIZE: '4',
        AUTH_CACHE_SECONDS: '3600',
        PROJECTOR: 'false',
      });
      clients = [makeGrpcClient(service.grpc), makeGrpcClient(service.grpc)];
      load = new Load(clients, owner, { deadlineMs: 10_000 });
      await load.call();
    });
    afterAll(async () => {
      for (const client of clients) client.close();
      expect(await service.stop()).toBe(0);
      network.close();
      await testDatabase.drop();
    });

    test('costs those that are let in little, and the others no time', async () => {
      const before = await load.saturate(12, 2000);
      const began = performance.now();
      load.start(5 * before);
      await new Promise((resolve) => {
        setTimeout(resolve, 4000);
      });
      const ended = performance.now();
      await load.stop();
      const after = await load.saturate(12, 2000);

      const calls = load.calls.filter(({ startedAt }) => startedAt >= began && startedAt < ended);
      const answered = calls.filter(({ outcome }) => outcome === 'OK');
      const refused = calls.filter(({ outcome }) => outcome !== 'OK');
      // Those that are still in the queue at the end come on top; they are left out here.
      const inTime = answered.filter(({ startedAt, milliseconds }) => startedAt + milliseconds <= ended);
      const goodput = (1000 * inTime.length) / (ended - began);
      expect(load.wrong).toEqual([]);
      expect(Object.keys(load.outcomes()).sort()).toEqual(['OK', 'OVERLOADED']);
      expect(refused.length).toBeGreaterThan(answered.length);
      expect(refused.every(({ mayRetry }) => mayRetry)).toBe(true);
      expect(goodput).toBeGreaterThan(0.8 * Math.min(before, after));
      expect(quantileMs(answered, 0.99)).toBeLessThan(2000);
      expect(quantileMs(refused, 0.5)).toBeLessThan(100);
    });
  },
  ['mariadb'],
);

/** Which share of a processor the service gets, so that the database and the client have enough in any case, in parts of so many milliseconds. */
const share = 0.3;
const periodMs = 20;

/** Lets a process run for its share of the time, as a limit of a container does, until it is told to stop. */
function limitProcessor({ process }: RunningService): () => Promise<void> {
  let isOver = false;
  const limiting = (async () => {
    while (!isOver) {
      process.kill('SIGSTOP');
      await sleep((1 - share) * periodMs);
      process.kill('SIGCONT');
      await sleep(share * periodMs);
    }
  })();
  return () => {
    isOver = true;
    return limiting;
  };
}

describeOnEngines(
  'five times as many calls as the processor can answer',
  (engine) => {
    // Again, if other programs took the share of the processor that it is measured by.
    test('cost those that are let in little: no crowd is let in of which most would be given up', { retry: 2 }, async () => {
      const testDatabase = await createTestDatabase(engine);
      const owner = await insertOwnerWithTasks(testDatabase.database, { tasks: 150, promptLength: 200 });
      const service = await startService(testDatabase.address, { AUTH_CACHE_SECONDS: '3600', PROJECTOR: 'false' });
      const unlimit = limitProcessor(service);
      const request = toBinary(ListTasksRequestSchema, create(ListTasksRequestSchema, { pageSize: 25 }));
      const question: FloodQuestion = {
        address: service.grpc,
        path: '/tasks.v1.TasksService/ListTasks',
        headers: { 'coder-session-token': owner.token },
        body: Buffer.from(request).toString('base64'),
        milliseconds: 5000, // less would count what the first moments let in
      };
      const script = startScript('flood', question);
      const result = JSON.parse((await script.line('result')).slice('result '.length)) as FloodResult;
      expect(await script.ended).toBe(0);
      await unlimit();
      expect(await service.stop()).toBe(0);
      await testDatabase.drop();

      const { before, after, offered, answered, p99Ms, outcomes, wrong } = result;
      expect(wrong).toBe(0);
      expect(Object.keys(outcomes).toSorted()).toEqual(['0', '14']);
      expect(offered).toBeGreaterThan(4 * before);
      // Some 0.8, and half of the most where a crowd is let in at first.
      expect(answered).toBeGreaterThan(0.6 * Math.min(before, after));
      expect(p99Ms).toBeLessThan(2500);
    });
  },
  ['mariadb'],
);
