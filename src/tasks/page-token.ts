import { createHmac, createSecretKey, hash, type KeyObject, timingSafeEqual } from 'node:crypto';

/** The version of the format below, the first byte of each token: a token of another format is refused, never misread. */
const version = 1;
const macBytes = 16;
/** Longest token that is looked at. The longest sort key is 100 bytes; what is longer was not made here. */
const maxTokenLength = 512;

/** What a token belongs to: it is good for the same caller asking the same thing, whatever the page size. */
export interface TokenScope {
  readonly callerId: Buffer;
  readonly query: string;
  /** The order that was asked for, and the one it came to, which depends on who asks. */
  readonly orderBy: string;
}

/** Makes and checks page tokens: the position after which a page starts, authenticated, URL-safe. */
export interface PageTokens {
  /** The token for the page that starts behind a position, which is the sort key of the last task that was sent. */
  encode(position: Buffer, scope: TokenScope): string;
  /** The position in a token, or undefined when it was edited, is of another scope, format or key, or never was a token. */
  decode(token: string, scope: TokenScope): Buffer | undefined;
}

/**
 * A token is base64url(version, position, HMAC-SHA-256 over version, scope and position, cut to 16 bytes).
 *
 * It carries no right: what a caller may read is decided anew for each page. It is authenticated so that a position always is
 * one that was sent to this caller, and only its canonical spelling is accepted (base64url has several for some bytes).
 *
 * @param keys the key that signs, and older ones that are still accepted.
 */
export function createPageTokens(keys: readonly [Buffer, ...Buffer[]]): PageTokens {
  // Prepared once: to make a key of bytes takes longer than all the rest.
  const [newest, ...older] = keys.map((key) => createSecretKey(key)) as [KeyObject, ...KeyObject[]];
  const accepted = [newest, ...older];
  const mac = (key: KeyObject, position: Buffer, scope: TokenScope) =>
    createHmac('sha256', key)
      .update(Buffer.concat([Buffer.of(version), scope.callerId, digest(scope.query), digest(scope.orderBy), position]))
      .digest()
      .subarray(0, macBytes);
  return {
    encode: (position, scope) =>
      Buffer.concat([Buffer.of(version), position, mac(newest, position, scope)]).toString('base64url'),
    decode(token, scope) {
      if (token.length > maxTokenLength) return undefined;
      const bytes = Buffer.from(token, 'base64url');
      if (bytes.length < 1 + macBytes || bytes[0] !== version || bytes.toString('base64url') !== token) return undefined;
      const position = bytes.subarray(1, bytes.length - macBytes);
      const given = bytes.subarray(bytes.length - macBytes);
      return accepted.some((key) => timingSafeEqual(given, mac(key, position, scope))) ? position : undefined;
    },
  };
}

/** Fixed-length parts keep the authenticated bytes unambiguous: no query can borrow a character of the order. */
function digest(text: string): Buffer {
  return hash('sha256', text, 'buffer');
}
