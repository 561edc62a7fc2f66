import { once } from 'node:events';
import { createServer } from 'node:http';
import {
  createServer as createHttp2Server,
  type ServerOptions as Http2Options,
  type Http2ServerRequest,
  type Http2ServerResponse,
} from 'node:http2';
import { createServer as createHttpsServer, Server as HttpsServer } from 'node:https';
import type { Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { createConnectRouter } from '@connectrpc/connect';
import type { UniversalHandler } from '@connectrpc/connect/protocol';
import { compressionGzip, universalResponseToNodeResponse } from '@connectrpc/connect-node';
import type { Logger } from 'pino';
import type { CallChain, Route } from '../call/call-chain.ts';
import { greetingMs, maxConnections, maxRequestBytes, tcpKeepAlive } from '../call/limits.ts';
import type { Method } from '../call/method.ts';
import type { Certificates } from './certificates.ts';
import { type CoderJson, sendAnswer } from './coder/coder-json.ts';
import { sendWhole, toUniversal } from './connect/universal-http.ts';
import { WebCall } from './connect/web-call.ts';
import { createCors } from './cors.ts';
import { dropForeignCookies } from './foreign-cookies.ts';
import { type HttpRequest, type HttpResponse, httpLimits, maxHeaders, pathOf, protect, sendJson } from './http.ts';
import { tellHttpVersion } from './http-version.ts';
import { keepHttp2Sessions } from './http2-sessions.ts';
import type { Listener } from './listener.ts';
import type { Page } from './page/page.ts';

const http2Limits: Http2Options = {
  // As on the gRPC port, and as over HTTP/1.1.
  settings: { maxConcurrentStreams: 1000, maxHeaderListSize: httpLimits.maxHeaderSize },
  // Node's own, said here because they are relied on: more headers refuse the call, and a client that breaks the protocol so often,
  // or opens so many calls over the limit, or sends so many settings in a frame, loses its connection.
  maxHeaderListPairs: maxHeaders,
  maxSessionInvalidFrames: 1000,
  maxSessionRejectedStreams: 100,
  maxSettings: 32,
  streamResetBurst: 10_000,
  streamResetRate: 1000,
  // Megabytes a connection may hold. Node's default of 10 is less than four of the largest pages.
  maxSessionMemory: 64,
};

/** Browsers that have seen the service over TLS do not call it without for a year, the usual time. */
const hsts = 'max-age=31536000';

/** What answers on the web port besides the methods, and how. */
export interface WebParts {
  /** Whose pages may call it from a browser. */
  readonly origins?: readonly string[];
  /** Answers the paths of the Coder-shaped JSON. */
  readonly coderJson?: CoderJson;
  /** Answers the paths of the page. */
  readonly page?: Page | undefined;
  /** Told of our own faults outside of calls. */
  readonly log?: Logger;
  /** With what it speaks TLS. */
  readonly certificates?: Certificates | undefined;
}

/**
 * Connect, gRPC-Web, gRPC, the Coder-shaped JSON and the page on one port, over HTTP/1.1 and HTTP/2: over TLS when there are
 * certificates, else in clear text.
 */
export function createWebListener(
  methods: readonly Method[],
  chain: CallChain,
  { origins = [], coderJson = () => undefined, page = () => false, log, certificates }: WebParts = {},
): Listener {
  const routes = createRoutes(methods, chain);
  const answerCors = createCors(origins);
  let draining = false;

  const leaveWhenDraining = (request: HttpRequest, response: HttpResponse): void => {
    if (draining && request.httpVersionMajor === 1) response.setHeader('connection', 'close');
  };
  const serve = async (request: HttpRequest, response: HttpResponse): Promise<void> => {
    if (certificates !== undefined) response.setHeader('strict-transport-security', hsts);
    // Over HTTP/1.1 Node would leave out those that are too many, without a word.
    if (request.rawHeaders.length > 2 * maxHeaders) {
      response.setHeader('connection', 'close');
      sendJson(request, response, 431, { code: 'resource_exhausted', message: `a request has at most ${maxHeaders} headers` });
      return;
    }
    if (answerCors(request, response)) return;
    dropForeignCookies(request);
    const answering = coderJson(request, response);
    if (answering !== undefined) {
      const answer = await answering;
      leaveWhenDraining(request, response);
      await sendAnswer(request, response, answer);
      return;
    }
    const found = routes.get(pathOf(request));
    if (found === undefined) {
      leaveWhenDraining(request, response);
      if (page(request, response)) return;
      sendJson(request, response, 404, { code: 'unimplemented', message: 'there is no such method or page' });
      return;
    }
    const universal = toUniversal(request, response);
    if (universal === undefined) {
      sendJson(request, response, 400, { code: 'invalid_argument', message: 'the request has no valid host or path' });
      return;
    }
    const { remoteAddress, remotePort } = request.socket;
    const call = new WebCall(found.route, `${remoteAddress}:${remotePort}`);
    const answer = await call.answer(found.handler, universal);
    leaveWhenDraining(request, response);
    protect(response);
    if (found.route.method.kind === 'unary') await sendWhole(answer, request, response);
    else await universalResponseToNodeResponse(answer, response);
  };
  const onRequest = (request: HttpRequest, response: HttpResponse): void => {
    request.on('error', () => {}); // a client that hangs up; the call learns it from the signal
    response.on('error', () => {});
    serve(request, response).catch((error: unknown) => {
      // An answer that its client did not wait for is no fault. Over HTTP/2 the stream knows first that the client is gone.
      const gone = response.destroyed || response.closed || ('stream' in response && response.stream.destroyed);
      if (!gone) log?.error({ err: error }, 'a request on the web port could not be answered');
      response.destroy();
    });
  };

  // A call may be opened and canceled by one packet, ten thousand times in a row: it is begun when the packet has been read, if its
  // client is still there then.
  const onHttp2Request = (request: Http2ServerRequest, response: Http2ServerResponse): void => {
    setImmediate(() => {
      if (!response.stream.destroyed && !response.stream.closed) onRequest(request, response);
    });
  };

  const http = { ...httpLimits, ...tcpKeepAlive };
  const http1 =
    certificates === undefined
      ? createServer(http, onRequest)
      : createHttpsServer(
          { ...http, ...certificates.options, ALPNProtocols: ['h2', 'http/1.1'], handshakeTimeout: greetingMs },
          onRequest,
        );
  http1.maxConnections = maxConnections;
  const http2 = createHttp2Server(http2Limits, onHttp2Request);
  const sessions = keepHttp2Sessions(http2);
  const sockets = new Set<Socket>();
  const unknown = new Set<Socket>();
  http1.prependListener('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
  });

  // The HTTP/1.1 server owns the port, since Node minds its time limits only while it listens. Its own listener comes second.
  const accepted = certificates === undefined ? 'connection' : 'secureConnection';
  const serveHttp1 = http1.listeners(accepted).at(-1) as (socket: Socket) => void;
  http1.off(accepted, serveHttp1);
  const serveHttp = (socket: Socket, version: 1 | 2): void => {
    if (version === 2) {
      // Clients of HTTP/1.1 may close their end and wait for the answer; one of HTTP/2 that does so is gone.
      socket.allowHalfOpen = false;
      http2.emit('connection', socket);
    } else serveHttp1.call(http1, socket);
  };
  if (http1 instanceof HttpsServer) {
    certificates?.follow(http1);
    http1.on('secureConnection', (socket: TLSSocket) => {
      socket.on('error', () => {});
      serveHttp(socket, socket.alpnProtocol === 'h2' ? 2 : 1);
    });
  } else {
    http1.on('connection', (socket: Socket) => {
      unknown.add(socket);
      socket.on('error', () => {}); // reset before or after its first bytes: nobody is left to care
      socket.once('close', () => unknown.delete(socket));
      tellHttpVersion(socket, greetingMs, (version) => {
        unknown.delete(socket);
        serveHttp(socket, version);
      });
    });
  }

  return {
    port: http1,

    async drain() {
      draining = true;
      const closed = once(http1, 'close');
      http1.close(); // ends idle HTTP/1.1 connections, too
      sessions.close();
      for (const socket of unknown) socket.destroy();
      await closed;
    },

    destroy() {
      for (const socket of sockets) socket.destroy();
    },
  };
}

/** By path, what answers a method. */
function createRoutes(
  methods: readonly Method[],
  chain: CallChain,
): Map<string, { readonly handler: UniversalHandler; readonly route: Route }> {
  const router = createConnectRouter({
    requestGate: WebCall.gate,
    readMaxBytes: maxRequestBytes,
    // Brotli at its default level would take 20 ms of a processor for a page of tasks.
    acceptCompression: [compressionGzip],
  });
  for (const method of methods) {
    switch (method.kind) {
      case 'unary':
        router.rpc(method.desc, WebCall.unary);
        break;
      case 'server_streaming':
        router.rpc(method.desc, WebCall.stream);
        break;
      case 'bidi_streaming':
        router.rpc(method.desc, WebCall.stream);
        break;
    }
  }
  return new Map(
    methods.map((method, index) => {
      const handler = router.handlers[index];
      if (handler === undefined) throw new Error(`${method.desc.name} has no handler`);
      return [handler.requestPath, { handler, route: chain.route(method) }];
    }),
  );
}
