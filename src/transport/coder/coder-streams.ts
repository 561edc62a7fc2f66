import http, { type IncomingMessage, ServerResponse, STATUS_CODES } from 'node:http';
import https from 'node:https';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { networkOf } from '../../call/network.ts';
import { connectionOf, headerReader, pathOf } from '../http.ts';
import { handOn, refuse } from './coder-answer.ts';
import { headersForCoder, Places, pickHeaders, queryForCoder, type WayToCoder } from './coder-request.ts';
import { streamRouteOf } from './coder-routes.ts';
import { clientLeft, createPassedRequests, type PassedRequest } from './passed-requests.ts';

/** Passes WebSockets on to Coder. */
export interface CoderStreams {
  /** Whether a request opens a WebSocket that is passed on. */
  accepts(request: IncomingMessage): boolean;
  /** Opens one that is accepted, on the connection of its request, of which some bytes may have come already. */
  open(request: IncomingMessage, socket: Duplex, head: Buffer): void;
  /** Ends all that are open, and opens no more. */
  close(): void;
}

/** What they are made of. */
interface CoderStreamsParts extends WayToCoder {
  /** How long Coder may take to open one, in milliseconds. */
  readonly openTimeoutMs?: number;
  /** After this time without a byte in either direction one is closed, in milliseconds: Coder sends a ping every 15 s. */
  readonly idleMs?: number;
}

/** Most WebSockets that are passed on at once, in all and of one network. */
export const streamLimits = { total: 64, perNetwork: 32 } as const;

/** How long Coder may take for an answer that opens no WebSocket, in milliseconds. */
const refusalMs = 5000;

/** Headers of the handshake, which its two ends must agree on (RFC 6455). */
const requestHeaders = ['sec-websocket-key', 'sec-websocket-version', 'sec-websocket-protocol', 'sec-websocket-extensions'];
const answerHeaders = ['sec-websocket-accept', 'sec-websocket-protocol', 'sec-websocket-extensions', 'x-coder-build-version'];

/**
 * Makes what passes WebSockets on: Coder's command line follows the log of a build by one while it waits for a task that it resumes.
 * Coder gets the caller's own session token with the handshake, and decides. Then bytes are handed on as they come, each way no
 * faster than they are taken.
 */
