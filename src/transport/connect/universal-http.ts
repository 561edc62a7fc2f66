import { createHash } from 'node:crypto';
import type { UniversalServerRequest, UniversalServerResponse } from '@connectrpc/connect/protocol';
import { longestTimerMs } from '../../call/limits.ts';
import type { HttpRequest, HttpResponse } from '../http.ts';

// The library's requests and responses on Node's HTTP. The library has this, too, in a form for every runtime and every kind of
// call: of what a unary call costs on the web port, a tenth goes there (docs/decisions/0009-where-the-web-port-spends-its-time.md).

/** Why the signal of a request is aborted. One for all: an error of each call's own costs as much as a look into a cache. */
const clientIsGone = new Error('the client is gone');

/** The request as the library takes it, or undefined when it has no host or its address is none. */
export function toUniversal(request: HttpRequest, response: HttpResponse): UniversalServerRequest | undefined {
  const scheme = 'encrypted' in request.socket ? 'https' : 'http';
  const host = 'authority' in request ? request.authority : request.headers.host;
  const url = host === undefined ? null : URL.parse(request.url ?? '', `${scheme}://${host}`);
  if (url === null) return undefined;
  const header = new Headers();
  for (const [name, value] of Object.entries(request.headers)) {
    if (name.startsWith(':')) continue;
    for (const one of [value ?? []].flat()) header.append(name, one);
  }
  dropFarTimeout(header);
  const gone = new AbortController();
  response.once('close', () => {
    if (!response.writableEnded) gone.abort(clientIsGone);
  });
  return {
    httpVersion: request.httpVersion,
    method: request.method ?? '',
    url: url.href,
    header,
    body: request,
    signal: gone.signal,
  };
}

/** Milliseconds in the units of `grpc-timeout` that can name more than 24.8 days. */
const longUnits: Readonly<Record<string, number>> = { H: 3_600_000, M: 60_000, S: 1000 };

/** Takes away a timeout that is too long for a timer, which the library would take for a passed one. */
function dropFarTimeout(header: Headers): void {
  if (Number(header.get('connect-timeout-ms')) > longestTimerMs) header.delete('connect-timeout-ms');
  const grpc = /^(\d{1,8})([HMS])$/.exec(header.get('grpc-timeout') ?? '');
  if (grpc !== null && Number(grpc[1]) * (longUnits[grpc[2] ?? ''] ?? 0) > longestTimerMs) header.delete('grpc-timeout');
}

/** What an answer to a GET depends on beside its address: who calls, and how the client wants it compressed. */
const answerVariesBy = 'Accept-Encoding, Authorization, Coder-Session-Token, Cookie';

/**
 * Sends the answer of a unary call at once.
 *
 * A good answer to a GET has an entity tag. A client that has the same answer already gets 304 and no body: the call has been made,
 * but nothing is sent and read again.
 */
export async function sendWhole(
  { status, header, body, trailer }: UniversalServerResponse,
  request: HttpRequest,
  response: HttpResponse,
): Promise<void> {
  const bytes = await whole(body);
  response.statusCode = status;
  header?.forEach((value, name) => response.setHeader(name, value));
  if (request.method === 'GET' && status === 200) {
    const tag = entityTag(bytes);
    response.setHeader('etag', tag);
    response.setHeader('cache-control', 'private, no-cache'); // browsers may keep it, and must ask each time whether it still holds
    response.appendHeader('vary', answerVariesBy);
    if (isAmong(tag, request.headers['if-none-match'])) {
      response.statusCode = 304;
      for (const name of ['content-type', 'content-length', 'content-encoding']) response.removeHeader(name);
      response.end();
      return;
    }
  }
  if (trailer !== undefined) response.addTrailers(Object.fromEntries(trailer));
  response.end(bytes);
}

async function whole(body: AsyncIterable<Uint8Array> | undefined): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  if (body !== undefined) for await (const chunk of body) chunks.push(chunk);
  const [only] = chunks;
  return only !== undefined && chunks.length === 1 ? only : Buffer.concat(chunks);
}

/** Bytes of the hash in a tag: as good as unique among the answers that a client may hold. */
const tagBytes = 16;

function entityTag(bytes: Uint8Array): string {
  return `"${createHash('sha256').update(bytes).digest().toString('base64url', 0, tagBytes)}"`;
}

/** Whether a tag is in a list of them. Proxies that compress make tags weak, and `*` means any. */
function isAmong(tag: string, list: string | undefined): boolean {
  return (list ?? '').split(',').some((entry) => entry.trim().replace(/^W\//, '') === tag || entry.trim() === '*');
}
