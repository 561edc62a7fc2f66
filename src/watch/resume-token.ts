import { createHash, createHmac, hash, timingSafeEqual } from 'node:crypto';

/** The version of the format below, the first byte of each token. Page tokens begin with another byte. */
const version = 129;
const macBytes = 16;
const digestBytes = 8;
/** Bytes before the position: version, sequence, generation, rights. */
const headBytes = 1 + 8 + 2 * digestBytes;
/** Longest token that is decoded: a longer one was not made here. */
const maxTokenLength = 256;

/** The position of a watch, and what that is valid for. */
export interface ResumePoint {
  /** The changes up to this event of the feed have been sent, or happened before the watch began. */
  readonly seq: number;
  /** Digest of the feed's generation: in another one, `seq` means nothing. */
  readonly generation: Buffer;
  /** Digest of the caller's scope and the resolved query by which tasks were selected. */
  readonly rights: Buffer;
  /** The last task of the snapshot that was sent. Absent when the snapshot is complete, or was not wanted. */
  readonly snapshotPosition?: Buffer;
}

/** Makes and checks the resume tokens of one watch. They are authenticated, URL-safe, and valid for the same caller and query. */
export interface ResumeTokens {
  encode(point: ResumePoint): string;
  /** The point in a token; undefined when the token is malformed, or of another caller, query, format or key. */
  decode(token: string): ResumePoint | undefined;
}

/**
 * A token is base64url(version, sequence, generation, rights, position, MAC). Its key is derived from caller and query once per
 * watch, since every message carries a token.
 *
 * The MAC is SHA-256 over key and bytes, truncated to half, which prevents length extension. It takes a quarter of the time of an
 * HMAC.
 *
 * @param keys the key that signs, and older ones that are still accepted.
 */
export function createResumeTokens(
  keys: readonly [Buffer, ...Buffer[]],
  watch: { readonly callerId: Buffer; readonly query: string },
): ResumeTokens {
  const derive = (key: Buffer): Buffer =>
    createHmac('sha256', key).update(Buffer.of(version)).update(watch.callerId).update(watch.query).digest();
  const [key, ...older] = keys.map(derive) as [Buffer, ...Buffer[]];
  const mac = (by: Buffer, bytes: Buffer): Buffer => hash('sha256', Buffer.concat([by, bytes]), 'buffer').subarray(0, macBytes);
  return {
    encode({ seq, generation, rights, snapshotPosition }) {
      const head = Buffer.alloc(9, version);
      head.writeBigUInt64BE(BigInt(seq), 1);
      const bytes = Buffer.concat([head, generation, rights, ...(snapshotPosition === undefined ? [] : [snapshotPosition])]);
      return Buffer.concat([bytes, mac(key, bytes)]).toString('base64url');
    },
    decode(token) {
      if (token.length > maxTokenLength) return undefined;
      const all = Buffer.from(token, 'base64url');
      if (all.length < headBytes + macBytes || all[0] !== version || all.toString('base64url') !== token) return undefined;
      const bytes = all.subarray(0, all.length - macBytes);
      const given = all.subarray(all.length - macBytes);
      if (![key, ...older].some((by) => timingSafeEqual(given, mac(by, bytes)))) return undefined;
      const snapshotPosition = bytes.subarray(headBytes);
      return {
        seq: Number(bytes.readBigUInt64BE(1)),
        generation: bytes.subarray(9, 9 + digestBytes),
        rights: bytes.subarray(9 + digestBytes, headBytes),
        ...(snapshotPosition.length === 0 ? {} : { snapshotPosition }),
      };
    },
  };
}

/** The first eight bytes of the SHA-256 of a text. */
export function shortDigest(text: string): Buffer {
  return createHash('sha256').update(text).digest().subarray(0, digestBytes);
}
