import { setTimeout as sleep } from 'node:timers/promises';
import { Code, ConnectError } from '@connectrpc/connect';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { openCallLimits } from '../../src/call/limits.ts';
import { TasksService } from '../../src/gen/tasks/v1/tasks_pb.ts';
import { startScript } from '../support/child-script.ts';
import { makeGrpcClient } from '../support/clients.ts';
import { createTestDatabase, describeOnEngines, type TestDatabase } from '../support/database.ts';
import { insertOwnerWithTasks, type OwnerWithTasks } from '../support/owner-with-tasks.ts';
import { type RunningService, startService } from '../support/service.ts';
import type { StalledStreams, StalledStreamsResult } from '../support/stalled-streams.ts';

/** Bytes that clients without a session may make the process hold: 72 MiB of requests, and what connections and streams cost. */
const mostBytes = 160 * 2 ** 20;

const connections = 4;
const streams = 1000;
const listPath = '/tasks.v1.TasksService/ListTasks';

async function codeOf(call: Promise<unknown>): Promise<string> {
  const error: unknown = await call.then(
    () => 'OK',
    (reason: unknown) => reason,
  );
  return error instanceof ConnectError ? (Code[error.code] ?? '') : String(error);
}

describeOnEngines(
  'requests that never come whole, a thousand on each of many connections',
  (engine) => {
    let testDatabase: TestDatabase;
    let owner: OwnerWithTasks;
    let service: RunningService;

    beforeAll(async () => {
      testDatabase = await createTestDatabase(engine);
      owner = await insertOwnerWithTasks(testDatabase.database, { tasks: 5 });
      service = await startService(testDatabase.address, { PROJECTOR: 'false' });
      await warmUp();
    });
    afterAll(async () => {
      expect(await service.stop()).toBe(0);
      await testDatabase.drop();
    });

    /** Ordinary calls, with which the heap of a new process grows by tens of MiB, as it does without any flood. */
    async function warmUp(): Promise<void> {
      const client = makeGrpcClient(service.grpc);
      const calls = async (): Promise<void> => {
        for (let i = 0; i < 100; i++) {
          await client.unary(TasksService.method.listTasks, {}, { headers: { 'coder-session-token': owner.token } });
        }
      };
      await Promise.all(Array.from({ length: 20 }, calls));
      client.close();
    }

    async function residentBytes(): Promise<number> {
      const metrics = await (await fetch(`http://${service.ops}/metrics`)).text();
      return Number(/^process_resident_memory_bytes (\S+)$/m.exec(metrics)?.[1]);
    }

    /** Sends them, and gives how they ended and the most memory that the service had meanwhile, beyond what it had before. */
    async function flood(question: Pick<StalledStreams, 'path' | 'tokens' | 'leaveOpen'> & { port: 'grpc' | 'web' }) {
      const client = makeGrpcClient(service.grpc);
      const before = await residentBytes();
      const script = startScript('stalled-streams', {
        ...question,
        address: service[question.port],
        connections,
        streams,
        holdMs: 30_000,
      } satisfies StalledStreams & { port: string });
      let most = 0;
      let answered = 0;
      let isOver = false;
      void script.ended.then(() => {
        isOver = true;
      });
      const call = () => client.unary(TasksService.method.listTasks, {}, { headers: { 'coder-session-token': owner.token } });
      await call();
      while (!isOver) {
        await sleep(50);
        most = Math.max(most, await residentBytes());
        // While the processor does nothing but refuse, a call may be told to try again, and nothing worse.
        const outcome = await codeOf(call());
        expect(['OK', 'Unavailable']).toContain(outcome);
        if (outcome === 'OK') answered += 1;
      }
      await call();
      client.close();
      const result = JSON.parse((await script.line('result ')).slice('result '.length)) as StalledStreamsResult;
      return { ...result, bytes: most - before, answered };
    }

    test.each([
      ['grpc', 'without a token', { path: listPath, tokens: false, leaveOpen: 0 }],
      ['grpc', 'with made-up tokens', { path: listPath, tokens: true, leaveOpen: 0 }],
      ['web', 'without a token', { path: listPath, tokens: false, leaveOpen: 0 }],
      ['web', 'with made-up tokens', { path: listPath, tokens: true, leaveOpen: 0 }],
    ] as const)('on the port %s, %s, are answered on their headers, and hold little memory', async (port, _what, question) => {
      const { outcomes, open, bytes, answered } = await flood({ ...question, port });
      expect(open).toBe(0);
      // Of made-up tokens so many wait for their look-up, and the others are to try again.
      expect(Object.keys(outcomes).filter((status) => status !== '14')).toEqual(['16']);
      expect(bytes).toBeLessThan(mostBytes);
      expect(answered).toBeGreaterThan(0);
    });

    test.each(['grpc', 'web'] as const)(
      'of Health on the port %s make room for each other, and hold little memory',
      async (port) => {
        const { outcomes, open, bytes, answered } = await flood({
          path: '/grpc.health.v1.Health/Check',
          tokens: false,
          leaveOpen: openCallLimits.receiving,
          port,
        });
        expect(open).toBeLessThanOrEqual(openCallLimits.receiving);
        expect(Object.keys(outcomes)).toEqual(['14']);
        expect(bytes).toBeLessThan(mostBytes);
        expect(answered).toBeGreaterThan(0);
      },
    );
  },
  ['mariadb'],
);
