import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { createServer as createHttpsServer } from 'node:https';
import type { Calls } from '../call/calls.ts';
import { greetingMs, maxConnections, tcpKeepAlive } from '../call/limits.ts';
import type { Method } from '../call/method.ts';
import type { Logger } from '../platform/log.ts';
import type { Certificates } from './certificates.ts';
import { type ClientAddress, createClientAddress } from './client-address.ts';
import type { CoderJson } from './coder/coder-json.ts';
import type { CoderProxy } from './coder/coder-proxy.ts';
import type { CoderStreams } from './coder/coder-streams.ts';
import { type ConnectOptions, createConnectHandler } from './connect/connect-handler.ts';
import { httpLimits } from './http.ts';
import { prepareHttp2Streams, sessionLimits } from './http2-limits.ts';
import type { Listener } from './listener.ts';
import type { Page } from './page/page.ts';
import { serveHttp2Beside } from './serve-http2.ts';
import { addressesOf, createWebRequests } from './web-requests.ts';

/** What the web port serves besides the methods, and its settings. */
interface WebParts {
  /** The origins whose pages may call it from a browser. */
  readonly origins?: readonly string[];
  /** The path under which it is served as well as at the root. */
  readonly basePath?: string | undefined;
  /** Answers the paths of the Coder-shaped JSON. */
  readonly coderJson?: CoderJson;
  /** Passes requests on to Coder. */
  readonly coderProxy?: CoderProxy | undefined;
  /** Passes WebSockets on to Coder, over HTTP/1.1. */
  readonly coderStreams?: CoderStreams | undefined;
  /** Answers the paths of the page. */
  readonly page?: Page | undefined;
  /** Logs the server's own faults outside of calls. */
  readonly log?: Logger;
  /** Its TLS; clear text if absent. */
  readonly certificates?: Certificates | undefined;
  readonly clientAddress?: ClientAddress;
  /** Further options of Connect, for tests' methods. */
  readonly connectOptions?: ConnectOptions;
}

/**
 * Connect, gRPC-Web, gRPC, the Coder-shaped JSON and the page on one port, over HTTP/1.1 and HTTP/2: over TLS when there are
 * certificates, else in clear text.
 */
export function createWebListener(methods: readonly Method[], calls: Calls, parts: WebParts = {}): Listener {
  const { certificates, clientAddress = createClientAddress(), connectOptions, coderStreams, basePath } = parts;
  let draining = false;
  let answering = 0;
  const onRequest = createWebRequests({
    ...parts,
    methods: createConnectHandler(methods, calls, clientAddress, connectOptions),
    isDraining: () => draining,
  });

  /**
   * Whether a request opens a WebSocket that is passed on to Coder. If so, its address loses the base path; if not, it is answered
   * like any request.
   */
  const shouldUpgradeCallback = (request: IncomingMessage): boolean => {
    const { url } = request;
    const isAccepted = addressesOf(request, basePath).some((address) => {
      request.url = address;
      return coderStreams?.accepts(request) === true;
    });
    if (!isAccepted && url !== undefined) request.url = url;
    return isAccepted;
  };
  const options = { ...httpLimits, ...tcpKeepAlive, shouldUpgradeCallback };
  const port =
    certificates === undefined
      ? createServer(options, onRequest)
      : createHttpsServer(
          { ...options, ...certificates.options, ALPNProtocols: ['h2', 'http/1.1'], handshakeTimeout: greetingMs },
          onRequest,
        );
  port.maxConnections = maxConnections;
  if (certificates !== undefined && 'setSecureContext' in port) certificates.follow(port);
  if (coderStreams !== undefined) port.on('upgrade', (...upgrade) => coderStreams.open(...upgrade));
  const { sockets, sessions } = serveHttp2Beside(port, onRequest);
  const streams = prepareHttp2Streams(port, sessionLimits.stalled);
  port.prependListener('request', (_request: IncomingMessage, response: ServerResponse) => {
    answering += 1;
    response.once('close', () => {
      answering -= 1;
    });
  });

  return {
    port,

    get open() {
      return streams.size + answering;
    },

    async drain() {
      draining = true;
      const closed = once(port, 'close');
      port.close(); // ends idle HTTP/1.1 connections, too
      sessions.close();
      coderStreams?.close();
      sockets.closeUndetected();
      await closed;
    },

    destroy() {
      sockets.destroy();
    },
  };
}