export function createCoderStreams({
  address,
  clientAddress,
  passed = createPassedRequests(),
  openTimeoutMs = 10_000,
  idleMs = 60_000,
}: CoderStreamsParts): CoderStreams {
  const base = new URL(address);
  const { request: send } = base.protocol === 'https:' ? https : http;
  const root = base.pathname.replace(/\/$/, '');
  const places = new Places(streamLimits.total, streamLimits.perNetwork);
  /** Ends each that is open, or being opened. */
  const running = new Set<() => void>();
  let closed = false;

  return {
    accepts: (request) =>
      request.headers.upgrade?.toLowerCase() === 'websocket' && streamRouteOf(request.method, pathOf(request)) !== undefined,

    open(request, socket, head) {
      const header = headerReader(request);
      const client = clientAddress(connectionOf(request), header);
      const route = streamRouteOf(request.method, pathOf(request)) ?? '';
      const passing = passed.begin(route, client.peer, header('x-request-id'));
      socket.on('error', () => {}); // a client that hangs up
      const outcome: Outcome = { passing, status: clientLeft };
      const { answer, end } = answerOn(request, socket as Socket, outcome);
      const leave = places.take(networkOf(client.address));
      socket.once('close', () => {
        passing.end(outcome.status);
        leave?.();
      });
      if (closed) answer(503, 'The service is stopping, try again.');
      else if (leave === undefined) answer(503, 'Too many streams of Coder at once, try again.');
      else if ('content-length' in request.headers || 'transfer-encoding' in request.headers) {
        answer(400, 'A WebSocket begins with a request without a body.');
      } else handshake(request, socket as Socket, { head, client: client.address, outcome, answer, end });
    },

    close() {
      closed = true;
      for (const end of running) end();
    },
  };

  function handshake(request: IncomingMessage, socket: Socket, opening: Opening): void {
    const path = pathOf(request);
    const header = headerReader(request);
    const { client, outcome, answer, end } = opening;
    const outgoing = send(base, {
      method: 'GET',
      path: root + path + queryForCoder(request, path),
      headers: {
        ...headersForCoder(header, client),
        ...pickHeaders(header, requestHeaders),
        connection: 'Upgrade',
        upgrade: 'websocket',
      },
      agent: false,
    });
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      outgoing.destroy(new Error('Coder did not answer in time'));
    }, openTimeoutMs);
    const gone = (): void => void outgoing.destroy();
    const settle = (): void => {
      clearTimeout(timer);
      running.delete(gone);
      socket.off('close', gone);
    };
    running.add(gone);
    socket.once('close', gone);
    outgoing.once('upgrade', (accepted, upstream: Socket, upstreamHead) => {
      settle();
      join(socket, upstream, accepted, { ...opening, upstreamHead });
    });
    outgoing.once('response', (refused) => {
      settle();
      end(refused);
    });
    outgoing.on('error', (error) => {
      settle();
      if (socket.destroyed) return;
      outcome.passing.log?.warn({ err: error, late }, 'a WebSocket could not be passed on to Coder');
      if (late) answer(504, 'Coder did not answer in time.');
      else answer(502, 'Coder cannot be reached.');
    });
    outgoing.end();
  }

  /** Hands on the handshake's answer, and then bytes, until one end has ended. */
  function join(
    socket: Socket,
    upstream: Socket,
    { headers }: IncomingMessage,
    { head, upstreamHead, outcome }: Opening & { readonly upstreamHead: Buffer },
  ): void {
    outcome.status = 101;
    const streamClosed = passed.streamOpened();
    upstream.on('error', () => {});
    /** Ends both, when what has come from the one has been taken by the other. */
    const end = (): void => {
      socket.destroySoon();
      upstream.destroySoon();
    };
    running.add(end);
    const destroy = (): void => {
      socket.destroy();
      upstream.destroy();
    };
    for (const one of [socket, upstream]) one.setNoDelay().setTimeout(idleMs, destroy).once('end', end);
    const picked = pickHeaders((name) => textOf(headers[name]), answerHeaders);
    const lines = Object.entries({ ...picked, 'x-request-id': outcome.passing.requestId }).map(
      ([name, value]) => `${name}: ${value}\r\n`,
    );
    socket.write(`HTTP/1.1 101 ${STATUS_CODES[101]}\r\nconnection: Upgrade\r\nupgrade: websocket\r\n${lines.join('')}\r\n`);
    if (upstreamHead.length > 0) socket.write(upstreamHead);
    if (head.length > 0) upstream.write(head);
    upstream.once('close', () => {
      running.delete(end);
      socket.destroySoon();
      streamClosed();
    });
    socket.once('close', () => upstream.destroy());
    upstream.pipe(socket);
    socket.pipe(upstream);
  }
}

/** How a request ends that was to become a WebSocket: it is recorded when its connection is closed. */
interface Outcome {
  readonly passing: PassedRequest;
  status: number;
}

interface Opening {
  readonly head: Buffer;
  readonly client: string;
  readonly outcome: Outcome;
  /** Answers with an error of ours. */
  answer(status: number, message: string): void;
  /** Answers as Coder has, which opens no WebSocket. */
  end(refused: IncomingMessage): void;
}

/** Answers on the connection of a request that was to become a WebSocket, and closes it. */
function answerOn(request: IncomingMessage, socket: Socket, outcome: Outcome): Pick<Opening, 'answer' | 'end'> {
  const respond = (send: (response: ServerResponse) => Promise<void>): void => {
    if (socket.destroyed) return;
    const response = new ServerResponse(request);
    response.assignSocket(socket);
    response.on('error', () => {});
    response.setHeader('connection', 'close');
    response.setHeader('x-request-id', outcome.passing.requestId);
    response.once('finish', () => socket.destroySoon());
    send(response).catch(() => socket.destroy()); // an answer that breaks off
    outcome.status = response.statusCode;
  };
  const { log } = outcome.passing;
  return {
    answer: (status, message) => respond((response) => refuse(request, response, status, message)),
    end: (refused) => respond((response) => handOn(request, response, refused, { signal: AbortSignal.timeout(refusalMs), log })),
  };
}

function textOf(value: string | string[] | undefined): string | undefined {
  return typeof value === 'string' ? value : undefined;
}
