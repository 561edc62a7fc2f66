import { once } from 'node:events';
import { Agent, request as httpRequest, type IncomingMessage } from 'node:http';
import { connect, type IncomingHttpHeaders } from 'node:http2';
import { buffer } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { gzipSync } from 'node:zlib';
import { create, toBinary } from '@bufbuild/protobuf';
import { Code } from '@connectrpc/connect';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { taskNotFound } from '../../src/call/errors.ts';
import { ListTasksRequestSchema, WatchTasksRequestSchema, WatchTasksResponseSchema } from '../../src/gen/tasks/v1/tasks_pb.ts';
import { signedIn, startTestServer, type TestServer } from '../support/test-server.ts';

// Cases that the Connect conformance suite has, or that it made us look for, written out byte by byte: they need no suite.

const listTasks = '/tasks.v1.TasksService/ListTasks';
const watchTasks = '/tasks.v1.TasksService/WatchTasks';

type Port = 'grpc' | 'web';

/** A protocol as a client writes it. */
interface Protocol {
  readonly name: string;
  readonly port: Port;
  readonly http: 1 | 2;
  readonly contentType: string;
  /** In which header it says how messages are compressed. */
  readonly encoding: string;
  readonly timeout: 'grpc-timeout' | 'connect-timeout-ms';
}

const grpcHeaders = { encoding: 'grpc-encoding', timeout: 'grpc-timeout' } as const;
const grpc: readonly Protocol[] = [
  { name: 'gRPC on the gRPC port', port: 'grpc', http: 2, contentType: 'application/grpc', ...grpcHeaders },
  { name: 'gRPC on the web port', port: 'web', http: 2, contentType: 'application/grpc', ...grpcHeaders },
];
const grpcWeb: readonly Protocol[] = [
  { name: 'gRPC-Web over HTTP/1.1', port: 'web', http: 1, contentType: 'application/grpc-web+proto', ...grpcHeaders },
  { name: 'gRPC-Web over HTTP/2', port: 'web', http: 2, contentType: 'application/grpc-web+proto', ...grpcHeaders },
];
const connectHeaders = { encoding: 'connect-content-encoding', timeout: 'connect-timeout-ms' } as const;
const connectStreams: readonly Protocol[] = [
  { name: 'Connect streams over HTTP/1.1', port: 'web', http: 1, contentType: 'application/connect+proto', ...connectHeaders },
  { name: 'Connect streams over HTTP/2', port: 'web', http: 2, contentType: 'application/connect+proto', ...connectHeaders },
];
const enveloped = [...grpc, ...grpcWeb, ...connectStreams];
const onWebPort = enveloped.filter(({ port }) => port === 'web');

/** What came back. `reset` is the code with which an HTTP/2 stream was closed. */
interface Response {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly trailers: IncomingHttpHeaders;
  readonly body: Buffer;
  readonly reset?: number;
}

interface Request {
  readonly method?: string;
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Uint8Array;
  /** Whether the client goes on as if it had more to send. */
  readonly open?: boolean;
  readonly agent?: Agent;
}

let server: TestServer;

beforeAll(async () => {
  server = await startTestServer({
    handlers: {
      async *watchTasks({ query }) {
        if (query === 'fail') throw taskNotFound();
        if (query === 'message') yield create(WatchTasksResponseSchema, { resumeToken: 'token' });
      },
    },
  });
});
afterAll(() => server.stop());

function envelope(flags: number, message: Uint8Array, length = message.length): Buffer {
  const head = Buffer.alloc(5);
  head.writeUInt8(flags);
  head.writeUInt32BE(length, 1);
  return Buffer.concat([head, message]);
}

const listRequest = toBinary(ListTasksRequestSchema, create(ListTasksRequestSchema, { pageSize: 5 }));
const watchRequest = (query: string): Uint8Array => toBinary(WatchTasksRequestSchema, create(WatchTasksRequestSchema, { query }));

