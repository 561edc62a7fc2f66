import { readdirSync, readFileSync } from 'node:fs';
import { createClient } from '@connectrpc/connect';
import { createConnectTransport, createGrpcTransport, createGrpcWebTransport } from '@connectrpc/connect-node';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { createApiKeyRepository } from '../../src/auth/api-key-repository.ts';
import { formatUuid } from '../../src/db/uuid.ts';
import { TasksService } from '../../src/gen/tasks/v1/tasks_pb.ts';
import { wantsTraces } from '../../src/platform/tracing.ts';
import { createTestDatabase, describeOnOneEngine, type TestDatabase } from '../support/database.ts';
import { insertOrganization, insertUser } from '../support/people.ts';
import { type RunningService, startService } from '../support/service.ts';
import { insertRunningTask } from '../support/source-writer.ts';
import { type ReceivedSpan, TraceReceiver } from '../support/trace-receiver.ts';

/** What prints each package of OpenTelemetry that a program loads; but for its API, which prom-client loads. */
const tellLoads = `data:text/javascript,${encodeURIComponent(
  "import { registerHooks } from 'node:module'; registerHooks({ resolve(name, context, next) { if (/^@opentelemetry.(?!api)/.test(name)) console.log('LOADED', name); return next(name, context); } });",
)}`;

/** Where a trace of a client is. */
const parent = { traceId: '4bf92f3577b34da6a3ce929d0e0e4736', spanId: '00f067aa0ba902b7' };
const traceparent = `00-${parent.traceId}-${parent.spanId}-01`;

/** Kinds of spans, as the protocol numbers them. */
const kinds = { server: 2, client: 3, consumer: 5 };

