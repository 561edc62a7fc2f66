import { once } from 'node:events';
import type { IncomingHttpHeaders, ServerHttp2Stream } from 'node:http2';
import { createServer, type Socket } from 'node:net';
import { createServer as createTlsServer, Server as TlsServer } from 'node:tls';
import type { Message } from '@bufbuild/protobuf';
import type { ConnectError } from '@connectrpc/connect';
import * as grpc from '@grpc/grpc-js';
import type { CallChain, Incoming, Route, RunningCall } from '../../call/call-chain.ts';
import {
  canceled,
  deadlineExceeded,
  internal,
  requestTooLarge,
  unreadableRequest,
  unsupportedRequest,
} from '../../call/errors.ts';
import { greetingMs, maxConnections, maxRequestBytes, tcpKeepAlive } from '../../call/limits.ts';
import type { BidiStreamingMethod, Method, ServerStreamingMethod, UnaryMethod } from '../../call/method.ts';
import { frameHeaderBytes } from '../../tasks/wire-writer.ts';
import type { Certificates } from '../certificates.ts';
import { tellHttpVersion } from '../http-version.ts';
import { cutWhenStalled, type SessionLimits, sessionLimits } from '../http2-sessions.ts';
import type { Listener } from '../listener.ts';
import { answerUnary, decode, encode, requestIdOf, statusOf } from './grpc-message.ts';
import { type TakeStream, takeCalls } from './grpc-unary.ts';

const optionsWith = (limits: SessionLimits): grpc.ServerOptions => ({
  'grpc.max_receive_message_length': maxRequestBytes,
  // Pages end before 3 MiB by themselves; a larger single task shall reach clients that allow it.
  'grpc.max_send_message_length': -1,
  // Watching streams stay open, and a mesh may carry those of many clients on one connection. Beyond, calls wait at the client.
  'grpc.max_concurrent_streams': 1000,
  'grpc.max_connection_idle_ms': limits.idle,
  'grpc.max_connection_age_ms': limits.age,
  'grpc.max_connection_age_grace_ms': limits.ageGrace,
  // Its statistics would cost each call and nothing here serves them.
  'grpc.enable_channelz': 0,
});

