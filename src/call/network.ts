import { isIPv6 } from 'node:net';

/**
 * The network that an address is counted as: the /64 of an IPv6 address, which one customer has as a whole; an IPv4 address
 * itself.
 */
export function networkOf(address: string): string {
  const plain = address.replace(/%.*$/, '').replace(/^\[(.*)\]$/, '$1');
  if (!isIPv6(plain)) return address;
  const [head = '', tail] = plain.split('::');
  const first = head.split(':').filter((group) => group !== '');
  const last = (tail ?? '').split(':').filter((group) => group !== '');
  const groups =
    tail === undefined ? first : [...first, ...Array<string>(Math.max(0, 8 - first.length - last.length)).fill('0'), ...last];
  return groups
    .slice(0, 4)
    .map((group) => Number.parseInt(group, 16).toString(16))
    .join(':');
}
