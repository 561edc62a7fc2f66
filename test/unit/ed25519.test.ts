import { createPrivateKey, randomBytes, sign } from 'node:crypto';
import { expect, test } from 'vitest';
import { signEd25519 } from '../../src/db/ed25519.ts';

/** What stands before a private key of 32 bytes in PKCS #8. */
const header = Buffer.from('302e020100300506032b657004220420', 'hex');

test('a password of 32 bytes signs as the private key that it is', () => {
  for (let i = 0; i < 20; i++) {
    const password = randomBytes(16).toString('hex');
    const message = randomBytes(i === 0 ? 0 : 32);
    const key = createPrivateKey({ key: Buffer.concat([header, Buffer.from(password)]), format: 'der', type: 'pkcs8' });
    expect(signEd25519(password, message).equals(sign(null, message, key))).toBe(true);
  }
});

// From the documentation of MariaDB's protocol and of its connectors there is no vector for other lengths: the servers have the word.
test.each(['', 'x', 'päss wörd', 'a'.repeat(200)])('a password %j has a signature of its own, always the same', (password) => {
  const message = Buffer.alloc(32, 7);
  const signature = signEd25519(password, message);
  expect(signature).toHaveLength(64);
  expect(signEd25519(password, message).equals(signature)).toBe(true);
  expect(signEd25519(`${password}.`, message).equals(signature)).toBe(false);
});
