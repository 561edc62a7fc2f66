import { create, type Message } from '@bufbuild/protobuf';
import { Code, ConnectError } from '@connectrpc/connect';
import { pino } from 'pino';
import { Registry } from 'prom-client';
import { expect, test } from 'vitest';
import type { Authenticate } from '../../src/call/admission.ts';
import { createCallMetrics } from '../../src/call/call-metrics.ts';
import { createCalls } from '../../src/call/calls.ts';
import { canceled, deadlineExceeded } from '../../src/call/errors.ts';
import { authenticatingLimits, maxReceivingCalls, openCallLimits, stalledAfterMs } from '../../src/call/limits.ts';
import { type ServerStreamingMethod, serverStreaming, type UnaryMethod, unary } from '../../src/call/method.ts';
import { networkOf } from '../../src/call/network.ts';
import type { CallInfo, ServerCall } from '../../src/call/server-call.ts';
import { Health, HealthCheckResponseSchema } from '../../src/gen/grpc/health/v1/health_pb.ts';
import {
  ListTasksRequestSchema,
  ListTasksResponseSchema,
  TasksService,
  WatchTasksResponseSchema,
} from '../../src/gen/tasks/v1/tasks_pb.ts';
import { testCaller } from '../support/test-server.ts';

const info: CallInfo = { protocol: 'grpc', peer: 'peer', address: 'peer', connection: 'peer', header: () => undefined };
const request = create(ListTasksRequestSchema);
const response = create(ListTasksResponseSchema);

function makeCalls(authenticate: Authenticate = () => testCaller) {
  const lines: Record<string, unknown>[] = [];
  const registry = new Registry();
  const calls = createCalls({
    authenticate,
    log: pino({ level: 'debug', base: null }, { write: (line) => void lines.push(JSON.parse(line) as Record<string, unknown>) }),
    metrics: createCallMetrics(registry),
  });
  const list = unary(TasksService.method.listTasks, () => Promise.resolve(response)) as UnaryMethod;
  return { calls, list, begin: calls.register(list), lines, registry };
}

/** Takes a unary call from its headers to its end, as a transport does. */
async function answer(call: ServerCall, method: UnaryMethod, read: () => Message = () => request): Promise<unknown> {
  await call.admit(() => {});
  return call.unary(() => method.handle(read(), call));
}

async function codeOf(call: Promise<unknown>): Promise<string> {
  const error: unknown = await call.then(
    () => 'OK',
    (reason: unknown) => reason,
  );
  return error instanceof ConnectError ? (Code[error.code] ?? '') : String(error);
}

test('the request is read after the caller is known, and not when the caller is refused', async () => {
  const order: string[] = [];
  const { begin, list } = makeCalls(() => {
    order.push('authenticate');
    return Promise.reject(new ConnectError('no', Code.Unauthenticated));
  });
  const read = (): Message => {
    order.push('read');
    return request;
  };
  expect(await codeOf(answer(begin(info), list, read))).toBe('Unauthenticated');
  expect(order).toEqual(['authenticate']);
});

test('a call whose client is gone before the caller is known goes no further', async () => {
  const known = Promise.withResolvers<typeof testCaller>();
  const { begin, list, lines, calls } = makeCalls(() => known.promise);
  const call = begin(info);
  let read = false;
  const answered = answer(call, list, () => {
    read = true;
    return request;
  });
  call.abort(canceled);
  expect(await codeOf(answered)).toBe('Canceled');
  known.resolve(testCaller);
  await new Promise(setImmediate);
  expect(read).toBe(false);
  expect(lines.length).toBe(1);
  expect(calls.running).toBe(0);
});

test('a call that ends while its request is on the way is told, logged and counted once', async () => {
  const { begin, lines, registry, calls } = makeCalls();
  const call = begin(info);
  const told: string[] = [];
  await call.admit(({ code }) => void told.push(Code[code]));
  call.abort(deadlineExceeded);
  call.abort(canceled);
  expect(told).toEqual(['DeadlineExceeded']);
  expect(lines.map(({ code }) => code)).toEqual(['DEADLINE_EXCEEDED']);
  expect(calls.running).toBe(0);
  expect(await codeOf(call.unary(() => Promise.resolve(1)))).toBe('DeadlineExceeded');
  expect(lines.length).toBe(1);
  expect(await registry.getSingleMetricAsString('grpc_server_handled_total')).toMatch(
    /ListTasks",grpc_code="DeadlineExceeded"} 1$/m,
  );
});

test('what happens after the end of a call changes nothing', async () => {
  const { begin, list, lines, registry, calls } = makeCalls();
  const call = begin(info);
  await answer(call, list);
  call.abort(canceled);
  expect(call.signal.aborted).toBe(false);
  expect(lines.map(({ code }) => code)).toEqual(['OK']);
  expect(calls.running).toBe(0);
  expect(await registry.getSingleMetricAsString('grpc_server_handled_total')).toMatch(/ListTasks",grpc_code="Canceled"} 0$/m);
});

test('while the server stops calls are refused, health checks are answered, and streams end', async () => {
  let asked = 0;
  const { calls, begin, list } = makeCalls(() => {
    asked += 1;
    return Promise.resolve(testCaller);
  });
  const watch = serverStreaming(TasksService.method.watchTasks, async function* (_request, { signal }) {
    yield* [];
    await new Promise((_, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason as Error));
    });
  }) as ServerStreamingMethod;
  const watching = calls.register(watch)(info);
  await watching.admit(() => {});
  const next = watching.stream(() => watch.handle(request, watching)).next();
  await new Promise(setImmediate);

  const release = Promise.withResolvers<typeof response>();
  const slow = unary(TasksService.method.listTasks, () => release.promise) as UnaryMethod;
  const running = answer(calls.register(slow)(info), slow);
  await new Promise(setImmediate);
  let idle = false;
  const drained = calls.drain().then(() => {
    idle = true;
  });

  expect(await codeOf(next)).toBe('Unavailable');
  asked = 0;
  expect(await codeOf(answer(begin(info), list))).toBe('Unavailable');
  expect(asked).toBe(0);
  const check = unary(Health.method.check, () => Promise.resolve(create(HealthCheckResponseSchema))) as UnaryMethod;
  expect(await codeOf(answer(calls.register(check)(info), check))).toBe('OK');
  expect([idle, calls.running]).toEqual([false, 1]);
  release.resolve(response);
  expect(await codeOf(running)).toBe('OK');
  await drained;
});

