import { constants, type Http2Session, type IncomingHttpHeaders, type ServerHttp2Stream } from 'node:http2';
import type { ConnectError } from '@connectrpc/connect';
import type { CallChain, Incoming, Route, RunningCall } from '../../call/call-chain.ts';
import { canceled, deadlineExceeded, requestTooLarge, unreadableRequest, unsupportedRequest } from '../../call/errors.ts';
import { longestTimerMs, maxRequestBytes } from '../../call/limits.ts';
import { frameHeaderBytes } from '../../tasks/wire-writer.ts';
import { cutWhenStalled, type SessionLimits } from '../http2-sessions.ts';
import { answerUnary, statusOf } from './grpc-message.ts';

// Unary calls of the gRPC port, and what is no call of a method, read from their HTTP/2 stream and answered on it. grpc-js, which has
// the connections and the calls of all other kinds, would take a third of the time that a GetTask costs (docs/decisions/0017).

/** Takes a stream, or leaves it to others. */
export type TakeStream = (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => boolean;

/** Takes the unary calls, and what is no call of a method. Those that may be compressed, and streaming ones, it leaves. */
export function takeCalls(routes: ReadonlyMap<string, Route>, chain: CallChain, limits: SessionLimits): TakeStream {
  const answers = new Map<Route, Answer>();
  for (const route of routes.values()) if (route.method.kind === 'unary') answers.set(route, answerUnary(route.method));
  return (stream, headers) => {
    const { ':path': path = '', 'content-type': type = '', 'grpc-encoding': encoding = 'identity' } = headers;
    const route = routes.get(path);
    const call = new CallOnStream(route?.begin ?? chain.beginUnknown, stream, headers);
    if (!isGrpc.test(type)) {
      // The protocol wants this status, so that what speaks another one does not take 200 for a success.
      call.refuse(unsupportedRequest('this port speaks gRPC: the content type must be application/grpc'), 415);
    } else if (route === undefined) {
      call.refuse(unsupportedRequest(`there is no method ${path}`));
    } else {
      const answer = answers.get(route);
      if (answer === undefined || encoding !== 'identity') return false;
      cutWhenStalled(stream, limits.stalled);
      call.read(answer, limits.stalled);
    }
    return true;
  };
}

type Answer = ReturnType<typeof answerUnary>;

/** gRPC, whatever its messages are said to be; gRPC-Web is another protocol. */
const isGrpc = /^application\/grpc(?![^+;\s])/;

/** How many pieces of a request are kept apart: most requests come in one. */
const mostPieces = 32;

const milliseconds: Readonly<Record<string, number>> = { H: 3_600_000, M: 60_000, S: 1000, m: 1, u: 1e-3, n: 1e-6 };

class CallOnStream implements Incoming {
  readonly protocol = 'grpc';
  readonly peer: string;
  readonly #begin: Route['begin'];
  readonly #stream: ServerHttp2Stream;
  readonly #headers: IncomingHttpHeaders;
  #chunks: Buffer[] = [];
  #received = 0;
  #deadline: NodeJS.Timeout | undefined;
  /** Cuts a request that comes in drops. */
  #dripping: NodeJS.Timeout | undefined;
  /** Since the request is whole, or can no longer become so. */
  #running: RunningCall | undefined;

  constructor(begin: Route['begin'], stream: ServerHttp2Stream, headers: IncomingHttpHeaders) {
    this.#begin = begin;
    this.#stream = stream;
    this.#headers = headers;
    this.peer = peerOf(stream.session);
  }

  readonly header = (name: string): string | undefined => {
    if (name === 'cookie') return undefined; // cookies are for browsers, which do not speak gRPC
    const value = this.#headers[name];
    return typeof value === 'string' ? value : value?.[0];
  };

  /** Answers when the request is whole. One that comes in pieces must be whole after so many milliseconds. */
  read(answer: Answer, withinMs: number): void {
    const stream = this.#stream;
    stream.on('data', (chunk: Buffer) => {
      if (this.#received > 0) this.#dripping ??= setTimeout(() => stream.close(constants.NGHTTP2_ENHANCE_YOUR_CALM), withinMs);
      this.#receive(chunk);
    });
    stream.on('end', () => this.#answer(answer));
    stream.on('close', () => {
      clearTimeout(this.#deadline);
      clearTimeout(this.#dripping);
      this.#running?.abort(canceled); // unless it has been answered
    });
    const timeout = this.header('grpc-timeout');
    if (timeout !== undefined) this.#limit(timeout);
  }

  #limit(timeout: string): void {
    const [, amount, unit = ''] = /^(\d{1,8})([HMSmun])$/.exec(timeout) ?? [];
    if (amount === undefined) return this.refuse(unreadableRequest('its grpc-timeout is no timeout'));
    const after = Math.min(Number(amount) * (milliseconds[unit] ?? 0), longestTimerMs);
    this.#deadline = setTimeout(() => {
      if (this.#running === undefined) this.refuse(deadlineExceeded());
      else this.#running.abort(deadlineExceeded);
    }, after);
  }

  #receive(chunk: Buffer): void {
    if (this.#running !== undefined) return; // refused already
    // A byte in a piece of its own takes two hundred.
    if (this.#chunks.length === mostPieces) this.#chunks = [Buffer.concat(this.#chunks)];
    this.#chunks.push(chunk);
    this.#received += chunk.length;
    if (this.#received > maxRequestBytes + frameHeaderBytes) this.refuse(requestTooLarge(maxRequestBytes));
  }

  #answer(answer: Answer): void {
    clearTimeout(this.#dripping);
    if (this.#running !== undefined || this.#stream.destroyed || this.#stream.closed) return;
    const [first, second] = this.#chunks;
    const body = first !== undefined && second === undefined ? first : Buffer.concat(this.#chunks);
    const length = body.length < frameHeaderBytes ? undefined : body.readUInt32BE(1);
    if (length !== body.length - frameHeaderBytes) {
      return this.refuse(unsupportedRequest('the request is not one whole message, which this method takes'));
    }
    if (body[0] !== 0) return this.refuse(unreadableRequest('it is compressed, and does not say how'));
    const running = this.#begin(this);
    this.#running = running;
    answer(running, body.subarray(frameHeaderBytes)).then(
      (frame) => this.#send(running, frame),
      (error: unknown) => this.#fail(running, error),
    );
  }

  /** Answers with an error, without waiting for the request. */
  refuse(error: ConnectError, httpStatus = 200): void {
    const running = this.#begin(this);
    this.#running = running;
    this.#chunks = [];
    this.#fail(running, running.refuse(error), httpStatus);
  }

  #send(running: RunningCall, frame: Buffer): void {
    const stream = this.#stream;
    if (stream.destroyed || stream.closed) return;
    stream.respond([...headers, 'x-request-id', running.requestId], { waitForTrailers: true });
    stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
    stream.end(frame);
  }

  #fail(running: RunningCall, error: unknown, httpStatus = 200): void {
    const stream = this.#stream;
    if (stream.destroyed || stream.closed) return;
    const { code, details, metadata } = statusOf(error, running);
    const status = { 'grpc-status': String(code), 'grpc-message': encodeURI(details), ...metadata.toHttp2Headers() };
    stream.respond({ ':status': httpStatus, 'content-type': contentType, ...status }, { endStream: true });
    if (!stream.readableEnded) stream.close(constants.NGHTTP2_NO_ERROR); // the rest of the request is of no use
  }
}

const contentType = 'application/grpc+proto';

/** Of every answer. As names and values in turns they cost half of what an object does. */
const headers: readonly string[] = [
  ':status',
  '200',
  'content-type',
  contentType,
  'grpc-accept-encoding',
  'identity,deflate,gzip',
];

/** Who is at the other end of a connection, told once: asking its socket costs as much as the rest of the headers. */
const peers = new WeakMap<Http2Session, string>();

function peerOf(session: Http2Session | undefined): string {
  const known = session && peers.get(session);
  if (known !== undefined) return known;
  const { remoteAddress = 'unknown', remotePort } = session?.socket ?? {};
  const peer = remotePort === undefined ? remoteAddress : `${remoteAddress}:${remotePort}`;
  if (session !== undefined) peers.set(session, peer);
  return peer;
}
