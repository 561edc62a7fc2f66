import type { IncomingHttpHeaders, ServerHttp2Stream } from 'node:http2';
import type { Writable } from 'node:stream';
import { create, fromBinary, type Message, toBinary } from '@bufbuild/protobuf';
import { anyPack, durationMs } from '@bufbuild/protobuf/wkt';
import type { ConnectError } from '@connectrpc/connect';
import * as grpc from '@grpc/grpc-js';
import type { Calls } from '../../call/calls.ts';
import { canceled, deadlineExceeded, unreadableRequest, unsupportedRequest } from '../../call/errors.ts';
import { maxRequestBytes } from '../../call/limits.ts';
import type { BidiStreamingMethod, Method, ServerStreamingMethod, UnaryMethod } from '../../call/method.ts';
import type { ServerCall } from '../../call/server-call.ts';
import { RetryInfoSchema } from '../../gen/google/rpc/error_details_pb.ts';
import { StatusSchema } from '../../gen/google/rpc/status_pb.ts';
import type { ClientAddress } from '../client-address.ts';
import type { SessionLimits } from '../http2-limits.ts';

// How gRPC calls go through grpc-js, by its public API: an interceptor begins each call and admits it on its metadata, before the
// library reads the request; then the handler of its method answers it.

/** Makes the gRPC server of some methods. It does not listen itself: connections are handed to its connection injector. */
export function createGrpcServer(
  methods: readonly Method[],
  calls: Calls,
  limits: SessionLimits,
  clientAddress: ClientAddress,
  interceptors: readonly grpc.ServerInterceptor[] = [],
): grpc.Server {
  // The library would print metadata that it cannot parse, which may be a mistyped token.
  if (process.env['GRPC_VERBOSITY'] === undefined) grpc.setLogVerbosity(grpc.logVerbosity.NONE);
  const begin = new Map(methods.map((method) => [grpcPath(method), calls.register(method)]));

  const admission: grpc.ServerInterceptor = ({ path }, next) =>
    new grpc.ServerInterceptingCall(next, {
      start(proceed) {
        let call: ServerCall | undefined;
        let ended = false;
        proceed({
          onReceiveMetadata(metadata, deliver) {
            // A client may open and cancel a thousand calls in one packet: a call is begun only if it is still open when the
            // packet has been read.
            setImmediate(() => {
              if (ended) return;
              const begun = begin.get(path)?.({ protocol: 'grpc', ...readHeaders(metadata, next, clientAddress) });
              if (begun === undefined) throw new Error(`${path} is not registered`);
              call = begun;
              callOf.set(metadata, begun);
              const refuse = (failure: ConnectError): void => next.sendStatus(grpcStatus(failure, begun.requestId));
              if (metadata.get(refusedEncoding).length > 0) {
                const status = grpcStatus(begun.fail(unsupportedRequest('the compression is not known')), begun.requestId);
                status.metadata.set('grpc-accept-encoding', [...encodings].join());
                next.sendStatus(status);
                return;
              }
              begun.admit(refuse).then(
                () => deliver(metadata),
                (error: unknown) => refuse(error as ConnectError), // admission throws nothing else
              );
            });
          },
          onCancel() {
            ended = true;
            // A timer may be a millisecond early by the clock.
            const isLate = Date.now() + 1 >= Number(next.getDeadline());
            call?.abort(isLate ? deadlineExceeded : canceled);
          },
        });
      },
    });

  const server = new grpc.Server({
    interceptors: [...interceptors, admission],
    'grpc.max_receive_message_length': maxRequestBytes,
    // Pages are limited to 3 MiB already; a larger single task must reach clients that allow it.
    'grpc.max_send_message_length': -1,
    // Watching streams stay open, and a mesh may carry those of many clients on one connection. Beyond, calls wait at the client.
    'grpc.max_concurrent_streams': 1000,
    'grpc.max_connection_idle_ms': limits.idle,
    'grpc.max_connection_age_ms': limits.age,
    'grpc.max_connection_age_grace_ms': limits.ageGrace,
    // Channelz would cost each call, and is not served.
    'grpc.enable_channelz': 0,
  });
  for (const method of methods) {
    switch (method.kind) {
      case 'unary':
        server.register(grpcPath(method), unaryHandler(method), asIs, asIs, 'unary');
        break;
      case 'server_streaming':
        server.register(grpcPath(method), serverStreamHandler(method), asIs, asIs, 'serverStream');
        break;
      case 'bidi_streaming':
        server.register(grpcPath(method), bidiStreamHandler(method), asIs, asIs, 'bidi');
        break;
    }
  }
  return server;
}

