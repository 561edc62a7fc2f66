import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { type Task, WatchTasksResponseSchema } from '../../src/gen/tasks/v1/tasks_pb.ts';
import type { TestHandlers } from './test-server.ts';

/** A stream of {@link ServedWatches}. */
export interface ServedWatch {
  /** Sends a message with this as its token, and with a task that has changed if there is one. */
  send(resumeToken: string, upserted?: Task): void;
  /** Ends the stream in peace. */
  end(): void;
  /** Whether its handler has been left, by an end or because the client is gone. */
  readonly isLeft: boolean;
}

/** A WatchTasks whose messages a test sends itself. Each stream begins with a message that has the token `first`. */
export class ServedWatches {
  readonly #watches = new Map<string, ServedWatch>();

  /** The stream that was opened last with a query. */
  find(query: string): ServedWatch | undefined {
    return this.#watches.get(query);
  }

  /** For a test server. */
  readonly handler: TestHandlers['watchTasks'] = (request, { signal }) => this.#answer(request.query, signal);

  async *#answer(query: string, signal: AbortSignal) {
    const toSend: MessageInitShape<typeof WatchTasksResponseSchema>[] = [{ resumeToken: 'first' }];
    let isEnded = false;
    let wake = (): void => {};
    const watch = {
      isLeft: false,
      send(resumeToken: string, upserted?: Task) {
        toSend.push({ resumeToken, ...(upserted === undefined ? {} : { event: { case: 'upserted', value: upserted } }) });
        wake();
      },
      end() {
        isEnded = true;
        wake();
      },
    };
    this.#watches.set(query, watch);
    signal.addEventListener('abort', () => wake());
    try {
      while (!signal.aborted) {
        const message = toSend.shift();
        if (message !== undefined) yield create(WatchTasksResponseSchema, message);
        else if (isEnded) return;
        else {
          await new Promise<void>((resolve) => {
            wake = resolve;
          });
        }
      }
    } finally {
      watch.isLeft = true;
    }
  }
}
