import { once } from 'node:events';
import { createServer, type Socket } from 'node:net';
import { create, fromBinary, type Message, toBinary } from '@bufbuild/protobuf';
import { anyPack } from '@bufbuild/protobuf/wkt';
import { ConnectError } from '@connectrpc/connect';
import * as grpc from '@grpc/grpc-js';
import { canceled, unreadableRequest } from '../errors.ts';
import { StatusSchema } from '../gen/google/rpc/status_pb.ts';
import type { CallChain, Incoming, Route, RunningCall } from './call-chain.ts';
import { sessionLimits } from './http2-sessions.ts';
import { maxRequestBytes, tcpKeepAlive } from './limits.ts';
import type { Listener } from './listener.ts';
import type { BidiStreamingMethod, Method, ServerStreamingMethod, UnaryMethod } from './method.ts';

const options: grpc.ServerOptions = {
  'grpc.max_receive_message_length': maxRequestBytes,
  // Pages end before 3 MiB by themselves; a larger single task shall reach clients that allow it.
  'grpc.max_send_message_length': -1,
  // Watching streams stay open, and a mesh may carry those of many clients on one connection. Beyond, calls wait at the client.
  'grpc.max_concurrent_streams': 1000,
  'grpc.max_connection_idle_ms': sessionLimits.idle,
  'grpc.max_connection_age_ms': sessionLimits.age,
  'grpc.max_connection_age_grace_ms': sessionLimits.ageGrace,
  // Its statistics would cost each call and nothing here serves them.
  'grpc.enable_channelz': 0,
};

/** gRPC over clear-text HTTP/2, by grpc-js. */
export function createGrpcListener(methods: readonly Method[], chain: CallChain): Listener {
  // The library prints metadata it cannot parse, which may be a mistyped token.
  if (process.env['GRPC_VERBOSITY'] === undefined) grpc.setLogVerbosity(grpc.logVerbosity.NONE);

  const server = new grpc.Server(options);
  allowCancellations(server);
  for (const method of methods) register(server, chain, method);

  // The port is our own, so that a busy one is told like those of the other listeners.
  const connections = server.createConnectionInjector(grpc.ServerCredentials.createInsecure());
  const sockets = new Set<Socket>();
  const port = createServer({ noDelay: true, ...tcpKeepAlive }, (socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
    socket.on('error', () => {}); // a client that hangs up; its calls learn it from the closed stream
    connections.injectConnection(socket);
  });

  return {
    port,

    async drain() {
      const closed = once(port, 'close');
      port.close();
      server.tryShutdown(() => {});
      await closed;
    },

    destroy() {
      for (const socket of sockets) socket.destroy();
    },
  };
}

/**
 * Node ends a connection after some 1,000 quickly canceled calls, 33 a second, as a guard against abuse. Behind a mesh one
 * connection carries the calls of many users, who all cancel when the database is slow. The library has no option for it.
 */
function allowCancellations(server: grpc.Server): void {
  const { commonServerOptions } = server as unknown as { commonServerOptions?: object };
  if (commonServerOptions !== undefined) Object.assign(commonServerOptions, { streamResetBurst: 10_000, streamResetRate: 1000 });
}

function register(server: grpc.Server, chain: CallChain, method: Method): void {
  const path = `/${method.desc.parent.typeName}/${method.desc.name}`;
  switch (method.kind) {
    case 'unary':
      server.register(path, serveUnary(chain.route(method)), asIs, asIs, 'unary');
      break;
    case 'server_streaming':
      server.register(path, serveServerStream(chain.route(method)), asIs, asIs, 'serverStream');
      break;
    case 'bidi_streaming':
      server.register(path, serveBidiStream(chain.route(method)), asIs, asIs, 'bidi');
      break;
  }
}

/** The library passes bytes on: messages are read and written in the call chain, where errors are ours. */
function asIs(bytes: Buffer): Buffer {
  return bytes;
}

function serveUnary(route: Route<UnaryMethod>): grpc.handleUnaryCall<Buffer, Buffer> {
  const { method } = route;
  const write = (response: Message): Buffer => encode(method, response);
  return (call, callback) => {
    const running = begin(route, call);
    running
      .unary(method, () => decode(method, call.request), write)
      .then(
        (bytes) => {
          call.sendMetadata(requestIdOf(running));
          callback(null, bytes);
        },
        (error: unknown) => callback(statusOf(error, running)),
      );
  };
}

