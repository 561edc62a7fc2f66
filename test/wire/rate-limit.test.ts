import { Code, ConnectError, createClient } from '@connectrpc/connect';
import { createGrpcTransport } from '@connectrpc/connect-node';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createApiKeyRepository } from '../../src/auth/api-key-repository.ts';
import { ErrorInfoSchema, RetryInfoSchema } from '../../src/gen/google/rpc/error_details_pb.ts';
import { TasksService } from '../../src/gen/tasks/v1/tasks_pb.ts';
import { createTestDatabase, describeOnOneEngine, type TestDatabase } from '../support/database.ts';
import { insertOrganization, insertUser } from '../support/people.ts';
import { type RunningService, startService } from '../support/service.ts';

describeOnOneEngine('the rate limit', (engine) => {
  let testDatabase: TestDatabase;
  let service: RunningService;
  let tokens: string[];

  beforeAll(async () => {
    testDatabase = await createTestDatabase(engine);
    const { database } = testDatabase;
    const home = await insertOrganization(database, 'home');
    const keys = createApiKeyRepository(database);
    tokens = [];
    for (const username of ['eager', 'calm', 'boss']) {
      await insertUser(database, { username, roles: username === 'boss' ? ['owner'] : [], memberships: [[home]] });
      tokens.push((await keys.create(username, { lifetimeSeconds: 3600, name: 'test' })) ?? '');
    }
  });
  afterAll(() => testDatabase.drop());

  test('of RATE_LIMIT_PER_MINUTE holds for every protocol together, by user and method', async () => {
    service = await startService(testDatabase.address, { RATE_LIMIT_PER_MINUTE: '5', PROJECTOR: 'false' });
    try {
      const [eager = '', calm = ''] = tokens;
      const client = createClient(TasksService, createGrpcTransport({ baseUrl: `http://${service.grpc}` }));
      const list = (token: string) => client.listTasks({}, { headers: { 'coder-session-token': token } });
      const json = (path: string) => fetch(`http://${service.web}${path}`, { headers: { 'coder-session-token': eager } });
      for (let call = 0; call < 4; call++) await list(eager);
      expect((await json('/api/experimental/tasks')).status).toBe(200);

      const error = ConnectError.from(await list(eager).catch((thrown: unknown) => thrown));
      expect(error.code).toBe(Code.ResourceExhausted);
      expect(error.findDetails(ErrorInfoSchema)[0]?.reason).toBe('RATE_LIMITED');
      const [retry] = error.findDetails(RetryInfoSchema);
      expect(Number(retry?.retryDelay?.seconds)).toBeLessThanOrEqual(12);
      const refused = await json('/api/experimental/tasks');
      expect(refused.status).toBe(429);
      expect(await refused.json()).toMatchObject({ message: expect.any(String) });

      await expect(list(calm)).resolves.toMatchObject({ count: 0 });
    } finally {
      expect(await service.stop()).toBe(0);
    }
  });

  test('is lifted by a site owner who asks for it, and by nobody else', async () => {
    service = await startService(testDatabase.address, { RATE_LIMIT_PER_MINUTE: '2', PROJECTOR: 'false' });
    try {
      const [, calm = '', boss = ''] = tokens;
      const statuses = async (token: string, bypass: string): Promise<number[]> => {
        const found: number[] = [];
        for (let call = 0; call < 4; call++) {
          const headers = { 'coder-session-token': token, 'x-coder-bypass-ratelimit': bypass };
          found.push((await fetch(`http://${service.web}/api/experimental/tasks`, { headers })).status);
        }
        return found;
      };
      expect(await statuses(boss, 'true')).toEqual([200, 200, 200, 200]);
      expect(await statuses(boss, '1')).toEqual([200, 200, 200, 200]);
      expect(await statuses(boss, 'false')).toEqual([200, 200, 429, 429]);
      expect(await statuses(calm, 'true')).toEqual([200, 200, 429, 429]);
    } finally {
      expect(await service.stop()).toBe(0);
    }
  });

  test("unset, is 512 for the JSON in Coder's shape and none for the rest", async () => {
    service = await startService(testDatabase.address, { PROJECTOR: 'false' });
    try {
      const [, calm = ''] = tokens;
      const headers = { 'coder-session-token': calm };
      const client = createClient(TasksService, createGrpcTransport({ baseUrl: `http://${service.grpc}` }));
      const statuses: number[] = [];
      for (let round = 0; round < 35; round++) {
        const answers = await Promise.all(
          Array.from({ length: 20 }, () => fetch(`http://${service.web}/api/experimental/tasks?limit=1`, { headers })),
        );
        for (const answer of answers) {
          statuses.push(answer.status);
          await answer.text();
        }
        await Promise.all(Array.from({ length: 20 }, () => client.listTasks({ pageSize: 1 }, { headers })));
      }
      const accepted = statuses.filter((status) => status === 200).length;
      // Some of the allowance has come back meanwhile.
      expect(accepted).toBeGreaterThanOrEqual(512);
      expect(accepted).toBeLessThan(statuses.length);
      expect(statuses.filter((status) => status === 429)).toHaveLength(statuses.length - accepted);
    } finally {
      expect(await service.stop()).toBe(0);
    }
  });
});
