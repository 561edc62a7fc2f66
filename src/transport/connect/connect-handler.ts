import { create, type DescMessage, type DescMethod, type Message } from '@bufbuild/protobuf';
import { BinaryReader, base64Decode } from '@bufbuild/protobuf/wire';
import {
  Code,
  ConnectError,
  type ConnectRouterOptions,
  createConnectRouter,
  createContextKey,
  createContextValues,
  type HandlerContext,
} from '@connectrpc/connect';
import type { UniversalHandler, UniversalServerResponse } from '@connectrpc/connect/protocol';
import { compressionGzip, universalRequestFromNodeRequest, universalResponseToNodeResponse } from '@connectrpc/connect-node';
import type { Calls } from '../../call/calls.ts';
import { canceled, deadlineExceeded, unreadableRequest } from '../../call/errors.ts';
import { maxRequestBytes } from '../../call/limits.ts';
import type { Method, UnaryMethod } from '../../call/method.ts';
import type { ServerCall } from '../../call/server-call.ts';
import type { ClientAddress } from '../client-address.ts';
import { sendWithEntityTag } from '../entity-tag.ts';
import {
  connectionOf,
  forbidBuffering,
  type HttpRequest,
  type HttpResponse,
  pathOf,
  protect,
  sendGrpcStatus,
  sendJson,
} from '../http.ts';

/**
 * Answers a request over Connect, gRPC-Web or gRPC, or returns undefined when its path is not that of a method.
 *
 * @param beforeAnswer called when the answer is known and not yet sent.
 */
export type ConnectHandler = (
  request: HttpRequest,
  response: HttpResponse,
  beforeAnswer: () => void,
) => Promise<void> | undefined;

/** Further options of Connect, for tests' methods that need types in JSON or headers of their own. */
export type ConnectOptions = Pick<ConnectRouterOptions, 'interceptors' | 'jsonOptions'>;

/** The state of a request that the library passes to the gate and to the handler of its method. */
class RequestInFlight {
  readonly request: HttpRequest;
  /** Aborted when the client has disconnected. */
  readonly gone: AbortSignal;
  /** The call, since its headers were read. */
  call?: ServerCall;
  #abortedBy: ConnectError | undefined;
  /** Ends the wait for the next bytes of the body. */
  #interrupt: ((failure: ConnectError) => void) | undefined;

  constructor(request: HttpRequest, gone: AbortSignal) {
    this.request = request;
    this.gone = gone;
  }

  /**
   * The body of the request. When the call ends before it is read, it fails with the call's error, which the library then sends.
   */
  async *body(): AsyncGenerator<Uint8Array> {
    // A partly read request must not be destroyed: over HTTP/1.1 its connection would be, and the answer with it.
    const chunks = this.request.iterator({ destroyOnReturn: false });
    try {
      for (;;) {
        const next = await this.#untilAborted(chunks.next());
        if (next.done === true) return;
        yield next.value as Uint8Array;
      }
    } finally {
      void chunks.return?.()?.catch(() => {}); // a client that has stopped sending
    }
  }

  /** Ends the body with an error. */
  abort(failure: ConnectError): void {
    this.#abortedBy = failure;
    this.#interrupt?.(failure);
  }

  /** A new promise for each wait: a shared one would keep the result of every wait in memory until the call ends. */
  #untilAborted<T>(work: Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      this.#interrupt = reject;
      work.then(resolve, reject);
      if (this.#abortedBy !== undefined) reject(this.#abortedBy);
    });
  }
}

const inFlightKey = createContextKey<RequestInFlight | undefined>(undefined, { description: 'the call' });

/**
 * Makes the handler of some methods, by Connect's router. Its gate begins each call and admits it on its headers, before the
 * library reads the body; then the handler of its method answers it. Requests that the library refuses by itself, such as one
 * with an unreadable body, get the library's own error.
 */
