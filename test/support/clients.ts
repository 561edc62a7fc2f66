import http from 'node:http';
import {
  create,
  type DescMessage,
  type DescMethod,
  type DescMethodBiDiStreaming,
  type DescMethodServerStreaming,
  type DescMethodUnary,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from '@bufbuild/protobuf';
import { type Code, ConnectError, createClient, type Transport } from '@connectrpc/connect';
import {
  createConnectTransport,
  createGrpcTransport,
  createGrpcWebTransport,
  Http2SessionManager,
} from '@connectrpc/connect-node';
import {
  createGrpcWebTransport as createBrowserGrpcWebTransport,
  createConnectTransport as createBrowserTransport,
} from '@connectrpc/connect-web';
import * as grpc from '@grpc/grpc-js';
import { StatusSchema } from '../../src/gen/google/rpc/status_pb.ts';
import { type ListTasksRequestSchema, type ListTasksResponse, TasksService } from '../../src/gen/tasks/v1/tasks_pb.ts';

/** What a call may be given beside its request. */
export interface CallOptions {
  readonly headers?: Readonly<Record<string, string>>;
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

/** An answer with the metadata that came with it. */
export interface Answer<T> {
  readonly message: T;
  readonly header: (name: string) => string | undefined;
}

/** A stock grpc-js client for methods of the generated code. Errors come as ConnectErrors with their details. */
export interface GrpcClient {
  unary<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: MessageInitShape<I>,
    options?: CallOptions,
  ): Promise<Answer<MessageShape<O>>>;
  /** Sends these bytes as they are. */
  bytes(method: DescMethod, request: Uint8Array, options?: CallOptions): Promise<Buffer>;
  serverStream<I extends DescMessage, O extends DescMessage>(
    method: DescMethodServerStreaming<I, O>,
    request: MessageInitShape<I>,
    options?: CallOptions,
  ): AsyncIterable<MessageShape<O>>;
  /** Sends all requests and then ends its side. */
  bidiStream<I extends DescMessage, O extends DescMessage>(
    method: DescMethodBiDiStreaming<I, O>,
    requests: readonly MessageInitShape<I>[],
    options?: CallOptions,
  ): AsyncIterable<MessageShape<O>>;
  close(): void;
}

/** Makes a grpc-js client for a `host:port`, without TLS unless there are credentials. */
export function makeGrpcClient(
  address: string,
  clientOptions: grpc.ClientOptions = {},
  credentials: grpc.ChannelCredentials = grpc.credentials.createInsecure(),
): GrpcClient {
  // A channel of its own, or clients of one address would share a connection.
  const client = new grpc.Client(address, credentials, {
    'grpc.use_local_subchannel_pool': 1,
    ...clientOptions,
  });
  const call = <I, O>(
    method: DescMethod,
    serialize: (request: I) => Buffer,
    parse: (bytes: Buffer) => O,
    request: I,
    options: CallOptions,
  ): Promise<Answer<O>> =>
    new Promise((resolve, reject) => {
      let headers = new grpc.Metadata();
      const running = client.makeUnaryRequest(
        pathOf(method),
        serialize,
        parse,
        request,
        metadataOf(options),
        deadlineOf(options),
        (error, message) => {
          if (error !== null) reject(toConnectError(error));
          else if (message === undefined) reject(new Error('neither an error nor an answer'));
          else resolve({ message, header: (name) => headers.get(name)[0]?.toString() });
        },
      );
      running.on('metadata', (metadata) => {
        headers = metadata;
      });
      options.signal?.addEventListener('abort', () => running.cancel());
    });

  return {
    unary: (method, request, options = {}) =>
      call(method, serializer(method.input), parser(method.output), create(method.input, request), options),

    bytes: async (method, request, options = {}) => {
      const asIs = (bytes: Buffer): Buffer => bytes;
      const { message } = await call(method, asIs, asIs, Buffer.from(request), options);
      return message;
    },

    async *serverStream(method, request, options = {}) {
      const running = client.makeServerStreamRequest(
        pathOf(method),
        serializer(method.input),
        parser(method.output),
        create(method.input, request),
        metadataOf(options),
        deadlineOf(options),
      );
      options.signal?.addEventListener('abort', () => running.cancel());
      yield* messagesOf(running);
    },

    async *bidiStream(method, requests, options = {}) {
      const running = client.makeBidiStreamRequest(
        pathOf(method),
        serializer(method.input),
        parser(method.output),
        metadataOf(options),
        deadlineOf(options),
      );
      for (const request of requests) running.write(create(method.input, request));
      running.end();
      yield* messagesOf(running);
    },

    close: () => client.close(),
  };
}

/** The error of a grpc-js call as a ConnectError, whose details `findDetails` can read. Its metadata is the call's. */
export function toConnectError(error: grpc.ServiceError): ConnectError {
  const headers = new Headers();
  for (const [name, value] of Object.entries(error.metadata.getMap())) {
    if (typeof value === 'string') headers.set(name, value);
  }
  const connectError = new ConnectError(error.details, error.code as number as Code, headers);
  const [bytes] = error.metadata.get('grpc-status-details-bin');
  if (Buffer.isBuffer(bytes)) {
    connectError.details = fromBinary(StatusSchema, bytes).details.map(({ typeUrl, value }) => ({
      type: typeUrl.slice(typeUrl.lastIndexOf('/') + 1),
      value,
    }));
  }
  return connectError;
}

async function* messagesOf<T>(running: AsyncIterable<T>): AsyncGenerator<T> {
  try {
    yield* running;
  } catch (error) {
    throw toConnectError(error as grpc.ServiceError);
  }
}

function serializer<D extends DescMessage>(desc: D): (message: MessageShape<D>) => Buffer {
  return (message) => Buffer.from(toBinary(desc, message));
}

function parser<D extends DescMessage>(desc: D): (bytes: Buffer) => MessageShape<D> {
  return (bytes) => fromBinary(desc, bytes);
}

function pathOf(method: DescMethod): string {
  return `/${method.parent.typeName}/${method.name}`;
}

function metadataOf({ headers = {} }: CallOptions): grpc.Metadata {
  const metadata = new grpc.Metadata();
  for (const [name, value] of Object.entries(headers)) metadata.set(name, value);
  return metadata;
}

function deadlineOf({ timeoutMs }: CallOptions): grpc.CallOptions {
  return timeoutMs === undefined ? {} : { deadline: Date.now() + timeoutMs };
}

/** Lists tasks, whatever it speaks. */
export interface ListClient {
  list(request: MessageInitShape<typeof ListTasksRequestSchema>, options?: CallOptions): Promise<Answer<ListTasksResponse>>;
  close(): void;
}

/** Where a server answers, each `host:port`. */
export interface Ports {
  readonly grpc: string;
  readonly web: string;
}

/** Every protocol the service is served by, over every version of HTTP, by clients that others wrote. */
export const listClients: readonly (readonly [name: string, open: (ports: Ports) => ListClient])[] = [
  ['gRPC, grpc-js', ({ grpc: port }) => grpcListClient(port)],
  ['gRPC, grpc-js on the web port', ({ web }) => grpcListClient(web)],
  ['gRPC, connect-node', ({ grpc: port }) => http2Client(port, (options) => createGrpcTransport(options))],
  ['gRPC, connect-node on the web port', ({ web }) => http2Client(web, (options) => createGrpcTransport(options))],
  ['gRPC-Web over HTTP/2', ({ web }) => http2Client(web, (options) => createGrpcWebTransport({ ...options, httpVersion: '2' }))],
  ['gRPC-Web over HTTP/1.1', ({ web }) => http1Client(web, (options) => createGrpcWebTransport(options))],
  ['Connect over HTTP/2', ({ web }) => http2Client(web, (options) => createConnectTransport({ ...options, httpVersion: '2' }))],
  ['Connect over HTTP/1.1', ({ web }) => http1Client(web, (options) => createConnectTransport(options))],
  ['Connect JSON', ({ web }) => http1Client(web, (options) => createConnectTransport({ ...options, useBinaryFormat: false }))],
  ['Connect GET', ({ web }) => http1Client(web, (options) => createConnectTransport({ ...options, useHttpGet: true }))],
  ['connect-web', ({ web }) => transportClient(createBrowserTransport({ baseUrl: `http://${web}` }), () => {})],
  ['connect-web, gRPC-Web', ({ web }) => transportClient(createBrowserGrpcWebTransport({ baseUrl: `http://${web}` }), () => {})],
];

function grpcListClient(address: string): ListClient {
  const client = makeGrpcClient(address);
  return { list: (request, options) => client.unary(TasksService.method.listTasks, request, options), close: client.close };
}

function http2Client(
  address: string,
  open: (options: { baseUrl: string; sessionManager: Http2SessionManager }) => Transport,
): ListClient {
  const baseUrl = `http://${address}`;
  const sessionManager = new Http2SessionManager(baseUrl);
  return transportClient(open({ baseUrl, sessionManager }), () => sessionManager.abort());
}

function http1Client(
  address: string,
  open: (options: { baseUrl: string; httpVersion: '1.1'; nodeOptions: { agent: http.Agent } }) => Transport,
): ListClient {
  const agent = new http.Agent({ keepAlive: true });
  return transportClient(open({ baseUrl: `http://${address}`, httpVersion: '1.1', nodeOptions: { agent } }), () =>
    agent.destroy(),
  );
}

function transportClient(transport: Transport, close: () => void): ListClient {
  const client = createClient(TasksService, transport);
  return {
    async list(request, options = {}) {
      let headers = new Headers();
      const message = await client.listTasks(request, {
        ...options,
        onHeader: (received) => {
          headers = received;
        },
      });
      return { message, header: (name) => headers.get(name) ?? undefined };
    },
    close,
  };
}
