import type { Server as HttpServer } from 'node:http';
import { Http2ServerRequest, Http2ServerResponse, performServerHandshake, type ServerOptions } from 'node:http2';
import type { Server as HttpsServer } from 'node:https';
import type { Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { type HttpRequest, type HttpResponse, httpLimits, maxHeaders } from './http.ts';
import { Http2Sessions } from './http2-limits.ts';
import { Sockets } from './sockets.ts';

const http2Limits: ServerOptions = {
  // As on the gRPC port, and as over HTTP/1.1.
  settings: { maxConcurrentStreams: 1000, maxHeaderListSize: httpLimits.maxHeaderSize },
  // Node's defaults, set because they are relied on: more headers refuse the call; a client that breaks the protocol this often,
  // opens this many calls over the limit, or sends this many settings in a frame, loses its connection.
  maxHeaderListPairs: maxHeaders,
  maxSessionInvalidFrames: 1000,
  maxSessionRejectedStreams: 100,
  maxSettings: 32,
  // A proxy's connection carries the calls of many users, who may all cancel when the database is slow.
  streamResetBurst: 10_000,
  streamResetRate: 1000,
  // Megabytes a connection may hold. Node's default of 10 is less than four of the largest pages.
  maxSessionMemory: 64,
};

/**
 * Serves HTTP/2 on the port of an HTTP/1.1 server, by the same listener of requests.
 *
 * Over TLS, clients choose the version in the handshake; in clear text the first bytes tell it. The HTTP/1.1 server owns the port,
 * since Node enforces its time limits only while it listens; a connection is passed to its own listeners once it is known to speak
 * HTTP/1.1. Node has no other way to serve both versions on one clear-text port.
 */
export function serveHttp2Beside(
  port: HttpServer | HttpsServer,
  onRequest: (request: HttpRequest, response: HttpResponse) => void,
): { readonly sockets: Sockets; readonly sessions: Http2Sessions } {
  const isSecure = 'setSecureContext' in port;
  const ready = isSecure ? 'secureConnection' : 'connection';
  const serveHttp1 = port.listeners(ready);
  port.removeAllListeners(ready);
  const sockets = new Sockets(port);
  const sessions = new Http2Sessions();
  const serve = (socket: Socket, version: 1 | 2): void => {
    if (version === 1) for (const listener of serveHttp1) listener.call(port, socket);
    else serveHttp2(socket);
  };

  const serveHttp2 = (socket: Socket): void => {
    // Clients of HTTP/1.1 may close their end and wait for the answer; a client of HTTP/2 that does so has disconnected.
    socket.allowHalfOpen = false;
    socket.setNoDelay();
    const session = performServerHandshake(socket, http2Limits);
    sessions.add(session);
    session.on('stream', (stream, headers, _flags, rawHeaders) => {
      const request = new Http2ServerRequest(stream, headers, {}, rawHeaders);
      const response = new Http2ServerResponse(stream);
      // One packet may open and cancel ten thousand calls: a call begins when the whole packet has been read, if it is still open.
      setImmediate(() => {
        if (!stream.destroyed && !stream.closed) onRequest(request, response);
      });
    });
  };

  if (isSecure) {
    port.on(ready, (socket: TLSSocket) => {
      socket.on('error', () => {}); // a client that hangs up
      serve(socket, socket.alpnProtocol === 'h2' ? 2 : 1);
    });
  } else port.on(ready, (socket: Socket) => sockets.detectVersion(socket, (version) => serve(socket, version)));
  return { sockets, sessions };
}
