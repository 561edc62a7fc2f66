import { describe, expect, test } from 'vitest';
import { readConfig } from '../../src/config.ts';
import { createClientAddress } from '../../src/transport/client-address.ts';

const trusted = readConfig({ TRUSTED_PROXIES: '10.0.0.0/8, 2001:db8::/32, 192.0.2.7' }).TRUSTED_PROXIES;

function clientOf(connection: string, forwarded: string | undefined, clientAddress = createClientAddress(trusted)) {
  return clientAddress(connection, (name) => (name === 'x-forwarded-for' ? forwarded : undefined));
}

describe('the client of a call', () => {
  test.each([
    ['that comes by itself', '203.0.113.9:4711', undefined, '203.0.113.9:4711', '203.0.113.9'],
    ['that makes a header up', '203.0.113.9:4711', '198.51.100.1', '203.0.113.9:4711', '203.0.113.9'],
    ['whom a trusted proxy has not named', '10.1.2.3:4711', undefined, '10.1.2.3:4711', '10.1.2.3'],
    ['of a trusted proxy', '10.1.2.3:4711', '198.51.100.1', '198.51.100.1', '198.51.100.1'],
    ['of a trusted proxy that is one address', '192.0.2.7:4711', '198.51.100.1', '198.51.100.1', '198.51.100.1'],
    ['of two trusted proxies', '10.1.2.3:4711', '198.51.100.1, 10.9.9.9', '198.51.100.1', '198.51.100.1'],
    ['that has made up what stands before', '10.1.2.3:4711', '127.0.0.1, 198.51.100.1', '198.51.100.1', '198.51.100.1'],
    ['behind something that is no address', '10.1.2.3:4711', '198.51.100.1, unknown', '10.1.2.3:4711', '10.1.2.3'],
    ['that is itself in a trusted network', '10.1.2.3:4711', '10.4.4.4, 10.9.9.9', '10.4.4.4', '10.4.4.4'],
    ['of IPv6 behind a proxy of IPv6', '2001:db8::1:4711', '2001:db9::5', '2001:db9::5', '2001:db9::5'],
    ['of IPv4 on a port that listens on IPv6', '::ffff:10.1.2.3:4711', '::ffff:198.51.100.1', '198.51.100.1', '198.51.100.1'],
  ])('%s', (_who, connection, forwarded, peer, address) => {
    expect(clientOf(connection, forwarded)).toEqual({ peer, address });
  });

  test('is the other end of the connection when no proxy is trusted', () => {
    const trustsNone = createClientAddress(readConfig({}).TRUSTED_PROXIES);
    expect(clientOf('10.1.2.3:4711', '198.51.100.1', trustsNone)).toEqual({ peer: '10.1.2.3:4711', address: '10.1.2.3' });
  });
});

test.each(['proxy.example.com', '10.0.0.0/33', '10.0.0.0/', '10.0.0.0/8/8', '2001:db8::/129', '10.0.0'])(
  'TRUSTED_PROXIES is not %s',
  (value) => {
    expect(() => readConfig({ TRUSTED_PROXIES: value })).toThrow('TRUSTED_PROXIES');
  },
);
