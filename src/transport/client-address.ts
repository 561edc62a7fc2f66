import { type BlockList, isIP } from 'node:net';
import type { HeaderReader } from '../call/admission.ts';

/** The client of a call: its name in the log, with a port where it is known, and the address that limits count. */
interface Client {
  readonly peer: string;
  readonly address: string;
}

/** Determines the client of a call. @param connection the address and port of the connection's other end, `address:port`. */
export type ClientAddress = (connection: string, header: HeaderReader) => Client;

/**
 * Makes the function that determines the client of a call. For connections from a proxy in `trusted`, the client is the last
 * address in `x-forwarded-for` that is not itself a trusted proxy. From any other address the header is ignored.
 */
export function createClientAddress(trusted?: BlockList): ClientAddress {
  const isTrusted = (address: string): boolean => trusted?.check(address, isIP(address) === 6 ? 'ipv6' : 'ipv4') === true;
  return (connection, header) => {
    const address = plainAddress(connection.slice(0, Math.max(0, connection.lastIndexOf(':'))));
    if (trusted === undefined || isIP(address) === 0 || !isTrusted(address)) return { peer: connection, address };
    const forwarded = (header('x-forwarded-for') ?? '').split(',').map((entry) => plainAddress(entry.trim()));
    let client = address;
    for (const one of forwarded.reverse()) {
      if (isIP(one) === 0) break; // what precedes an invalid entry was not written by a trusted proxy
      client = one;
      if (!isTrusted(one)) break;
    }
    return client === address ? { peer: connection, address } : { peer: client, address: client };
  };
}

/** Turns an IPv4-mapped IPv6 address into the IPv4 address. */
function plainAddress(address: string): string {
  return address.startsWith('::ffff:') && isIP(address.slice(7)) === 4 ? address.slice(7) : address;
}
