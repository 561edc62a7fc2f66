import type { Http2Server, ServerHttp2Session } from 'node:http2';

/** A connection that is silent for so long is asked whether it is still there. */
const pingEveryMs = 60_000;
/** A connection without a call for so long is closed; clients open another when they need it. */
const idleMs = 15 * 60_000;
/** A connection is asked to leave after so long, so that clients behind a balancer find new servers. */
const maxAgeMs = 30 * 60_000;

/**
 * Looks after the HTTP/2 connections of a server, which Node leaves to the program: finds those whose client is gone, ends idle
 * and old ones, and can end all.
 */
export function keepHttp2Sessions(server: Http2Server): { close(): void; destroy(): void } {
  const sessions = new Set<ServerHttp2Session>();
  server.on('session', (session) => {
    sessions.add(session);
    // The end of a session lets its running calls finish.
    const age = setTimeout(() => session.close(), maxAgeMs).unref();
    const ping = setInterval(() => pingOrDestroy(session), pingEveryMs).unref();
    session.setTimeout(idleMs, () => session.close());
    session.on('error', () => {}); // a client that breaks the protocol; the session is closed
    session.once('close', () => {
      sessions.delete(session);
      clearTimeout(age);
      clearInterval(ping);
    });
  });
  return {
    close() {
      for (const session of sessions) session.close();
    },
    destroy() {
      for (const session of sessions) session.destroy();
    },
  };
}

/** Closes a session that has not answered the ping before. */
function pingOrDestroy(session: ServerHttp2Session): void {
  if (session.closed || session.destroyed) return;
  const late = setTimeout(() => session.destroy(), pingEveryMs / 3).unref();
  const sent = session.ping(() => clearTimeout(late));
  if (!sent) session.destroy();
}
