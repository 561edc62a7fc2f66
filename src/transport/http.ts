import type { IncomingMessage, ServerOptions, ServerResponse } from 'node:http';
import type { Http2ServerRequest, Http2ServerResponse } from 'node:http2';

/** A request of either HTTP version, as Node's compatible interface has it. */
export type HttpRequest = IncomingMessage | Http2ServerRequest;
/** A response of either HTTP version. */
export type HttpResponse = ServerResponse | Http2ServerResponse;

/** How long a client may take, and how much it may send before a request is known. */
export const httpLimits = {
  // Enough for the slowest network, too little to hold connections open by sending a byte now and then.
  headersTimeout: 10_000,
  // A request with its body, which is at most 64 KiB.
  requestTimeout: 30_000,
  // How late the two above may be noticed. Node's default, 30 s, would triple the first.
  connectionsCheckingInterval: 2000,
  // Longer than load balancers keep idle connections, 60 s as a rule, so that theirs is the end that closes.
  keepAliveTimeout: 65_000,
  // A GET of Connect carries its message in the address: a query of 4 KiB takes 12 when each byte is percent-encoded.
  maxHeaderSize: 32 * 1024,
} as const satisfies ServerOptions;

/** Most headers of a request. */
export const maxHeaders = 128;

/** Says of an answer of the API that it is not to be stored, taken for anything else, embedded elsewhere, or told of in links. */
export function protect(response: HttpResponse): void {
  response.setHeader('cache-control', 'no-store');
  response.setHeader('content-security-policy', "default-src 'none'; frame-ancestors 'none'");
  response.setHeader('cross-origin-resource-policy', 'same-origin');
  response.setHeader('referrer-policy', 'no-referrer');
  response.setHeader('x-content-type-options', 'nosniff');
}

/**
 * Says of an answer that comes bit by bit that nobody on the way may keep it back: nginx would collect it in its buffers, and what
 * compresses would wait for enough to compress.
 */
export function sendThrough(response: HttpResponse): void {
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

/** The path of a request, without what follows `?`. */
export function pathOf(request: HttpRequest): string {
  const url = request.url ?? '';
  const end = url.indexOf('?');
  return end === -1 ? url : url.slice(0, end);
}
