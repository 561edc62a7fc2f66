import http from 'node:http';
import { connect as connectHttp2 } from 'node:http2';
import https from 'node:https';
import net from 'node:net';
import tls from 'node:tls';
import type { MessageInitShape } from '@bufbuild/protobuf';
import { createClient, type Transport } from '@connectrpc/connect';
import { createConnectTransport, createGrpcWebTransport, Http2SessionManager } from '@connectrpc/connect-node';
import {
  type GetTaskRequestSchema,
  type GetTaskResponse,
  type ListTasksRequestSchema,
  type ListTasksResponse,
  TasksService,
  type WatchTasksRequestSchema,
  type WatchTasksResponse,
} from '../../src/gen/tasks/v1/tasks_pb.ts';
import { type CallOptions, makeGrpcClient } from './clients.ts';
import { envelope } from './raw-call.ts';

/** A client of the service, whatever it speaks. */
export interface ServiceClient {
  list(request: MessageInitShape<typeof ListTasksRequestSchema>, options: CallOptions): Promise<ListTasksResponse>;
  get(request: MessageInitShape<typeof GetTaskRequestSchema>, options: CallOptions): Promise<GetTaskResponse>;
  watch(request: MessageInitShape<typeof WatchTasksRequestSchema>, options: CallOptions): AsyncIterable<WatchTasksResponse>;
  /** A header by which the service is told a deadline of 100 ms of which the client itself knows nothing. */
  readonly deadline: Readonly<Record<string, string>>;
  close(): void;
}

const deadlines = { connect: { 'connect-timeout-ms': '100' }, grpc: { 'grpc-timeout': '100m' } } as const;

/** How a client makes its connection: from which address, and with which authority for the certificate of the other end. */
export interface ConnectionOptions {
  readonly localAddress?: string;
  readonly ca?: Buffer;
}

/** Opens a client of Connect or gRPC-Web at a URL, over TLS if there is an authority. */
export function openWebClient(
  baseUrl: string,
  protocol: 'connect' | 'connect-get' | 'grpc-web',
  httpVersion: '1.1' | '2',
  connection: ConnectionOptions = {},
): ServiceClient {
  const agent =
    connection.ca === undefined ? new http.Agent({ keepAlive: true }) : new https.Agent({ keepAlive: true, ...connection });
  const sessionManager = new Http2SessionManager(baseUrl, {}, connection);
  const options =
    httpVersion === '2' ? { baseUrl, httpVersion, sessionManager } : { baseUrl, httpVersion, nodeOptions: { agent } };
  const transport: Transport =
    protocol === 'grpc-web'
      ? createGrpcWebTransport(options)
      : createConnectTransport({ ...options, useHttpGet: protocol === 'connect-get' });
  const client = createClient(TasksService, transport);
  return {
    list: (request, given) => client.listTasks(request, given),
    get: (request, given) => client.getTask(request, given),
    watch: (request, given) => client.watchTasks(request, given),
    deadline: protocol === 'grpc-web' ? deadlines.grpc : deadlines.connect,
    close() {
      agent.destroy();
      sessionManager.abort();
    },
  };
}

/** Opens a grpc-js client at a `host:port`. */
export function openGrpcClient(...at: Parameters<typeof makeGrpcClient>): ServiceClient {
  const client = makeGrpcClient(...at);
  const { listTasks, getTask, watchTasks } = TasksService.method;
  return {
    list: async (request, options) => (await client.unary(listTasks, request, options)).message,
    get: async (request, options) => (await client.unary(getTask, request, options)).message,
    watch: (request, options) => client.serverStream(watchTasks, request, options),
    deadline: deadlines.grpc,
    close: client.close,
  };
}

/** What a plain request has come back with. */
export interface PlainAnswer {
  readonly status: number;
  readonly headers: http.IncomingHttpHeaders;
  readonly body: string;
}

/** Asks over HTTP/1.1 at a port of this machine, from any of its addresses. */
export function ask(
  port: number,
  path: string,
  { from = '127.0.0.1', ...options }: http.RequestOptions & { readonly from?: string } = {},
  body = '',
): Promise<PlainAnswer> {
  return new Promise((resolve, reject) => {
    const request = http.request({ host: '127.0.0.1', port, path, localAddress: from, ...options }, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (chunk: string) => {
        text += chunk;
      });
      response.on('end', () => resolve({ status: response.statusCode ?? 0, headers: response.headers, body: text }));
    });
    request.on('error', reject);
    request.end(body);
  });
}

/** Makes an empty call over gRPC at a port of this machine, over TLS if there is an authority. @returns its status in gRPC. */
export function callByGrpc(
  port: number,
  path: string,
  headers: Readonly<Record<string, string>>,
  connection: ConnectionOptions,
): Promise<string> {
  const options = { host: '127.0.0.1', port, ...connection };
  const session = connectHttp2(`${connection.ca === undefined ? 'http' : 'https'}://127.0.0.1:${port}`, {
    createConnection: () =>
      connection.ca === undefined
        ? net.connect(options)
        : tls.connect({ ...options, servername: 'localhost', ALPNProtocols: ['h2'] }),
  });
  return new Promise((resolve, reject) => {
    session.on('error', reject);
    const stream = session.request({
      ':method': 'POST',
      ':path': path,
      'content-type': 'application/grpc',
      te: 'trailers',
      ...headers,
    });
    let status = '';
    const read = (received: Readonly<Record<string, unknown>>): void => {
      status = String(received['grpc-status'] ?? status);
    };
    stream.on('response', read);
    stream.on('trailers', read);
    stream.on('error', reject);
    stream.on('close', () => {
      session.destroy();
      resolve(status);
    });
    stream.resume();
    stream.end(envelope(new Uint8Array()));
  });
}