/** gRPC over HTTP/2, by grpc-js: over TLS when there are certificates, else in clear text. */
export function createGrpcListener(
  methods: readonly Method[],
  chain: CallChain,
  certificates?: Certificates,
  limits: SessionLimits = sessionLimits,
): Listener {
  // The library prints metadata it cannot parse, which may be a mistyped token.
  if (process.env['GRPC_VERBOSITY'] === undefined) grpc.setLogVerbosity(grpc.logVerbosity.NONE);

  const routes = new Map(methods.map((method) => [pathOf(method), chain.route(method)]));
  const server = new grpc.Server({ ...optionsWith(limits), interceptors: [answerFaultsOf(routes, limits)] });
  allowCancellations(server);
  takeStreams(server, takeCalls(routes, chain, limits));
  for (const [path, route] of routes) register(server, path, route);

  // The port is our own, so that a busy one is told like those of the other listeners, and TLS is the same on all.
  const connections = server.createConnectionInjector(grpc.ServerCredentials.createInsecure());
  const sockets = new Set<Socket>();
  const unknown = new Set<Socket>();
  const accept = (socket: Socket): void => {
    socket.on('error', () => {}); // a client that hangs up; its calls learn it from the closed stream
    if (certificates !== undefined) {
      connections.injectConnection(socket); // whoever is through the handshake is there
      return;
    }
    // The library would wait for a silent one, and answer HTTP/1.1 with bytes that its client cannot read.
    unknown.add(socket);
    socket.once('close', () => unknown.delete(socket));
    tellHttpVersion(socket, greetingMs, (version) => {
      unknown.delete(socket);
      if (version === 2) connections.injectConnection(socket);
      else socket.destroy();
    });
  };
  const tcp = { noDelay: true, ...tcpKeepAlive };
  const port =
    certificates === undefined
      ? createServer(tcp, accept)
      : createTlsServer({ ...tcp, ...certificates.options, ALPNProtocols: ['h2'], handshakeTimeout: greetingMs }, accept);
  port.maxConnections = maxConnections;
  if (port instanceof TlsServer) certificates?.follow(port);
  port.prependListener('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
  });

  return {
    port,

    async drain() {
      const closed = once(port, 'close');
      port.close();
      server.tryShutdown(() => {});
      for (const socket of unknown) socket.destroy();
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

/**
 * Sees every stream before the library does, and gives it those that `take` leaves.
 *
 * A client can open a stream and reset it in one packet. It is handed over all the same, and an answer to it would be an error.
 */
function takeStreams(server: grpc.Server, take: TakeStream): void {
  type Internals = {
    _streamHandler?(interceptors: unknown, stream: ServerHttp2Stream, headers: IncomingHttpHeaders): void;
    onStreamOpened?(stream: ServerHttp2Stream): void;
  };
  const internals = server as unknown as Internals;
  const handle = internals._streamHandler?.bind(server);
  const opened = internals.onStreamOpened?.bind(server);
  if (handle === undefined || opened === undefined) throw new Error('grpc-js has changed: see how it is told of streams now');
  internals._streamHandler = (interceptors, stream, headers) => {
    stream.on('error', () => {}); // the library listens once, and not to a stream that it is not given
    if (stream.destroyed || stream.closed) return;
    if (take(stream, headers))
      opened(stream); // a connection with calls is not idle
    else handle(interceptors, stream, headers);
  };
}

function pathOf({ desc }: Method): string {
  return `/${desc.parent.typeName}/${desc.name}`;
}

function register(server: grpc.Server, path: string, route: Route): void {
  const { method } = route;
  switch (method.kind) {
    case 'unary':
      server.register(path, serveUnary(route, method), asIs, asIs, 'unary');
      break;
    case 'server_streaming':
      server.register(path, serveServerStream(route, method), asIs, asIs, 'serverStream');
      break;
    case 'bidi_streaming':
      server.register(path, serveBidiStream(route, method), asIs, asIs, 'bidi');
      break;
  }
}

/** The calls that have entered the chain. Their metadata is the one thing that a handler and an interceptor both see. */
const entered = new WeakMap<grpc.Metadata, RunningCall>();

/**
 * Has the chain answer what the library would answer by itself, a passed deadline or a message that cannot be read, so that these
 * errors have details, a line in the log and a place in the metrics, too.
 *
 * The library writes such a status from below all interceptors: only in the call's own method can it be changed. A status of the
 * chain always has metadata, and one of the library never.
 */
function answerFaultsOf(routes: ReadonlyMap<string, Route>, limits: SessionLimits): grpc.ServerInterceptor {
  return ({ path }, call) => {
    const route = routes.get(path);
    if (route === undefined) throw new Error(`${path} has no route`);
    // The library has no limit for clients that stop in the middle.
    const { stream } = call as unknown as { stream?: ServerHttp2Stream };
    if (stream !== undefined) cutWhenStalled(stream, limits.stalled);
    const start = call.start.bind(call);
    const sendStatus = call.sendStatus.bind(call);
    let metadata = new grpc.Metadata();
    call.start = (listener) => {
      const receive = listener.onReceiveMetadata.bind(listener);
      listener.onReceiveMetadata = (received) => {
        metadata = received;
        receive(received);
      };
      start(listener);
    };
    call.sendStatus = (status) => {
      if (status.code === grpc.status.OK || status.metadata) return sendStatus(status);
      const running = entered.get(metadata);
      if (running === undefined) {
        const refused = route.begin(new GrpcCall(metadata, call.getPeer()));
        entered.set(metadata, refused);
        sendStatus(statusOf(refused.refuse(faultOf(status, refused)), refused));
      } else if (running.ended) sendStatus(status);
      else running.abort(() => faultOf(status, running));
    };
    return call as grpc.ServerInterceptingCall;
  };
}

/** The error for what the library says of a call, which it tells apart by code and text alone. */
function faultOf(
  { code, details }: Parameters<grpc.ServerInterceptingCall['sendStatus']>[0],
  { requestId }: RunningCall,
): ConnectError {
  const text = details ?? '';
  switch (code) {
    case grpc.status.DEADLINE_EXCEEDED:
      return deadlineExceeded();
    case grpc.status.RESOURCE_EXHAUSTED:
      return requestTooLarge(maxRequestBytes);
    case grpc.status.UNIMPLEMENTED:
      return unsupportedRequest(text);
    default:
      if (text.startsWith('Invalid grpc-timeout')) return unreadableRequest('its grpc-timeout is no timeout');
      if (text.startsWith('Failed to decompress')) return unreadableRequest('it cannot be decompressed');
      return internal(requestId, new Error(text));
  }
}

/** The library passes bytes on: messages are read and written in the call chain, where errors are ours. */
function asIs(bytes: Buffer): Buffer {
  return bytes;
}

function serveUnary(route: Route, method: UnaryMethod): grpc.handleUnaryCall<Buffer, Buffer> {
  const answer = answerUnary(method);
  return (call, callback) => {
    const running = begin(route, call);
    if (running === undefined) return;
    answer(running, call.request).then(
      (frame) => {
        call.sendMetadata(requestIdOf(running));
        callback(null, frame.subarray(frameHeaderBytes)); // the library makes a frame of its own
      },
      (error: unknown) => callback(statusOf(error, running)),
    );
  };
}

function serveServerStream(route: Route, method: ServerStreamingMethod): grpc.handleServerStreamingCall<Buffer, Buffer> {
  return (call) => serveStream(route, method, call, () => decode(method, call.request));
}

function serveBidiStream(route: Route, method: BidiStreamingMethod): grpc.handleBidiStreamingCall<Buffer, Buffer> {
  return (call) => serveStream(route, method, call, () => decodeAll(method, call));
}

function serveStream(
  route: Route,
  method: ServerStreamingMethod | BidiStreamingMethod,
  call: AnyCall & WritableCall,
  read: Parameters<RunningCall['stream']>[1],
): void {
  const running = begin(route, call);
  if (running !== undefined) void sendStream(method, call, running, running.stream(method, read));
}

/** Lets a call enter the chain, or gives back nothing when its error has already been sent. */
function begin(route: Route, call: AnyCall): RunningCall | undefined {
  if (entered.has(call.metadata)) return undefined;
  const running = route.begin(new GrpcCall(call.metadata, call.getPeer()));
  entered.set(call.metadata, running);
  call.on('cancelled', () => running.abort(canceled));
  return running;
}

/** What calls of all kinds have. */
interface AnyCall {
  readonly metadata: grpc.Metadata;
  getPeer(): string;
  on(event: 'cancelled', listener: () => void): unknown;
}
type WritableCall = grpc.ServerWritableStream<Buffer, Buffer> | grpc.ServerDuplexStream<Buffer, Buffer>;

class GrpcCall implements Incoming {
  readonly protocol = 'grpc';
  readonly peer: string;
  readonly #metadata: grpc.Metadata;

  constructor(metadata: grpc.Metadata, peer: string) {
    this.peer = peer;
    this.#metadata = metadata;
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

async function* decodeAll(method: Method, call: grpc.ServerDuplexStream<Buffer, Buffer>): AsyncGenerator<Message> {
  // Leaving the requests in the middle must not destroy the call, over which the answers go.
  for await (const bytes of call.iterator({ destroyOnReturn: false })) yield decode(method, bytes as Buffer);
}