function serveServerStream(route: Route<ServerStreamingMethod>): grpc.handleServerStreamingCall<Buffer, Buffer> {
  const { method } = route;
  return (call) => serveStream(route, call, () => decode(method, call.request));
}

function serveBidiStream(route: Route<BidiStreamingMethod>): grpc.handleBidiStreamingCall<Buffer, Buffer> {
  const { method } = route;
  return (call) => serveStream(route, call, () => decodeAll(method, call));
}

function serveStream(
  route: Route<ServerStreamingMethod | BidiStreamingMethod>,
  call: AnyCall & WritableCall,
  read: Parameters<RunningCall['stream']>[1],
): void {
  const running = begin(route, call);
  void sendStream(route.method, call, running, running.stream(route.method, read));
}

function begin(route: Route, call: AnyCall): RunningCall {
  const running = route.begin(new GrpcCall(call));
  call.on('cancelled', () => running.abort(canceled));
  return running;
}

/** What calls of all kinds have. */
interface AnyCall {
  readonly metadata: grpc.Metadata;
  getPeer(): string;
  getDeadline(): grpc.Deadline;
  on(event: 'cancelled', listener: () => void): unknown;
}
type WritableCall = grpc.ServerWritableStream<Buffer, Buffer> | grpc.ServerDuplexStream<Buffer, Buffer>;

class GrpcCall implements Incoming {
  readonly protocol = 'grpc';
  readonly peer: string;
  readonly deadline: number;
  readonly #metadata: grpc.Metadata;

  constructor(call: AnyCall) {
    this.peer = call.getPeer();
    this.#metadata = call.metadata;
    // The library ends the call at the deadline with an error of its own; a millisecond earlier ours has the details.
    this.deadline = Number(call.getDeadline()) - 1;
  }

  // Cookies are for browsers, which do not speak gRPC.
  readonly header = (name: string): string | undefined =>
    name === 'cookie' ? undefined : this.#metadata.get(name)[0]?.toString();
}

async function sendStream(
  method: ServerStreamingMethod | BidiStreamingMethod,
  call: WritableCall,
  running: RunningCall,
  responses: AsyncIterable<Message>,
): Promise<void> {
  try {
    let first = true;
    for await (const response of responses) {
      if (first) call.sendMetadata(requestIdOf(running));
      first = false;
      if (!call.write(encode(method, response))) await once(call, 'drain', { signal: running.signal });
    }
    call.end();
  } catch (error) {
    call.emit('error', statusOf(error, running));
  }
}

function decode(method: Method, bytes: Buffer): Message {
  try {
    return fromBinary(method.desc.input, bytes);
  } catch (error) {
    throw unreadableRequest(error instanceof Error ? error.message : String(error));
  }
}

async function* decodeAll(method: Method, call: grpc.ServerDuplexStream<Buffer, Buffer>): AsyncGenerator<Message> {
  // Leaving the requests in the middle must not destroy the call, over which the answers go.
  for await (const bytes of call.iterator({ destroyOnReturn: false })) yield decode(method, bytes as Buffer);
}

/** Turns a response into bytes. A handler that has the bytes already would pass here. */
function encode(method: Method, response: Message): Buffer {
  const bytes = toBinary(method.desc.output, response);
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function requestIdOf(running: RunningCall): grpc.Metadata {
  const metadata = new grpc.Metadata();
  metadata.set('x-request-id', running.requestId);
  return metadata;
}

/** An error as grpc-js sends it: the details in `grpc-status-details-bin`, as a `google.rpc.Status`. */
function statusOf(error: unknown, running: RunningCall): grpc.StatusObject {
  const failure = error instanceof ConnectError ? error : canceled(error);
  const metadata = requestIdOf(running);
  if (failure.details.length > 0) {
    const details = failure.details.map((detail) =>
      'desc' in detail
        ? anyPack(detail.desc, create(detail.desc, detail.value))
        : { typeUrl: `type.googleapis.com/${detail.type}`, value: detail.value },
    );
    const status = create(StatusSchema, { code: failure.code, message: failure.rawMessage, details });
    metadata.set('grpc-status-details-bin', Buffer.from(toBinary(StatusSchema, status)));
  }
  return { code: failure.code as number, details: failure.rawMessage, metadata };
}
