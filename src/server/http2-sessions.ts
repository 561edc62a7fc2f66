import type { Http2Server, ServerHttp2Session } from 'node:http2';

/** How long connections may do what, in milliseconds. */
export interface SessionLimits {
  /** How often a connection is looked at: whether it is idle, and whether its other end is still there. */
  readonly lookEvery: number;
  /** A connection without a call for so long is closed; clients open another when they need it. */
  readonly idle: number;
  /** A connection is asked to leave after so long, so that clients behind a balancer find new servers. */
  readonly age: number;
  /** Calls that run longer than that are cut so much later. */
  readonly ageGrace: number;
}

/** As on the gRPC port, where the library has such limits. */
const defaultLimits: SessionLimits = { lookEvery: 60_000, idle: 15 * 60_000, age: 30 * 60_000, ageGrace: 5 * 60_000 };

/**
 * Looks after the HTTP/2 connections of a server, which Node leaves to the program: finds those whose client is gone, ends idle
 * and old ones, and can ask all of them to leave.
 */
export function keepHttp2Sessions(server: Http2Server, limits: SessionLimits = defaultLimits): { close(): void } {
  const sessions = new Set<ServerHttp2Session>();
  server.on('session', (session) => {
    let calls = 0;
    let idleSince = performance.now();
    session.on('stream', (stream) => {
      calls += 1;
      stream.once('close', () => {
        calls -= 1;
        idleSince = performance.now();
      });
    });
    const look = (): void => {
      if (calls === 0 && performance.now() - idleSince >= limits.idle) session.close();
      else pingOrDestroy(session, limits.lookEvery / 3);
    };
    const looking = setInterval(look, limits.lookEvery).unref();

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
      clearInterval(looking);
      clearTimeout(aging);
      clearTimeout(cut);
    });
  });
  return {
    close() {
      for (const session of sessions) session.close();
    },
  };
}

/** Cuts a connection whose other end does not answer. */
function pingOrDestroy(session: ServerHttp2Session, withinMs: number): void {
  if (session.closed) return; // it is on its way out, and Node sends no ping
  const late = setTimeout(() => session.destroy(), withinMs).unref();
  const sent = session.ping(() => clearTimeout(late));
  if (!sent) session.destroy();
}
