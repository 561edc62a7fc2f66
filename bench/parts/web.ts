import { create, equals, toBinary, toJsonString } from '@bufbuild/protobuf';
import { createClient, type Transport } from '@connectrpc/connect';
import { createConnectTransport, createGrpcTransport, createGrpcWebTransport } from '@connectrpc/connect-node';
import { ListTasksRequestSchema, ListTasksResponseSchema, TasksService } from '../../src/gen/tasks/v1/tasks_pb.ts';
import { type Bench, type Contestant, type Table, takeTurns } from '../bench.ts';
import { grpcFrame, methodPath, openClient } from '../client.ts';
import type { Load } from '../load.ts';
import { median } from '../statistics.ts';

const { listTasks } = TasksService.method;
const path = methodPath(listTasks);
const request = create(ListTasksRequestSchema, { pageSize: 25 }); // as by default, but h2load sends no empty body

/** A protocol by which the default page is requested. */
interface Way {
  readonly name: string;
  readonly path?: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: Uint8Array;
  readonly http1?: true;
  readonly status?: number;
  /** The library's client of that protocol, which decodes the answers that h2load only counts. */
  readonly transport: (baseUrl: string) => Transport;
}

const json = new TextEncoder().encode(toJsonString(ListTasksRequestSchema, request));
const binary = toBinary(ListTasksRequestSchema, request);
const get = `${path}?connect=v1&encoding=json&message=${encodeURIComponent(toJsonString(ListTasksRequestSchema, request))}`;
const grpc = { 'content-type': 'application/grpc', te: 'trailers' };
const connect = (options: { readonly binary?: true; readonly http2?: true; readonly get?: true }) => (baseUrl: string) =>
  createConnectTransport({
    baseUrl,
    httpVersion: options.http2 === true ? '2' : '1.1',
    useBinaryFormat: options.binary === true,
    useHttpGet: options.get === true,
  });

const ways: readonly Way[] = [
  {
    name: 'gRPC, HTTP/2',
    headers: grpc,
    body: grpcFrame(listTasks, request),
    transport: (baseUrl) => createGrpcTransport({ baseUrl }),
  },
  {
    name: 'gRPC-Web, HTTP/1.1',
    headers: { 'content-type': 'application/grpc-web+proto' },
    body: grpcFrame(listTasks, request),
    http1: true,
    transport: (baseUrl) => createGrpcWebTransport({ baseUrl, httpVersion: '1.1' }),
  },
  {
    name: 'Connect binary, HTTP/1.1',
    headers: { 'content-type': 'application/proto' },
    body: binary,
    http1: true,
    transport: connect({ binary: true }),
  },
  {
    name: 'Connect JSON, HTTP/1.1',
    headers: { 'content-type': 'application/json' },
    body: json,
    http1: true,
    transport: connect({}),
  },
  {
    name: 'Connect JSON, HTTP/2',
    headers: { 'content-type': 'application/json' },
    body: json,
    transport: connect({ http2: true }),
  },
  { name: 'Connect GET, HTTP/1.1', path: get, headers: {}, http1: true, transport: connect({ get: true }) },
  {
    name: 'Connect GET, unchanged, HTTP/1.1',
    path: get,
    headers: { 'if-none-match': '*' },
    http1: true,
    status: 304,
    transport: connect({ get: true }),
  },
];

/** Measures the default page over every protocol of the web port, compared with the gRPC port. */
export async function web(bench: Bench): Promise<readonly Table[]> {
  const size = bench.sizes[Math.min(1, bench.sizes.length - 1)] ?? 0;
  const data = await bench.dataSet(size);
  const program = await bench.ours(size);
  const host = program.ports.web ?? '';
  const token = data.tokens.ordinary;
  await verify(program.ports.grpc, host, token);

  const contestants: Contestant[] = [];
  const loads: [string, Omit<Load, 'requests'>, number][] = [
    [
      'gRPC, HTTP/2, on the gRPC port',
      loadOf(program.ports.grpc, token, { headers: grpc, body: grpcFrame(listTasks, request) }),
      200,
    ],
    ...ways.map((way): [string, Omit<Load, 'requests'>, number] => [way.name, loadOf(host, token, way), way.status ?? 200]),
  ];
  for (const [name, load, status] of loads) {
    const { bodyBytes } = await bench.load({ ...load, connections: 1, streams: 1, requests: 1 });
    contestants.push({ name, program, load, status, bytes: bodyBytes });
  }
  const results = await takeTurns(bench, contestants, bench.quick ? 2 : 5, bench.quick ? 0.4 : 1);
  const reference = results[0] ?? [];
  return [
    {
      title: `ListTasks(25) over the protocols of the web port, ${size.toLocaleString('en')} tasks, 32 calls under way`,
      rows: contestants.map(({ name, bytes }, index) => {
        const rounds = results[index] ?? [];
        return {
          protocol: name,
          'calls/s': Math.round(median(rounds.map(({ callsPerSecond }) => callsPerSecond))),
          'p50 ms': median(rounds.map(({ p50Ms }) => p50Ms)),
          'p99 ms': median(rounds.map(({ p99Ms }) => p99Ms)),
          'CPU ms/call': median(rounds.map(({ cpuMsPerCall }) => cpuMsPerCall)),
          'bytes/call': bytes ?? Number.NaN,
          'of the gRPC port': median(
            rounds.map(({ callsPerSecond }, round) => callsPerSecond / (reference[round]?.callsPerSecond ?? Number.NaN)),
          ),
        };
      }),
    },
  ];
}

/** 32 calls at a time: HTTP/1.1 has one per connection. */
function loadOf(host: string, token: string, way: Pick<Way, 'path' | 'headers' | 'body' | 'http1'>): Omit<Load, 'requests'> {
  const headers = { 'coder-session-token': token, ...way.headers };
  const [connections, streams] = way.http1 === true ? [32, 1] : [4, 8];
  return {
    host,
    path: way.path ?? path,
    headers,
    connections,
    streams,
    http1: way.http1 === true,
    ...(way.body === undefined ? {} : { body: way.body }),
  };
}

/** Checks that all protocols give the answer of the gRPC port. */
async function verify(grpcHost: string, webHost: string, token: string): Promise<void> {
  const client = openClient(grpcHost, token);
  const expected = await client.listTasks(request);
  client.close();
  for (const { name, transport } of ways) {
    const answer = await createClient(TasksService, transport(`http://${webHost}`)).listTasks(request, {
      headers: { 'coder-session-token': token },
    });
    if (!equals(ListTasksResponseSchema, answer, expected)) throw new Error(`${name} has answered otherwise than gRPC`);
  }
}
