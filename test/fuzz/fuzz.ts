import { connect as connectHttp2, type IncomingHttpHeaders } from 'node:http2';
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { gunzipSync } from 'node:zlib';
import { fromBinary } from '@bufbuild/protobuf';
import { Code } from '@connectrpc/connect';
import { StatusSchema } from '../../src/gen/google/rpc/status_pb.ts';
import { TasksService } from '../../src/gen/tasks/v1/tasks_pb.ts';
import { makeGrpcClient } from '../support/clients.ts';
import type { RunningService } from '../support/service.ts';
import { type Case, type Knowledge, makeCase, type RawCase, type RequestCase } from './cases.ts';

/** What fuzzing came to. */
export interface Fuzzed {
  readonly cases: number;
  /** How often each answer came, by its code or status. */
  readonly answers: ReadonlyMap<string, number>;
}

/** The service did what it never should. Its message says which seeds did it. */
export class FuzzError extends Error {
  override readonly name = 'FuzzError';
}

/** Cases that are sent at once; between such batches it is looked whether the service is well. */
const batchSize = 16;

/** How long a connection of a case is kept for the service's answers, in milliseconds, when the service does not end it itself. */
const listenMs = 100;

/** How long an answer may take, in milliseconds: the statement limit and much patience for a busy machine. */
const answerMs = 15_000;

/** Codes of gRPC that say nothing of a fault of ours: 0 and those of bad input, and of what the limits refuse. */
const cleanCodes: ReadonlySet<number> = new Set([
  0,
  Code.Canceled,
  Code.InvalidArgument,
  Code.DeadlineExceeded,
  Code.NotFound,
  Code.ResourceExhausted,
  Code.Unimplemented,
  Code.Unavailable,
  Code.Unauthenticated,
]);

/**
 * What the libraries refuse by themselves, without our details (test/wire/grpc-refusals.test.ts, web-refusals.test.ts): the codes, and how their messages
 * begin. Anything else that has no details, and any other INTERNAL, is a fault.
 */
const refusedByLibrary: Readonly<Record<'grpc' | 'web', Readonly<Partial<Record<Code, readonly string[]>>>>> = {
  grpc: {
    [Code.DeadlineExceeded]: ['Deadline exceeded'],
    [Code.Internal]: ['Failed to decompress message', 'Invalid grpc-timeout value "'],
    [Code.ResourceExhausted]: [
      'Received message larger than max (',
      'Received message that decompresses to a size larger than 65536',
    ],
    [Code.Unimplemented]: [
      'Received no request message for server streaming method /tasks.v1.TasksService/',
      'Received a second request message for server streaming method /tasks.v1.TasksService/',
      'Received message compressed with unsupported encoding "',
    ],
  },
  web: {
    [Code.Internal]: [
      'parse binary: ',
      'decompression failed',
      'received compressed envelope, but do not know how to decompress',
    ],
    [Code.InvalidArgument]: [
      'cannot decode message tasks.v1.',
      'cannot decode field tasks.v1.',
      'cannot decode oneof tasks.v1.',
      'cannot decode enum tasks.v1.',
      'decompression failed',
      'protocol error: incomplete envelope',
      'protocol error: invalid connect timeout value: ',
      'protocol error: invalid grpc timeout value: ',
      'protocol error: promised ',
    ],
    [Code.ResourceExhausted]: ['message size ', 'message is larger than configured readMaxBytes 65536 after decompression'],
    [Code.Unimplemented]: [
      'protocol error: missing input message for ',
      'protocol error: received extra input message for ',
      'unknown compression "',
    ],
  },
};

function isRefusedByLibrary(port: 'grpc' | 'web', code: Code, message: string): boolean {
  return (refusedByLibrary[port][code] ?? []).some((beginning) => message.startsWith(beginning));
}

/** Sends cases from a seed on, until the time is over or so many were sent. @throws {FuzzError} at the first fault. */
export async function fuzz(
  service: RunningService,
  known: Knowledge,
  options: {
    readonly seed: number;
    readonly milliseconds: number;
    readonly cases?: number;
    readonly onBatch?: (done: number) => void;
  },
): Promise<Fuzzed> {
  const { seed, milliseconds, cases: most = Number.POSITIVE_INFINITY, onBatch = () => {} } = options;
  const answers = new Map<string, number>();
  const until = performance.now() + milliseconds;
  let done = 0;
  let memory = 0;
  let read = service.output().length;
  while (performance.now() < until && done < most) {
    const size = Math.min(batchSize, most - done);
    const seeds = Array.from({ length: size }, (_, index) => seed + done + index);
    try {
      const outcomes = await Promise.all(seeds.map((one) => send(service, makeCase(one, known), one)));
      for (const outcome of outcomes) answers.set(outcome, (answers.get(outcome) ?? 0) + 1);
      const output = service.output();
      checkOutput(output.slice(read));
      read = output.length;
      if (done % (8 * batchSize) === 0) await checkHealth(service, known);
      if (done % (256 * batchSize) === 0) memory = await checkMemory(service, memory, done);
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      const end = service.output().slice(-2000);
      throw new FuzzError(`seed ${seeds[0]}, ${size} cases (--seed ${seeds[0]} --cases ${size}): ${why}\n${end}`);
    }
    done += size;
    onBatch(done);
  }
  await checkHealth(service, known);
  await checkRest(service);
  return { cases: done, answers };
}

