import { create, fromBinary, fromJson, type MessageInitShape, toJson } from '@bufbuild/protobuf';
import { anyUnpack } from '@bufbuild/protobuf/wkt';
import { Code, ConnectError, createClient, type Transport } from '@connectrpc/connect';
import { createConnectTransport, createGrpcTransport, createGrpcWebTransport } from '@connectrpc/connect-node';
import { createConnectTransport as createBrowserTransport } from '@connectrpc/connect-web';
import grpc from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createApiKeyRepository } from '../../src/auth/api-key-repository.ts';
import { formatUuid } from '../../src/db/uuid.ts';
import { BadRequestSchema, ErrorInfoSchema } from '../../src/gen/google/rpc/error_details_pb.ts';
import { StatusSchema } from '../../src/gen/google/rpc/status_pb.ts';
import {
  CountTasksOverTimeRequestSchema,
  type CountTasksOverTimeResponse,
  CountTasksOverTimeResponseSchema,
  CountTasksRequestSchema,
  type CountTasksResponse,
  CountTasksResponseSchema,
  GetTaskRequestSchema,
  type GetTaskResponse,
  GetTaskResponseSchema,
  ListQueryValuesRequestSchema,
  type ListQueryValuesResponse,
  ListQueryValuesResponseSchema,
  ListTasksRequestSchema,
  type ListTasksResponse,
  ListTasksResponseSchema,
  QueryKey,
  TaskState,
  TasksService,
  WorkspaceStatus,
} from '../../src/gen/tasks/v1/tasks_pb.ts';
import { createTestDatabase, describeOnOneEngine, type TestDatabase } from '../support/database.ts';
import { insertOrganization, insertTemplate, insertUser } from '../support/people.ts';
import { endService, type RunningService, startService } from '../support/service.ts';
import { aTask, insertTasks, newId } from '../support/tasks.ts';

/** What every client can do, whatever it speaks. Errors come as ConnectErrors with their details. */
interface TasksClient {
  list(request: MessageInitShape<typeof ListTasksRequestSchema>, token?: string): Promise<ListTasksResponse>;
  count(request: MessageInitShape<typeof CountTasksRequestSchema>, token?: string): Promise<CountTasksResponse>;
  countOverTime(
    request: MessageInitShape<typeof CountTasksOverTimeRequestSchema>,
    token?: string,
  ): Promise<CountTasksOverTimeResponse>;
  values(request: MessageInitShape<typeof ListQueryValuesRequestSchema>, token?: string): Promise<ListQueryValuesResponse>;
  get(request: MessageInitShape<typeof GetTaskRequestSchema>, token?: string): Promise<GetTaskResponse>;
  close(): void;
}

function connectClient(transport: Transport): TasksClient {
  const client = createClient(TasksService, transport);
  const headers = (token?: string): HeadersInit => (token === undefined ? {} : { 'coder-session-token': token });
  return {
    list: (request, token) => client.listTasks(request, { headers: headers(token) }),
    count: (request, token) => client.countTasks(request, { headers: headers(token) }),
    countOverTime: (request, token) => client.countTasksOverTime(request, { headers: headers(token) }),
    values: (request, token) => client.listQueryValues(request, { headers: headers(token) }),
    get: (request, token) => client.getTask(request, { headers: headers(token) }),
    close: () => {},
  };
}

