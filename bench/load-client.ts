import { Agent, request as request1 } from 'node:http';
import { type ClientHttp2Session, connect } from 'node:http2';
import type { Load, LoadResult } from './load.ts';
import { median, quantile } from './statistics.ts';

// Makes a load where there is no h2load. Reads what to do from the environment variable LOAD, and prints how it went.

const load = JSON.parse(process.env['LOAD'] ?? '') as Omit<Load, 'body'> & { readonly body?: string };
const body = load.body === undefined ? undefined : Buffer.from(load.body, 'base64');
const method = body === undefined ? 'GET' : 'POST';

interface Answer {
  readonly status: number;
  readonly bytes: number;
}

const call = load.http1 === true ? overHttp1 : overHttp2;
const agent = new Agent({ keepAlive: true, maxSockets: load.connections });
const sessions: ClientHttp2Session[] =
  load.http1 === true ? [] : Array.from({ length: load.connections }, () => connect(`http://${load.host}`));

const micros: number[] = [];
const statuses: Record<string, number> = {};
let bodyBytes = 0;
let left = load.requests;
const began = performance.now();
await Promise.all(
  Array.from({ length: load.connections }, (_, connection) =>
    Promise.all(Array.from({ length: load.http1 === true ? 1 : load.streams }, () => callWhileLeft(connection))),
  ),
);
const result: LoadResult = {
  callsPerSecond: (1000 * load.requests) / (performance.now() - began),
  p50Ms: median(micros) / 1000,
  p99Ms: quantile(micros, 0.99) / 1000,
  statuses,
  bodyBytes,
};
console.log(JSON.stringify(result));
process.exit(0);

async function callWhileLeft(connection: number): Promise<void> {
  while (left > 0) {
    left -= 1;
    const from = performance.now();
    const { status, bytes } = await call(connection);
    micros.push((performance.now() - from) * 1000);
    statuses[status] = (statuses[status] ?? 0) + 1;
    bodyBytes += bytes;
  }
}

function overHttp2(connection: number): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const stream = sessions[connection]?.request({ ':method': method, ':path': load.path, ...load.headers });
    if (stream === undefined) throw new Error('there is no such connection');
    let status = 0;
    let bytes = 0;
    stream.on('response', (headers) => {
      status = headers[':status'] ?? 0;
    });
    stream.on('data', (chunk: Buffer) => {
      bytes += chunk.length;
    });
    stream.on('end', () => resolve({ status, bytes }));
    stream.on('error', reject);
    stream.end(body);
  });
}

function overHttp1(): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const outgoing = request1(`http://${load.host}${load.path}`, { agent, method, headers: load.headers }, (incoming) => {
      let bytes = 0;
      incoming.on('data', (chunk: Buffer) => {
        bytes += chunk.length;
      });
      incoming.on('end', () => resolve({ status: incoming.statusCode ?? 0, bytes }));
    });
    outgoing.on('error', reject);
    outgoing.end(body);
  });
}