function send(service: RunningService, one: Case, seed: number): Promise<string> {
  return one.kind === 'raw' ? sendRaw(service, one) : sendRequest(service, one, seed);
}

/** Writes the bytes and listens for a while. Whatever comes back, or nothing, is right. */
async function sendRaw(service: RunningService, { port, writes }: RawCase): Promise<string> {
  const { hostname, port: number } = new URL(`http://${service[port]}`);
  const socket = connect(Number(number), hostname);
  socket.on('error', () => {});
  let answer = '';
  socket.on('data', (chunk: Buffer) => {
    if (answer.length < 10_000) answer += chunk.toString('latin1');
  });
  const closed = new Promise((resolve) => socket.once('close', resolve));
  for (const bytes of writes) {
    socket.write(bytes);
    await sleep(1);
  }
  await Promise.race([closed, sleep(listenMs)]);
  const status = /^HTTP\/1\.1 (\d+)/.exec(answer)?.[1];
  if (status === '500') {
    // Bytes that are no message. The answer may not be whole yet.
    for (let waited = 0; waited < answerMs && !answer.includes('}'); waited += listenMs) await sleep(listenMs);
    const isLibrary =
      port === 'web' && /\r\n\r\n\{"code":"internal","message":"(?:parse binary: |decompression failed)/.test(answer);
    if (!isLibrary) throw new Error(`HTTP/1.1 was answered with ${answer}`);
  }
  socket.destroy();
  return status === undefined ? 'raw' : `HTTP/1.1 ${status}`;
}

/** Sends the request and judges the answer. */
async function sendRequest(service: RunningService, { port, headers, body, ours }: RequestCase, seed: number): Promise<string> {
  const session = connectHttp2(`http://${service[port]}`);
  session.on('error', () => {});
  try {
    const stream = session.request(headers);
    const got: { headers: IncomingHttpHeaders; trailers: IncomingHttpHeaders } = { headers: {}, trailers: {} };
    const chunks: Buffer[] = [];
    stream.on('response', (received) => Object.assign(got.headers, received));
    stream.on('trailers', (received) => Object.assign(got.trailers, received));
    stream.on('data', (chunk: Buffer) => {
      chunks.push(chunk);
      // A watch never ends by itself, and neither does a request whose envelope promises more than it has.
      if (headers[':path']?.endsWith('/WatchTasks') === true) stream.close();
    });
    stream.on('error', () => {});
    stream.end(body);
    const ended = new Promise<boolean>((resolve) => stream.once('close', () => resolve(true)));
    if (headers[':path']?.includes('Watch') === true) void sleep(listenMs).then(() => stream.close());
    if (!(await Promise.race([ended, sleep(answerMs, false, { ref: false })])))
      throw new Error(`seed ${seed}: no answer in ${answerMs} ms`);
    const watches = headers[':path']?.includes('Watch') === true;
    if (ours && !watches && got.headers[':status'] === undefined)
      throw new Error(`seed ${seed}: no answer, but a reset with code ${stream.rstCode}`);
    return judge(port, got.headers, got.trailers, Buffer.concat(chunks), ours);
  } finally {
    session.destroy();
  }
}

function judge(
  port: 'grpc' | 'web',
  headers: IncomingHttpHeaders,
  trailers: IncomingHttpHeaders,
  body: Buffer,
  ours: boolean,
): string {
  const status = Number(headers[':status'] ?? 0);
  const grpcStatus = trailers['grpc-status'] ?? headers['grpc-status'];
  if (grpcStatus !== undefined) {
    const code = Number(grpcStatus) as Code | 0;
    const message = decodeURIComponent(String(trailers['grpc-message'] ?? headers['grpc-message'] ?? ''));
    const isLibrary = code !== 0 && isRefusedByLibrary(port, code, message);
    if (!cleanCodes.has(code) && !isLibrary) throw new Error(`gRPC was answered with ${Code[code]}: ${message}`);
    if (ours && code !== 0 && code !== Code.Canceled && !isLibrary) {
      const details = trailers['grpc-status-details-bin'] ?? headers['grpc-status-details-bin'];
      const read = typeof details === 'string' ? fromBinary(StatusSchema, Buffer.from(details, 'base64')).details : [];
      if (!read.some(({ typeUrl }) => typeUrl.endsWith('/google.rpc.ErrorInfo')))
        throw new Error(`${Code[code]} came without its ErrorInfo: ${message}`);
    }
    return `gRPC ${code === 0 ? 'OK' : Code[code]}`;
  }
  // An error that repeats a long input is compressed for a client that takes that.
  const text = (headers['content-encoding'] === 'gzip' ? gunzipSync(body) : body).toString();
  const isJson = String(headers['content-type']).includes('json');
  const error = isJson && status >= 400 && status !== 431 ? (JSON.parse(text) as JsonError) : undefined;
  const isLibrary = error !== undefined && isRefusedByLibrary(port, codeOf(error), error.message ?? '');
  if (status === 500 && !isLibrary) throw new Error(`HTTP was answered with 500: ${text.slice(0, 300)}`);
  if (ours && error !== undefined && !isLibrary) {
    const { code, details } = error;
    if (code === 'internal' || code === 'unknown') throw new Error(`Connect was answered with ${code}`);
    if (details?.some(({ type }) => type === 'google.rpc.ErrorInfo') !== true)
      throw new Error(`${code ?? status} came without its ErrorInfo: ${text}`);
  }
  return `HTTP/2 ${status}`;
}

/** An error as Connect has it, or Coder, whose errors have no code. */
interface JsonError {
  readonly code?: string;
  readonly message?: string;
  readonly details?: readonly { readonly type: string }[];
}

function codeOf({ code = '' }: JsonError): Code {
  const name = Object.keys(Code).find((one) => one.toLowerCase() === code.replaceAll('_', ''));
  return Code[name as keyof typeof Code] ?? Code.Unknown;
}

/** The log has lines of JSON alone, and none of a fault of ours. */
function checkOutput(output: string): void {
  for (const line of output.split('\n')) {
    if (line === '') continue;
    if (!line.startsWith('{')) throw new Error(`the service printed: ${line}`);
    if (/"level":"(error|fatal)"|"code":"(INTERNAL|UNKNOWN|DATA_LOSS)"/.test(line))
      throw new Error(`the service logged: ${line}`);
  }
}

/** Ordinary calls are answered on each port. */
async function checkHealth(service: RunningService, { sessionToken }: Knowledge): Promise<void> {
  if (service.process.exitCode !== null || service.process.signalCode !== null) throw new Error('the service has ended');
  const headers = { 'coder-session-token': sessionToken };
  for (const address of [service.grpc, service.web]) {
    const client = makeGrpcClient(address);
    try {
      await client.unary(TasksService.method.listTasks, { pageSize: 1 }, { headers, timeoutMs: answerMs });
    } finally {
      client.close();
    }
  }
  const { status } = await fetch(`http://${service.ops}/healthz`, { signal: AbortSignal.timeout(answerMs) });
  if (status !== 200) throw new Error(`/healthz is ${status}`);
}

/** Cases until memory is as large as it gets: caches are full, and code is compiled. */
const warmUp = 10_000;

/** Memory does not grow for ever: it stays below twice the most that it had at first. Returns that. */
async function checkMemory(service: RunningService, most: number, done: number): Promise<number> {
  const bytes = await metric(service, 'process_resident_memory_bytes');
  if (done <= warmUp) return Math.max(most, bytes);
  if (bytes > 2 * most) throw new Error(`memory has grown from ${most} to ${bytes} bytes`);
  return most;
}

/** The value of a metric without labels. */
async function metric({ ops }: RunningService, name: string): Promise<number> {
  const metrics = await (await fetch(`http://${ops}/metrics`)).text();
  return Number(new RegExp(`^${name}(?:{[^}]*})? (\\S+)$`, 'm').exec(metrics)?.[1]);
}

/** When all is over, no call and no connection is left. */
async function checkRest(service: RunningService): Promise<void> {
  const deadline = performance.now() + answerMs;
  for (;;) {
    const calls = await metric(service, 'tasks_calls_in_flight');
    const descriptors = await metric(service, 'process_open_fds');
    // What a process has anyway, with its pool of connections.
    if (calls === 0 && !(descriptors > 80)) return;
    if (performance.now() > deadline) throw new Error(`${calls} calls and ${descriptors} descriptors are left`);
    await sleep(200);
  }
}
