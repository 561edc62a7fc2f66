import { createHash } from 'node:crypto';
import { ed25519 } from '@noble/curves/ed25519.js';
import { bytesToNumberLE } from '@noble/curves/utils.js';

const { BASE, Fn } = ed25519.Point;

/**
 * Signs a message as MariaDB's plugin `ed25519` expects it: Ed25519 of RFC 8032, with a password of any length in place of the
 * 32-byte private key. Only for passwords of 32 bytes is this the `sign` of a library, which takes no other length.
 */
export function signEd25519(password: string, message: Uint8Array): Buffer {
  const hash = sha512(Buffer.from(password));
  const [secret, prefix] = [hash.subarray(0, 32), hash.subarray(32)];
  secret[0] = (secret[0] ?? 0) & 0xf8;
  secret[31] = ((secret[31] ?? 0) & 0x3f) | 0x40;
  const scalar = scalarOf(secret);
  const publicKey = BASE.multiply(scalar).toBytes();
  const nonce = scalarOf(sha512(prefix, message));
  const commitment = BASE.multiply(nonce).toBytes();
  const challenge = scalarOf(sha512(commitment, publicKey, message));
  return Buffer.concat([commitment, Fn.toBytes(Fn.add(nonce, Fn.mul(challenge, scalar)))]);
}

function sha512(...parts: readonly Uint8Array[]): Buffer {
  const hash = createHash('sha512');
  for (const part of parts) hash.update(part);
  return hash.digest();
}

function scalarOf(bytes: Uint8Array): bigint {
  return Fn.create(bytesToNumberLE(bytes));
}
