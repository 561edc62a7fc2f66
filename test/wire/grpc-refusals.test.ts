import { once } from 'node:events';
import { connect } from 'node:http2';
import { setTimeout as sleep } from 'node:timers/promises';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { envelope } from '../support/raw-call.ts';
import {
  emptyRequest,
  type Refusal,
  type RefusingServer,
  refusalIn,
  slowRequest,
  startRefusingServer,
  tasksPath,
  tooLargeRequest,
} from '../support/refusing-server.ts';
import { signedIn, until } from '../support/test-server.ts';

// What grpc-js refuses by itself, before a handler of ours is asked: in its own words, without our details.

let server: RefusingServer;
beforeAll(async () => {
  server = await startRefusingServer();
});
afterAll(() => server.stop());

describe('what grpc-js refuses on the gRPC port', () => {
  const noRequest = `Received no request message for server streaming method ${tasksPath}/ListTasks`;
  const deadline = { code: 'DeadlineExceeded', message: 'Deadline exceeded' } as const;
  type GrpcCase = readonly [what: string, headers: Record<string, string>, body: Uint8Array, refusal: Refusal, logged?: string];
  const cases: readonly GrpcCase[] = [
    [
      'a message over 64 KiB',
      {},
      envelope(tooLargeRequest),
      { code: 'ResourceExhausted', message: 'Received message larger than max (65540 vs 65536)' },
    ],
    [
      'a message that grows over 64 KiB when it is decompressed',
      { 'grpc-encoding': 'gzip' },
      envelope(gzipSync(tooLargeRequest), 1),
      { code: 'ResourceExhausted', message: 'Received message that decompresses to a size larger than 65536' },
    ],
    ['no message', {}, new Uint8Array(), { code: 'Unimplemented', message: noRequest }],
    ['half a message', {}, envelope(Buffer.alloc(100)).subarray(0, 50), { code: 'Unimplemented', message: noRequest }],
    [
      'two messages',
      {},
      Buffer.concat([emptyRequest, emptyRequest]),
      {
        code: 'Unimplemented',
        message: `Received a second request message for server streaming method ${tasksPath}/ListTasks`,
      },
    ],
    [
      'a message that cannot be decompressed',
      { 'grpc-encoding': 'gzip' },
      envelope(Buffer.from('this is no gzip'), 1),
      { code: 'Internal', message: 'Failed to decompress message' },
    ],
    ...['100m', '100000u', '1m'].map((timeout): GrpcCase => {
      const headers = { 'grpc-timeout': timeout };
      return [`a call whose deadline passes: ${timeout}`, headers, slowRequest, deadline, 'DEADLINE_EXCEEDED'];
    }),
  ];

  test.each(cases.map(([what, headers, body, refusal, logged = 'CANCELLED']) => ({ what, headers, body, refusal, logged })))(
    '$what',
    async ({ headers, body, refusal, logged }) => {
      const request = { path: `${tasksPath}/ListTasks`, headers: { 'content-type': 'application/grpc', ...headers }, body };
      const { answer, lines } = await server.sendBeforeAnother('grpc', 2, request);
      expect(answer.status).toBe(200);
      expect(refusalIn('application/grpc', answer)).toEqual(refusal);
      // Our log has how the call ended for us: all that grpc-js says is whether the deadline has passed.
      await until('line in the log', () => lines().length > 0);
      expect(lines()).toMatchObject([
        { method: 'tasks.v1.TasksService/ListTasks', code: logged, protocol: 'grpc', level: 'info', msg: 'call failed' },
      ]);
    },
  );

  test('an invalid timeout, and nothing is logged', async () => {
    for (const timeout of ['soon', '1']) {
      const headers = { 'content-type': 'application/grpc', 'grpc-timeout': timeout };
      const { answer, lines, entered } = await server.sendBeforeAnother('grpc', 2, {
        path: `${tasksPath}/ListTasks`,
        headers,
        body: emptyRequest,
      });
      expect(refusalIn('application/grpc', answer)).toEqual({
        code: 'Internal',
        message: `Invalid grpc-timeout value "${timeout}"`,
      });
      await sleep(20);
      expect([lines(), entered]).toEqual([[], 0]);
    }
  });

  test('a call whose deadline passes while its message is on the way', async () => {
    const session = connect(`http://${server.grpc}`);
    const requestId = 'slow-grpc';
    const stream = session.request({
      ':method': 'POST',
      ':path': `${tasksPath}/ListTasks`,
      'content-type': 'application/grpc',
      te: 'trailers',
      'grpc-timeout': '50m',
      'x-request-id': requestId,
      ...signedIn,
    });
    const entered = server.enteredHandlers;
    const answer: Record<string, unknown> = {};
    stream.on('response', (headers) => void Object.assign(answer, headers));
    stream.on('error', () => {});
    stream.resume();
    stream.write(emptyRequest.subarray(0, 3));
    await once(stream, 'close');
    expect(stream.rstCode).toBe(0);
    session.destroy();
    expect(answer).toMatchObject({ 'grpc-status': '4', 'grpc-message': 'Deadline%20exceeded' });
    expect(server.log.filter((each) => each['requestId'] === requestId)).toMatchObject([
      { code: 'DEADLINE_EXCEEDED', reason: 'DEADLINE_EXCEEDED' },
    ]);
    expect(server.enteredHandlers).toBe(entered);
  });

  test.each([
    ['method', `${tasksPath}/Secret`],
    ['service', '/tasks.v2.Secret/ListTasks'],
    ['form of a path', '/'],
  ])('an unknown %s, which is neither logged nor counted', async (_what, path) => {
    const logged = server.log.length;
    const { answer } = await server.sendBeforeAnother('grpc', 2, {
      path,
      headers: { 'content-type': 'application/grpc' },
      body: emptyRequest,
    });
    expect(answer.status).toBe(200);
    const message = `The server does not implement the method ${path}`;
    expect(refusalIn('application/grpc', answer)).toEqual({ code: 'Unimplemented', message });
    expect(JSON.stringify(server.log.slice(logged))).not.toContain('Secret');
    expect(await (await fetch(`http://${server.ops}/metrics`)).text()).not.toContain('Secret');
  });

  test.each(['ListTasks', 'WatchTasks', 'NoSuchMethod'])(
    'content types and HTTP methods that are not those of gRPC, for %s: 415, and nothing is logged',
    async (method) => {
      const grpc = { 'content-type': 'application/grpc' };
      const types = [
        'application/json',
        'application/grpc-web+proto',
        'application/grpc+json',
        'application/grpcs',
        'text/plain',
        '',
      ];
      const requests = [
        ...types.map((type) => ({ headers: { 'content-type': type }, body: Buffer.from('{}') })),
        { headers: grpc, verb: 'GET' },
        { headers: grpc, verb: 'PUT', body: emptyRequest },
        { headers: grpc, verb: 'DELETE', body: emptyRequest },
      ];
      for (const request of requests) {
        const { answer, lines } = await server.sendBeforeAnother('grpc', 2, { path: `${tasksPath}/${method}`, ...request });
        expect([answer.status, answer.body.length]).toEqual([415, 0]);
        expect(lines()).toEqual([]);
      }
    },
  );
});
