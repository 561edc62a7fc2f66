import type { Socket } from 'node:net';

/** How HTTP/2 starts when the client knows that the server speaks it (RFC 9113, 3.4). No method of HTTP/1.1 is called PRI. */
const preface = Buffer.from('PRI * HTTP/2.0');

/**
 * Tells HTTP/2 from HTTP/1.1 by the first bytes of a clear-text connection, which are put back into the socket. They may come one
 * at a time. A connection that is silent for too long is closed.
 *
 * @param timeoutMs from the connection to its first decisive byte.
 */
export function detectHttpVersion(socket: Socket, timeoutMs: number, detected: (version: 1 | 2) => void): void {
  let head: Buffer = Buffer.alloc(0);
  const done = (): void => {
    clearTimeout(timer);
    socket.off('readable', look);
    socket.off('end', close);
    socket.off('close', done);
  };
  const close = (): void => {
    done();
    socket.destroy();
  };
  const look = (): void => {
    const bytes = socket.read() as Buffer | null;
    if (bytes === null) return;
    head = head.length === 0 ? bytes : Buffer.concat([head, bytes]);
    const length = Math.min(head.length, preface.length);
    const http2 = preface.compare(head, 0, length, 0, length) === 0;
    if (http2 && length < preface.length) return;
    done();
    socket.unshift(head);
    detected(http2 ? 2 : 1);
  };
  const timer = setTimeout(close, timeoutMs);
  socket.on('readable', look);
  socket.once('end', close);
  socket.once('close', done);
}
