import { type BlockList, isIP } from 'node:net';
import type { HeaderReader } from '../call/admission.ts';

/** Who sent a call: the name for the log, with a port where it is known, and the address that limits go by. */
export interface Client {
  readonly peer: string;
  readonly address: string;
}

/** Finds out who sent a call. @param connection the address and port of the connection's other end, `address:port`. */
export type ClientAddress = (connection: string, header: HeaderReader) => Client;

/**
 * Makes what finds the client of a call. A proxy in `trusted` is believed: the client is then the last address in `x-forwarded-for`
 * that is not a trusted proxy's itself. From anybody else the header means nothing.
 */
export function createClientAddress(trusted?: BlockList): ClientAddress {
  const isTrusted = (address: string): boolean => trusted?.check(address, isIP(address) === 6 ? 'ipv6' : 'ipv4') === true;
  return (connection, header) => {
    const address = plainAddress(connection.slice(0, Math.max(0, connection.lastIndexOf(':'))));
    if (trusted === undefined || isIP(address) === 0 || !isTrusted(address)) return { peer: connection, address };
    const forwarded = (header('x-forwarded-for') ?? '').split(',').map((entry) => plainAddress(entry.trim()));
    let client = address;
    for (const one of forwarded.reverse()) {
      if (isIP(one) === 0) break; // what stands before something that is no address was not written by a proxy that we know
      client = one;
      if (!isTrusted(one)) break;
    }
    return client === address ? { peer: connection, address } : { peer: client, address: client };
  };
}

/** An IPv4 address that is written as an IPv6 one is the IPv4 address. */
function plainAddress(address: string): string {
  return address.startsWith('::ffff:') && isIP(address.slice(7)) === 4 ? address.slice(7) : address;
}
