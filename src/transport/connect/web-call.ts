import { create, type DescMessage, type Message } from '@bufbuild/protobuf';
import { BinaryReader } from '@bufbuild/protobuf/wire';
import { Code, ConnectError, createContextKey, createContextValues, type HandlerContext } from '@connectrpc/connect';
import type { UniversalHandler, UniversalServerRequest, UniversalServerResponse } from '@connectrpc/connect/protocol';
import type { Incoming, Route, RunningCall } from '../../call/call-chain.ts';
import { canceled, deadlineExceeded, requestTooLarge, unreadableRequest, unsupportedRequest } from '../../call/errors.ts';
import { maxRequestBytes } from '../../call/limits.ts';
import { frameHeaderBytes } from '../../tasks/wire-writer.ts';

/** How the library carries a call from its gate to its handler. */
const webCallKey = createContextKey<WebCall | undefined>(undefined, { description: 'the call on its way through the chain' });

type Request = Message | AsyncIterable<Message>;

/**
 * A call over one of the web protocols.
 *
 * The library reads the request and writes the response in the form of the protocol. In between it calls the gate, before it
 * reads the body, and the handler, once it has the message. Here the two become one way through the call chain: the chain
 * starts in the gate and waits there for the message, which the handler brings.
 *
 * When the message cannot be read, or the call ends while it is still on the way, then the chain has the error, and the library
 * is called a second time, without a body, to write it.
 */
export class WebCall implements Incoming {
  readonly peer: string;
  readonly #route: Route;
  #context: HandlerContext | undefined;
  #running: RunningCall | undefined;
  /** Gives the message to the chain, while the chain waits for it. */
  #bring: ((request: Request) => void) | undefined;
  /** The response of a unary call. */
  #response: Promise<Message> | undefined;
  /** The responses of a streaming call, and the first of them, which is asked for in the gate. */
  #responses: AsyncGenerator<Message, void> | undefined;
  #first: Promise<IteratorResult<Message, void>> | undefined;
  /** The error that the library is to write. */
  #refusal: ConnectError | undefined;
  /** Resolves when the chain has ended the call without its message. */
  readonly #ended = Promise.withResolvers<undefined>();

  constructor(route: Route, peer: string) {
    this.#route = route;
    this.peer = peer;
  }

  /** What the library calls before it reads the body. @throws {ConnectError} when the call is refused. */
  static async gate(context: HandlerContext): Promise<void> {
    await carried(context).#enter(context);
  }

