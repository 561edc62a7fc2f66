import { mkdtempDisposableSync, readFileSync, writeFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { create, createRegistry, fromBinary, type Message, toBinary } from '@bufbuild/protobuf';
import { type Any, anyPack } from '@bufbuild/protobuf/wkt';
import { type Code, ConnectError, type Interceptor } from '@connectrpc/connect';
import * as grpc from '@grpc/grpc-js';
import { Registry } from 'prom-client';
import type { Call } from '../../src/call/call.ts';
import { createCallMetrics } from '../../src/call/call-metrics.ts';
import type { Caller } from '../../src/call/caller.ts';
import { createCalls } from '../../src/call/calls.ts';
import { bidiStreaming, serverStreaming, unary } from '../../src/call/method.ts';
import { createLog } from '../../src/platform/log.ts';
import { type Certificates, createCertificates } from '../../src/transport/certificates.ts';
import { createGrpcListener } from '../../src/transport/grpc/grpc-listener.ts';
import { grpcTimeoutMs } from '../../src/transport/http2-limits.ts';
import { type Listener, listen } from '../../src/transport/listener.ts';
import { createWebListener } from '../../src/transport/web-listener.ts';
import { testCaller } from '../support/test-server.ts';
import { ServerCompatRequestSchema, ServerCompatResponseSchema } from './gen/connectrpc/conformance/v1/server_compat_pb.ts';
import {
  type BidiStreamRequest,
  BidiStreamResponseSchema,
  type ConformancePayload,
  type ConformancePayload_RequestInfo,
  ConformancePayload_RequestInfoSchema,
  ConformancePayloadSchema,
  ConformanceService,
  type Error as ErrorDefinition,
  file_connectrpc_conformance_v1_service,
  type Header,
  HeaderSchema,
  type IdempotentUnaryRequest,
  IdempotentUnaryResponseSchema,
  type ServerStreamRequest,
  ServerStreamResponseSchema,
  type UnaryRequest,
  UnaryResponseSchema,
} from './gen/connectrpc/conformance/v1/service_pb.ts';

// The server under test of the Connect conformance suite: `node adapter.ts web|grpc`. The suite writes what the server shall be on
// standard input, and reads where it listens from standard output (its docs/testing_servers.md). The calls go through the listeners and
// the call path of the service. Two things that the suite asks of a method are none that ours need, and are the adapter's own: request
// headers come by way of authentication, and response headers and trailers are set by interceptors of the two libraries.

const registry = createRegistry(file_connectrpc_conformance_v1_service);

/** What the suite expects to be told of a request, by the caller, of whom each call has one of its own. */
const requests = new WeakMap<Caller, { testCase: string; headers: Header[]; timeoutMs: bigint | undefined }>();

/** The headers and trailers that the method of a test case has asked for. */
const answers = new Map<string, { headers: readonly Header[]; trailers: readonly Header[] }>();

const calls = createCalls({
  authenticate: (header) => {
    const caller = { ...testCaller };
    const echoed = header('x-conformance-test');
    const timeoutMs = grpcTimeoutMs(header('grpc-timeout') ?? '') ?? header('connect-timeout-ms');
    requests.set(caller, {
      testCase: header('x-test-case-name') ?? '',
      headers: echoed === undefined ? [] : [create(HeaderSchema, { name: 'x-conformance-test', value: [echoed] })],
      timeoutMs: timeoutMs === undefined ? undefined : BigInt(Math.floor(Number(timeoutMs))),
    });
    return Promise.resolve(caller);
  },
  log: createLog('silent'),
  metrics: createCallMetrics(new Registry()),
});

const { method } = ConformanceService;
const methods = [
  unary(method.unary, async (request, call) => create(UnaryResponseSchema, { payload: await answerOne(request, call) })),
  unary(method.idempotentUnary, async (request, call) =>
    create(IdempotentUnaryResponseSchema, { payload: await answerOne(request, call) }),
  ),
  serverStreaming(method.serverStream, async function* (request, call) {
    for await (const payload of answerStream(request, [request], call)) yield create(ServerStreamResponseSchema, { payload });
  }),
  bidiStreaming(method.bidiStream, async function* (requested, call) {
    for await (const payload of answerBidi(requested, call)) yield create(BidiStreamResponseSchema, { payload });
  }),
];

async function answerOne(request: UnaryRequest | IdempotentUnaryRequest, call: Call): Promise<ConformancePayload> {
  const requestInfo = infoOf(call, [request]);
  const { responseHeaders = [], responseTrailers = [], responseDelayMs = 0, response } = request.responseDefinition ?? {};
  tellAnswer(call, responseHeaders, responseTrailers);
  await delay(responseDelayMs, undefined, { signal: call.signal });
  if (response?.case === 'error') throw errorOf(response.value, requestInfo, [...responseHeaders, ...responseTrailers]);
  return create(ConformancePayloadSchema, { data: response?.value ?? new Uint8Array(), requestInfo });
}

/** The responses of a stream to the requests that were read before. Only the first tells of them. */
async function* answerStream(
  { responseDefinition }: ServerStreamRequest | BidiStreamRequest,
  read: readonly Message[],
  call: Call,
): AsyncGenerator<ConformancePayload> {
  if (responseDefinition === undefined) return;
  const { responseHeaders, responseTrailers, responseData, responseDelayMs, error } = responseDefinition;
  const requestInfo = infoOf(call, read);
  tellAnswer(call, responseHeaders, responseTrailers);
  for (const [index, data] of responseData.entries()) {
    await delay(responseDelayMs, undefined, { signal: call.signal });
    yield create(ConformancePayloadSchema, { data, ...(index === 0 ? { requestInfo } : {}) });
  }
  if (error !== undefined) throw errorOf(error, responseData.length === 0 ? requestInfo : undefined);
}

async function* answerBidi(requested: AsyncIterable<BidiStreamRequest>, call: Call): AsyncGenerator<ConformancePayload> {
  const read: BidiStreamRequest[] = [];
  let responses: AsyncGenerator<ConformancePayload> | undefined;
  for await (const request of requested) {
    read.push(request);
    if (read[0]?.fullDuplex !== true) continue;
    // A response to each request, until there are no more: then the stream ends, with an error if the definition has one.
    responses ??= answerStream(read[0], [request], call);
    const next = await responses.next();
    if (next.done === true) return;
    const requestInfo = infoOf(call, [request]);
    yield { ...next.value, requestInfo };
  }
  const [first] = read;
  if (first !== undefined) yield* responses ?? answerStream(first, read, call);
}

function infoOf(call: Call, read: readonly Message[]): ConformancePayload_RequestInfo {
  const { headers = [], timeoutMs } = requests.get(call.caller) ?? {};
  const requestInfo = create(ConformancePayload_RequestInfoSchema, { requestHeaders: headers, requests: read.map(pack) });
  return timeoutMs === undefined ? requestInfo : { ...requestInfo, timeoutMs };
}

function pack(request: Message): Any {
  const schema = registry.getMessage(request.$typeName);
  if (schema === undefined) throw new Error(`${request.$typeName} is no message of the suite`);
  return anyPack(schema, request);
}

function errorOf(
  { code, message = '', details }: ErrorDefinition,
  requestInfo: ConformancePayload_RequestInfo | undefined,
  metadata: readonly Header[] = [],
): ConnectError {
  const headers = new Headers();
  appendAll(headers, metadata);
  // The numbers of the codes are the same.
  const error = new ConnectError(message, code as number as Code, headers);
  error.details = details.map(({ typeUrl, value }) => ({ type: typeUrl.slice(typeUrl.lastIndexOf('/') + 1), value }));
  if (requestInfo !== undefined) error.details.push({ desc: ConformancePayload_RequestInfoSchema, value: requestInfo });
  return error;
}

function tellAnswer(call: Call, headers: readonly Header[], trailers: readonly Header[]): void {
  answers.set(requests.get(call.caller)?.testCase ?? '', { headers, trailers });
}

function appendAll(target: Headers, headers: readonly Header[]): void {
  for (const { name, value } of headers) for (const one of value) target.append(name, one);
}

/** Sets the headers and trailers of answers over the web protocols. Those of a unary error are the metadata of the error. */
const webInterceptor: Interceptor = (next) => async (request) => {
  const answer = await next(request);
  // Headers go before the first message, which has to be asked for: only then are they known.
  const responses = answer.stream ? answer.message[Symbol.asyncIterator]() : undefined;
  const first = responses?.next();
  await first?.catch(() => {});
  const { headers = [], trailers = [] } = answers.get(request.header.get('x-test-case-name') ?? '') ?? {};
  appendAll(answer.header, headers);
  appendAll(answer.trailer, trailers);
  if (!answer.stream || responses === undefined || first === undefined) return answer;
  return { ...answer, message: resume(first, responses) };
};

async function* resume<T>(first: Promise<IteratorResult<T>>, rest: AsyncIterator<T>): AsyncGenerator<T> {
  try {
    for (let next = await first; next.done !== true; next = await rest.next()) yield next.value;
  } finally {
    await rest.return?.();
  }
}

/** Sets the headers and trailers of answers on the gRPC port. */
const grpcInterceptor: grpc.ServerInterceptor = (_, call) => {
  let testCase = '';
  // Headers are held until the method has said which, at its first response or its end.
  let sendHeaders: (() => void) | undefined = () => {
    const answer = answers.get(testCase);
    if (answer !== undefined) call.sendMetadata(fill(new grpc.Metadata(), answer.headers));
  };
  const fill = (metadata: grpc.Metadata, headers: readonly Header[]): grpc.Metadata => {
    for (const { name } of headers) metadata.remove(name);
    for (const { name, value } of headers) for (const one of value) metadata.add(name, one);
    return metadata;
  };
  return new grpc.ServerInterceptingCall(call, {
    start: (next) =>
      next({
        onReceiveMetadata: (metadata, pass) => {
          testCase = String(metadata.get('x-test-case-name')[0]);
          // The library takes the timeout out of the metadata.
          const deadline = Number(call.getDeadline());
          if (Number.isFinite(deadline)) metadata.set('grpc-timeout', `${Math.max(0, Math.round(deadline - Date.now()))}m`);
          pass(metadata);
        },
      }),
    sendMetadata: (metadata, next) => {
      sendHeaders = () => next(fill(metadata, answers.get(testCase)?.headers ?? []));
    },
    sendMessage: (response, next) => {
      sendHeaders?.();
      sendHeaders = undefined;
      next(response);
    },
    sendStatus: (status, next) => {
      sendHeaders?.();
      const trailers = answers.get(testCase)?.trailers ?? [];
      next({ ...status, metadata: fill(status.metadata ?? new grpc.Metadata(), trailers) });
    },
  });
};

/** Reads certificates as the service does, from files. */
function readCertificates(cert: Uint8Array, key: Uint8Array): Certificates {
  using folder = mkdtempDisposableSync(join(tmpdir(), 'tasks-conformance-'));
  const files = { cert: join(folder.path, 'cert.pem'), key: join(folder.path, 'key.pem') };
  writeFileSync(files.cert, cert);
  writeFileSync(files.key, key);
  const certificates = createCertificates(files, createLog('silent'));
  certificates.close(); // these do not change
  return certificates;
}

function createListener(port: string | undefined, certificates: Certificates | undefined): Listener {
  if (port === 'grpc') return createGrpcListener(methods, calls, { certificates, interceptors: [grpcInterceptor] });
  const connectOptions = { interceptors: [webInterceptor], jsonOptions: { registry } };
  return createWebListener(methods, calls, { certificates, connectOptions });
}

// Both messages have their length before them, in four bytes.
const { useTls, serverCreds } = fromBinary(ServerCompatRequestSchema, readFileSync(0).subarray(4));
const certificates = useTls && serverCreds ? readCertificates(serverCreds.cert, serverCreds.key) : undefined;
const listener = createListener(process.argv[2], certificates);
await listen(listener.port, '127.0.0.1', 0, 'PORT');
const { address, port } = listener.port.address() as AddressInfo;
const pemCert = serverCreds?.cert ?? new Uint8Array();
const message = toBinary(ServerCompatResponseSchema, create(ServerCompatResponseSchema, { host: address, port, pemCert }));
const length = Buffer.alloc(4);
length.writeUInt32BE(message.length);
process.stdout.write(Buffer.concat([length, message]));

// A suite that was killed cannot stop its servers.
const suite = process.ppid;
setInterval(() => {
  if (process.ppid !== suite) process.exit();
}, 1000).unref();