test('a consumer that stops in the middle of a stream ends its handler', async () => {
  const { calls, lines } = makeCalls();
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
  const call = calls.register(watch)(info);
  await call.admit(() => {});
  let seen = 0;
  for await (const _ of call.stream(() => watch.handle(request, call))) if (++seen === 3) break;
  await new Promise(setImmediate);
  expect(ended).toBe(true);
  expect(lines.map(({ code }) => code)).toEqual(['CANCELLED']);
});

test('where too many requests are on the way, one that stalls makes room, and new ones are refused as long as none does', async () => {
  const { begin, calls } = makeCalls();
  const ends: string[] = [];
  const send = (): Promise<void> => begin(info).admit(({ code }) => void ends.push(Code[code]));
  await Promise.all(Array.from({ length: maxReceivingCalls }, send));
  expect(await codeOf(send())).toBe('Unavailable');
  expect(ends).toEqual([]);
  await new Promise((resolve) => {
    setTimeout(resolve, stalledAfterMs);
  });
  expect(await codeOf(send())).toBe('OK');
  expect(ends).toEqual(['Unavailable']);
  expect(calls.running).toBe(maxReceivingCalls);
});

test('a connection has a few streams of services without a token, and gets others when these end', async () => {
  const { calls } = makeCalls();
  const watch = calls.register({ kind: 'server_streaming', desc: Health.method.watch });
  const open = async (connection: string): Promise<ServerCall> => {
    const call = watch({ ...info, connection });
    await call.admit(() => {});
    return call;
  };
  const [first] = await Promise.all(Array.from({ length: openCallLimits.streamsPerConnection }, () => open('a')));
  expect(await codeOf(open('a'))).toBe('ResourceExhausted');
  expect(await codeOf(open('b'))).toBe('OK');
  first?.abort(canceled);
  expect(await codeOf(open('a'))).toBe('OK');
  expect(await codeOf(open('a'))).toBe('ResourceExhausted');
});

test('calls whose caller is not known yet are limited by network, and take nothing from callers who are remembered', async () => {
  const asked = Promise.withResolvers<typeof testCaller>();
  const authenticate: Authenticate = (header) => (header('token') === 'remembered' ? testCaller : asked.promise);
  const { begin, list, calls } = makeCalls(authenticate);
  const send = (address: string, token?: string): Promise<unknown> =>
    answer(begin({ ...info, address, header: (name) => (name === 'token' ? token : undefined) }), list);
  // Addresses of one network.
  const waiting = Array.from({ length: authenticatingLimits.perNetwork }, (_, i) => send(`2001:db8::${i.toString(16)}`));
  expect(await codeOf(send('2001:db8:0:0:ffff::1'))).toBe('Unavailable');
  const rest = authenticatingLimits.total - authenticatingLimits.perNetwork;
  waiting.push(...Array.from({ length: rest }, () => send('10.0.0.1')));
  expect(await codeOf(send('10.0.1.1'))).toBe('Unavailable');
  expect(await codeOf(send('10.0.1.1', 'remembered'))).toBe('OK');
  asked.resolve(testCaller);
  await Promise.all(waiting);
  expect(await codeOf(send('10.0.1.1'))).toBe('OK');
  expect(calls.running).toBe(0);
});

test('a call that was given up while its caller was looked for uses up no allowance', async () => {
  const known = Promise.withResolvers<typeof testCaller>();
  const taken: string[] = [];
  const calls = createCalls({
    authenticate: () => known.promise,
    rateLimitOf: () => ({ take: (_user, method) => void taken.push(method) }),
    log: pino({ level: 'silent' }),
    metrics: createCallMetrics(new Registry()),
  });
  const list = unary(TasksService.method.listTasks, () => Promise.resolve(response)) as UnaryMethod;
  const begin = calls.register(list);
  const [givenUp, kept] = [begin(info), begin(info)];
  const answers = Promise.all([codeOf(answer(givenUp, list)), codeOf(answer(kept, list))]);
  givenUp.abort(canceled);
  known.resolve(testCaller);
  expect(await answers).toEqual(['Canceled', 'OK']);
  expect(taken.length).toBe(1);
});

test.each([
  ['192.0.2.7', '192.0.2.7'],
  ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2'],
  ['2001:db8:1:2::6', '2001:db8:1:2'],
  ['2001:db8::1', '2001:db8:0:0'],
  ['::1', '0:0:0:0'],
  ['fe80::1%eth0', 'fe80:0:0:0'],
  ['2001:0DB8:0001:0002::', '2001:db8:1:2'],
  ['unknown', 'unknown'],
])('%s is counted with the network %s', (address, network) => {
  expect(networkOf(address)).toBe(network);
});
