import { createHash } from 'node:crypto';
import type { UniversalServerResponse } from '@connectrpc/connect/protocol';

/** What an answer to a Connect GET depends on beside its address: who calls, and how the client wants it compressed. */
export const answerVariesBy = 'Accept-Encoding, Authorization, Coder-Session-Token, Cookie';

/** Bytes of the hash in a tag: as good as unique among the answers that a client may hold. */
const tagBytes = 16;

/**
 * Adds an entity tag to a good answer. A client that has the same answer already gets 304 and no body: the call has been made, but
 * nothing is sent and read again.
 *
 * @param ifNoneMatch the header of the request: the tags of what the client has.
 */
export async function withEntityTag(
  answer: UniversalServerResponse,
  ifNoneMatch: string | undefined,
): Promise<UniversalServerResponse> {
  const { status, header, body } = answer;
  if (status !== 200 || header === undefined || body === undefined) return answer;
  const chunks: Uint8Array[] = [];
  const hash = createHash('sha256');
  for await (const chunk of body) {
    chunks.push(chunk);
    hash.update(chunk);
  }
  const tag = `"${hash.digest().toString('base64url', 0, tagBytes)}"`;
  header.set('etag', tag);
  if (!isAmong(tag, ifNoneMatch)) return { ...answer, body: again(chunks) };
  for (const name of ['content-type', 'content-length', 'content-encoding']) header.delete(name);
  return { status: 304, header };
}

/** Whether a tag is in a list of them. Proxies that compress make tags weak, and `*` means any. */
function isAmong(tag: string, list: string | undefined): boolean {
  return (list ?? '').split(',').some((entry) => entry.trim().replace(/^W\//, '') === tag || entry.trim() === '*');
}

async function* again(chunks: readonly Uint8Array[]): AsyncGenerator<Uint8Array> {
  yield* chunks;
}
