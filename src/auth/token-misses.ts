import { rateLimited } from '../call/errors.ts';
import { createAllowance } from '../call/rate-limit.ts';

/** Counts the tokens that were looked up in the database in vain. */
export interface TokenMisses {
  /**
   * Counts one before it is looked up, so that many at once are no way around the limit.
   *
   * @throws {ConnectError} RESOURCE_EXHAUSTED when too many came from there, or from everywhere, to look another up now.
   */
  expect(peer: string): void;
  /** Takes one back that was expected: it was good, or nobody could say. */
  takeBack(peer: string): void;
  /** Counts one. */
  count(peer: string): void;
}

/**
 * Tokens a minute that may turn out to be none: of one address, and of all together. Each costs a statement, and nothing keeps
 * somebody without a token from making them up. People mistype a few; a service with an old one tries it again and again.
 */
const perPeer = 600;
const altogether = 6000;

/** Makes a count. @param peer in its methods is `address:port`, of which the address counts. */
export function createTokenMisses(limits = { perPeer, altogether }): TokenMisses {
  const ofPeer = createAllowance(limits.perPeer);
  const ofAll = createAllowance(limits.altogether);
  const addressOf = (peer: string): string => peer.slice(0, Math.max(0, peer.lastIndexOf(':')));
  const count = (peer: string): void => {
    ofPeer.take(addressOf(peer));
    ofAll.take('');
  };
  return {
    expect(peer) {
      const early = ofPeer.early(addressOf(peer)) ?? ofAll.early('');
      if (early !== undefined) throw rateLimited(early);
      count(peer);
    },
    takeBack(peer) {
      ofPeer.giveBack(addressOf(peer));
      ofAll.giveBack('');
    },
    count,
  };
}