/** Connect has messages in envelopes for streams alone. */
function pathOf({ contentType }: Protocol): string {
  return contentType.startsWith('application/connect') ? watchTasks : listTasks;
}

function messageOf(protocol: Protocol): Uint8Array {
  return pathOf(protocol) === listTasks ? listRequest : watchRequest('message');
}

function headersOf({ contentType }: Protocol, more: Readonly<Record<string, string>> = {}): Record<string, string> {
  const own: Record<string, string> = contentType.startsWith('application/connect')
    ? { 'connect-protocol-version': '1' }
    : { te: 'trailers' };
  return { 'content-type': contentType, ...own, ...signedIn, ...more };
}

/** Sends a request, and gives up after five seconds. */
async function send({ port, http }: Pick<Protocol, 'port' | 'http'>, request: Request): Promise<Response> {
  const late = sleep(5000).then(() => {
    throw new Error('there was no answer in 5 s');
  });
  return Promise.race([http === 1 ? sendHttp1(server[port], request) : sendHttp2(server[port], request), late]);
}

async function sendHttp1(address: string, { method = 'POST', path, headers, body, agent }: Request): Promise<Response> {
  const framed = { ...headers, 'content-length': String(body.length) };
  const outgoing = httpRequest(`http://${address}${path}`, {
    method,
    headers: framed,
    ...(agent === undefined ? {} : { agent }),
  });
  outgoing.end(body);
  const answered = await new Promise<IncomingMessage>((resolve, reject) => {
    outgoing.once('response', resolve);
    outgoing.on('error', reject); // it does nothing more when there is an answer already
  });
  const bytes = await buffer(answered);
  return { status: answered.statusCode ?? 0, headers: answered.headers, trailers: answered.trailers, body: bytes };
}

async function sendHttp2(address: string, { method = 'POST', path, headers, body, open = false }: Request): Promise<Response> {
  const session = connect(`http://${address}`);
  try {
    const stream = session.request({ ':method': method, ':path': path, ...headers }, { endStream: false });
    let [answer, trailers]: IncomingHttpHeaders[] = [{}, {}];
    stream.on('response', (received) => {
      answer = received;
    });
    stream.on('trailers', (received) => {
      trailers = received;
    });
    stream.on('error', () => {}); // the code says the same
    const chunks: Buffer[] = [];
    stream.on('data', (chunk: Buffer) => chunks.push(chunk));
    if (open) stream.write(body);
    else stream.end(body);
    await once(stream, 'close');
    const found = { headers: answer, trailers: trailers ?? {}, body: Buffer.concat(chunks), reset: stream.rstCode ?? 0 };
    return { status: Number(answer?.[':status']), ...found, headers: answer ?? {} };
  } finally {
    session.destroy();
  }
}

/** The code of gRPC that an answer has, in whatever place of it: 0 for OK, undefined when there is none. */
function codeOf({ contentType }: Pick<Protocol, 'contentType'>, { headers, trailers, body }: Response): number | undefined {
  const frames = framesOf(body);
  if (contentType.startsWith('application/connect')) {
    const end = frames.find(({ flags }) => (flags & 2) !== 0);
    if (end === undefined) return undefined;
    const { error } = JSON.parse(String(end.message)) as { error?: { code: string } };
    return error === undefined ? 0 : codeNamed(error.code);
  }
  const inBody = /^grpc-status:\s*(\d+)/im.exec(String(frames.find(({ flags }) => (flags & 128) !== 0)?.message ?? ''))?.[1];
  const code = headers['grpc-status'] ?? trailers['grpc-status'] ?? inBody;
  return code === undefined ? undefined : Number(code);
}

function codeNamed(name: string): number | undefined {
  const words = (code: Code): string => (Code[code] ?? '').replaceAll(/(?<=.)([A-Z])/g, '_$1').toLowerCase();
  return Object.values(Code).find((code): code is Code => typeof code === 'number' && words(code) === name);
}

