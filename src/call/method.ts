import type {
  DescMessage,
  DescMethodBiDiStreaming,
  DescMethodServerStreaming,
  DescMethodUnary,
  MessageShape,
} from '@bufbuild/protobuf';
import { TasksService } from '../gen/tasks/v1/tasks_pb.ts';
import type { TasksHandlers } from '../tasks/tasks-service.ts';
import type { WatchTasks } from '../watch/watch-tasks.ts';
import type { Call } from './call.ts';

/** A method with one request and one response. */
export interface UnaryMethod<I extends DescMessage = DescMessage, O extends DescMessage = DescMessage> {
  readonly kind: 'unary';
  readonly desc: DescMethodUnary<I, O>;
  handle(request: MessageShape<I>, call: Call): Promise<MessageShape<O>>;
  /** Gives the same response as a gRPC frame, where there is a shorter way to it than over the message. */
  encoded?(request: MessageShape<I>, call: Call): Promise<Buffer>;
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

/** A method of a service with what answers it. It does not know which transport it is called over. */
export type Method = UnaryMethod | ServerStreamingMethod | BidiStreamingMethod;

/** Describes a unary method to the listeners, its types checked against the contract. */
export function unary<I extends DescMessage, O extends DescMessage>(
  desc: DescMethodUnary<I, O>,
  handle: UnaryMethod<I, O>['handle'],
  encoded?: UnaryMethod<I, O>['encoded'],
): Method {
  const method = { kind: 'unary', desc, handle, ...(encoded === undefined ? {} : { encoded }) } satisfies UnaryMethod<I, O>;
  return method as UnaryMethod;
}

/** Describes a server-streaming method to the listeners, its types checked against the contract. */
export function serverStreaming<I extends DescMessage, O extends DescMessage>(
  desc: DescMethodServerStreaming<I, O>,
  handle: ServerStreamingMethod<I, O>['handle'],
): Method {
  return { kind: 'server_streaming', desc, handle } satisfies ServerStreamingMethod<I, O> as ServerStreamingMethod;
}

/** Describes a bidirectional method to the listeners, its types checked against the contract. */
export function bidiStreaming<I extends DescMessage, O extends DescMessage>(
  desc: DescMethodBiDiStreaming<I, O>,
  handle: BidiStreamingMethod<I, O>['handle'],
): Method {
  return { kind: 'bidi_streaming', desc, handle } satisfies BidiStreamingMethod<I, O> as BidiStreamingMethod;
}

/** The methods of `tasks.v1.TasksService`. */
export function tasksMethods(handlers: TasksHandlers & { readonly watchTasks: WatchTasks }): Method[] {
  const { listTasks, getTask, watchTasks } = TasksService.method;
  return [
    unary(listTasks, (request, call) => handlers.listTasks(request, call), handlers.encodedListTasks),
    unary(getTask, (request, call) => handlers.getTask(request, call), handlers.encodedGetTask),
    serverStreaming(watchTasks, (request, call) => handlers.watchTasks(request, call)),
  ];
}
