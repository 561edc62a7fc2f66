import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { exportJWK, generateKeyPair, SignJWT } from 'jose';
import { prepareDemo } from '../../dev/demo/prepare-demo.ts';
import type { DatabaseAddress } from '../../src/config.ts';
import { TasksService } from '../../src/gen/tasks/v1/tasks_pb.ts';
import { makeGrpcClient } from '../support/clients.ts';
import { type RunningService, startService } from '../support/service.ts';
import type { Knowledge } from './cases.ts';

/** A service with demo data, and what an ordinary client of it knows. */
export interface Target {
  readonly service: RunningService;
  readonly known: Knowledge;
  /** Ends it, and resolves with its exit code. */
  stop(): Promise<number | null>;
}

/** Starts one on a database that is migrated. It takes session tokens and JSON Web Tokens. */
export async function startTarget(address: DatabaseAddress): Promise<Target> {
  const { admin: sessionToken = '' } = await prepareDemo(address);
  const folder = mkdtempSync(join(tmpdir(), 'tasks-target-'));
  const jwks = join(folder, 'keys.json');
  const { publicKey, privateKey } = await generateKeyPair('ES256', { extractable: true });
  writeFileSync(jwks, JSON.stringify({ keys: [{ ...(await exportJWK(publicKey)), kid: 'a', alg: 'ES256' }] }));
  const jwt = await new SignJWT({ sub: 'admin' })
    .setProtectedHeader({ alg: 'ES256', kid: 'a' })
    .setIssuer('issuer')
    .setAudience('tasks')
    .setExpirationTime('30d')
    .sign(privateKey);
  const service = await startService(address, {
    RATE_LIMIT_PER_MINUTE: '0',
    REFLECTION: 'true',
    JWT_ISSUER: 'issuer',
    JWT_AUDIENCE: 'tasks',
    JWT_JWKS: jwks,
  });
  const client = makeGrpcClient(service.grpc);
  const headers = { authorization: `Bearer ${jwt}` };
  const { message } = await client.unary(TasksService.method.listTasks, { query: 'owner:*', pageSize: 2 }, { headers });
  client.close();
  return {
    service,
    known: { sessionToken, jwt, pageToken: message.nextPageToken, taskId: message.tasks[0]?.id ?? '' },
    async stop() {
      const code = await service.stop();
      rmSync(folder, { recursive: true, force: true });
      return code;
    },
  };
}