describeOnOneEngine('traces', (engine) => {
  let testDatabase: TestDatabase;
  let receiver: TraceReceiver;
  let service: RunningService;
  let token: string;
  let userId: string;

  beforeAll(async () => {
    testDatabase = await createTestDatabase(engine);
    const { database, address } = testDatabase;
    const organization = await insertOrganization(database, 'home');
    const owner = await insertUser(database, { username: 'someone', memberships: [[organization]] });
    userId = formatUuid(owner);
    await insertRunningTask(database, { owner_id: owner, organization_id: organization, name: 'a-task' });
    token = (await createApiKeyRepository(database).create('someone', { lifetimeSeconds: 3600, name: 'test' })) ?? '';
    receiver = new TraceReceiver();
    service = await startService(address, {
      OTEL_EXPORTER_OTLP_ENDPOINT: await receiver.open(),
      OTEL_EXPORTER_OTLP_PROTOCOL: 'http/json',
      OTEL_RESOURCE_ATTRIBUTES: 'deployment.environment.name=test',
      OTEL_BSP_SCHEDULE_DELAY: '50',
      NODE_OPTIONS: `--import ${tellLoads}`,
      AUTH_CACHE_SECONDS: '0',
    });
    await vi.waitFor(async () => expect(await database('workspace_tasks').select('id')).toHaveLength(1), { timeout: 10_000 });
    await clients[0][2]().listTasks({}, { headers: headers('the-first') });
  });
  afterAll(async () => {
    expect(await service.stop()).toBe(0);
    receiver.close();
    await testDatabase.drop();
  });

  const until = (what: (span: ReceivedSpan) => boolean) => vi.waitUntil(() => receiver.spans.find(what), { timeout: 10_000 });
  const spanOf = (id: string) => until(({ attributes }) => attributes['tasks.request_id'] === id);
  const headers = (id: string, more = {}) => ({ 'coder-session-token': token, 'x-request-id': id, ...more });
  const web = () => ({ baseUrl: `http://${service.web}`, httpVersion: '1.1' as const });
  const clients = [
    ['grpc', 'grpc', () => createClient(TasksService, createGrpcTransport({ baseUrl: `http://${service.grpc}` }))],
    ['grpc-web', 'grpc', () => createClient(TasksService, createGrpcWebTransport(web()))],
    ['connect', 'connectrpc', () => createClient(TasksService, createConnectTransport(web()))],
  ] as const;

  test('the first call with a token also finds out whether there is such a token', async () => {
    const call = await spanOf('the-first');
    const children = receiver.spans.filter(({ parentSpanId }) => parentSpanId === call.spanId);
    const names = ['find_session', 'find_session_secrets', 'list_tasks'];
    expect(children.map(({ name }) => name).toSorted()).toEqual(names);
  });

  test.each(clients)(
    'a call over %s is a child of the span that its client names, and its statements are children of it',
    async (protocol, system, open) => {
      await open().listTasks({ query: 'name:a-task' }, { headers: headers(`of-${protocol}`, { traceparent }) });
      const call = await spanOf(`of-${protocol}`);
      expect(call).toMatchObject({
        name: 'tasks.v1.TasksService/ListTasks',
        kind: kinds.server,
        traceId: parent.traceId,
        parentSpanId: parent.spanId,
        failed: false,
        attributes: {
          'rpc.system.name': system,
          'rpc.method': 'tasks.v1.TasksService/ListTasks',
          'rpc.response.status_code': 'OK',
          'user.id': userId,
        },
        resource: {
          'service.name': 'tasks-service',
          'service.version': expect.any(String),
          'deployment.environment.name': 'test',
        },
      });
      expect(Number(call.attributes['tasks.rows'])).toBe(1);
      const children = receiver.spans.filter(({ parentSpanId }) => parentSpanId === call.spanId);
      expect(children.map(({ name, kind, traceId }) => `${name} ${kind} ${traceId}`).toSorted()).toEqual([
        `find_session ${kinds.client} ${parent.traceId}`,
        `list_tasks ${kinds.client} ${parent.traceId}`,
      ]);
      for (const child of children) {
        expect(child.attributes).toEqual({ 'db.system.name': 'mysql', 'db.query.summary': child.name });
        expect(child.milliseconds).toBeLessThanOrEqual(call.milliseconds);
      }
      const line = await vi.waitUntil(
        () =>
          service
            .output()
            .split('\n')
            .find((text) => text.includes(`"of-${protocol}"`) && text.endsWith('}')),
        { timeout: 10_000 },
      );
      expect(JSON.parse(line)).toMatchObject({ traceId: parent.traceId });
    },
  );

  test('a call without a trace begins one, an error says its reason, and only faults of ours are marked as such', async () => {
    const [, , open] = clients[0];
    await open()
      .getTask({ identifier: { case: 'id', value: userId } }, { headers: headers('absent') })
      .catch(() => {});
    const absent = await spanOf('absent');
    expect(absent.parentSpanId).toBeUndefined();
    expect(absent.traceId).not.toBe(parent.traceId);
    expect(absent).toMatchObject({
      failed: false,
      attributes: { 'rpc.response.status_code': 'NOT_FOUND', 'error.type': 'TASK_NOT_FOUND', 'tasks.rows': expect.anything() },
    });
    await fetch(`http://${service.web}/api/experimental/tasks/me`, { headers: headers('of-coder-json', { traceparent }) });
    expect(await spanOf('of-coder-json')).toMatchObject({ traceId: parent.traceId, attributes: { 'rpc.system.name': 'http' } });
  });

  test.each([
    ['not sampled', `00-${parent.traceId}-${parent.spanId}-00`],
    ['no traceparent', '00-xyz-1-01'],
  ])('a header that is %s is heeded', async (what, header) => {
    const [, , open] = clients[0];
    const id = what.replaceAll(' ', '-');
    await open().listTasks({}, { headers: headers(id, { traceparent: header }) });
    await open().listTasks({}, { headers: headers(`after-${id}`) });
    await spanOf(`after-${id}`);
    const span = receiver.spans.find(({ attributes }) => attributes['tasks.request_id'] === id);
    if (what === 'not sampled') expect(span).toBeUndefined();
    else expect(span).toMatchObject({ parentSpanId: undefined });
  });

  test('a batch of the projector is a span, and a health check is not', async () => {
    expect(await until(({ name }) => name === 'project changes')).toMatchObject({
      kind: kinds.consumer,
      attributes: { 'tasks.changes': expect.anything(), 'tasks.events': expect.anything() },
    });
    expect(receiver.spans.filter(({ name }) => name.startsWith('grpc.'))).toEqual([]);
  });

  test('no span holds a secret, a query or what a task says', () => {
    expect(receiver.spans.length).toBeGreaterThan(8);
    expect(receiver.text).not.toContain(token);
    expect(receiver.text).not.toContain(token.split('-')[1]);
    expect(receiver.text).not.toMatch(/name:a-task|a-task|select |mysql:\/\/|password|process\.command/);
  });

  test('without the variables no more of it is loaded than the API, by another library', async () => {
    expect(service.output()).toContain('LOADED @opentelemetry/');
    const plain = await startService(testDatabase.address, { NODE_OPTIONS: `--import ${tellLoads}`, PROJECTOR: 'false' });
    await createClient(TasksService, createGrpcTransport({ baseUrl: `http://${plain.grpc}` })).listTasks(
      {},
      { headers: headers('plain', { traceparent }) },
    );
    expect(await plain.stop()).toBe(0);
    expect(plain.output()).not.toContain('LOADED');
    expect(plain.output()).not.toContain('traceId');
  });
});

describe('traces are on', () => {
  test.each([
    [{}, false],
    [{ OTEL_EXPORTER_OTLP_ENDPOINT: 'http://collector:4318' }, true],
    [{ OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: 'http://collector:4318/v1/traces' }, true],
    [{ OTEL_EXPORTER_OTLP_ENDPOINT: '' }, false],
    [{ OTEL_TRACES_EXPORTER: 'console' }, true],
    [{ OTEL_EXPORTER_OTLP_ENDPOINT: 'http://collector:4318', OTEL_TRACES_EXPORTER: 'none' }, false],
    [{ OTEL_EXPORTER_OTLP_ENDPOINT: 'http://collector:4318', OTEL_SDK_DISABLED: 'true' }, false],
  ])('with %j: %s', (variables, on) => {
    expect(wantsTraces(variables)).toBe(on);
  });

  test('in one file alone', () => {
    const files = readdirSync('src', { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.ts'));
    const using = files.filter((file) => readFileSync(`src/${file}`, 'utf8').includes("from '@opentelemetry/"));
    expect(using).toEqual(['platform/open-telemetry.ts']);
  });
});
