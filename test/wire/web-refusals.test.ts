import { gzipSync } from 'node:zlib';
import { Code } from '@connectrpc/connect';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { maxRequestBytes } from '../../src/call/limits.ts';
import { makeGrpcClient } from '../support/clients.ts';
import { envelope, type RawRequest } from '../support/raw-call.ts';
import {
  emptyRequest,
  type Refusal,
  type RefusingServer,
  refusalIn,
  startRefusingServer,
  tasksPath,
  tooLargeRequest,
} from '../support/refusing-server.ts';
import { signedIn, until } from '../support/test-server.ts';

// What connect-es refuses by itself, before a handler of ours is asked: in its own words, without our details.

let server: RefusingServer;
beforeAll(async () => {
  server = await startRefusingServer();
});
afterAll(() => server.stop());

describe('what connect-es refuses on the web port', () => {
  const noMessages: readonly (readonly [string, number[], why: string])[] = [
    ['a tag without a value', [0x08], 'premature EOF'],
    ['a varint without an end', [0x08, 0x80], 'premature EOF'],
    ['a varint of eleven bytes', [0x08, ...Array.from({ length: 11 }, () => 0xff)], 'invalid varint'],
    ['a string longer than the message', [0x1a, 0x7f, 0x61], 'premature EOF'],
    ['a string that is no UTF-8', [0x1a, 0x01, 0xff], 'The encoded data was not valid for encoding utf-8'],
    ['a group without an end', [0x0b], 'premature EOF'],
    ['field number 0', [0x00, 0x00], 'illegal tag: field no 0 wire type 0'],
    ['text', [...Buffer.from('this is no protobuf')], 'cant skip wire type 4'],
  ];

  /** Each protocol over each version of HTTP: its content type, its method, and what its errors have as their HTTP status. */
  const protocols = [
    ['gRPC', 2, 'application/grpc', 'ListTasks', 'grpc'],
    ['gRPC-Web', 1, 'application/grpc-web+proto', 'ListTasks', 'grpc-web'],
    ['gRPC-Web', 2, 'application/grpc-web+proto', 'ListTasks', 'grpc-web'],
    ['Connect', 1, 'application/proto', 'ListTasks', 'connect'],
    ['Connect', 2, 'application/proto', 'ListTasks', 'connect'],
    ['Connect streams', 1, 'application/connect+proto', 'WatchTasks', 'connect'],
    ['Connect streams', 2, 'application/connect+proto', 'WatchTasks', 'connect'],
  ] as const;
  const statuses: Readonly<Partial<Record<keyof typeof Code, number>>> = {
    Internal: 500,
    InvalidArgument: 400,
    ResourceExhausted: 429,
    Unimplemented: 501,
  };

  async function expectRefusal(
    request: RawRequest,
    version: 1 | 2,
    refusal: Refusal,
    logged: { readonly code: string; readonly protocol: string; readonly reason?: string },
    type = request.headers['content-type'] ?? '',
  ): Promise<void> {
    const { answer, requestId, lines, entered } = await server.sendBeforeAnother('web', version, request);
    expect(refusalIn(type, answer)).toEqual(refusal);
    const isUnaryConnect = !type.includes('grpc') && !type.includes('connect+');
    expect(answer.status).toBe(isUnaryConnect ? statuses[refusal.code] : 200);
    expect(answer.headers['x-request-id']).toBe(requestId);
    await until('line in the log', () => lines().length > 0);
    expect(lines()).toMatchObject([{ ...logged, level: 'info', msg: 'call failed' }]);
    expect(entered).toBe(0);
  }

  describe.each(protocols)('over %s, HTTP/%s', (_protocol, version, type, method, protocol) => {
    const path = `${tasksPath}/${method}`;
    const isEnveloped = type !== 'application/proto';
    const inType = (message: Uint8Array, flags = 0): Uint8Array => (isEnveloped ? envelope(message, flags) : message);
    const encoding = type.includes('grpc') ? 'grpc-encoding' : isEnveloped ? 'connect-content-encoding' : 'content-encoding';

    const query = method === 'WatchTasks' ? 0x0a : 0x1a; // the tag of this field

    // In the log they are what they are: no fault of ours.
    test.each(noMessages)('%s', async (_what, bytes, why) => {
      await expectRefusal(
        {
          path,
          headers: { 'content-type': type },
          body: inType(Buffer.from(bytes.map((byte) => (byte === 0x1a ? query : byte)))),
        },
        version,
        { code: 'Internal', message: `parse binary: ${why}` },
        { code: 'INVALID_ARGUMENT', reason: 'INVALID_ARGUMENT', protocol },
      );
    });

    test('a message over 64 KiB', async () => {
      await expectRefusal(
        {
          path,
          headers: { 'content-type': type, 'content-length': `${inType(tooLargeRequest).length}` },
          body: inType(tooLargeRequest),
        },
        version,
        { code: 'ResourceExhausted', message: 'message size 65540 is larger than configured readMaxBytes 65536' },
        { code: 'RESOURCE_EXHAUSTED', protocol },
      );
    });

    test('a message that grows over 64 KiB when it is decompressed', async () => {
      await expectRefusal(
        { path, headers: { 'content-type': type, [encoding]: 'gzip' }, body: inType(gzipSync(tooLargeRequest), 1) },
        version,
        { code: 'ResourceExhausted', message: 'message is larger than configured readMaxBytes 65536 after decompression' },
        { code: 'RESOURCE_EXHAUSTED', protocol },
      );
    });

    test('an unknown compression', async () => {
      await expectRefusal(
        { path, headers: { 'content-type': type, [encoding]: 'zstd' }, body: inType(Buffer.from('x'), 1) },
        version,
        { code: 'Unimplemented', message: 'unknown compression "zstd": supported encodings are gzip' },
        { code: 'UNIMPLEMENTED', protocol },
      );
    });

    test('a message that cannot be decompressed', async () => {
      await expectRefusal(
        { path, headers: { 'content-type': type, [encoding]: 'gzip' }, body: inType(Buffer.from('this is no gzip'), 1) },
        version,
        { code: 'InvalidArgument', message: 'decompression failed' },
        { code: 'INVALID_ARGUMENT', protocol },
      );
    });

    test('an invalid timeout', async () => {
      const [header, name] = type.includes('grpc') ? ['grpc-timeout', 'grpc'] : ['connect-timeout-ms', 'connect'];
      for (const timeout of ['soon', '-1', '1.5', '1e3']) {
        await expectRefusal(
          { path, headers: { 'content-type': type, [header]: timeout }, body: inType(new Uint8Array()) },
          version,
          { code: 'InvalidArgument', message: `protocol error: invalid ${name} timeout value: ${timeout}` },
          { code: 'INVALID_ARGUMENT', protocol },
        );
      }
    });
  });

  test.each(protocols.filter(([, , type]) => type !== 'application/proto'))(
    'none, two and half a message over %s, HTTP/%s',
    async (_protocol, version, type, method, protocol) => {
      const kind = method === 'WatchTasks' ? 'server-streaming' : 'unary';
      const refused = [
        [new Uint8Array(), 'Unimplemented', `protocol error: missing input message for ${kind} method`],
        [
          Buffer.concat([emptyRequest, emptyRequest]),
          'Unimplemented',
          `protocol error: received extra input message for ${kind} method`,
        ],
        [envelope(Buffer.alloc(100)).subarray(0, 50), 'InvalidArgument', 'protocol error: incomplete envelope'],
      ] as const;
      for (const [body, code, message] of refused) {
        const request = { path: `${tasksPath}/${method}`, headers: { 'content-type': type }, body };
        const logged = { code: code === 'Unimplemented' ? 'UNIMPLEMENTED' : 'INVALID_ARGUMENT', protocol };
        await expectRefusal(request, version, { code, message }, logged);
      }
    },
  );

  test('an empty timeout', async () => {
    await expectRefusal(
      {
        path: `${tasksPath}/ListTasks`,
        headers: { 'content-type': 'application/json', 'connect-timeout-ms': '' },
        body: Buffer.from('{}'),
      },
      1,
      { code: 'InvalidArgument', message: 'protocol error: invalid connect timeout value: ' },
      { code: 'INVALID_ARGUMENT', protocol: 'connect' },
    );
  });

  test.each(noMessages)('over Connect GET: %s', async (_what, bytes, why) => {
    const message = Buffer.from(bytes).toString('base64url');
    const path = `${tasksPath}/ListTasks?connect=v1&encoding=proto&base64=1&message=${message}`;
    await expectRefusal(
      { path, verb: 'GET', headers: {} },
      1,
      { code: 'Internal', message: `parse binary: ${why}` },
      { code: 'INVALID_ARGUMENT', reason: 'INVALID_ARGUMENT', protocol: 'connect' },
      'application/proto',
    );
  });

  const ofRequest = 'cannot decode message tasks.v1.ListTasksRequest from JSON';
  const ofField = (field: string) => `cannot decode field tasks.v1.ListTasksRequest.${field} from JSON: expected`;
  test.each([
    ['', `${ofRequest}: Unexpected end of JSON input`],
    ['nonsense', `${ofRequest}: Unexpected token 'o', "nonsense" is not valid JSON`],
    ['[]', `${ofRequest}: Array(0)`],
    ['null', `${ofRequest}: null`],
    ['7', `${ofRequest}: 7`],
    ['{', `${ofRequest}: Expected property name or '}' in JSON at position 1 (line 1 column 2)`],
    ['{"pageSize":"many"}', `${ofField('page_size')} number (int32), got "many"`],
    ['{"pageSize":3000000000}', `${ofField('page_size')} number (int32): 3000000000 out of range`],
    ['{"query":5}', `${ofField('query')} string, got 5`],
    ['{"includeTotalSize":"yes"}', `${ofField('include_total_size')} boolean, got "yes"`],
    ['{"query":"\\ud800"}', `${ofField('query')} string: invalid UTF8`],
    [`{"pageSize":"${'9'.repeat(5000)}"}`, `${ofField('page_size')} number (int32), got Infinity`],
  ])('JSON that is no request: %j', async (body, message) => {
    for (const version of [1, 2] as const) {
      await expectRefusal(
        { path: `${tasksPath}/ListTasks`, headers: { 'content-type': 'application/json' }, body: Buffer.from(body) },
        version,
        { code: 'InvalidArgument', message },
        { code: 'INVALID_ARGUMENT', protocol: 'connect' },
      );
    }
  });

  // What is still on its way is read and dropped, also when it is more than a stream of Node keeps.
  test.each([131_072, 204_810])('the rest of a refused request of %i bytes over HTTP/1.1', async (size) => {
    const body = Buffer.alloc(size, 1);
    for (const type of ['application/grpc-web+proto', 'application/connect+proto']) {
      const request = { path: `${tasksPath}/WatchTasks`, headers: { 'content-type': type }, body };
      const { answer } = await server.sendBeforeAnother('web', 1, request);
      expect(answer.status).toBe(200);
    }
    const json = { path: `${tasksPath}/ListTasks`, headers: { 'content-type': 'application/json' }, body };
    expect((await server.sendBeforeAnother('web', 1, json)).answer.status).toBe(429);
    const noToken = { ...json, headers: { ...json.headers, 'coder-session-token': 'x' } };
    expect((await server.sendBeforeAnother('web', 1, noToken)).answer.status).toBe(401);
  });

  test('JSON over 64 KiB', async () => {
    const body = Buffer.from(`{"query":"${'a'.repeat(maxRequestBytes)}"}`);
    const headers = { 'content-type': 'application/json', 'content-length': `${body.length}` };
    await expectRefusal(
      { path: `${tasksPath}/ListTasks`, headers, body },
      1,
      { code: 'ResourceExhausted', message: 'message size 65548 is larger than configured readMaxBytes 65536' },
      { code: 'RESOURCE_EXHAUSTED', protocol: 'connect' },
    );
  });

  test.each([
    'text/plain',
    'application/xml',
    'application/x-www-form-urlencoded',
    'multipart/form-data',
    'application/grpc+foo',
    'application/grpcs',
  ])('the content type %s: 415, and nothing is logged', async (type) => {
    for (const version of [1, 2] as const) {
      const request = { path: `${tasksPath}/ListTasks`, headers: { 'content-type': type }, body: Buffer.from('x') };
      const { answer, lines } = await server.sendBeforeAnother('web', version, request);
      expect([answer.status, answer.body.length]).toEqual([415, 0]);
      expect(lines()).toEqual([]);
    }
  });
});

