import { setTimeout as sleep } from 'node:timers/promises';
import { create, toBinary } from '@bufbuild/protobuf';
import { Code } from '@connectrpc/connect';
import { expect } from 'vitest';
import { maxRequestBytes } from '../../src/call/limits.ts';
import { ListTasksRequestSchema, ListTasksResponseSchema } from '../../src/gen/tasks/v1/tasks_pb.ts';
import { envelope, openHttp1, openHttp2, type RawAnswer, type RawRequest } from './raw-call.ts';
import { signedIn, startTestServer, type TestServer } from './test-server.ts';

/** The path of TasksService, before the slash and the method. */
export const tasksPath = '/tasks.v1.TasksService';

const healthPath = '/grpc.health.v1.Health/Check';

/** An empty request, enveloped. */
export const emptyRequest = envelope(new Uint8Array());

/** A ListTasks whose handler takes a second, enveloped. */
export const slowRequest = envelope(toBinary(ListTasksRequestSchema, create(ListTasksRequestSchema, { query: 'slow' })));

/** A request whose query has 64 KiB, and which is so much larger for its tag and its length. */
export const tooLargeRequest = Buffer.concat([Buffer.from([0x1a, 0x80, 0x80, 0x04]), Buffer.alloc(maxRequestBytes, 0x61)]);

/** What a library answers: the code and the whole message. */
export interface Refusal {
  readonly code: keyof typeof Code;
  readonly message: string;
}

/** Reads a refusal as the protocol of a content type has it. Expects that it has no details. */
export function refusalIn(type: string, { headers, body }: RawAnswer): Refusal {
  if (type.startsWith('application/grpc')) {
    const isWeb = type.startsWith('application/grpc-web');
    const lines = isWeb ? body.subarray(5).toString().trim().split('\r\n') : [];
    const fields = isWeb ? Object.fromEntries(lines.map((line) => line.split(': ') as [string, string])) : headers;
    expect(fields).not.toHaveProperty('grpc-status-details-bin');
    return {
      code: Code[Number(fields['grpc-status'])] as keyof typeof Code,
      message: decodeURIComponent(fields['grpc-message'] ?? ''),
    };
  }
  const isStream = type.startsWith('application/connect');
  const json = JSON.parse(body.subarray(isStream ? 5 : 0).toString()) as { error: object };
  const { code, message, ...others } = (isStream ? json.error : json) as { code: string; message: string };
  expect(others).toEqual({});
  const name = Object.keys(Code).find((one) => one.toLowerCase() === code.replaceAll('_', ''));
  return { code: name as keyof typeof Code, message };
}

/** What came of a request that a library may have refused. */
interface Outcome {
  readonly answer: RawAnswer;
  readonly requestId: string;
  /** The lines of the log that are about it. */
  lines(): TestServer['log'];
  /** How many handlers were asked. */
  readonly entered: number;
}

/** A server that counts the requests which reach a handler. */
export interface RefusingServer extends TestServer {
  readonly enteredHandlers: number;
  /** Sends a request, and then a good one on the same connection. */
  sendBeforeAnother(port: 'grpc' | 'web', version: 1 | 2, request: RawRequest): Promise<Outcome>;
}

/** Starts a server whose ListTasks answers with the page size that it was asked for. */
export async function startRefusingServer(): Promise<RefusingServer> {
  let enteredHandlers = 0;
  const server = await startTestServer({
    handlers: {
      async listTasks({ query, pageSize }) {
        enteredHandlers += 1;
        if (query === 'slow') await sleep(1000);
        return create(ListTasksResponseSchema, { count: pageSize });
      },
    },
  });
  return {
    ...server,
    get enteredHandlers() {
      return enteredHandlers;
    },
    async sendBeforeAnother(port, version, request) {
      const connection = (version === 1 ? openHttp1 : openHttp2)(server[port]);
      try {
        const requestId = `refused-${Math.random()}`;
        const entered = enteredHandlers;
        const answer = await connection.send({
          ...request,
          headers: { ...(version === 2 ? { te: 'trailers' } : {}), ...signedIn, ...request.headers, 'x-request-id': requestId },
        });
        const isGrpc = port === 'grpc';
        const next = await connection.send({
          path: healthPath,
          headers: { 'content-type': isGrpc ? 'application/grpc' : 'application/proto' },
          body: isGrpc ? emptyRequest : new Uint8Array(),
        });
        expect([next.status, next.headers['grpc-status']]).toEqual([200, isGrpc ? '0' : undefined]);
        const lines = () => server.log.filter((each) => each['requestId'] === requestId);
        return { answer, requestId, lines, entered: enteredHandlers - entered };
      } finally {
        connection.close();
      }
    },
  };
}