/** What grpc-js can decompress. */
const encodings: ReadonlySet<string> = new Set(['identity', 'deflate', 'gzip']);

/** Metadata that tells the interceptor that a request's encoding is unknown: grpc-js hides `grpc-encoding` from it. */
const refusedEncoding = 'x-refused-encoding';

/**
 * Has grpc-js refuse, with HTTP status 415, what it would accept: methods other than POST, and content types that are not gRPC's.
 * An unknown encoding, which it would ignore as long as no message is compressed, is passed to the interceptor.
 *
 * grpc-js checks that a stream is open only for registered methods; answering a closed one otherwise ends the process. So a
 * stream that was reset in the packet that opened it gets the path of a registered method.
 */
export function refuseOtherRequests(
  methods: readonly Method[],
): (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => void {
  const [someMethod] = methods;
  const registeredPath = someMethod === undefined ? '/' : grpcPath(someMethod);
  return (stream, headers) => {
    if (headers[':method'] !== 'POST' || !isGrpc.test(headers['content-type'] ?? '')) headers['content-type'] = 'refused';
    const encoding = headers['grpc-encoding'];
    if (typeof encoding === 'string' && !encodings.has(encoding)) headers[refusedEncoding] = 'unknown';
    process.nextTick(() => {
      if (!stream.closed && !stream.destroyed) return;
      headers[':path'] = registeredPath;
      headers['content-type'] = 'application/grpc';
    });
  };
}

/** gRPC with Protobuf messages, with or without parameters. */
const isGrpc = /^application\/grpc(?:\+proto)?\s*(?:;|$)/i;

/** The calls that have begun, by their metadata: the one object that both the interceptor and the handler see. */
const callOf = new WeakMap<grpc.Metadata, ServerCall>();

function admittedCall({ metadata }: { readonly metadata: grpc.Metadata }): ServerCall {
  const call = callOf.get(metadata);
  if (call === undefined) throw new Error('a call has come past its admission');
  return call;
}

function grpcPath({ desc }: Method): string {
  return `/${desc.parent.typeName}/${desc.name}`;
}

function readHeaders(metadata: grpc.Metadata, call: grpc.ServerInterceptingCallInterface, clientAddress: ClientAddress) {
  const connection = call.getPeer();
  // Cookies are for browsers, which do not speak gRPC.
  const header = (name: string): string | undefined => (name === 'cookie' ? undefined : metadata.get(name)[0]?.toString());
  return { connection, header, ...clientAddress(connection, header) };
}

/** Passes bytes through: messages are decoded and encoded by the handlers, where errors get our details. */
function asIs(bytes: Buffer): Buffer {
  return bytes;
}

function unaryHandler(method: UnaryMethod): grpc.handleUnaryCall<Buffer, Buffer> {
  const { desc, toBinary: encode = (result, call) => toBinary(desc.output, method.toMessage(result, call)) } = method;
  return (incoming, callback) => {
    const call = admittedCall(incoming);
    const answer = async (): Promise<Buffer> =>
      toBuffer(encode(await method.handle(decode(method, incoming.request), call), call));
    call.unary(answer).then(
      (bytes) => {
        incoming.sendMetadata(requestIdMetadata(call.requestId));
        callback(null, bytes);
      },
      (error: unknown) => callback(grpcStatus(error as ConnectError, call.requestId)), // a call throws nothing else
    );
  };
}

function serverStreamHandler(method: ServerStreamingMethod): grpc.handleServerStreamingCall<Buffer, Buffer> {
  return (incoming) => {
    const call = admittedCall(incoming);
    void sendStream(
      method,
      call,
      incoming,
      call.stream(() => method.handle(decode(method, incoming.request), call)),
    );
  };
}

function bidiStreamHandler(method: BidiStreamingMethod): grpc.handleBidiStreamingCall<Buffer, Buffer> {
  return (incoming) => {
    const call = admittedCall(incoming);
    const responses = call.bidiStream(decodeAll(method, incoming), (requests) => method.handle(requests, call));
    void sendStream(method, call, incoming, responses);
  };
}

/** Sends the responses of a stream as fast as its client takes them, and its status. */
async function sendStream(
  { desc }: Method,
  call: ServerCall,
  outgoing: grpc.ServerWritableStream<Buffer, Buffer> | grpc.ServerDuplexStream<Buffer, Buffer>,
  responses: AsyncIterable<Message>,
): Promise<void> {
  try {
    outgoing.sendMetadata(requestIdMetadata(call.requestId));
    for await (const response of responses) await send(toBuffer(toBinary(desc.output, response)), outgoing, call.signal);
    outgoing.end();
  } catch (error) {
    outgoing.emit('error', grpcStatus(call.fail(error), call.requestId));
  }
}

/** Sends a message, and waits until the client takes it: the library would buffer sixteen messages of up to 3 MiB each. */
function send(bytes: Buffer, outgoing: Writable, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const leave = (): void => reject(canceled()); // the call knows the error for the client
    if (signal.aborted) leave();
    signal.addEventListener('abort', leave);
    outgoing.write(bytes, () => {
      signal.removeEventListener('abort', leave);
      resolve();
    });
  });
}