// These are answered by us, before a library is asked.
describe('gRPC-Web in base64 on the web port', () => {
  test.each(['application/grpc-web-text', 'application/grpc-web-text+proto'])(
    'is refused in the way of gRPC-Web, and the next request is read: %s',
    async (type) => {
      for (const version of [1, 2] as const) {
        for (const method of ['ListTasks', 'WatchTasks']) {
          const body = Buffer.from(emptyRequest.toString('base64'));
          const request = { path: `${tasksPath}/${method}`, headers: { 'content-type': type }, body };
          const { answer, lines } = await server.sendBeforeAnother('web', version, request);
          expect([answer.status, answer.headers['content-type'], answer.body.length]).toEqual([200, type, 0]);
          expect(answer.headers).toMatchObject({
            'grpc-status': '12',
            'grpc-message': encodeURI('application/grpc-web-text is not served: use application/grpc-web'),
          });
          expect(lines()).toEqual([]);
        }
      }
    },
  );
});

describe('an unknown method on the web port', () => {
  test.each(['application/grpc', 'application/grpc-web+proto', 'application/grpc-web-text', 'application/grpc+json'])(
    'is a gRPC answer for %s',
    async (type) => {
      for (const version of [1, 2] as const) {
        const request = { path: `${tasksPath}/NoSuchMethod`, headers: { 'content-type': type }, body: emptyRequest };
        const { answer, lines } = await server.sendBeforeAnother('web', version, request);
        expect([answer.status, answer.headers['content-type'], answer.body.length]).toEqual([200, type, 0]);
        expect(answer.headers).toMatchObject({
          'grpc-status': '12',
          'grpc-message': encodeURI('there is no such method'),
        });
        expect(lines()).toEqual([]);
      }
    },
  );

  test.each(['application/json', 'application/proto', 'application/connect+proto', 'text/plain'])(
    'is 404 in JSON for %s',
    async (type) => {
      for (const version of [1, 2] as const) {
        const request = { path: `${tasksPath}/NoSuchMethod`, headers: { 'content-type': type }, body: Buffer.from('{}') };
        const { answer, lines } = await server.sendBeforeAnother('web', version, request);
        expect(answer.status).toBe(404);
        expect(JSON.parse(answer.body.toString())).toEqual({
          code: 'unimplemented',
          message: 'there is no such method or page',
        });
        expect(lines()).toEqual([]);
      }
    },
  );

  test.each(['grpc', 'web'] as const)('is UNIMPLEMENTED for grpc-js, as on the port %s', async (port) => {
    const client = makeGrpcClient(server[port]);
    const method = { name: 'NoSuchMethod', parent: { typeName: 'tasks.v1.TasksService' } };
    await expect(client.bytes(method as never, new Uint8Array(), { headers: signedIn })).rejects.toMatchObject({
      code: Code.Unimplemented,
    });
    client.close();
  });
});
