import { createHash } from 'node:crypto';
import type { UniversalServerResponse } from '@connectrpc/connect/protocol';
import type { HttpRequest, HttpResponse } from './http.ts';

/** What an answer to a GET depends on beside its address: the caller, and the accepted compression. */
const answerVariesBy = 'Accept-Encoding, Authorization, Coder-Session-Token, Cookie';

/** Bytes of the hash in a tag: enough to be unique among the answers that a client may hold. */
const tagBytes = 16;

/**
 * Sends a successful answer to a GET with an entity tag. A client that already has the same answer gets 304 and no body: the call
 * is made all the same, and only the transfer is saved.
 */
export async function sendWithEntityTag(
  { status, header, body }: UniversalServerResponse,
  request: HttpRequest,
  response: HttpResponse,
): Promise<void> {
  const chunks: Uint8Array[] = [];
  if (body !== undefined) for await (const chunk of body) chunks.push(chunk);
  const bytes = Buffer.concat(chunks);
  const tag = entityTag(bytes);
  header?.forEach((value, name) => response.setHeader(name, value));
  response.setHeader('etag', tag);
  response.setHeader('cache-control', 'private, no-cache'); // browsers may keep it, and must revalidate it each time
  response.appendHeader('vary', answerVariesBy);
  if (isAmongTags(tag, request.headers['if-none-match'])) {
    for (const name of ['content-type', 'content-length', 'content-encoding']) response.removeHeader(name);
    response.statusCode = 304;
    response.end();
  } else {
    response.statusCode = status;
    response.end(bytes);
  }
}

/** The entity tag of some bytes. */
export function entityTag(bytes: Uint8Array): string {
  return `"${createHash('sha256').update(bytes).digest().toString('base64url', 0, tagBytes)}"`;
}

/** Whether a tag is in a list of them. Proxies that compress make tags weak, and `*` means any. */
export function isAmongTags(tag: string, list: string | undefined): boolean {
  return (list ?? '').split(',').some((entry) => entry.trim().replace(/^W\//, '') === tag || entry.trim() === '*');
}