/** A stock grpc-js client, made from the proto file, with its default limits. */
function grpcClient(address: string): TasksClient {
  const definition = loadSync('tasks/v1/tasks.proto', { includeDirs: ['proto'], enums: String, longs: String, oneofs: false });
  const { tasks } = grpc.loadPackageDefinition(definition) as unknown as {
    tasks: { v1: { TasksService: grpc.ServiceClientConstructor } };
  };
  const client = new tasks.v1.TasksService(address, grpc.credentials.createInsecure());
  const call = (method: string, request: unknown, token?: string): Promise<unknown> => {
    const metadata = new grpc.Metadata();
    if (token !== undefined) metadata.set('coder-session-token', token);
    return new Promise((resolve, reject) => {
      client[method]?.(request, metadata, (error: grpc.ServiceError | null, answer: unknown) => {
        if (error === null) resolve(answer);
        else reject(toConnectError(error));
      });
    });
  };
  return {
    list: async (request, token) =>
      fromJson(
        ListTasksResponseSchema,
        toProtoJson(
          (await call('listTasks', toJson(ListTasksRequestSchema, create(ListTasksRequestSchema, request)), token)) as object,
        ),
        { ignoreUnknownFields: true },
      ),
    count: async (request, token) =>
      fromJson(
        CountTasksResponseSchema,
        toProtoJson(
          (await call('countTasks', toJson(CountTasksRequestSchema, create(CountTasksRequestSchema, request)), token)) as object,
        ),
        { ignoreUnknownFields: true },
      ),
    countOverTime: async (request, token) =>
      fromJson(
        CountTasksOverTimeResponseSchema,
        toProtoJson((await call('countTasksOverTime', { query: request.query }, token)) as object),
        { ignoreUnknownFields: true },
      ),
    values: async (request, token) =>
      fromJson(
        ListQueryValuesResponseSchema,
        (await call(
          'listQueryValues',
          toJson(ListQueryValuesRequestSchema, create(ListQueryValuesRequestSchema, request)),
          token,
        )) as never,
        { ignoreUnknownFields: true },
      ),
    get: async (request, token) =>
      fromJson(
        GetTaskResponseSchema,
        toProtoJson(
          (await call('getTask', toJson(GetTaskRequestSchema, create(GetTaskRequestSchema, request)), token)) as object,
        ),
        { ignoreUnknownFields: true },
      ),
    close: () => client.close(),
  };
}

/** What proto-loader gives, in the JSON of protobuf: times are objects there, and text here. */
function toProtoJson(value: unknown): never {
  return JSON.parse(JSON.stringify(value), (_key, part: unknown) => {
    if (typeof part !== 'object' || part === null || !('seconds' in part)) return part;
    const { seconds, nanos = 0 } = part as { seconds: string; nanos?: number };
    return `${new Date(Number(seconds) * 1000).toISOString().slice(0, 19)}.${String(nanos).padStart(9, '0')}Z`;
  }) as never;
}

function toConnectError(error: grpc.ServiceError): ConnectError {
  const [bytes] = error.metadata.get('grpc-status-details-bin');
  const details = Buffer.isBuffer(bytes) ? fromBinary(StatusSchema, bytes).details : [];
  return new ConnectError(
    error.details,
    error.code as number as Code,
    undefined,
    details.flatMap((any) => {
      for (const desc of [ErrorInfoSchema, BadRequestSchema]) {
        const value = anyUnpack(any, desc);
        if (value !== undefined) return [{ desc, value: value as never }];
      }
      return [];
    }),
  );
}

const clients: readonly [string, (service: RunningService) => TasksClient][] = [
  ['grpc-js', ({ grpc: address }) => grpcClient(address)],
  ['grpc-js, web port', ({ web }) => grpcClient(web)],
  ['connect-node, gRPC', ({ grpc: address }) => connectClient(createGrpcTransport({ baseUrl: `http://${address}` }))],
  ['connect-node, gRPC on the web port', ({ web }) => connectClient(createGrpcTransport({ baseUrl: `http://${web}` }))],
  [
    'connect-node, gRPC-Web over HTTP/1.1',
    ({ web }) => connectClient(createGrpcWebTransport({ baseUrl: `http://${web}`, httpVersion: '1.1' })),
  ],
  [
    'connect-node, Connect over HTTP/1.1',
    ({ web }) => connectClient(createConnectTransport({ baseUrl: `http://${web}`, httpVersion: '1.1' })),
  ],
  [
    'connect-node, Connect over HTTP/2',
    ({ web }) => connectClient(createConnectTransport({ baseUrl: `http://${web}`, httpVersion: '2' })),
  ],
  ['connect-web, JSON', ({ web }) => connectClient(createBrowserTransport({ baseUrl: `http://${web}`, useBinaryFormat: false }))],
  [
    'connect-web, GET',
    ({ web }) => connectClient(createBrowserTransport({ baseUrl: `http://${web}`, useHttpGet: true, useBinaryFormat: true })),
  ],
];

