import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Code, ConnectError } from '@connectrpc/connect';
import { type CryptoKey, exportJWK, generateKeyPair, SignJWT } from 'jose';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { prepareDemo } from '../../dev/demo/prepare-demo.ts';
import { TasksService } from '../../src/gen/tasks/v1/tasks_pb.ts';
import { listClients, makeGrpcClient } from '../support/clients.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { type RunningService, startService } from '../support/service.ts';

let testDatabase: TestDatabase;
let service: RunningService;
let folder: string;
let privateKey: CryptoKey;

/** A token for so many seconds. */
function sign(seconds: number, claims: Record<string, unknown> = {}): Promise<string> {
  return new SignJWT({ sub: 'developer', ...claims })
    .setProtectedHeader({ alg: 'EdDSA', kid: 'a' })
    .setIssuer('https://issuer.example')
    .setAudience('tasks')
    .setExpirationTime(Math.floor(Date.now() / 1000) + seconds)
    .sign(privateKey);
}
const bearing = (token: string) => ({ headers: { authorization: `Bearer ${token}` } });

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'tasks-jwt-'));
  const pair = await generateKeyPair('EdDSA', { extractable: true });
  privateKey = pair.privateKey;
  writeFileSync(
    join(folder, 'keys.json'),
    JSON.stringify({ keys: [{ ...(await exportJWK(pair.publicKey)), kid: 'a', alg: 'EdDSA' }] }),
  );
  testDatabase = await createTestDatabase('mariadb');
  await prepareDemo(testDatabase.address);
  service = await startService(testDatabase.address, {
    AUTH_CACHE_SECONDS: '1',
    JWT_ISSUER: 'https://issuer.example',
    JWT_AUDIENCE: 'tasks',
    JWT_JWKS: join(folder, 'keys.json'),
    JWT_ROLES_CLAIM: 'roles',
  });
});
afterAll(async () => {
  await service.stop();
  await testDatabase.drop();
  rmSync(folder, { recursive: true });
});

describe('a JSON Web Token', () => {
  test.each(listClients)('is taken over %s', async (_, open) => {
    const client = open(service);
    try {
      const own = await client.list({}, bearing(await sign(600)));
      expect(own.message.count).toBeGreaterThan(0);
      const error = await client.list({}, bearing(`${await sign(600)}x`)).catch(ConnectError.from);
      expect(error).toMatchObject({ code: Code.Unauthenticated });
    } finally {
      client.close();
    }
  });

  test('is taken by the JSON of Coder', async () => {
    const answer = await fetch(`http://${service.web}/api/experimental/tasks/me`, bearing(await sign(600)));
    expect(answer.status).toBe(200);
  });

  test('of a service reads what its roles read, and owns nothing', async () => {
    const client = makeGrpcClient(service.grpc);
    const list = async (roles: readonly string[], query: string) => {
      const answer = await client.unary(
        TasksService.method.listTasks,
        { query },
        bearing(await sign(600, { sub: 'robot', roles })),
      );
      return answer.message.count;
    };
    expect(await list(['owner'], 'owner:*')).toBeGreaterThan(0);
    expect(await list(['owner'], '')).toBe(0);
    expect(await list(['auditor'], 'owner:*')).toBe(0);
    client.close();
  });

  test('that expires ends a stream with UNAUTHENTICATED', async () => {
    const client = makeGrpcClient(service.grpc);
    const watching = client.serverStream(TasksService.method.watchTasks, {}, bearing(await sign(2)));
    const started = performance.now();
    const end = (async () => {
      for await (const _ of watching) continue;
    })();
    await expect(end).rejects.toMatchObject({ code: Code.Unauthenticated });
    expect(performance.now() - started).toBeGreaterThan(1500); // it was taken before
    client.close();
  });
});
