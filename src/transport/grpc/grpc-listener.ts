import { once } from 'node:events';
import { createServer, type Socket } from 'node:net';
import { createServer as createTlsServer, Server as TlsServer } from 'node:tls';
import * as grpc from '@grpc/grpc-js';
import type { Calls } from '../../call/calls.ts';
import { greetingMs, maxConnections, tcpKeepAlive } from '../../call/limits.ts';
import type { Method } from '../../call/method.ts';
import type { Certificates } from '../certificates.ts';
import { type ClientAddress, createClientAddress } from '../client-address.ts';
import { leaveAfterResets, prepareHttp2Streams, type SessionLimits, sessionLimits } from '../http2-limits.ts';
import type { Listener } from '../listener.ts';
import { Sockets } from '../sockets.ts';
import { createGrpcServer, refuseOtherRequests } from './grpc-service.ts';

/** How the gRPC port listens. */
interface GrpcListenerOptions {
  /** Its TLS; clear text if absent. */
  readonly certificates?: Certificates | undefined;
  readonly limits?: SessionLimits;
  readonly clientAddress?: ClientAddress;
  /** Further interceptors, for tests' methods that need headers of their own. They see a call before it is admitted. */
  readonly interceptors?: readonly grpc.ServerInterceptor[];
}

/** gRPC over HTTP/2, by grpc-js: over TLS when there are certificates, else in clear text. */
export function createGrpcListener(
  methods: readonly Method[],
  calls: Calls,
  { certificates, limits = sessionLimits, clientAddress = createClientAddress(), interceptors = [] }: GrpcListenerOptions = {},
): Listener {
  const server = createGrpcServer(methods, calls, limits, clientAddress, interceptors);
  // The port is opened here, so that its errors and its TLS are the same as those of the other listeners.
  const connections = server.createConnectionInjector(grpc.ServerCredentials.createInsecure());
  const accept = (socket: Socket): void => {
    socket.on('error', () => {}); // a client that hangs up; its calls learn it from the closed stream
    // After the TLS handshake the client has agreed on HTTP/2.
    if (certificates !== undefined) connections.injectConnection(socket);
    else {
      // The library would wait for a silent client, and answer HTTP/1.1 with bytes that its client cannot read.
      sockets.detectVersion(socket, (version) => {
        if (version === 2) connections.injectConnection(socket);
        else socket.destroy();
      });
    }
  };
  const tcp = { noDelay: true, ...tcpKeepAlive };
  const port =
    certificates === undefined
      ? createServer(tcp, accept)
      : createTlsServer({ ...tcp, ...certificates.options, ALPNProtocols: ['h2'], handshakeTimeout: greetingMs }, accept);
  port.maxConnections = maxConnections;
  if (port instanceof TlsServer) certificates?.follow(port);
  const sockets = new Sockets(port);
  const refuse = refuseOtherRequests(methods);
  const countResets = leaveAfterResets();
  const streams = prepareHttp2Streams(port, limits.stalled, (stream, headers) => {
    refuse(stream, headers);
    countResets(stream);
  });

  return {
    port,

    get open() {
      return streams.size;
    },

    async drain() {
      const closed = once(port, 'close');
      port.close();
      server.tryShutdown(() => {});
      sockets.closeUndetected();
      await closed;
    },

    destroy() {
      sockets.destroy();
    },
  };
}
