import type {
  DescMessage,
  DescMethodBiDiStreaming,
  DescMethodServerStreaming,
  DescMethodUnary,
  MessageShape,
} from '@bufbuild/protobuf';
import type { Call } from './call.ts';

/**
 * A method with one request and one response. Its handler returns a result, which the transport turns into a message or, where the
 * method has an encoder, directly into the bytes of that message.
 */
export interface UnaryMethod<I extends DescMessage = DescMessage, O extends DescMessage = DescMessage, R = unknown> {
  readonly kind: 'unary';
  readonly desc: DescMethodUnary<I, O>;
  handle(request: MessageShape<I>, call: Call): Promise<R>;
  /** The response as a message. */
  toMessage(result: R, call: Call): MessageShape<O>;
  /** Encodes the response in the binary format without making the message, where the method can. */
  readonly toBinary?: ((result: R, call: Call) => Uint8Array<ArrayBuffer>) | undefined;
}

/** A method with one request and any number of responses. */
export interface ServerStreamingMethod<I extends DescMessage = DescMessage, O extends DescMessage = DescMessage> {
  readonly kind: 'server_streaming';
  readonly desc: DescMethodServerStreaming<I, O>;
  handle(request: MessageShape<I>, call: Call): AsyncIterable<MessageShape<O>>;
}

/** A method with any number of requests and responses. */
export interface BidiStreamingMethod<I extends DescMessage = DescMessage, O extends DescMessage = DescMessage> {
  readonly kind: 'bidi_streaming';
  readonly desc: DescMethodBiDiStreaming<I, O>;
  handle(requests: AsyncIterable<MessageShape<I>>, call: Call): AsyncIterable<MessageShape<O>>;
}

/** A method of a service with its handler, independent of the transport. */
export type Method = UnaryMethod | ServerStreamingMethod | BidiStreamingMethod;

/** Describes a unary method whose handler returns the response itself; the types are checked against the proto. */
export function unary<I extends DescMessage, O extends DescMessage>(
  desc: DescMethodUnary<I, O>,
  handle: (request: MessageShape<I>, call: Call) => Promise<MessageShape<O>>,
): Method {
  return unaryWithResult<I, O, MessageShape<O>>({ desc, handle, toMessage: (response) => response });
}

/**
 * Describes a unary method whose handler returns a result that is turned into the response; the types are checked against the
 * proto.
 */
export function unaryWithResult<I extends DescMessage, O extends DescMessage, R>(
  method: Omit<UnaryMethod<I, O, R>, 'kind'>,
): Method {
  return { kind: 'unary', ...method } satisfies UnaryMethod<I, O, R> as UnaryMethod;
}

/** Describes a server-streaming method; the types are checked against the proto. */
export function serverStreaming<I extends DescMessage, O extends DescMessage>(
  desc: DescMethodServerStreaming<I, O>,
  handle: ServerStreamingMethod<I, O>['handle'],
): Method {
  return { kind: 'server_streaming', desc, handle } satisfies ServerStreamingMethod<I, O> as ServerStreamingMethod;
}

/** Describes a bidirectional method; the types are checked against the proto. */
export function bidiStreaming<I extends DescMessage, O extends DescMessage>(
  desc: DescMethodBiDiStreaming<I, O>,
  handle: BidiStreamingMethod<I, O>['handle'],
): Method {
  return { kind: 'bidi_streaming', desc, handle } satisfies BidiStreamingMethod<I, O> as BidiStreamingMethod;
}
