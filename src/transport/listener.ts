import type { AddressInfo, Server } from 'node:net';

/** A part of the server that answers on one port. */
export interface Listener {
  /** Owns the port. */
  readonly port: Server;
  /** How many requests are open: not answered yet, or with an answer that the client has not taken yet. */
  readonly open: number;
  /** Stops accepting connections and asks clients to close the open ones. Resolves when all are closed. */
  drain(): Promise<void>;
  /** Cuts the connections that are left. */
  destroy(): void;
}

/** Thrown when a port cannot be opened: one line that says which variable to set. */
class PortError extends Error {
  override readonly name = 'PortError';
}

/**
 * Starts listening.
 *
 * @param variable names the setting of the port, for the error.
 * @returns `host:port` as a client on this machine can use it, with the real port for port 0.
 * @throws {PortError} when the port is in use, needs more rights, or the host is not this machine's.
 */
export function listen(server: Server, host: string, port: number, variable: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const failed = (error: NodeJS.ErrnoException): void => reject(new PortError(explain(error, host, port, variable)));
    server.once('error', failed);
    server.listen({ host, port }, () => {
      server.off('error', failed);
      const { address, port: real } = server.address() as AddressInfo;
      resolve(`${nameOf(address)}:${real}`);
    });
  });
}

function explain({ code, message }: NodeJS.ErrnoException, host: string, port: number, variable: string): string {
  switch (code) {
    case 'EADDRINUSE':
      return `port ${port} of ${host} is in use: stop what uses it, or set ${variable} to another port`;
    case 'EACCES':
      return `port ${port} of ${host} may not be used by this user: set ${variable} to a port from 1024 on`;
    case 'EADDRNOTAVAIL':
    case 'ENOTFOUND':
    case 'EAI_AGAIN':
      return `${host} is no address of this machine: set HOST to one that is, or to 0.0.0.0 for all`;
    default:
      return `cannot listen on port ${port} of ${host} (${variable}): ${message}`;
  }
}

/** The address to call for one to listen on: "all addresses" cannot be called. */
function nameOf(address: string): string {
  if (address === '0.0.0.0') return '127.0.0.1';
  if (address === '::') return '[::1]';
  return address.includes(':') ? `[${address}]` : address;
}
