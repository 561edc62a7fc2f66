import type { Server, Socket } from 'node:net';
import { greetingMs } from '../call/limits.ts';
import { detectHttpVersion } from './detect-http-version.ts';

/** The connections of a port, from the moment they are accepted. */
export class Sockets {
  readonly #open = new Set<Socket>();
  readonly #undetected = new Set<Socket>();

  constructor(port: Server) {
    port.prependListener('connection', (socket: Socket) => {
      this.#open.add(socket);
      socket.once('close', () => this.#open.delete(socket));
      socket.on('error', () => {}); // a client that hangs up
    });
  }

  /** Detects the HTTP version of a clear-text connection; one that is silent for too long is closed. */
  detectVersion(socket: Socket, detected: (version: 1 | 2) => void): void {
    this.#undetected.add(socket);
    socket.once('close', () => this.#undetected.delete(socket));
    detectHttpVersion(socket, greetingMs, (version) => {
      this.#undetected.delete(socket);
      detected(version);
    });
  }

  /** Closes the connections on which no byte has arrived yet. */
  closeUndetected(): void {
    for (const socket of this.#undetected) socket.destroy();
  }

  /** Cuts all connections. */
  destroy(): void {
    for (const socket of this.#open) socket.destroy();
  }
}
