import { connect, createServer, type Server, type Socket } from 'node:net';
import type { DatabaseAddress } from '../../src/config.ts';

/** A way to a database, over TCP, that can be slow, fall silent, or break. */
export class Network {
  /** Where what comes from the client is sent on to; may be changed for new connections. */
  to: DatabaseAddress;
  /** How long the database's answers are held back, in milliseconds. */
  delayMs = 0;
  /** A text that breaks each connection on which it comes, from either side. */
  breaksOn: string | undefined;
  /** How many connections were ever opened through it. */
  opened = 0;
  readonly #server: Server;
  readonly #clients = new Set<Socket>();
  #silent = new Set<Socket>();

  constructor(to: DatabaseAddress) {
    this.to = to;
    this.#server = createServer({ noDelay: true }, (client) => {
      this.opened += 1;
      const { socketPath, host = '127.0.0.1', port = 3306 } = this.to;
      const server = connect(socketPath === undefined ? { host, port, noDelay: true } : { path: socketPath });
      this.#clients.add(client);
      client.on('data', (bytes) => this.#breaks(client, bytes) || this.#silent.has(client) || server.write(bytes));
      server.on('data', (bytes) => {
        if (this.#breaks(client, bytes)) return;
        const pass = (): void => void (this.#silent.has(client) || client.destroyed || client.write(bytes));
        if (this.delayMs === 0) pass();
        else setTimeout(pass, this.delayMs);
      });
      for (const end of [client, server]) end.on('error', () => {});
      client.on('close', () => {
        this.#clients.delete(client);
        server.destroy();
      });
      server.on('close', () => this.#silent.has(client) || client.destroy());
    });
  }

  /** Opens it, and returns the database's address behind it. */
  async open(host = '127.0.0.1', port = 0): Promise<DatabaseAddress> {
    await new Promise<void>((resolve) => {
      this.#server.listen(port, host, resolve);
    });
    const { socketPath: _, ...rest } = this.to;
    return { ...rest, host, port: (this.#server.address() as { port: number }).port };
  }

  /** How many connections lead through it. */
  get connections(): number {
    return this.#clients.size;
  }

  /** The host behind the present connections vanishes; another one answers new connections. */
  failOver(): void {
    this.#silent = new Set(this.#clients);
  }

  /** Breaks the present connections. */
  cut(): void {
    for (const client of this.#clients) client.destroy();
  }

  #breaks(client: Socket, bytes: Buffer): boolean {
    if (this.breaksOn === undefined || !bytes.includes(this.breaksOn)) return false;
    client.destroy();
    return true;
  }

  close(): void {
    this.cut();
    this.#server.close();
  }
}