export function createConnectHandler(
  methods: readonly Method[],
  calls: Calls,
  clientAddress: ClientAddress,
  options: ConnectOptions = {},
): ConnectHandler {
  const begin = new Map(methods.map((method) => [method.desc as DescMethod, calls.register(method)]));

  const gate = async (context: HandlerContext): Promise<void> => {
    const inFlight = inFlightOf(context);
    const connection = connectionOf(inFlight.request);
    const header = (name: string): string | undefined => context.requestHeader.get(name) ?? undefined;
    const call = begin.get(context.method)?.({
      protocol: context.protocolName,
      connection,
      header,
      ...clientAddress(connection, header),
    });
    if (call === undefined) throw new Error(`${context.method.name} is not registered`);
    inFlight.call = call;
    context.responseHeader.set('x-request-id', call.requestId);
    if (context.protocolName !== 'connect') context.responseHeader.set('grpc-accept-encoding', compressionGzip.name);
    // Aborted when the client disconnects, at its deadline, when the request cannot be read, and after the call in any case.
    const abort = (): void => call.abort(() => (inFlight.gone.aborted ? canceled() : failureOf(context.signal.reason)));
    if (context.signal.aborted) abort();
    else context.signal.addEventListener('abort', abort);
    await call.admit((failure) => inFlight.abort(failure));
    // The library would answer INTERNAL for bad base64.
    if (context.requestMethod === 'GET' && !isBase64(context.url)) throw call.fail(unreadableRequest('invalid base64 string'));
  };

  const router = createConnectRouter({
    ...options,
    requestGate: gate,
    readMaxBytes: maxRequestBytes,
    // Brotli at its default level would take 20 ms of a processor for a page of tasks.
    acceptCompression: [compressionGzip],
  });
  for (const method of methods) {
    switch (method.kind) {
      case 'unary':
        router.rpc(method.desc, (request, context) => answerUnary(method, request, context));
        break;
      case 'server_streaming':
        router.rpc(method.desc, (request, context) => {
          const call = admittedCall(context);
          return call.stream(() => method.handle(request, call));
        });
        break;
      case 'bidi_streaming':
        router.rpc(method.desc, (requests, context) => {
          const call = admittedCall(context);
          return call.bidiStream(withClientFaults(requests), (counted) => method.handle(counted, call));
        });
        break;
    }
  }
  const handlers = new Map<string, UniversalHandler>(router.handlers.map((handler) => [handler.requestPath, handler]));

  return (request, response, beforeAnswer) => {
    const handler = handlers.get(pathOf(request));
    if (handler === undefined) return undefined;
    if (!hasAddress(request)) {
      sendJson(request, response, 400, { code: 'invalid_argument', message: 'the request has no valid host or path' });
      return Promise.resolve();
    }
    if (isGrpcWebText(request)) {
      beforeAnswer();
      sendGrpcStatus(request, response, Code.Unimplemented, 'application/grpc-web-text is not served: use application/grpc-web');
      return Promise.resolve();
    }
    return answer(handler, request, response, beforeAnswer);
  };
}

async function answer(
  handler: UniversalHandler,
  request: HttpRequest,
  response: HttpResponse,
  beforeAnswer: () => void,
): Promise<void> {
  const contextValues = createContextValues();
  const universal = universalRequestFromNodeRequest(request, response, undefined, contextValues);
  const inFlight = new RequestInFlight(request, universal.signal);
  contextValues.set(inFlightKey, inFlight);
  let answered: UniversalServerResponse;
  try {
    answered = await handler({ ...universal, body: inFlight.body() });
  } catch (error) {
    // The library cannot encode a gRPC error that repeats half a surrogate pair, which JSON can contain.
    if (!(error instanceof URIError) || inFlight.call === undefined) throw error;
    const { code, rawMessage } = inFlight.call.fail(unreadableRequest('it has half a surrogate pair'));
    sendGrpcStatus(request, response, code, rawMessage);
    return;
  }
  const toSend = forGrpcClients(answered);
  beforeAnswer();
  protect(response);
  if (handler.method.methodKind !== 'unary') forbidBuffering(response);
  if (request.method === 'GET' && toSend.status === 200) await sendWithEntityTag(toSend, request, response);
  else await universalResponseToNodeResponse(toSend, response);
}

