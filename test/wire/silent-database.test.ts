import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createApiKeyRepository } from '../../src/auth/api-key-repository.ts';
import { createTestDatabase, describeOnOneEngine, type TestDatabase } from '../support/database.ts';
import { Network } from '../support/network.ts';
import { insertUser } from '../support/people.ts';
import { type RunningService, startService } from '../support/service.ts';

describeOnOneEngine('a database that vanishes without a word', (engine) => {
  let testDatabase: TestDatabase;
  let network: Network;
  let service: RunningService;
  let token: string;

  beforeAll(async () => {
    testDatabase = await createTestDatabase(engine);
    const { database, address } = testDatabase;
    network = new Network(address);
    await insertUser(database, { username: 'someone' });
    token = (await createApiKeyRepository(database).create('someone', { lifetimeSeconds: 3600, name: 'test' })) ?? '';
    service = await startService(await network.open(), {
      DATABASE_POOL_SIZE: '3',
      STATEMENT_TIMEOUT_MS: '1000',
      AUTH_CACHE_SECONDS: '0',
    });
  });
  afterAll(async () => {
    service.process.kill('SIGKILL');
    network.close();
    await testDatabase.drop();
  });

  async function list(): Promise<{ status: number; reason: string | undefined; milliseconds: number }> {
    const began = performance.now();
    const response = await fetch(`http://${service.web}/tasks.v1.TasksService/ListTasks`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'coder-session-token': token },
      body: '{}',
      signal: AbortSignal.timeout(30_000),
    });
    const body = (await response.json()) as { details?: { debug: { reason?: string } }[] };
    const reason = body.details?.[0]?.debug.reason;
    return { status: response.status, reason, milliseconds: performance.now() - began };
  }

  async function eventually(what: string, isTrue: () => Promise<boolean>): Promise<void> {
    for (const began = performance.now(); !(await isTrue()); await sleep(100)) {
      if (performance.now() - began > 30_000) throw new Error(`no ${what} within 30 s:\n${service.output()}`);
    }
  }

  test('fails the calls that wait for it within seconds, and the next ones find the new host, the projector too', async () => {
    const warm = await Promise.all([list(), list(), list()]);
    expect(warm.map(({ status }) => status)).toEqual([200, 200, 200]);
    const ready = async () => (await fetch(`http://${service.ops}/readyz`)).status === 200;
    await eventually('readiness', ready);

    network.failOver();
    const failed = await Promise.all([list(), list(), list()]);
    expect(failed.map(({ status, reason }) => [status, reason])).toEqual(
      Array.from({ length: 3 }, () => [503, 'DATABASE_UNAVAILABLE']),
    );
    for (const { milliseconds } of failed) expect(milliseconds).toBeLessThan(8000);
    expect((await list()).status).toBe(200);
    await eventually('readiness', ready);
    await eventually('projector', async () => {
      const metrics = await (await fetch(`http://${service.ops}/metrics`)).text();
      return /^tasks_projector_lag_seconds 0$/m.test(metrics) && /^tasks_projector_active 1$/m.test(metrics);
    });
  });

  test('does not keep the service from ending', async () => {
    network.failOver();
    const waiting = list().catch(() => undefined);
    await sleep(200);
    const began = performance.now();
    expect(await service.stop()).toBe(0);
    expect(performance.now() - began).toBeLessThan(15_000);
    await waiting;
  });
});
