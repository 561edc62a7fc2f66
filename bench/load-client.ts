import { Agent, request as request1 } from 'node:http';
import { connect, type Socket } from 'node:net';
import { text as textOf } from 'node:stream/consumers';
import { frame, preface } from '../test/support/http2-frames.ts';
import type { LoadResult, OwnLoad, OwnRequest as Request } from './load.ts';
import { median, quantile } from './statistics.ts';

// Load generator for requests that differ from each other, which h2load cannot send, and for machines without h2load. Reads the load
// as JSON from its standard input, and prints the result as JSON.
//
// It writes HTTP/2 frames that were made beforehand to a bare socket, so that the server and not the client limits the rate. It asks
// the server for headers without a dynamic table, and reads only the status from them.

const load = JSON.parse(await textOf(process.stdin)) as OwnLoad;
const { requests } = load;

// Frames of HTTP/2 (RFC 9113): nine bytes of length, type, flags and stream, and what they hold.
const frameType = { data: 0, headers: 1, reset: 3, settings: 4, ping: 6, goAway: 7 } as const;
const flags = { endStream: 1, ack: 1, endHeaders: 4, padded: 8, priority: 32 } as const;

const agent = new Agent({ keepAlive: true, maxSockets: load.connections });

const micros: number[] = [];
const statuses: Record<string, number> = {};
let bodyBytes = 0;
let wrong = 0;
let begun = 0;

function count(status: string, bytes: number, isRight: boolean, since: number): void {
  micros.push((performance.now() - since) * 1000);
  statuses[status] = (statuses[status] ?? 0) + 1;
  bodyBytes += bytes;
  if (!isRight) wrong += 1;
}

/** The next request, while there are any. */
function next(): Request | undefined {
  if (begun === load.calls) return undefined;
  begun += 1;
  return requests[begun % requests.length];
}

const began = performance.now();
const one = load.http1 === true ? overHttp1 : overHttp2;
await Promise.all(Array.from({ length: load.connections }, one));
const result: LoadResult = {
  callsPerSecond: (1000 * load.calls) / (performance.now() - began),
  p50Ms: median(micros) / 1000,
  p99Ms: quantile(micros, 0.99) / 1000,
  statuses,
  bodyBytes,
  wrong,
};
console.log(JSON.stringify(result));
process.exit(0);

/** Encodes a header as a literal without indexing (RFC 7541, 6.2.2). */
function literal(name: string, value: string): Buffer {
  return Buffer.concat([Buffer.of(0), text(name), text(value)]);
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value);
  const length =
    bytes.length < 127 ? Buffer.of(bytes.length) : Buffer.of(127, ((bytes.length - 127) & 127) | 128, (bytes.length - 127) >> 7);
  return Buffer.concat([length, bytes]);
}

/** The frames of a request, and the offsets at which the stream id has to be written. */
function framesOf({ path, headers, body }: Request): { readonly bytes: Buffer; readonly streamAt: readonly number[] } {
  const pseudo = { ':method': body === undefined ? 'GET' : 'POST', ':scheme': 'http', ':path': path, ':authority': load.host };
  const block = Buffer.concat(Object.entries({ ...pseudo, ...headers }).map(([name, value]) => literal(name, value)));
  const head = frame(frameType.headers, flags.endHeaders | (body === undefined ? flags.endStream : 0), 0, block);
  if (body === undefined) return { bytes: head, streamAt: [5] };
  const data = frame(frameType.data, flags.endStream, 0, Buffer.from(body, 'base64'));
  return { bytes: Buffer.concat([head, data]), streamAt: [5, head.length + 5] };
}

/** Reads the status from a header block: an indexed field of the static table (RFC 7541, appendix A). 0 if it is none of these. */
function statusOf(block: Buffer): number {
  let at = 0;
  while (((block[at] ?? 0) & 0xe0) === 0x20) at += 1;
  return { 0x88: 200, 0x89: 204, 0x8a: 206, 0x8b: 304, 0x8c: 400, 0x8d: 404, 0x8e: 500 }[block[at] ?? 0] ?? 0;
}

/** A response that is being received. */
interface Answer {
  readonly request: Request;
  readonly since: number;
  status: number;
  body: Buffer;
}