/** Whether a request is of `grpc-web-text`, which encodes everything in base64 for old browsers. */
function isGrpcWebText(request: HttpRequest): boolean {
  return request.method === 'POST' && /^application\/grpc-web-text(?:[+;\s]|$)/i.test(request.headers['content-type'] ?? '');
}

/** Whether the message in the address of a GET can be decoded, if it is in base64. */
function isBase64(url: string): boolean {
  const query = new URL(url).searchParams;
  if (query.get('base64') !== '1') return true;
  try {
    base64Decode(query.get('message') ?? '');
    return true;
  } catch {
    return false;
  }
}

/** The requests of a stream; an undecodable message is reported as INVALID_ARGUMENT. */
async function* withClientFaults(requests: AsyncIterable<Message>): AsyncGenerator<Message> {
  try {
    yield* requests;
  } catch (error) {
    throw failureOf(error);
  }
}

/** Whether a request has a host, and a valid path. */
function hasAddress(request: HttpRequest): boolean {
  const host = 'authority' in request ? request.authority : request.headers.host;
  return host !== undefined && URL.canParse(request.url ?? '', `http://${host}`);
}

function inFlightOf(context: HandlerContext): RequestInFlight {
  const inFlight = context.values.get(inFlightKey);
  if (inFlight === undefined) throw new Error('a call has not come from its HTTP request');
  return inFlight;
}

function admittedCall(context: HandlerContext): ServerCall {
  const { call } = inFlightOf(context);
  if (call === undefined) throw new Error('a call has come past its admission');
  return call;
}

function answerUnary(method: UnaryMethod, request: Message, context: HandlerContext): Promise<Message> {
  const call = admittedCall(context);
  const isJson = context.responseHeader.get('content-type')?.endsWith('json') === true;
  const { toBinary } = method;
  return call.unary(async () => {
    const result = await method.handle(request, call);
    return toBinary === undefined || isJson
      ? method.toMessage(result, call)
      : carrying(toBinary(result, call), method.desc.output);
  });
}

/**
 * An empty message that the library encodes as exactly these bytes, which are an encoded message already: they are the data of an
 * unknown field, and the library copies unknown fields as they are.
 */
function carrying(bytes: Uint8Array<ArrayBuffer>, schema: DescMessage): Message {
  const message = create(schema);
  if (bytes.length === 0) return message;
  const reader = new BinaryReader(bytes);
  const [no, wireType] = reader.tag();
  message.$unknown = [{ no, wireType, data: bytes.subarray(reader.pos) }];
  return message;
}

/** Why the library has ended a call before its handler did: for the log, and for what the call awaits. */
function failureOf(reason: unknown): ConnectError {
  if (!(reason instanceof ConnectError)) return canceled();
  switch (reason.code) {
    case Code.DeadlineExceeded:
      return deadlineExceeded();
    case Code.Aborted:
    case Code.Canceled:
      return canceled();
    case Code.Internal: // bytes that are no message, which are no fault of ours
      return unreadableRequest(reason.rawMessage);
    default:
      return reason;
  }
}

/**
 * Adapts an error over gRPC to clients of grpc-js: they read the request id of a failed call from its trailers, and decode only
 * what `encodeURI` encodes in its message, where the library encodes more. The trailers are known when the body has ended.
 */
function forGrpcClients(response: UniversalServerResponse): UniversalServerResponse {
  const { header, trailer, body } = response;
  if (trailer === undefined || body === undefined) return response;
  const bodyAndTrailers = async function* () {
    yield* body;
    const message = trailer.get('grpc-message') ?? '';
    if (message === '') return;
    trailer.set('grpc-message', encodeURI(decodeURIComponent(message)));
    trailer.set('x-request-id', header?.get('x-request-id') ?? '');
    header?.delete('x-request-id'); // unless it has been sent already
  };
  return { ...response, body: bodyAndTrailers() };
}
