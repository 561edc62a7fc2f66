import { once } from 'node:events';
import http, { type IncomingMessage } from 'node:http';
import { type ClientHttp2Session, connect } from 'node:http2';

/** A request as it is sent, whatever its protocol. */
export interface RawRequest {
  readonly path: string;
  /** POST if not said. */
  readonly verb?: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: Uint8Array;
}

/** What came back: headers and trailers together, and the body. */
export interface RawAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Buffer;
}

/** A connection on which one request follows the other, without a library for calls. */
export interface RawConnection {
  send(request: RawRequest): Promise<RawAnswer>;
  close(): void;
}

/** A message in its envelope, as gRPC, gRPC-Web and the streams of Connect have it. */
export function envelope(message: Uint8Array, flags = 0): Buffer {
  const head = Buffer.alloc(5);
  head.writeUInt8(flags, 0);
  head.writeUInt32BE(message.length, 1);
  return Buffer.concat([head, message]);
}

/** Opens a connection that speaks HTTP/2. */
export function openHttp2(address: string): RawConnection {
  const session = connect(`http://${address}`);
  session.on('error', () => {}); // its requests end with it
  return { send: (request) => sendOn(session, request), close: () => session.destroy() };
}

async function sendOn(session: ClientHttp2Session, { path, verb = 'POST', headers, body }: RawRequest): Promise<RawAnswer> {
  const stream = session.request({ ':method': verb, ':path': path, ...headers });
  const received: Record<string, string> = {};
  const chunks: Buffer[] = [];
  const add = (more: object): void => void Object.assign(received, more);
  stream.on('response', add);
  stream.on('trailers', add);
  stream.on('data', (chunk: Buffer) => void chunks.push(chunk));
  if (!stream.writableEnded) stream.end(body); // a GET has ended
  await once(stream, 'close');
  return { status: Number(received[':status']), headers: received, body: Buffer.concat(chunks) };
}

/** Opens a connection that speaks HTTP/1.1. It fails when the server has closed it between two requests. */
export function openHttp1(address: string): RawConnection {
  const { hostname, port } = new URL(`http://${address}`);
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  let sent = 0;
  return {
    async send({ path, verb = 'POST', headers, body }) {
      const request = http.request({ agent, hostname, port, path, method: verb, headers });
      request.end(body);
      const [response] = (await once(request, 'response')) as [IncomingMessage];
      const chunks: Buffer[] = [];
      for await (const chunk of response) chunks.push(chunk as Buffer);
      if (sent > 0 && !request.reusedSocket) throw new Error('the server has closed the connection');
      sent += 1;
      const received = { ...response.headers, ...response.trailers } as Record<string, string>;
      return { status: response.statusCode ?? 0, headers: received, body: Buffer.concat(chunks) };
    },
    close: () => agent.destroy(),
  };
}