/** Decodes a request. @throws {ConnectError} INVALID_ARGUMENT when the bytes are not such a message. */
function decode({ desc }: Method, bytes: Buffer): Message {
  try {
    return fromBinary(desc.input, bytes);
  } catch (error) {
    throw unreadableRequest(error instanceof Error ? error.message : String(error));
  }
}

async function* decodeAll(method: Method, call: grpc.ServerDuplexStream<Buffer, Buffer>): AsyncGenerator<Message> {
  // A handler that stops reading requests must not destroy the call, which carries the answers.
  for await (const bytes of call.iterator({ destroyOnReturn: false })) yield decode(method, bytes as Buffer);
}

function toBuffer(bytes: Uint8Array<ArrayBuffer>): Buffer<ArrayBuffer> {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** The metadata that every answer has. */
function requestIdMetadata(requestId: string): grpc.Metadata {
  const metadata = new grpc.Metadata();
  metadata.set('x-request-id', requestId);
  return metadata;
}

/**
 * An error as grpc-js sends it: the details in `grpc-status-details-bin`, as a `google.rpc.Status`, and the retry delay also in the
 * metadata where gRPC's own retries read it.
 */
function grpcStatus(failure: ConnectError, requestId: string): grpc.StatusObject {
  const metadata = requestIdMetadata(requestId);
  for (const [name, value] of detailsOf(failure)) metadata.set(name, value);
  return { code: failure.code as number, details: failure.rawMessage, metadata };
}

/** The encoded details, made once for each error object: refusals by overload all share one. */
const encodedDetails = new WeakMap<ConnectError, [name: string, value: Buffer | string][]>();

function detailsOf(failure: ConnectError): [name: string, value: Buffer | string][] {
  if (failure.details.length === 0) return [];
  const known = encodedDetails.get(failure);
  if (known !== undefined) return known;
  const details = failure.details.map((detail) =>
    'desc' in detail
      ? anyPack(detail.desc, create(detail.desc, detail.value))
      : { typeUrl: `type.googleapis.com/${detail.type}`, value: detail.value },
  );
  const status = create(StatusSchema, { code: failure.code, message: failure.rawMessage, details });
  const encoded: [string, Buffer | string][] = [['grpc-status-details-bin', Buffer.from(toBinary(StatusSchema, status))]];
  const [retry] = failure.findDetails(RetryInfoSchema);
  if (retry?.retryDelay !== undefined) encoded.push(['grpc-retry-pushback-ms', String(durationMs(retry.retryDelay))]);
  encodedDetails.set(failure, encoded);
  return encoded;
}
