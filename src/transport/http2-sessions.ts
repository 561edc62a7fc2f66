import { constants, type Http2Server, type ServerHttp2Session, type ServerHttp2Stream } from 'node:http2';

/** How long connections may last, in milliseconds. */
export interface SessionLimits {
  /** A connection without a call for so long is closed; clients open another when they need it. */
  readonly idle: number;
  /** A connection is asked to leave after so long, so that clients behind a balancer find new servers. */
  readonly age: number;
  /** Calls that run longer than that are cut so much later. */
  readonly ageGrace: number;
  /** A call is cut when for so long its request did not get whole, or its answer was not taken. */
  readonly stalled: number;
}

/** The same on the gRPC port and on the web port. */
export const sessionLimits: SessionLimits = { idle: 15 * 60_000, age: 30 * 60_000, ageGrace: 60_000, stalled: 60_000 };

/**
 * Cuts a call whose client does not go on: one that sends its request too slowly, or does not take the answer, which waits in
 * memory. A stream that has nothing to say at the moment is not touched.
 */
export function cutWhenStalled(stream: ServerHttp2Stream, milliseconds: number): void {
  stream.setTimeout(milliseconds, () => {
    if (stream.writableLength > 0 || !stream.headersSent) stream.close(constants.NGHTTP2_ENHANCE_YOUR_CALM);
    else stream.setTimeout(milliseconds);
  });
}

/** Ends idle and old HTTP/2 connections of a server, which Node leaves to the program, and can ask all of them to leave. */
export function keepHttp2Sessions(server: Http2Server, limits: SessionLimits = sessionLimits): { close(): void } {
  const sessions = new Set<ServerHttp2Session>();
  server.on('session', (session) => {
    let calls = 0;
    const idle = setTimeout(() => {
      if (calls === 0) session.close();
    }, limits.idle).unref();
    session.on('stream', (stream) => {
      calls += 1;
      cutWhenStalled(stream, limits.stalled);
      stream.once('close', () => {
        calls -= 1;
        if (calls === 0) idle.refresh();
      });
    });

    let cut: NodeJS.Timeout | undefined;
    const leave = (): void => {
      session.close(); // running calls may finish
      cut = setTimeout(() => session.destroy(), limits.ageGrace).unref();
    };
    // Clients that came together shall not come back together.
    const aging = setTimeout(leave, limits.age * (0.9 + 0.2 * Math.random())).unref();

    session.on('error', () => {}); // a client that breaks the protocol; the session is closed
    sessions.add(session);
    session.once('close', () => {
      sessions.delete(session);
      for (const timer of [idle, aging, cut]) clearTimeout(timer);
    });
  });
  return {
    close() {
      for (const session of sessions) session.close();
    },
  };
}