describeOnOneEngine('tasks over real ports', (engine) => {
  let testDatabase: TestDatabase;
  let service: RunningService;
  let owner: string;
  let member: string;
  let siteOwner: string;
  let stranger: string;
  let suspended: string;
  let writer: string;
  const taskId = newId();
  const count = 12;

  beforeAll(async () => {
    testDatabase = await createTestDatabase(engine);
    const { database } = testDatabase;
    const keys = createApiKeyRepository(database);
    const home = await insertOrganization(database, 'home');
    const away = await insertOrganization(database, 'away');
    const template = await insertTemplate(database, { organizationId: home, name: 'typescript' });
    const tokenFor = async (username: string) => (await keys.create(username, { lifetimeSeconds: 3600, name: 'test' })) ?? '';
    const ownerId = await insertUser(database, { username: 'owner', memberships: [[home]] });
    await insertUser(database, { username: 'member', memberships: [[home]] });
    await insertUser(database, { username: 'boss', roles: ['owner'] });
    await insertUser(database, { username: 'stranger', memberships: [[away]] });
    await insertUser(database, { username: 'suspended', status: 'suspended', memberships: [[home]] });
    const writerId = await insertUser(database, { username: 'writer', memberships: [[home]] });
    [owner, member, siteOwner, stranger, suspended, writer] = await Promise.all(
      ['owner', 'member', 'boss', 'stranger', 'suspended', 'writer'].map(tokenFor) as [
        Promise<string>,
        Promise<string>,
        Promise<string>,
        Promise<string>,
        Promise<string>,
        Promise<string>,
      ],
    );
    const common = { ownerId, organizationId: home, templateId: template };
    await insertTasks(database, [
      aTask({ ...common, id: taskId, name: 'Fix-Login', createdAt: '2026-03-01 12:00:00.123456' }),
      ...Array.from({ length: count - 1 }, (_, i) =>
        aTask({ ...common, status: i % 2 === 0 ? WorkspaceStatus.FAILED : WorkspaceStatus.RUNNING }),
      ),
    ]);
    for (let i = 0; i < 4; i++) {
      await insertTasks(
        database,
        Array.from({ length: 50 }, () => aTask({ ...common, ownerId: writerId, prompt: 'p'.repeat(64 * 1024) })),
      );
    }
    // The rows are made by hand: nothing may project over them.
    service = await startService(testDatabase.address, { PROJECTOR: 'false' });
  });
  afterAll(() => endService(service, testDatabase));

  describe.each(clients)('%s', (_name, connect) => {
    let client: TasksClient;
    beforeAll(() => {
      client = connect(service);
    });
    afterAll(() => client.close());

    /** The error of a call, as a program sees it. */
    async function refusal(
      promise: Promise<unknown>,
    ): Promise<{ code: string; reason: string | undefined; fields: string[] | undefined }> {
      const thrown = await promise.then(
        () => expect.unreachable('was not refused'),
        (error: unknown) => error,
      );
      const error = ConnectError.from(thrown);
      const [info] = error.findDetails(ErrorInfoSchema);
      expect(info?.domain, error.message).toBe('tasks.v1');
      return {
        code: Code[error.code],
        reason: info?.reason,
        fields: error.findDetails(BadRequestSchema)[0]?.fieldViolations.map(({ field }) => field),
      };
    }

    test('three personas list', async () => {
      expect((await client.list({}, owner)).count).toBe(count);
      expect((await client.list({ query: 'owner:owner status:failed' }, siteOwner)).count).toBe(6);
      expect((await client.list({ query: 'owner:owner' }, member)).count).toBe(0);
      expect((await client.list({ query: 'owner:*' }, stranger)).count).toBe(0);
    });

    test('three personas count what they list', async () => {
      expect((await client.count({}, owner)).total).toMatchObject({ count, capped: false });
      const failed = await client.count({ query: 'owner:owner status:failed' }, siteOwner);
      expect(failed.total).toMatchObject({ count: 6, capped: false });
      expect(failed.statuses).toHaveLength(10);
      expect(failed.statuses.find(({ status }) => status === WorkspaceStatus.FAILED)).toMatchObject({ count: 6, capped: false });
      expect((await client.count({ query: 'owner:owner' }, member)).total?.count).toBe(0);
      expect((await client.count({ query: 'owner:*' }, stranger)).total?.count).toBe(0);
      const refused = { code: 'InvalidArgument', reason: 'INVALID_QUERY', fields: ['status'] };
      expect(await refusal(client.count({ query: 'status:nope' }, owner))).toEqual(refused);
      expect(await refusal(client.count({}, suspended))).toMatchObject({ code: 'Unauthenticated' });
    });

    test('three personas count over time, at the end what they count', async () => {
      for (const [query, token] of [
        ['', owner],
        ['owner:owner', siteOwner],
        ['owner:owner', member],
        ['owner:*', stranger],
      ] as const) {
        const { waiting, states } = await client.count({ query }, token);
        const { points } = await client.countOverTime({ query }, token);
        const failed = states.find(({ state }) => state === TaskState.FAILED)?.count;
        expect(points.at(-1), query).toMatchObject({ waiting: waiting?.count, failed });
      }
      const refused = { code: 'InvalidArgument', reason: 'INVALID_QUERY', fields: ['status'] };
      expect(await refusal(client.countOverTime({ query: 'status:nope' }, owner))).toEqual(refused);
      expect(await refusal(client.countOverTime({}, suspended))).toMatchObject({ code: 'Unauthenticated' });
    });

    test('three personas list the owners and templates that they may choose from', async () => {
      const listed = async (key: QueryKey, token: string) =>
        (await client.values({ key }, token)).values.map(({ value }) => value);
      expect(await listed(QueryKey.OWNER, owner)).toEqual(['owner']);
      expect(await listed(QueryKey.TEMPLATE, owner)).toEqual(['typescript']);
      expect(await listed(QueryKey.OWNER, siteOwner)).toContain('owner');
      expect(await listed(QueryKey.OWNER, member)).not.toContain('owner');
      expect(await listed(QueryKey.TEMPLATE, stranger)).toEqual([]);
      const refused = { code: 'InvalidArgument', reason: 'INVALID_ARGUMENT', fields: ['key'] };
      expect(await refusal(client.values({}, owner))).toEqual(refused);
    });

    test('three personas get', async () => {
      const byId = { identifier: { case: 'id', value: formatUuid(taskId) } } as const;
      const byName = { identifier: { case: 'name', value: { owner: 'owner', name: 'fix-login' } } } as const;
      for (const request of [byId, byName]) {
        const { task } = await client.get(request, owner);
        expect(task).toMatchObject({
          id: formatUuid(taskId),
          name: 'Fix-Login',
          templateName: 'typescript',
          status: WorkspaceStatus.RUNNING,
        });
        expect(task?.createdAt?.nanos).toBe(123_456_000);
        expect((await client.get(request, siteOwner)).task?.id).toBe(formatUuid(taskId));
        for (const token of [member, stranger]) {
          expect(await refusal(client.get(request, token))).toMatchObject({ code: 'NotFound', reason: 'TASK_NOT_FOUND' });
        }
      }
    });

    test('every page size from 1 to N + 1 gives each task once', async () => {
      for (let pageSize = 1; pageSize <= count + 1; pageSize++) {
        const ids: string[] = [];
        let pageToken = '';
        do {
          const page = await client.list({ pageSize, pageToken }, owner);
          ids.push(...page.tasks.map(({ id }) => id));
          pageToken = page.nextPageToken;
        } while (pageToken !== '');
        expect(ids, `${pageSize} a page`).toHaveLength(count);
        expect(new Set(ids).size).toBe(count);
      }
    });

    test('200 tasks with prompts of 64 kB come in messages that any client takes', async () => {
      const ids = new Set<string>();
      let pageToken = '';
      do {
        const page = await client.list({ pageSize: 200, pageToken }, writer);
        expect(page.tasks.length).toBeGreaterThan(0);
        for (const { id, initialPrompt } of page.tasks) {
          expect(initialPrompt).toHaveLength(64 * 1024);
          ids.add(id);
        }
        pageToken = page.nextPageToken;
      } while (pageToken !== '');
      expect(ids.size).toBe(200);
    });

    test('a page size of 2^31 - 1 is read as the greatest', async () => {
      expect((await client.list({ pageSize: 2 ** 31 - 1 }, owner)).count).toBe(count);
    });

    describe('bad input', () => {
      const page = () => client.list({ pageSize: 3 }, owner);
      test.each<[string, () => Promise<unknown>, reason: string, fields: string[]]>([
        ['a page size of -1', () => client.list({ pageSize: -1 }, owner), 'INVALID_ARGUMENT', ['page_size']],
        ['an unknown key', () => client.list({ query: 'colour:red' }, owner), 'INVALID_QUERY', ['colour']],
        ['a bad status', () => client.list({ query: 'status:odd' }, owner), 'INVALID_QUERY', ['status']],
        ['a query of 10 kB', () => client.list({ query: 'x'.repeat(10_000) }, owner), 'INVALID_QUERY', ['query']],
        ['an unknown order', () => client.list({ orderBy: 'size' }, owner), 'INVALID_ARGUMENT', ['order_by']],
        [
          'an id that is no UUID',
          () => client.get({ identifier: { case: 'id', value: 'x' } }, owner),
          'INVALID_ARGUMENT',
          ['id'],
        ],
        [
          'a token of another query',
          async () => client.list({ query: 'status:failed', pageToken: (await page()).nextPageToken }, owner),
          'PAGE_TOKEN_INVALID',
          ['page_token'],
        ],
        [
          'a token of another caller',
          async () => client.list({ pageToken: (await page()).nextPageToken }, siteOwner),
          'PAGE_TOKEN_INVALID',
          ['page_token'],
        ],
        [
          'an edited token',
          async () => client.list({ pageToken: `${(await page()).nextPageToken.slice(0, -2)}AA` }, owner),
          'PAGE_TOKEN_INVALID',
          ['page_token'],
        ],
        [
          'a token from before a change of format',
          async () => {
            const bytes = Buffer.from((await page()).nextPageToken, 'base64url');
            bytes[0] = 0;
            return client.list({ pageToken: bytes.toString('base64url') }, owner);
          },
          'PAGE_TOKEN_INVALID',
          ['page_token'],
        ],
      ])('%s', async (_case, attempt, reason, fields) => {
        expect(await refusal(attempt())).toEqual({ code: 'InvalidArgument', reason, fields });
      });

      test.each<[string, () => string | undefined]>([
        ['no session token', () => undefined],
        ['an empty one', () => ''],
        ['half of one', () => owner.slice(0, 16)],
        ['an unknown one', () => `AAAAAAAAAA-${'B'.repeat(22)}`],
        ['a wrong secret', () => `${owner.slice(0, 11)}${'B'.repeat(22)}`],
        ['one of a suspended user', () => suspended],
      ])('%s', async (_case, token) => {
        expect(await refusal(client.list({}, token()))).toMatchObject({ code: 'Unauthenticated', reason: 'UNAUTHENTICATED' });
      });
    });
  });

  test.each([
    ['a query of 60 kB, which is too long', 60_000, Code.InvalidArgument],
    ['a request of 100 kB, which is too large', 100_000, Code.ResourceExhausted],
  ])('%s, is refused by gRPC and Connect', async (_, length, code) => {
    for (const client of [
      grpcClient(service.grpc),
      connectClient(createConnectTransport({ baseUrl: `http://${service.web}`, httpVersion: '1.1' })),
    ]) {
      const error = await client.list({ query: 'x'.repeat(length) }, owner).catch((thrown: unknown) => ConnectError.from(thrown));
      expect(error).toMatchObject({ code });
      client.close();
    }
  });

  test('no token and no prompt is in the log', () => {
    const text = service.output();
    expect(text).toContain('ListTasks');
    for (const secret of [owner, member, siteOwner, owner.slice(11)]) expect(text).not.toContain(secret);
    expect(text).not.toContain('pppp');
  });
});
