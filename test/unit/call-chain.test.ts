import { create, type Message } from '@bufbuild/protobuf';
import { Code, ConnectError } from '@connectrpc/connect';
import { pino } from 'pino';
import { Registry } from 'prom-client';
import { expect, test } from 'vitest';
import type { Authenticate } from '../../src/auth/authenticate.ts';
import { createCallChain, type Incoming } from '../../src/call/call-chain.ts';
import { createCallMetrics } from '../../src/call/call-metrics.ts';
import { canceled, deadlineExceeded } from '../../src/call/errors.ts';
import { type ServerStreamingMethod, serverStreaming, type UnaryMethod, unary } from '../../src/call/method.ts';
import { Health, HealthCheckResponseSchema } from '../../src/gen/grpc/health/v1/health_pb.ts';
import {
  ListTasksRequestSchema,
  ListTasksResponseSchema,
  TasksService,
  WatchTasksResponseSchema,
} from '../../src/gen/tasks/v1/tasks_pb.ts';
import { testCaller } from '../support/test-server.ts';

const incoming: Incoming = { protocol: 'grpc', peer: 'peer', header: () => undefined };
const request = create(ListTasksRequestSchema);
const response = create(ListTasksResponseSchema);

function makeChain(authenticate: Authenticate = () => Promise.resolve(testCaller)) {
  const lines: Record<string, unknown>[] = [];
  const registry = new Registry();
  const chain = createCallChain({
    authenticate,
    log: pino({ level: 'debug', base: null }, { write: (line) => void lines.push(JSON.parse(line) as Record<string, unknown>) }),
    metrics: createCallMetrics(registry),
  });
  const list = unary(TasksService.method.listTasks, () => Promise.resolve(response)) as UnaryMethod;
  return { chain, list, lines, registry };
}

const asIs = (message: Message): Message => message;

async function codeOf(call: Promise<unknown>): Promise<string> {
  const error: unknown = await call.then(
    () => 'OK',
    (reason: unknown) => reason,
  );
  return error instanceof ConnectError ? (Code[error.code] ?? '') : String(error);
}

test('the request is read after the caller is known, and not when the caller is refused', async () => {
  const order: string[] = [];
  const { chain, list } = makeChain(() => {
    order.push('authenticate');
    return Promise.reject(new ConnectError('no', Code.Unauthenticated));
  });
  const read = (): Message => {
    order.push('read');
    return request;
  };
  expect(await codeOf(chain.route(list).begin(incoming).unary(list, read, asIs))).toBe('Unauthenticated');
  expect(order).toEqual(['authenticate']);
});

test('a call whose client is gone before the caller is known goes no further', async () => {
  const known = Promise.withResolvers<typeof testCaller>();
  const { chain, list, lines } = makeChain(() => known.promise);
  const call = chain.route(list).begin(incoming);
  let read = false;
  const answer = call.unary(
    list,
    () => {
      read = true;
      return request;
    },
    asIs,
  );
  call.abort(canceled);
  expect(await codeOf(answer)).toBe('Canceled');
  known.resolve(testCaller);
  await new Promise(setImmediate);
  expect(read).toBe(false);
  expect(lines.length).toBe(1);
});

test('a call that is refused before its request is there is told and logged once', async () => {
  const { chain, list, lines, registry } = makeChain(() => Promise.reject(new Error('asked')));
  const call = chain.route(list).begin(incoming);
  expect(Code[call.refuse(deadlineExceeded()).code]).toBe('DeadlineExceeded');
  call.abort(canceled);
  expect(call.ended).toBe(true);
  expect(lines.map(({ code }) => code)).toEqual(['DEADLINE_EXCEEDED']);
  expect(chain.running).toBe(0);
  expect(await registry.getSingleMetricAsString('grpc_server_handled_total')).toMatch(
    /ListTasks",grpc_code="DeadlineExceeded"} 1$/m,
  );
});

test('what happens after the end of a call changes nothing', async () => {
  const { chain, list, lines, registry } = makeChain();
  const call = chain.route(list).begin(incoming);
  await call.unary(list, () => request, asIs);
  call.abort(canceled);
  expect(call.signal.aborted).toBe(false);
  expect(lines.map(({ code }) => code)).toEqual(['OK']);
  expect(chain.running).toBe(0);
  expect(await registry.getSingleMetricAsString('grpc_server_handled_total')).toMatch(/ListTasks",grpc_code="Canceled"} 0$/m);
});

test('while the server stops calls are refused, health checks are answered, and streams end', async () => {
  let asked = 0;
  const { chain, list } = makeChain(() => {
    asked += 1;
    return Promise.resolve(testCaller);
  });
  const watch = serverStreaming(TasksService.method.watchTasks, async function* (_request, { signal }) {
    yield* [];
    await new Promise((_, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason as Error));
    });
  }) as ServerStreamingMethod;
  const stream = chain
    .route(watch)
    .begin(incoming)
    .stream(watch, () => request);
  const next = stream.next();
  await new Promise(setImmediate);

  const release = Promise.withResolvers<typeof response>();
  const slow = unary(TasksService.method.listTasks, () => release.promise) as UnaryMethod;
  const running = chain
    .route(slow)
    .begin(incoming)
    .unary(slow, () => request, asIs);
  await new Promise(setImmediate);
  let idle = false;
  const drained = chain.drain().then(() => {
    idle = true;
  });

  expect(await codeOf(next)).toBe('Unavailable');
  asked = 0;
  expect(
    await codeOf(
      chain
        .route(list)
        .begin(incoming)
        .unary(list, () => request, asIs),
    ),
  ).toBe('Unavailable');
  expect(asked).toBe(0);
  const check = unary(Health.method.check, () => Promise.resolve(create(HealthCheckResponseSchema))) as UnaryMethod;
  expect(
    await codeOf(
      chain
        .route(check)
        .begin(incoming)
        .unary(check, () => request, asIs),
    ),
  ).toBe('OK');
  expect([idle, chain.running]).toEqual([false, 1]);
  release.resolve(response);
  expect(await codeOf(running)).toBe('OK');
  await drained;
});

test('a consumer that stops in the middle of a stream ends its handler', async () => {
  const { chain, lines } = makeChain();
  let ended = false;
  const watch = serverStreaming(TasksService.method.watchTasks, async function* (_request, { signal }) {
    try {
      for (;;) {
        yield create(WatchTasksResponseSchema);
        await new Promise((resolve) => {
          setImmediate(resolve);
        });
        signal.throwIfAborted();
      }
    } finally {
      ended = true;
    }
  }) as ServerStreamingMethod;
  let seen = 0;
  for await (const _ of chain
    .route(watch)
    .begin(incoming)
    .stream(watch, () => request))
    if (++seen === 3) break;
  await new Promise(setImmediate);
  expect(ended).toBe(true);
  expect(lines.map(({ code }) => code)).toEqual(['CANCELLED']);
});