function framesOf(body: Buffer): { readonly flags: number; readonly message: Buffer }[] {
  const frames: { flags: number; message: Buffer }[] = [];
  for (let at = 0; at + 5 <= body.length; ) {
    const end = at + 5 + body.readUInt32BE(at + 1);
    frames.push({ flags: body.readUInt8(at), message: body.subarray(at + 5, end) });
    at = end;
  }
  return frames;
}

describe('a request over the limit', () => {
  const http1 = onWebPort.filter(({ http }) => http === 1);
  const cases = http1.flatMap((protocol) => [131_072, 204_810].map((bytes) => ({ ...protocol, bytes })));

  test.each(cases)('of $bytes bytes does not hold up the next one: $name', async ({ bytes, ...protocol }) => {
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    for (let turn = 0; turn < 3; turn++) {
      const body = envelope(0, Buffer.alloc(bytes));
      const refused = await send(protocol, { path: pathOf(protocol), headers: headersOf(protocol), body, agent });
      expect(codeOf(protocol, refused)).toBe(Code.ResourceExhausted);
      const headers = { 'content-type': 'application/json', ...signedIn };
      const next = await send(protocol, { path: listTasks, headers, body: Buffer.from('{"pageSize":5}'), agent });
      expect([next.status, JSON.parse(String(next.body))]).toEqual([200, expect.objectContaining({ count: 5 })]);
    }
    agent.destroy();
  });

  test.each(enveloped.filter(({ http }) => http === 2))(
    'whose client goes on is answered, and its stream closed without an error: $name',
    async (protocol) => {
      const body = envelope(0, Buffer.alloc(131_072), 204_810);
      const answer = await send(protocol, { path: pathOf(protocol), headers: headersOf(protocol), body, open: true });
      expect([codeOf(protocol, answer), answer.reset]).toEqual([Code.ResourceExhausted, 0]);
    },
  );

  test('in a stream on the gRPC port whose client goes on is answered, and its stream closed without an error', async () => {
    const [protocol] = grpc as [Protocol];
    const body = envelope(0, Buffer.alloc(131_072), 204_810);
    const answer = await send(protocol, { path: watchTasks, headers: headersOf(protocol), body, open: true });
    expect([codeOf(protocol, answer), answer.reset]).toEqual([Code.ResourceExhausted, 0]);
  });
});

test.each(
  [...grpc, ...grpcWeb].flatMap((protocol) =>
    ['/tasks.v1.TasksService/Nothing', '/no.such.Service/Nothing'].map((path) => ({ ...protocol, path })),
  ),
)('$path is UNIMPLEMENTED in the words of the protocol: $name', async ({ path, ...protocol }) => {
  const answer = await send(protocol, { path, headers: headersOf(protocol), body: envelope(0, listRequest) });
  expect([answer.status, codeOf(protocol, answer)]).toEqual([200, Code.Unimplemented]);
  expect(answer.headers['content-type']).toMatch(protocol.contentType.replace('+proto', ''));
});

// On the gRPC port grpc-js takes such a message for uncompressed (test/conformance/known-failing-grpc.txt).
describe.each(onWebPort)('$name', (protocol) => {
  test.each([undefined, 'identity'])('a message flagged as compressed with the encoding %s is INTERNAL', async (encoding) => {
    const headers = headersOf(protocol, encoding === undefined ? {} : { [protocol.encoding]: encoding });
    const body = envelope(1, gzipSync(messageOf(protocol)));
    expect(codeOf(protocol, await send(protocol, { path: pathOf(protocol), headers, body }))).toBe(Code.Internal);
  });

  test.each([0, 1])('an unknown encoding is UNIMPLEMENTED, the flag being %d', async (flags) => {
    const headers = headersOf(protocol, { [protocol.encoding]: 'foo' });
    const answer = await send(protocol, { path: pathOf(protocol), headers, body: envelope(flags, messageOf(protocol)) });
    expect(codeOf(protocol, answer)).toBe(Code.Unimplemented);
    if (protocol.encoding !== 'grpc-encoding') return;
    expect(answer.headers['grpc-accept-encoding'] ?? answer.trailers['grpc-accept-encoding']).toBe('gzip');
  });
});