  /** What the library calls with the request of a unary call. */
  static unary(request: Message, context: HandlerContext): Promise<Message> {
    const call = carried(context);
    call.#bring?.(request);
    if (call.#response === undefined) throw new Error('the gate was left out');
    return call.#response;
  }

  /** What the library calls with the request of a streaming call, or with its requests. */
  static async *stream(request: Request, context: HandlerContext): AsyncGenerator<Message, void> {
    const call = carried(context);
    call.#bring?.(Symbol.asyncIterator in request ? readable(request) : request);
    if (call.#responses === undefined || call.#first === undefined) throw new Error('the gate was left out');
    try {
      for (let next = await call.#first; next.done !== true; next = await call.#responses.next()) yield next.value;
    } finally {
      await call.#responses.return();
    }
  }

  get protocol(): string {
    return this.#context?.protocolName ?? '';
  }

  readonly header = (name: string): string | undefined => this.#context?.requestHeader.get(name) ?? undefined;

  /** Answers the call, by the library's handler of its method. */
  async answer(handler: UniversalHandler, request: UniversalServerRequest): Promise<UniversalServerResponse> {
    const contextValues = createContextValues().set(webCallKey, this);
    const answering = handler({ ...request, contextValues });
    const response = await Promise.race([answering, this.#ended.promise]);
    if (response !== undefined && this.#bring === undefined) return forAllClients(response);

    answering.catch(() => {}); // it still reads a body that nobody waits for
    this.#running?.abort(() => unreadableRequest('it ended early'));
    await Promise.allSettled([this.#response, this.#first]);
    return forAllClients(await handler({ ...request, contextValues, body: nothing() }));
  }

  /** Starts the chain. Resolves when it asks for the message, and rejects when it refuses the call before. */
  #enter(context: HandlerContext): Promise<void> {
    if (this.#running !== undefined) {
      context.responseHeader.set('x-request-id', this.#running.requestId);
      throw this.#refusal ?? canceled();
    }
    this.#context = context;
    const running = this.#route.begin(this);
    this.#running = running;
    context.responseHeader.set('x-request-id', running.requestId);
    // Aborted when the client is gone, at its deadline, when the request cannot be read, and in the end in any case.
    const abort = (): void => {
      const reason: unknown = context.signal.reason;
      running.abort(() => whyGone(reason) ?? (this.#bring === undefined ? canceled() : whyUnreadable(reason)));
    };
    if (context.signal.aborted) abort();
    else context.signal.addEventListener('abort', abort);

    const admitted = Promise.withResolvers<void>();
    const message = Promise.withResolvers<Request>();
    const read = (): Promise<Request> => {
      this.#bring = (request) => {
        this.#bring = undefined;
        message.resolve(request);
      };
      admitted.resolve();
      return message.promise;
    };
    const failed = (error: unknown): void => {
      this.#refusal = error as ConnectError; // the chain throws nothing else
      admitted.reject(this.#refusal);
      if (this.#bring !== undefined) this.#ended.resolve(undefined);
    };

    const { method } = this.#route;
    if (method.kind === 'unary') {
      const { encoded } = method;
      const asJson = context.responseHeader.get('content-type')?.endsWith('json') === true;
      this.#response =
        encoded === undefined || asJson
          ? running.unary(method, read as () => Promise<Message>, (response) => response)
          : running.unary({ handle: encoded }, read as () => Promise<Message>, (frame) =>
              carrying(frame.subarray(frameHeaderBytes), method.desc.output),
            );
      this.#response.catch(failed);
    } else {
      this.#responses = running.stream(method, read);
      this.#first = this.#responses.next();
      this.#first.catch(failed);
    }
    return admitted.promise;
  }
}

/**
 * An empty message that the library writes as these bytes, which are a message already: all of them stand in one field that the
 * message does not know, and the library copies such a field as it is.
 */
function carrying(bytes: Buffer, schema: DescMessage): Message {
  const message = create(schema);
  if (bytes.length === 0) return message;
  const reader = new BinaryReader(bytes);
  const [no, wireType] = reader.tag();
  message.$unknown = [{ no, wireType, data: bytes.subarray(reader.pos) }];
  return message;
}

/**
 * Makes an error over gRPC what clients of grpc-js expect: they read the request id of a failed call in its trailers, and
 * decode of its message what `encodeURI` encodes, where the library encodes more.
 */
function forAllClients(response: UniversalServerResponse): UniversalServerResponse {
  const { header, trailer } = response;
  const message = trailer?.get('grpc-message') ?? '';
  const requestId = header?.get('x-request-id') ?? '';
  if (trailer === undefined || message === '') return response;
  trailer.set('grpc-message', encodeURI(decodeURIComponent(message)));
  trailer.set('x-request-id', requestId);
  header?.delete('x-request-id');
  return response;
}

function carried(context: HandlerContext): WebCall {
  const call = context.values.get(webCallKey);
  if (call === undefined) throw new Error('a call must come in by WebCall.answer');
  return call;
}

async function* readable(requests: AsyncIterable<Message>): AsyncGenerator<Message> {
  try {
    yield* requests;
  } catch (error) {
    throw whyGone(error) ?? whyUnreadable(error);
  }
}

async function* nothing(): AsyncGenerator<Uint8Array> {}

/** The error for a client that does not wait any more, if the reason means that. */
function whyGone(reason: unknown): ConnectError | undefined {
  // The library throws a plain error at a Connect GET whose message is no base64, and at nothing else that can be read.
  if (reason instanceof Error && reason.message.startsWith('invalid base64')) return undefined;
  if (!(reason instanceof ConnectError)) return canceled();
  if (reason.code === Code.DeadlineExceeded) return deadlineExceeded();
  return reason.code === Code.Canceled || reason.code === Code.Aborted ? canceled() : undefined;
}

/** The error for what the library says of a request it cannot read, with the details that the library's own lacks. */
function whyUnreadable(reason: unknown): ConnectError {
  const { code, rawMessage } = ConnectError.from(reason);
  switch (code) {
    case Code.ResourceExhausted:
      return requestTooLarge(maxRequestBytes);
    case Code.Unimplemented:
      return unsupportedRequest(rawMessage);
    default:
      return unreadableRequest(rawMessage.replace(/^parse binary: /, ''));
  }
}