function overHttp2(): Promise<void> {
  const frames = new Map(requests.map((request) => [request, framesOf(request)]));
  const [host = '', port] = load.host.split(':');
  return new Promise((resolve, reject) => {
    const socket: Socket = connect({ host, port: Number(port), noDelay: true });
    const answers = new Map<number, Answer>();
    let stream = 1;
    let rest: Buffer = Buffer.alloc(0);
    const toSend: Buffer[] = [];

    const begin = (): void => {
      const request = next();
      const made = request && frames.get(request);
      if (request === undefined || made === undefined) return;
      const bytes = Buffer.from(made.bytes);
      for (const at of made.streamAt) bytes.writeUInt32BE(stream, at);
      answers.set(stream, { request, since: performance.now(), status: 0, body: Buffer.alloc(0) });
      stream += 2;
      toSend.push(bytes);
    };
    const end = (id: number, answer: Answer): void => {
      answers.delete(id);
      const { contains } = answer.request;
      const isRight = contains === undefined || answer.body.includes(contains);
      count(String(answer.status), answer.body.length, isRight, answer.since);
      begin();
      if (answers.size === 0) {
        socket.destroy();
        resolve();
      }
    };
    const read = (type: number, flag: number, id: number, payload: Buffer): void => {
      if (type === frameType.settings && (flag & flags.ack) === 0) toSend.push(frame(type, flags.ack, 0, Buffer.alloc(0)));
      else if (type === frameType.ping && (flag & flags.ack) === 0) toSend.push(frame(type, flags.ack, 0, payload));
      else if (type === frameType.goAway || type === frameType.reset)
        reject(new Error(`the server sent a frame of type ${type}`));
      const answer = answers.get(id);
      if (answer === undefined || (type !== frameType.data && type !== frameType.headers)) return;
      if ((flag & (flags.padded | flags.priority)) !== 0) reject(new Error('the server pads its frames'));
      if (type === frameType.data) answer.body = answer.body.length === 0 ? payload : Buffer.concat([answer.body, payload]);
      else if (answer.status === 0) answer.status = statusOf(payload);
      if ((flag & flags.endStream) !== 0) end(id, answer);
    };

    socket.on('error', reject);
    socket.on('connect', () => {
      // No dynamic table, no push, and flow-control windows of 2 GiB for each stream and for the connection.
      const settings = Buffer.from('00010000000000020000000000047fffffff', 'hex');
      const window = frame(8, 0, 0, Buffer.from('7fff0000', 'hex'));
      toSend.push(preface, frame(frameType.settings, 0, 0, settings), window);
      for (let under = 0; under < load.streams; under++) begin();
      socket.write(Buffer.concat(toSend.splice(0)));
      if (answers.size === 0) resolve();
    });
    socket.on('data', (chunk) => {
      const bytes: Buffer = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
      let at = 0;
      while (bytes.length - at >= 9) {
        const to = at + 9 + bytes.readUIntBE(at, 3);
        if (to > bytes.length) break;
        read(bytes[at + 3] ?? 0, bytes[at + 4] ?? 0, bytes.readUInt32BE(at + 5), bytes.subarray(at + 9, to));
        at = to;
      }
      rest = bytes.subarray(at);
      if (toSend.length > 0) socket.write(Buffer.concat(toSend.splice(0)));
    });
  });
}

async function overHttp1(): Promise<void> {
  for (let request = next(); request !== undefined; request = next()) {
    const { path, headers, body, contains } = request;
    const since = performance.now();
    await new Promise<void>((resolve, reject) => {
      const method = body === undefined ? 'GET' : 'POST';
      const outgoing = request1(`http://${load.host}${path}`, { agent, method, headers }, (incoming) => {
        const pieces: Buffer[] = [];
        incoming.on('data', (chunk: Buffer) => pieces.push(chunk));
        incoming.on('end', () => {
          const whole = Buffer.concat(pieces);
          count(String(incoming.statusCode), whole.length, contains === undefined || whole.includes(contains), since);
          resolve();
        });
      });
      outgoing.on('error', reject);
      outgoing.end(body === undefined ? undefined : Buffer.from(body, 'base64'));
    });
  }
}
