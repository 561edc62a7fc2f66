import { setTimeout as sleep } from 'node:timers/promises';
import type { MessageInitShape } from '@bufbuild/protobuf';
import { Code, ConnectError, createClient, type Transport } from '@connectrpc/connect';
import {
  type Task,
  TasksService,
  type WatchTasksRequestSchema,
  type WatchTasksResponse,
} from '../../src/gen/tasks/v1/tasks_pb.ts';
import { type CallOptions, makeGrpcClient } from './clients.ts';
import { until } from './test-server.ts';

/** Opens a watch over some client. */
export type OpenWatch = (
  request: MessageInitShape<typeof WatchTasksRequestSchema>,
  options: CallOptions,
) => AsyncIterable<WatchTasksResponse>;

/** Watches over a transport of Connect. */
export function watchOver(transport: Transport): OpenWatch {
  const client = createClient(TasksService, transport);
  return (request, options) => client.watchTasks(request, options);
}

/** Watches over grpc-js, on a connection of its own. */
export function watchOverGrpcJs(address: string): OpenWatch {
  return (request, options) => {
    const client = makeGrpcClient(address);
    const stream = client.serverStream(TasksService.method.watchTasks, request, options);
    return (async function* () {
      try {
        yield* stream;
      } finally {
        client.close();
      }
    })();
  };
}

/** A client that applies what it is told, as a page would. */
export class Watching {
  /** The tasks it has, by id. */
  readonly tasks = new Map<string, Task>();
  /** What it was told, in order: `+ name`, `- id`, `synced`, `heartbeat`. */
  readonly told: string[] = [];
  /** The last token. */
  token = '';
  /** How the stream ended, `OK` or its error; undefined while it runs. */
  ended: ConnectError | 'OK' | undefined;
  readonly #stop = new AbortController();

  constructor(
    open: OpenWatch,
    request: MessageInitShape<typeof WatchTasksRequestSchema>,
    sessionToken: string,
    options: { readonly timeoutMs?: number; readonly known?: ReadonlyMap<string, Task> } = {},
  ) {
    for (const [id, task] of options.known ?? []) this.tasks.set(id, task);
    void this.#run(open, request, {
      headers: { 'coder-session-token': sessionToken },
      signal: this.#stop.signal,
      ...(options.timeoutMs === undefined ? {} : { timeoutMs: options.timeoutMs }),
    });
  }

  /** Names of the tasks it has, sorted. */
  get names(): string[] {
    return Array.from(this.tasks.values(), ({ name }) => name).toSorted();
  }

  /** Waits until it has these tasks and no others. */
  async has(...names: string[]): Promise<void> {
    const wanted = names.toSorted().join();
    await until(`the watch has "${wanted}", it has`, () => this.names.join() === wanted);
  }

  async synced(): Promise<this> {
    await until('synced', () => this.told.includes('synced') || this.#failed());
    return this;
  }

  /** Waits for the stream's error. */
  async error(): Promise<ConnectError> {
    const end = await until('an end of the stream', () => this.ended);
    if (end === 'OK') throw new Error('the stream ended without an error');
    return end;
  }

  stop(): void {
    this.#stop.abort();
  }

  #failed(): false {
    if (this.ended !== undefined) throw new Error(`the stream has ended: ${String(this.ended)}`);
    return false;
  }

  async #run(open: OpenWatch, request: MessageInitShape<typeof WatchTasksRequestSchema>, options: CallOptions): Promise<void> {
    try {
      for await (const { event, resumeToken } of open(request, options)) {
        this.token = resumeToken;
        if (event.case === 'upserted') {
          this.tasks.set(event.value.id, event.value);
          this.told.push(`+ ${event.value.name}`);
        } else if (event.case === 'removed') {
          this.tasks.delete(event.value.id);
          this.told.push(`- ${event.value.id}`);
        } else this.told.push(event.case ?? 'nothing');
      }
      this.ended = 'OK';
    } catch (error) {
      this.ended = ConnectError.from(error);
    }
  }
}

/** What a follower asks for, and as whom. */
export interface Asked {
  /** For messages. */
  readonly who: string;
  readonly query: string;
  readonly token: string;
}

/** A client that applies what it is told, and goes on when its stream ends, at the next of several addresses. */
export class Follower {
  readonly asked: Asked;
  /** How often it went on where it was, and how often it had to begin anew. */
  resumed = 0;
  restarted = 0;
  readonly #addresses: () => readonly string[];
  #watching: Watching | undefined;
  #stopped = false;

  constructor(asked: Asked, addresses: () => readonly string[]) {
    this.asked = asked;
    this.#addresses = addresses;
    void this.#run();
  }

  get tasks(): ReadonlyMap<string, Task> {
    return this.#watching?.tasks ?? new Map();
  }

  /** Breaks its stream in the middle. */
  breakOff(): void {
    this.#watching?.stop();
  }

  stop(): void {
    this.#stopped = true;
    this.breakOff();
  }

  async #run(): Promise<void> {
    const { query, token } = this.asked;
    let resumeToken = '';
    let known: ReadonlyMap<string, Task> = new Map();
    for (let round = 0; !this.#stopped; round++) {
      const addresses = this.#addresses();
      const open = watchOverGrpcJs(addresses[round % addresses.length] ?? '');
      const watching = new Watching(open, { query, resumeToken, includeInitial: true }, token, { known });
      this.#watching = watching;
      while (watching.ended === undefined) await sleep(5);
      if (watching.ended !== 'OK' && watching.ended.code === Code.OutOfRange) {
        resumeToken = '';
        known = new Map();
        this.restarted += 1;
      } else {
        resumeToken = watching.token === '' ? resumeToken : watching.token;
        known = new Map(watching.tasks);
        this.resumed += 1;
      }
      await sleep(50);
    }
  }
}
