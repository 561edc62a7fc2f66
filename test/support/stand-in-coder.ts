import { createHash } from 'node:crypto';
import { once } from 'node:events';
import http, { type IncomingHttpHeaders, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import https, { type ServerOptions } from 'node:https';
import type { AddressInfo } from 'node:net';
import type { Duplex } from 'node:stream';

/** A request as Coder got it. */
interface RequestToCoder {
  readonly method: string | undefined;
  readonly url: string | undefined;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

/** The handshake of a WebSocket as Coder got it, with its connection. */
interface HandshakeWithCoder {
  readonly url: string | undefined;
  readonly headers: IncomingHttpHeaders;
  readonly socket: Duplex;
}

/** A small server in the place of Coder, which keeps what it gets and answers as the test wants. */
export class StandInCoder {
  readonly got: RequestToCoder[] = [];
  readonly opened: HandshakeWithCoder[] = [];
  /** How it answers a request: at first 204. */
  answer = noContent;
  /** The bytes that it answers a handshake with: at first those that open a WebSocket. Undefined for nothing. */
  answerHandshake: ((request: IncomingMessage) => string) | undefined = openWebSocket;
  readonly server: Server;

  /** Makes one, which speaks TLS if a certificate is given. */
  constructor(options?: ServerOptions) {
    this.server = options === undefined ? http.createServer() : https.createServer(options);
    this.server.on('request', (request: IncomingMessage, response: ServerResponse) => {
      const chunks: Buffer[] = [];
      request.on('data', (chunk: Buffer) => chunks.push(chunk));
      request.on('end', () => {
        const { method, url, headers } = request;
        const got = { method, url, headers, body: Buffer.concat(chunks).toString() };
        this.got.push(got);
        this.answer(got, response);
      });
    });
    this.server.on('upgrade', (request: IncomingMessage, socket: Duplex) => {
      socket.on('error', () => {});
      this.opened.push({ url: request.url, headers: request.headers, socket });
      const answer = this.answerHandshake?.(request);
      if (answer !== undefined) socket.write(answer, 'latin1');
    });
  }

  /** Where it listens. */
  get host(): string {
    return `127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  /** The handshake that came last. */
  get lastOpened(): HandshakeWithCoder {
    const last = this.opened.at(-1);
    if (last === undefined) throw new Error('no WebSocket was opened');
    return last;
  }

  /** Starts to listen, on a free port. */
  async open(): Promise<number> {
    this.server.listen(0, '127.0.0.1');
    await once(this.server, 'listening');
    return (this.server.address() as AddressInfo).port;
  }

  /** Forgets what it got, ends its WebSockets, and answers as at first. */
  reset(): void {
    this.got.length = 0;
    for (const { socket } of this.opened.splice(0)) socket.destroy();
    this.answer = noContent;
    this.answerHandshake = openWebSocket;
  }

  /** Ends all its connections, and takes no more. */
  close(): void {
    for (const { socket } of this.opened) socket.destroy();
    this.server.closeAllConnections();
    this.server.close();
  }
}

/** Answers that there is nothing to say. */
function noContent(_got: RequestToCoder, response: ServerResponse): void {
  response.writeHead(204).end();
}

/** An answer that opens a WebSocket (RFC 6455), of which the first message comes with it. */
export function openWebSocket({ headers }: IncomingMessage): string {
  const key = `${headers['sec-websocket-key']}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`;
  const digest = createHash('sha1').update(key).digest('base64');
  const head = `upgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-accept: ${digest}\r\nset-cookie: a=b\r\n\r\n`;
  return `HTTP/1.1 101 Switching Protocols\r\n${head}${textFrame('{"id":1}')}`;
}

/** A message of a server: of text, whole, shorter than 126 bytes. */
export function textFrame(text: string): string {
  return `\x81${String.fromCharCode(text.length)}${text}`;
}
