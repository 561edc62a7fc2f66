import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import {
  constants,
  type Http2Session,
  type IncomingHttpHeaders,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from 'node:http2';
import type { AddressInfo, Server } from 'node:net';
import { longestTimerMs } from '../call/limits.ts';

/** How long connections may last, in milliseconds. */
export interface SessionLimits {
  /** A connection without a call for this long is closed; clients open another when they need it. */
  readonly idle: number;
  /** A connection gets GOAWAY after this time, so that clients behind a load balancer find new servers. */
  readonly age: number;
  /** How long after GOAWAY calls that still run are cut. */
  readonly ageGrace: number;
  /** A call is cut when nothing was transferred for this long although its answer has not begun, or waits to be taken. */
  readonly stalled: number;
}

/** The same on the gRPC port and on the web port. */
export const sessionLimits: SessionLimits = { idle: 15 * 60_000, age: 30 * 60_000, ageGrace: 60_000, stalled: 60_000 };

/** The diagnostics channel on which Node announces each HTTP/2 stream that a client opens, before a library sees it. */
const streamCreated = 'http2.server.stream.created';

/**
 * Prepares every HTTP/2 stream of a port before a library sees it, by Node's public diagnostics channel: the same rules for
 * grpc-js, whose API does not expose its streams, and for the web port.
 *
 * - A stream whose client stalls is cut.
 * - A stream that was answered before its request was read is closed with RST_STREAM(NO_ERROR) (RFC 9113, 8.1): otherwise a client
 *   that still sends would wait, and what it sends would be buffered.
 * - A timeout that is too long for a timer is removed, since libraries would take it for an expired one.
 *
 * @param prepare called with each stream and its headers.
 * @returns the streams of the port that are open.
 */
export function prepareHttp2Streams(
  port: Server,
  stalledMs: number,
  prepare: (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => void = () => {},
): ReadonlySet<ServerHttp2Stream> {
  const open = new Set<ServerHttp2Stream>();
  const onPort = new WeakMap<Http2Session, boolean>();
  let portNumber: number | undefined; // kept after the port has been closed, while its last connections are open
  const isOnPort = (session: Http2Session): boolean => {
    let known = onPort.get(session);
    if (known === undefined) {
      known = session.socket.localPort === portNumber;
      if (known) endAfterGoaway(session);
      onPort.set(session, known);
    }
    return known;
  };
  const onStream = (message: unknown): void => {
    const { stream, headers } = message as { stream: ServerHttp2Stream; headers: IncomingHttpHeaders };
    if (stream.session === undefined || !isOnPort(stream.session)) return;
    open.add(stream);
    stream.once('close', () => open.delete(stream));
    stream.on('error', () => {}); // a client that hangs up; its call learns it from the closed stream
    dropLongTimeout(headers);
    cutWhenStalled(stream, stalledMs);
    closeWhenAnswered(stream);
    prepare(stream, headers);
  };
  port.on('listening', () => {
    portNumber = (port.address() as AddressInfo).port;
    subscribe(streamCreated, onStream);
  });
  port.on('close', () => unsubscribe(streamCreated, onStream));
  return open;
}

/** How long the calls of a connection may run after its client has sent GOAWAY, in milliseconds. */
const goawayGraceMs = 10_000;

/**
 * Ends a connection some time after its client has sent GOAWAY. When a frame after that breaks the protocol, Node reports no error,
 * stops reading the connection, and would keep it, with its calls, for ever.
 */
function endAfterGoaway(session: Http2Session): void {
  session.once('goaway', () => {
    const end = setTimeout(() => session.destroy(), goawayGraceMs).unref();
    session.once('close', () => clearTimeout(end));
  });
}

/** Cuts a call whose client has stalled. A stream that has begun its answer and has nothing to send is left alone. */
function cutWhenStalled(stream: ServerHttp2Stream, milliseconds: number): void {
  stream.setTimeout(milliseconds, () => {
    if (stream.writableLength > 0 || !stream.headersSent) stream.close(constants.NGHTTP2_ENHANCE_YOUR_CALM);
    else stream.setTimeout(milliseconds);
  });
}

/**
 * The time from the first to the second check whether the last frame of an answer has been sent, in milliseconds; then it
 * doubles.
 */
const secondCheckMs = 1;
const mostBetweenChecksMs = 1000;

function closeWhenAnswered(stream: ServerHttp2Stream): void {
  stream.once('finish', () => {
    if (stream.readableEnded) return;
    // Trailers, and data that the client has not taken yet, are sent after the stream has finished.
    const check = (afterMs: number): void => {
      if (stream.destroyed || stream.closed) return;
      if (stream.state.localClose === 1) stream.close(constants.NGHTTP2_NO_ERROR);
      else setTimeout(check, afterMs, Math.min(2 * afterMs, mostBetweenChecksMs)).unref();
    };
    setImmediate(check, secondCheckMs);
  });
}

/**
 * After so many streams that ended with an error code, a connection gets GOAWAY; most of them are reset by the client. After a
 * burst of a thousand resets, and 33 a second, nghttp2 would cut the connection with all its calls. A proxy that carries the calls
 * of many users comes to that when the database is slow.
 */
const maxResets = 250;

/** Makes the function that counts the resets of each connection, for a server whose own limit cannot be set. */
export function leaveAfterResets(): (stream: ServerHttp2Stream) => void {
  const resets = new WeakMap<Http2Session, number>();
  return (stream) => {
    const { session } = stream;
    if (session === undefined) return;
    stream.once('close', () => {
      if (stream.rstCode === constants.NGHTTP2_NO_ERROR) return;
      const count = (resets.get(session) ?? 0) + 1;
      resets.set(session, count);
      if (count === maxResets && !session.closed) session.close();
    });
  };
}

/** Ends idle and old HTTP/2 connections, which Node leaves to the program. */
export class Http2Sessions {
  readonly #sessions = new Set<ServerHttp2Session>();
  readonly #limits: SessionLimits;

  constructor(limits: SessionLimits = sessionLimits) {
    this.#limits = limits;
  }

  add(session: ServerHttp2Session): void {
    const { idle: idleMs, age, ageGrace } = this.#limits;
    let calls = 0;
    const idle = setTimeout(() => {
      if (calls === 0) session.close();
    }, idleMs).unref();
    session.on('stream', (stream) => {
      calls += 1;
      stream.once('close', () => {
        calls -= 1;
        if (calls === 0) idle.refresh();
      });
    });

    let cut: NodeJS.Timeout | undefined;
    const leave = (): void => {
      session.close(); // running calls may finish
      cut = setTimeout(() => session.destroy(), ageGrace).unref();
    };
    // At different times, so that clients that connected together do not reconnect together.
    const aging = setTimeout(leave, age * (0.9 + 0.2 * Math.random())).unref();

    session.on('error', () => {}); // a client that breaks the protocol; the session is closed
    this.#sessions.add(session);
    session.once('close', () => {
      this.#sessions.delete(session);
      for (const timer of [idle, aging, cut]) clearTimeout(timer);
    });
  }

  /** Sends GOAWAY on all connections; running calls may finish. */
  close(): void {
    for (const session of this.#sessions) session.close();
  }
}

/** The units of `grpc-timeout` in milliseconds. */
const unitMs: Readonly<Record<string, number>> = { H: 3_600_000, M: 60_000, S: 1000, m: 1, u: 1e-3, n: 1e-6 };

/** The timeout in the header `grpc-timeout`, in milliseconds; undefined for any other text. */
export function grpcTimeoutMs(text: string): number | undefined {
  const [, amount, unit = ''] = /^(\d{1,8})([HMSmun])$/.exec(text) ?? [];
  return amount === undefined ? undefined : Number(amount) * (unitMs[unit] ?? 0);
}

/**
 * Removes from the headers of a call a timeout that is longer than any timer of Node, 24.8 days: libraries would take it for an
 * expired one.
 */
export function dropLongTimeout(headers: IncomingHttpHeaders): void {
  if (Number(headers['connect-timeout-ms']) > longestTimerMs) delete headers['connect-timeout-ms'];
  const grpcTimeout = headers['grpc-timeout'];
  if (typeof grpcTimeout === 'string' && (grpcTimeoutMs(grpcTimeout) ?? 0) > longestTimerMs) delete headers['grpc-timeout'];
}
