import { readFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { Code } from '@connectrpc/connect';
import * as grpc from '@grpc/grpc-js';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createApiKeyRepository } from '../../src/db/api-key-repository.ts';
import { TasksService, WatchTasksRequestSchema, WatchTasksResponseSchema } from '../../src/gen/tasks/v1/tasks_pb.ts';
import { toConnectError } from '../support/clients.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { insertUser } from '../support/people.ts';
import { type RunningService, startService } from '../support/service.ts';
import { insertRunningTask, insertSource, newId, now } from '../support/source-writer.ts';
import { until } from '../support/test-server.ts';
import { Watching, watchOverGrpcJs } from '../support/watching.ts';

let testDatabase: TestDatabase;
let service: RunningService;
let token: string;
let owner: Buffer;
const organization = newId();

beforeAll(async () => {
  testDatabase = await createTestDatabase('mariadb');
  const { database } = testDatabase;
  owner = await insertUser(database, { username: 'owner', memberships: [[organization]] });
  token = (await createApiKeyRepository(database).create('owner', { lifetimeSeconds: 3600, name: 'test' })) ?? '';
  service = await startService(testDatabase.address);
});
afterAll(async () => {
  await service.stop();
  await testDatabase.drop();
});

/** Resident memory of the service, in MiB. */
function memory(): number {
  const pages = /VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${service.process.pid}/status`, 'utf8'))?.[1];
  return Number(pages) / 1024;
}

/** A connection of HTTP/1.1 over which a watch is asked for by Connect, and of whose answer nothing is read. */
function unreadOverHttp1(): Socket {
  const [host = '', port = ''] = service.web.split(':');
  const socket = connect(Number(port), host);
  socket.pause();
  socket.on('error', () => {});
  const body = JSON.stringify({});
  const envelope = Buffer.alloc(5);
  envelope.writeUInt32BE(body.length, 1);
  socket.write(
    `POST /${TasksService.typeName}/WatchTasks HTTP/1.1\r\nhost: ${service.web}\r\ncontent-type: application/connect+json\r\n` +
      `connect-protocol-version: 1\r\ncoder-session-token: ${token}\r\ncontent-length: ${5 + body.length}\r\n\r\n`,
  );
  socket.write(Buffer.concat([envelope, Buffer.from(body)]));
  return socket;
}

/** A stream that a client opens and reads only when told to. */
function unread(): { next(): Promise<'told' | grpc.ServiceError>; cancel(): void } {
  const client = new grpc.Client(service.grpc, grpc.credentials.createInsecure(), { 'grpc.use_local_subchannel_pool': 1 });
  const metadata = new grpc.Metadata();
  metadata.set('coder-session-token', token);
  const stream = client.makeServerStreamRequest(
    `/${TasksService.typeName}/WatchTasks`,
    (message: Buffer) => message,
    (bytes: Buffer) => fromBinary(WatchTasksResponseSchema, bytes),
    Buffer.from(toBinary(WatchTasksRequestSchema, create(WatchTasksRequestSchema, {}))),
    metadata,
  );
  let failed: grpc.ServiceError | undefined;
  stream.on('error', (error: grpc.ServiceError) => {
    failed = error;
  });
  return {
    next: async () => until('a message', () => failed ?? (stream.read() === null ? undefined : ('told' as const))),
    cancel: () => {
      stream.cancel();
      client.close();
    },
  };
}

test('clients that do not read cost little memory, slow nobody down, and are up to date when they read again', async () => {
  const { database } = testDatabase;
  const message = 'x'.repeat(20_000);
  const tasks = [];
  for (let i = 0; i < 30; i++) {
    tasks.push(await insertRunningTask(database, { name: `task-${i}`, owner_id: owner, organization_id: organization }));
  }
  const quick = await new Watching(watchOverGrpcJs(service.grpc), { includeInitial: true }, token).synced();
  const slow = Array.from({ length: 20 }, unread);
  for (const one of slow) expect(await one.next()).toBe('told'); // synced, and then nothing is read
  const slowOnTheWeb = Array.from({ length: 20 }, unreadOverHttp1);
  await until('all of them', async () =>
    /^tasks_watchers 41$/m.test(await (await fetch(`http://${service.ops}/metrics`)).text()),
  );
  const before = memory();
  // 30 tasks of 20 kB, changed again and again: 15 MB that each of them has to be told, but for what is coalesced.
  for (let round = 0; round < 25; round++) {
    await database.batchInsert(
      'workspace_app_statuses',
      tasks.map((ids) => ({
        id: newId(),
        workspace_id: ids.workspace,
        agent_id: ids.agent,
        app_id: ids.app,
        state: round % 2 === 0 ? 'working' : 'idle',
        message: `${round} ${message}`,
        uri: '',
        created_at: now(),
      })),
    );
    await sleep(20);
  }
  const last = await insertRunningTask(database, { name: 'last', owner_id: owner, organization_id: organization });
  await until('the last task', () => Array.from(quick.tasks.values()).some(({ name }) => name === 'last'));
  expect([...quick.tasks.values()].filter(({ currentState }) => currentState?.message.startsWith('24 '))).toHaveLength(30);
  expect(last).toBeDefined();
  // 40 clients with 64 kB of window, what is on its way, and one copy of each task that all of them share.
  expect(memory() - before).toBeLessThan(200);
  quick.stop();

  for (const socket of slowOnTheWeb) socket.destroy();

  // Whoever reads again is up to date in a moment, since only the newest states wait.
  const [one, ...others] = slow;
  for (const other of others) other.cancel();
  let told = 0;
  while ((await one?.next()) === 'told' && told < 200) {
    told += 1;
    if (told > 30) break;
  }
  expect(told).toBeGreaterThan(30);
  one?.cancel();
}, 60_000);

test('a client that falls too far behind is told so', async () => {
  const { database } = testDatabase;
  const slow = unread();
  expect(await slow.next()).toBe('told');
  // More than what fits into the windows of the connection, and then more tasks than are kept for a client.
  const message = 'y'.repeat(60_000);
  for (let i = 0; i < 110; i++) {
    const ids = await insertRunningTask(database, { name: `big-${i}`, owner_id: owner, organization_id: organization });
    await insertSource(database, 'workspace_app_statuses', {
      workspace_id: ids.workspace,
      agent_id: ids.agent,
      app_id: ids.app,
      state: 'idle',
      message,
      created_at: now(),
    });
  }
  await until('an empty outbox', async () => (await database('workspace_changes').limit(1)).length === 0);
  let end: 'told' | grpc.ServiceError = 'told';
  for (let i = 0; i < 300 && end === 'told'; i++) end = await slow.next();
  if (end === 'told') throw new Error('the client was never told');
  const error = toConnectError(end);
  expect(error.code).toBe(Code.OutOfRange);
  slow.cancel();
}, 60_000);
