import { setTimeout as sleep } from 'node:timers/promises';
import { Code, ConnectError } from '@connectrpc/connect';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { closeDatabase, type Database, openDatabase } from '../../src/db/connection.ts';
import { TasksService } from '../../src/gen/tasks/v1/tasks_pb.ts';
import { type GrpcClient, makeGrpcClient } from '../support/clients.ts';
import { createTestDatabase, describeOnEngines, type TestDatabase } from '../support/database.ts';
import { insertOwnerWithTasks, type OwnerWithTasks } from '../support/owner-with-tasks.ts';
import { type RunningService, startService } from '../support/service.ts';

const poolSize = 4;

/** Each walks all tasks of the owner, in some 10 ms, to find none. */
const slowQuery = 'prompt:"what nobody asked for"';

describeOnEngines('a call that is given up', (engine) => {
  let testDatabase: TestDatabase;
  let owner: OwnerWithTasks;
  let service: RunningService;
  let client: GrpcClient;
  let observer: Database;
  let ours: ReadonlySet<number> = new Set();

  beforeAll(async () => {
    testDatabase = await createTestDatabase(engine);
    owner = await insertOwnerWithTasks(testDatabase.database, { tasks: 800, promptLength: 1000 });
    observer = openDatabase({ ...testDatabase.address, database: '' }, { size: 2, statementTimeoutMs: 30_000 });
    ours = new Set((await connections()).map(({ Id }) => Id));
    service = await startService(testDatabase.address, {
      DATABASE_POOL_SIZE: `${poolSize}`,
      STATEMENT_TIMEOUT_MS: '60000', // what ends sooner was ended by the call
      AUTH_CACHE_SECONDS: '3600',
      PROJECTOR: 'false',
    });
    client = makeGrpcClient(service.grpc);
    await list('', {});
  });
  afterAll(async () => {
    client.close();
    expect(await service.stop()).toBe(0);
    await closeDatabase(observer);
    await testDatabase.drop();
  });

  function list(query: string, options: { timeoutMs?: number; signal?: AbortSignal }) {
    const headers = { 'coder-session-token': owner.token };
    return client.unary(TasksService.method.listTasks, { query, pageSize: 1 }, { ...options, headers });
  }

  function overWeb(path: string, init: RequestInit): Promise<Response> {
    const headers = { 'coder-session-token': owner.token, 'content-type': 'application/json' };
    return fetch(`http://${service.web}${path}`, { ...init, headers });
  }

  /** The connections of the service. (Their statements cannot be asked for: MySQL fails at the bytes in them.) */
  async function connections(): Promise<readonly { Id: number; Command: string }[]> {
    const [all] = (await observer.raw('show processlist')) as [{ Id: number; db: string | null; Command: string }[]];
    return all.filter(({ Id, db }) => db === testDatabase.address.database && !ours.has(Id));
  }

  /** How many statements the server runs for the service. */
  async function running(): Promise<number> {
    return (await connections()).filter(({ Command }) => Command !== 'Sleep').length;
  }

  /** Does something while every statement over the tasks has to wait. */
  async function whileLocked(work: () => Promise<void>): Promise<void> {
    const lock = await observer.transaction();
    try {
      await lock.raw('lock tables ??.?? write', [testDatabase.address.database, 'workspace_tasks']);
      await work();
    } finally {
      await lock.raw('unlock tables');
      await lock.rollback();
    }
  }

  async function until(holds: () => Promise<boolean>): Promise<number> {
    const began = performance.now();
    while (!(await holds())) {
      if (performance.now() - began > 10_000) throw new Error('it did not happen in 10 s');
      await sleep(1);
    }
    return performance.now() - began;
  }

  const waysToGiveUp: readonly (readonly [string, (signal: AbortSignal) => Promise<unknown>])[] = [
    ['a gRPC client cancels', (signal) => list('', { signal })],
    [
      'a Connect client hangs up',
      (signal) => overWeb('/tasks.v1.TasksService/ListTasks', { method: 'POST', body: '{}', signal }),
    ],
    ['a client of the Coder-shaped JSON hangs up', (signal) => overWeb('/api/experimental/tasks/me', { signal })],
  ];

  test.each(waysToGiveUp)('takes its statement with it within 100 ms: %s', async (_name, call) => {
    const times: number[] = [];
    for (let round = 0; round < 5; round++) {
      await whileLocked(async () => {
        const leaving = new AbortController();
        const answer = call(leaving.signal).catch(() => 'given up');
        await until(async () => (await running()) === 1);
        leaving.abort();
        times.push(await until(async () => (await running()) === 0));
        expect(await answer).toBe('given up');
      });
    }
    // The machine may be busy once, but not every time.
    expect(times.sort((a, b) => a - b)[2]).toBeLessThan(100);
  });

  test('takes its statement with it also when that has only just been sent, which an engine may not notice', async () => {
    for (let round = 0; round < 60; round++) {
      await whileLocked(async () => {
        const leaving = new AbortController();
        const answer = list('', { signal: leaving.signal }).catch(() => 'given up');
        await sleep(Math.random() * 6);
        leaving.abort();
        expect(await answer).toBe('given up');
        await sleep(30);
        expect(await until(async () => (await running()) === 0)).toBeLessThan(5000);
      });
    }
  });

  test('takes its statement with it when its deadline passes, and not before', async () => {
    const times: number[] = [];
    for (let round = 0; round < 5; round++) {
      await whileLocked(async () => {
        const began = performance.now();
        const answer = list('', { timeoutMs: 300 }).catch((error: unknown) => Code[ConnectError.from(error).code]);
        await until(async () => (await running()) === 1);
        await until(async () => (await running()) === 0);
        times.push(performance.now() - began);
        expect(await answer).toBe('DeadlineExceeded');
      });
    }
    const middle = times.sort((a, b) => a - b)[2];
    expect(middle).toBeGreaterThan(250);
    expect(middle).toBeLessThan(450);
  });

  test('leaves a statement that it shares to the other calls, and takes it with it as the last one', async () => {
    const headers = { 'coder-session-token': owner.token };
    const times: number[] = [];
    const stayed: Promise<unknown>[] = [];
    for (let round = 0; round < 6; round++) {
      await whileLocked(async () => {
        // Calls that are sent at once come in one turn of the event loop.
        const calls = owner.tasks.slice(0, 8).map(({ id }) => {
          const leaving = new AbortController();
          const request = { identifier: { case: 'id' as const, value: id } };
          const answer = client.unary(TasksService.method.getTask, request, { signal: leaving.signal, headers });
          return { leaving, answer: answer.catch(() => 'given up') };
        });
        await until(async () => (await running()) > 0);
        await sleep(50);
        const statements = await running();
        expect(statements).toBeLessThan(calls.length / 2);
        for (const { leaving, answer } of calls.slice(1)) {
          leaving.abort();
          expect(await answer).toBe('given up');
        }
        await sleep(50);
        expect(await running()).toBeGreaterThan(0);
        if (round === 0) stayed.push(...calls.slice(0, 1).map(({ answer }) => answer));
        else {
          calls[0]?.leaving.abort();
          times.push(await until(async () => (await running()) === 0));
        }
      });
    }
    expect(times.sort((a, b) => a - b)[2]).toBeLessThan(100);
    expect(await stayed[0]).toMatchObject({ message: { task: { id: owner.tasks[0]?.id } } });
  });

  test('harms no other, however many are given up in the middle of whatever they do', async () => {
    const counts = { givenUp: 0, answered: 0 };
    const isUnfinished = (): boolean => counts.givenUp < 2000;
    const impatient = async (): Promise<void> => {
      while (isUnfinished()) {
        const leaving = new AbortController();
        setTimeout(() => leaving.abort(), Math.random() * 10);
        const answer = await list(slowQuery, { signal: leaving.signal }).catch((error: unknown) => ConnectError.from(error));
        if (answer instanceof ConnectError) {
          // So many who ask and leave may be more than are let in.
          expect(Code[answer.code]).toMatch(/^(Canceled|Unavailable)$/);
          if (answer.code === Code.Canceled) counts.givenUp += 1;
          else await sleep(10);
        } else expect(answer.message.tasks).toEqual([]);
      }
    };
    const patient = async (): Promise<void> => {
      while (isUnfinished()) {
        const { name = '' } = owner.tasks[Math.floor(Math.random() * owner.tasks.length)] ?? {};
        try {
          expect((await list(`name:${name}`, {})).message.tasks.map((task) => task.name)).toEqual([name]);
          expect((await list(slowQuery, {})).message.tasks).toEqual([]);
          counts.answered += 2;
        } catch (error) {
          // As above.
          if (!(error instanceof ConnectError) || error.code !== Code.Unavailable) throw error;
        }
      }
    };
    await Promise.all([...Array.from({ length: 12 }, impatient), ...Array.from({ length: 6 }, patient)]);
    expect(counts.answered).toBeGreaterThan(10);
    // The pool, one that asks whether the database is there, and one that ends statements.
    expect((await connections()).length).toBeLessThanOrEqual(poolSize + 2);
    expect((await list('', {})).message.count).toBe(1);
  });
});
