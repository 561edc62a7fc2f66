import type { IncomingMessage, ServerOptions, ServerResponse } from 'node:http';
import type { Http2ServerRequest, Http2ServerResponse } from 'node:http2';
import type { HeaderReader } from '../call/admission.ts';

/** A request of either HTTP version, by Node's compatibility API. */
export type HttpRequest = IncomingMessage | Http2ServerRequest;
/** A response of either HTTP version. */
export type HttpResponse = ServerResponse | Http2ServerResponse;

/** How long a client may take for a request, and how large its headers may be. */
export const httpLimits = {
  // Enough for the slowest network, too little to hold connections open by sending a byte now and then.
  headersTimeout: 10_000,
  // A request with its body, which is at most 64 KiB.
  requestTimeout: 30_000,
  // By how much the two limits above may be exceeded. Node's default, 30 s, would triple the first.
  connectionsCheckingInterval: 2000,
  // Longer than load balancers keep idle connections, usually 60 s, so that they close first.
  keepAliveTimeout: 65_000,
  // A GET of Connect carries its message in the address: a query of 4 KiB takes 12 when each byte is percent-encoded.
  maxHeaderSize: 32 * 1024,
} as const satisfies ServerOptions;

/** Most headers of a request. */
export const maxHeaders = 128;

/** Headers of API answers: not to be stored, sniffed for another type, embedded by other sites, or sent as a referrer. */
export function protect(response: HttpResponse): void {
  response.setHeader('cache-control', 'no-store');
  response.setHeader('content-security-policy', "default-src 'none'; frame-ancestors 'none'");
  response.setHeader('cross-origin-resource-policy', 'same-origin');
  response.setHeader('referrer-policy', 'no-referrer');
  response.setHeader('x-content-type-options', 'nosniff');
}

/**
 * Marks a streamed answer as not to be buffered on the way: nginx would collect it in its buffers, and a compressing proxy would
 * wait for more to compress.
 */
export function forbidBuffering(response: HttpResponse): void {
  response.setHeader('cache-control', 'no-store, no-transform');
  response.setHeader('x-accel-buffering', 'no');
}

/** Answers with JSON that is not to be stored or taken for anything else. A HEAD is answered without the body. */
export function sendJson(request: HttpRequest, response: HttpResponse, status: number, body: object): void {
  const text = `${JSON.stringify(body)}\n`;
  response.setHeader('content-type', 'application/json');
  response.setHeader('content-length', Buffer.byteLength(text));
  protect(response);
  response.statusCode = status;
  if (request.method === 'HEAD') response.end();
  else response.end(text);
}

/** Answers a call over gRPC or gRPC-Web with a status in the headers, and no messages. */
export function sendGrpcStatus(request: HttpRequest, response: HttpResponse, code: number, message: string): void {
  protect(response);
  response.setHeader('content-type', request.headers['content-type'] ?? 'application/grpc');
  response.setHeader('grpc-status', String(code));
  response.setHeader('grpc-message', encodeURI(message.toWellFormed()));
  response.statusCode = 200;
  response.end();
}

/** The address and port of the other end of a request's connection, `address:port`. */
export function connectionOf({ socket: { remoteAddress, remotePort } }: HttpRequest): string {
  return `${remoteAddress}:${remotePort}`;
}

/** Reads the headers of a request that it has once. */
export function headerReader({ headers }: HttpRequest): HeaderReader {
  return (name) => {
    const value = headers[name];
    return typeof value === 'string' ? value : undefined;
  };
}

/** The path of a request, without what follows `?`. */
export function pathOf(request: HttpRequest): string {
  const url = request.url ?? '';
  const end = url.indexOf('?');
  return end === -1 ? url : url.slice(0, end);
}