test.each([0, 1])('on the gRPC port, an unknown encoding is UNIMPLEMENTED, the flag being %d', async (flags) => {
  const [protocol] = grpc as [Protocol];
  const headers = headersOf(protocol, { 'grpc-encoding': 'foo' });
  const answer = await send(protocol, { path: listTasks, headers, body: envelope(flags, listRequest) });
  expect(codeOf(protocol, answer)).toBe(Code.Unimplemented);
  expect(answer.headers['grpc-accept-encoding']).toBe('identity,deflate,gzip');
});

test.each(enveloped.flatMap((protocol) => ['PUT', 'DELETE', 'PATCH'].map((method) => ({ ...protocol, method }))))(
  '$method is refused: $name',
  async ({ method, ...protocol }) => {
    const body = envelope(0, messageOf(protocol));
    const answer = await send(protocol, { method, path: pathOf(protocol), headers: headersOf(protocol), body });
    expect(answer.status).toBeOneOf([405, 415]);
  },
);

test.each(
  enveloped.flatMap((protocol) => {
    const [family = ''] = protocol.contentType.split('+');
    return ['+foo', '+prototype', '+'].map((subtype) => ({ ...protocol, contentType: family + subtype }));
  }),
)('$contentType is refused: $name', async (protocol) => {
  const body = envelope(0, messageOf(protocol));
  const answer = await send(protocol, { path: pathOf(protocol), headers: headersOf(protocol), body });
  expect(answer.status).toBe(415);
});

test.each(
  enveloped.flatMap((protocol) => [
    { ...protocol, query: 'nothing', code: 0 },
    { ...protocol, query: 'fail', code: Code.NotFound as number },
  ]),
)('a stream that ends with $code and no message has x-request-id: $name', async ({ query, code, ...protocol }) => {
  const headers = headersOf(protocol, { 'x-request-id': 'given-by-us' });
  const answer = await send(protocol, { path: watchTasks, headers, body: envelope(0, watchRequest(query)) });
  expect(codeOf(protocol, answer)).toBe(code);
  expect(answer.headers['x-request-id'] ?? answer.trailers['x-request-id']).toBe('given-by-us');
});

describe('a deadline of 30 days is none', () => {
  const thirtyDays = { 'grpc-timeout': '720H', 'connect-timeout-ms': String(30 * 24 * 3_600_000) } as const;

  test.each(enveloped)('$name', async (protocol) => {
    const headers = headersOf(protocol, { [protocol.timeout]: thirtyDays[protocol.timeout] });
    const zipped = { ...headers, [protocol.encoding]: 'gzip' };
    const plain = { path: pathOf(protocol), headers, body: envelope(0, messageOf(protocol)) };
    const requests = [
      plain,
      { ...plain, headers: zipped, body: envelope(1, gzipSync(messageOf(protocol))) },
      { ...plain, path: watchTasks, body: envelope(0, watchRequest('message')) },
    ];
    for (const request of requests) {
      const answer = await send(protocol, request);
      expect([codeOf(protocol, answer), framesOf(answer.body)[0]?.message.length]).toEqual([0, expect.any(Number)]);
    }
  });

  test.each([1, 2] as const)('Connect unary over HTTP/%d', async (http) => {
    const timeout = { 'connect-timeout-ms': thirtyDays['connect-timeout-ms'] };
    const headers = { 'content-type': 'application/proto', ...signedIn, ...timeout };
    const zipped = { ...headers, 'content-encoding': 'gzip' };
    const plain = await send({ port: 'web', http }, { path: listTasks, headers, body: listRequest });
    const gzipped = await send({ port: 'web', http }, { path: listTasks, headers: zipped, body: gzipSync(listRequest) });
    expect([plain.status, gzipped.status]).toEqual([200, 200]);
  });
});
