import { Code, ConnectError, createClient } from '@connectrpc/connect';
import { createConnectTransport } from '@connectrpc/connect-node';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Health, HealthCheckResponse_ServingStatus as ServingStatus } from '../../src/gen/grpc/health/v1/health_pb.ts';
import { type GrpcClient, makeGrpcClient } from '../support/clients.ts';
import { startTestServer, type TestServer, until } from '../support/test-server.ts';

const service = 'tasks.v1.TasksService';
const { check, watch, list } = Health.method;

let server: TestServer;
let database: string;
const clients: GrpcClient[] = [];

beforeEach(async () => {
  database = '';
  server = await startTestServer({
    readiness: {
      database: () => (database === '' ? Promise.resolve() : Promise.reject(new Error(database))),
    },
  });
});

afterEach(async () => {
  for (const client of clients.splice(0)) client.close();
  await server.stop();
});

function clientOf(address: string): GrpcClient {
  const client = makeGrpcClient(address);
  clients.push(client);
  return client;
}

/** Watches a service, and collects what is told and how it ends. */
function watching(
  client: GrpcClient,
  name: string,
  signal = new AbortController().signal,
): { told: string[]; ended: () => string | undefined } {
  const told: string[] = [];
  let end: string | undefined;
  void (async () => {
    try {
      for await (const { status } of client.serverStream(watch, { service: name }, { signal })) told.push(nameOf(status));
      end = 'OK';
    } catch (error) {
      end = error instanceof ConnectError ? (Code[error.code] ?? '') : String(error);
    }
  })();
  return { told, ended: () => end };
}

function nameOf(status: number): string {
  return Object.entries(ServingStatus).find(([, value]) => value === status)?.[0] ?? '';
}

describe.each(['grpc', 'web'] as const)('on the port %s', (port) => {
  test('Check and List answer without a token', async () => {
    const client = clientOf(server[port]);
    for (const name of ['', service]) {
      const { message } = await client.unary(check, { service: name });
      expect(nameOf(message.status)).toBe('SERVING');
    }
    const { message } = await client.unary(list, {});
    expect(Object.fromEntries(Object.entries(message.statuses).map(([name, { status }]) => [name, nameOf(status)]))).toEqual({
      '': 'SERVING',
      [service]: 'SERVING',
    });
  });

  test.each(['no.such.Service', 'tasks.v1', 'TASKS.V1.TASKSSERVICE', '*'])('Check of %s is NOT_FOUND', async (name) => {
    const error = await clientOf(server[port])
      .unary(check, { service: name })
      .catch((reason: unknown) => reason);
    expect(error).toMatchObject({ code: Code.NotFound });
  });

  test('Watch of an unknown service says so and stays', async () => {
    const { told, ended } = watching(clientOf(server[port]), 'no.such.Service');
    await until('answer', () => told.length > 0);
    expect([told, ended()]).toEqual([['SERVICE_UNKNOWN'], undefined]);
  });

  test('Watch tells each change, and that the server stops', async () => {
    const client = clientOf(server[port]);
    const named = watching(client, service);
    const whole = watching(client, '');
    await until('first answers', () => named.told.length === 1 && whole.told.length === 1);
    database = 'away';
    await until('change', () => named.told.length === 2);
    database = '';
    await until('change back', () => named.told.length === 3);
    const stopping = performance.now();
    await server.stop();
    expect(performance.now() - stopping).toBeLessThan(1000);
    await until('end', () => named.ended() !== undefined && whole.ended() !== undefined);
    expect(named).toMatchObject({ told: ['SERVING', 'NOT_SERVING', 'SERVING', 'NOT_SERVING'] });
    expect(whole).toMatchObject({ told: ['SERVING', 'NOT_SERVING'] });
    expect([named.ended(), whole.ended()]).toEqual(['Unavailable', 'Unavailable']);
  });
});

test('a service whose database is away is not serving, while the process is', async () => {
  await server.stop();
  server = await startTestServer({ readiness: { database: () => Promise.reject(new Error('away')) } });
  const client = clientOf(server.grpc);
  expect(nameOf((await client.unary(check, { service })).message.status)).toBe('NOT_SERVING');
  expect(nameOf((await client.unary(check, { service: '' })).message.status)).toBe('SERVING');
});

test('Check answers over Connect, too', async () => {
  const client = createClient(Health, createConnectTransport({ baseUrl: `http://${server.web}`, httpVersion: '1.1' }));
  expect(nameOf((await client.check({ service })).status)).toBe('SERVING');
});

test('a client that leaves ends its watch, and probes are no news', async () => {
  const leaving = new AbortController();
  const { told } = watching(clientOf(server.grpc), service, leaving.signal);
  await until('answer', () => told.length > 0);
  leaving.abort();
  const line = await until('line in the log', () => server.log.find(({ method }) => method === 'grpc.health.v1.Health/Watch'));
  expect(line).toMatchObject({ code: 'CANCELLED', level: 'debug' });
});
