import {
  create,
  type DescMessage,
  type DescMethod,
  type DescMethodUnary,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from '@bufbuild/protobuf';
import * as grpc from '@grpc/grpc-js';
import {
  type CountTasksRequestSchema,
  type CountTasksResponse,
  type GetTaskRequestSchema,
  type ListTasksRequestSchema,
  type ListTasksResponse,
  type Task,
  TasksService,
  type WatchTasksRequestSchema,
  type WatchTasksResponse,
} from '../src/gen/tasks/v1/tasks_pb.ts';
import { frameHeaderBytes, frameOf } from '../test/support/grpc-frame.ts';

/** A gRPC client of one server and one caller that decodes the answers. */
export interface TasksClient {
  getTask(request: MessageInitShape<typeof GetTaskRequestSchema>): Promise<Task | undefined>;
  listTasks(request: MessageInitShape<typeof ListTasksRequestSchema>): Promise<ListTasksResponse>;
  countTasks(request: MessageInitShape<typeof CountTasksRequestSchema>): Promise<CountTasksResponse>;
  /** The size of an answer with its gRPC frame. */
  answerBytes<I extends DescMessage>(method: DescMethodUnary<I>, request: MessageInitShape<I>): Promise<number>;
  /** Opens a watch and passes each message on. Resolves when the snapshot is complete; the stream ends with the client. */
  watchTasks(
    request: MessageInitShape<typeof WatchTasksRequestSchema>,
    onMessage: (message: WatchTasksResponse) => void,
  ): Promise<void>;
  close(): void;
}

/** Opens a client on one connection. */
export function openClient(host: string, token = ''): TasksClient {
  const client = new grpc.Client(host, grpc.credentials.createInsecure(), {
    'grpc.max_receive_message_length': 8 * 1024 * 1024,
    'grpc.use_local_subchannel_pool': 1, // a connection of its own, even to a server that another client is connected to
  });
  const metadata = new grpc.Metadata();
  if (token !== '') metadata.set('coder-session-token', token);
  const callBytes = <I extends DescMessage>(method: DescMethodUnary<I>, request: MessageInitShape<I>): Promise<Buffer> =>
    new Promise((resolve, reject) => {
      client.makeUnaryRequest(
        methodPath(method),
        (bytes: Buffer) => bytes,
        (bytes: Buffer) => bytes,
        Buffer.from(toBinary(method.input, create(method.input, request))),
        metadata,
        { deadline: Date.now() + 30_000 },
        (error, bytes) => (bytes === undefined ? reject(error ?? new Error('no answer')) : resolve(bytes)),
      );
    });
  const call = async <I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: MessageInitShape<I>,
  ): Promise<MessageShape<O>> => fromBinary(method.output, await callBytes(method, request));
  return {
    getTask: async (request) => (await call(TasksService.method.getTask, request)).task,
    listTasks: (request) => call(TasksService.method.listTasks, request),
    countTasks: (request) => call(TasksService.method.countTasks, request),
    answerBytes: async (method, request) => (await callBytes(method, request)).length + frameHeaderBytes,
    watchTasks: (request, onMessage) =>
      new Promise((resolve, reject) => {
        const { watchTasks } = TasksService.method;
        const stream = client.makeServerStreamRequest(
          methodPath(watchTasks),
          (bytes: Buffer) => bytes,
          (bytes: Buffer) => bytes,
          Buffer.from(toBinary(watchTasks.input, create(watchTasks.input, request))),
          metadata,
        );
        stream.on('data', (bytes: Buffer) => {
          const message = fromBinary(watchTasks.output, bytes);
          if (message.event.case === 'synced') resolve();
          else onMessage(message);
        });
        stream.on('error', reject); // of no effect once it has begun: the end of a run cuts all streams
      }),
    close: () => client.close(),
  };
}

/** The path of a method, the same for every protocol. */
export function methodPath(method: DescMethod): string {
  return `/${method.parent.typeName}/${method.name}`;
}

/** Encodes a request with its gRPC frame. */
export function grpcFrame<I extends DescMessage>(method: DescMethodUnary<I>, request: MessageInitShape<I>): Buffer {
  return frameOf(toBinary(method.input, create(method.input, request)));
}
