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
  // Node's own, said here because they are relied on: more headers refuse the call, and a client that breaks the protocol so often,
  // or opens so many calls over the limit, or sends so many settings in a frame, loses its connection.
  maxHeaderListPairs: maxHeaders,
  maxSessionInvalidFrames: 1000,
  maxSessionRejectedStreams: 100,
  maxSettings: 32,
  // Behind a proxy one connection carries the calls of many users, who all cancel when the database is slow.
  streamResetBurst: 10_000,
  streamResetRate: 1000,
  // Megabytes a connection may hold. Node's default of 10 is less than four of the largest pages.
  maxSessionMemory: 64,
};

/**
 * Serves HTTP/2 on the port of an HTTP/1.1 server, by the same listener of requests.
 *
 * Over TLS, clients say in the handshake which version they speak; in clear text the first bytes tell. The HTTP/1.1 server owns the
 * port, since Node minds its time limits only while it listens, and its own listeners are given a connection once that is known to
 * speak HTTP/1.1: Node has no other way to serve both versions on one clear-text port.
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
    // Clients of HTTP/1.1 may close their end and wait for the answer; one of HTTP/2 that does so is gone.
    socket.allowHalfOpen = false;
    socket.setNoDelay();
    const session = performServerHandshake(socket, http2Limits);
    sessions.add(session);
    session.on('stream', (stream, headers, _flags, rawHeaders) => {
      const request = new Http2ServerRequest(stream, headers, {}, rawHeaders);
      const response = new Http2ServerResponse(stream);
      // A call may be opened and canceled by one packet, ten thousand times in a row: it is begun when the packet has been read, if
      // its client is still there then.
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
