import { readFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { create, fromBinary, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import { Code } from '@connectrpc/connect';
import * as grpc from '@grpc/grpc-js';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createApiKeyRepository } from '../../src/auth/api-key-repository.ts';
import {
  TasksService,
  WatchTasksRequestSchema,
  type WatchTasksResponse,
  WatchTasksResponseSchema,
} from '../../src/gen/tasks/v1/tasks_pb.ts';
import { toConnectError } from '../support/clients.ts';
import { createTestDatabase, describeOnOneEngine, type TestDatabase } from '../support/database.ts';
import { insertUser } from '../support/people.ts';
import { type RunningService, startService } from '../support/service.ts';
import { insertRunningTask, now, type SourceTaskIds } from '../support/source-writer.ts';
import { newId } from '../support/tasks.ts';
import { until } from '../support/test-server.ts';
import { Watching, watchOverGrpcJs } from '../support/watching.ts';

describeOnOneEngine('watches that are read slowly', (engine) => {
  let testDatabase: TestDatabase;
  let service: RunningService;
  let token: string;
  let owner: Buffer;
  const organization = newId();

  beforeAll(async () => {
    testDatabase = await createTestDatabase(engine);
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
  function unread(
    request: MessageInitShape<typeof WatchTasksRequestSchema> = {},
    address = service.grpc,
  ): { next(): Promise<WatchTasksResponse | grpc.ServiceError>; cancel(): void } {
    const client = new grpc.Client(address, grpc.credentials.createInsecure(), { 'grpc.use_local_subchannel_pool': 1 });
    const metadata = new grpc.Metadata();
    metadata.set('coder-session-token', token);
    const stream = client.makeServerStreamRequest(
      `/${TasksService.typeName}/WatchTasks`,
      (message: Buffer) => message,
      (bytes: Buffer) => fromBinary(WatchTasksResponseSchema, bytes),
      Buffer.from(toBinary(WatchTasksRequestSchema, create(WatchTasksRequestSchema, request))),
      metadata,
    );
    let failed: grpc.ServiceError | undefined;
    stream.on('error', (error: grpc.ServiceError) => {
      failed = error;
    });
    return {
      next: () => until('a message', () => (stream.read() as WatchTasksResponse | null) ?? failed),
      cancel: () => {
        stream.cancel();
        client.close();
      },
    };
  }

  /** Has each of the tasks report something, in one statement. */
  async function report(tasks: readonly SourceTaskIds[], message: string, state = 'idle'): Promise<void> {
    await testDatabase.database.batchInsert(
      'workspace_app_statuses',
      tasks.map(({ workspace, agent, app }) => ({
        id: newId(),
        workspace_id: workspace,
        agent_id: agent,
        app_id: app,
        state,
        message,
        uri: '',
        created_at: now(),
      })),
    );
  }

  test('clients that do not read cost little memory, slow nobody down, and are up to date when they read again', async () => {
    const { database } = testDatabase;
    const message = 'x'.repeat(20_000);
    const tasks = [];
    for (let i = 0; i < 30; i++) {
      tasks.push(await insertRunningTask(database, { name: `task-${i}`, owner_id: owner, organization_id: organization }));
    }
    const quick = await new Watching(watchOverGrpcJs(service.grpc), { includeInitial: true }, token).synced();
    const slow = Array.from({ length: 20 }, () => unread());
    for (const one of slow) expect(await one.next()).toHaveProperty('event.case', 'synced'); //, and then nothing is read
    const slowOnTheWeb = Array.from({ length: 20 }, unreadOverHttp1);
    await until('all of them', async () =>
      /^tasks_watchers 41$/m.test(await (await fetch(`http://${service.ops}/metrics`)).text()),
    );
    const before = memory();
    // 30 tasks of 20 kB, changed again and again: 15 MB that each of them has to be told, but for what is coalesced.
    for (let round = 0; round < 25; round++) {
      await report(tasks, `${round} ${message}`, round % 2 === 0 ? 'working' : 'idle');
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
    for (; told < 31; told++) expect(await one?.next()).toHaveProperty('event.case', 'upserted');
    one?.cancel();
  }, 60_000);

  test('a client that falls too far behind is told so', async () => {
    const { database } = testDatabase;
    const slow = unread();
    expect(await slow.next()).toHaveProperty('event.case', 'synced');
    // More than what fits into the windows of the connection, and then more tasks than are kept for a client.
    const message = 'y'.repeat(60_000);
    for (let i = 0; i < 110; i++) {
      const ids = await insertRunningTask(database, { name: `big-${i}`, owner_id: owner, organization_id: organization });
      await report([ids], message);
    }
    await projected();
    let end: WatchTasksResponse | grpc.ServiceError | undefined;
    for (let i = 0; i < 300 && !(end instanceof Error); i++) end = await slow.next();
    if (!(end instanceof Error)) throw new Error('the client was never told');
    const error = toConnectError(end);
    expect(error.code).toBe(Code.OutOfRange);
    slow.cancel();
  }, 60_000);

  describe('nothing is lost to a client that reads slowly', () => {
    let name = 0;
    /** Sixty tasks, and a token from before each of them got a message of 60 kB: 3.6 MB to be told. */
    async function much(): Promise<{ readonly token: string; readonly query: string; write(): Promise<void> }> {
      const { database } = testDatabase;
      const prefix = `slow${name++}`;
      const tasks: SourceTaskIds[] = [];
      for (let i = 0; i < 60; i++) {
        tasks.push(await insertRunningTask(database, { name: `${prefix}-${i}`, owner_id: owner, organization_id: organization }));
      }
      await projected();
      const query = `name:${prefix}`;
      const before = await new Watching(watchOverGrpcJs(service.grpc), { query, includeInitial: true }, token).synced();
      before.stop();
      const write = async (): Promise<void> => {
        await report(tasks, 'z'.repeat(60_000));
        await projected();
      };
      return { token: before.token, query, write };
    }

    /** How many changes come before the end, or before `synced`, and the last token. */
    async function readOn(slow: ReturnType<typeof unread>): Promise<{ told: number; token: string }> {
      for (let told = 0, last = ''; ; ) {
        const message = await slow.next();
        if (message instanceof Error) return { told, token: last };
        last = message.resumeToken;
        if (message.event.case === 'synced') return { told, token: last };
        if (message.event.case === 'upserted') told += 1;
      }
    }

    /** How many changes come after a token. */
    async function after(resumeToken: string, query: string): Promise<number> {
      const rest = await new Watching(watchOverGrpcJs(service.grpc), { query, resumeToken }, token).synced();
      rest.stop();
      return rest.told.filter((one) => one.startsWith('+')).length;
    }

    test('and resumes: synced comes when all is told', async () => {
      const { token: resumeToken, query, write } = await much();
      await write();
      const slow = unread({ query, resumeToken });
      await slow.next();
      await sleep(1500); // longer than the service tells before it looks at the caller's rights again
      const { told, token: last } = await readOn(slow);
      slow.cancel();
      expect([told + 1, await after(last, query)]).toEqual([60, 0]);
    }, 60_000);

    test('and is behind when the service stops: the last token is of what it was told', async () => {
      const { query, write } = await much();
      const leaving = await startService(testDatabase.address, { PROJECTOR: 'false' });
      const slow = unread({ query }, leaving.grpc);
      expect(await slow.next()).toHaveProperty('event.case', 'synced');
      await write();
      await sleep(500); // what fits is on its way, and the rest waits
      const stopped = leaving.stop();
      await sleep(150);
      const { told, token: last } = await readOn(slow);
      slow.cancel();
      await stopped;
      expect(told + (await after(last, query))).toBeGreaterThanOrEqual(60);
    }, 60_000);

    test('and resumes over prompts that are larger together than what waits for a client', async () => {
      const { database } = testDatabase;
      const query = 'name:large';
      const ids = await insertRunningTask(database, { name: 'large-first', owner_id: owner, organization_id: organization });
      await projected();
      const before = await new Watching(watchOverGrpcJs(service.grpc), { query, includeInitial: true }, token).synced();
      before.stop();
      for (let i = 0; i < 6; i++) {
        const large = await insertRunningTask(database, { name: `large-${i}`, owner_id: owner, organization_id: organization });
        await database('workspace_build_parameters')
          .where('workspace_build_id', large.build)
          .update({ value: 'p'.repeat(1024 * 1024) });
      }
      // More events than are read at once, of what the query is not about.
      for (let i = 0; i < 120; i++) {
        await database('workspaces')
          .where('id', ids.workspace)
          .update({ name: `other-${i}` });
        if (i % 10 === 0) await projected();
      }
      await projected();
      const next = await new Watching(watchOverGrpcJs(service.grpc), { query, resumeToken: before.token }, token).synced();
      expect(next.names).toEqual(Array.from({ length: 6 }, (_, i) => `large-${i}`));
      next.stop();
      await until('no watcher', async () =>
        /^tasks_watchers 0$/m.test(await (await fetch(`http://${service.ops}/metrics`)).text()),
      );
    }, 60_000);
  });

  /** Waits until everything that was committed is in the feed. */
  async function projected(): Promise<void> {
    await until('an empty outbox', async () => (await testDatabase.database('workspace_changes').limit(1)).length === 0);
  }
});
