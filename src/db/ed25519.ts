import { createHash } from 'node:crypto';

/**
 * Signs a message as MariaDB's plugin `ed25519` wants it: Ed25519 of RFC 8032, with a password of any length in the place of the
 * 32 bytes of the private key. Node's own `sign` takes no other length; where the password has 32 bytes both are the same.
 *
 * Each multiplication takes the same 256 steps, whatever the scalar.
 */
export function signEd25519(password: string, message: Uint8Array): Buffer {
  const hash = sha512(Buffer.from(password));
  const [secret, prefix] = [hash.subarray(0, 32), hash.subarray(32)];
  secret[0] = (secret[0] ?? 0) & 0xf8;
  secret[31] = ((secret[31] ?? 0) & 0x3f) | 0x40;
  const scalar = toNumber(secret);
  const publicKey = encode(multiply(scalar));
  const nonce = toNumber(sha512(prefix, message)) % order;
  const commitment = encode(multiply(nonce));
  const challenge = toNumber(sha512(commitment, publicKey, message)) % order;
  return Buffer.concat([commitment, toBytes((nonce + challenge * scalar) % order)]);
}

/** The prime of the field, the order of the base point, and twice the constant d of the curve. */
const prime = 2n ** 255n - 19n;
const order = 2n ** 252n + 27742317777372353535851937790883648493n;
const twiceD = mod(-2n * 121665n * invert(121666n));

/** A point of the curve in extended coordinates: x = X/Z, y = Y/Z, x·y = T/Z. */
type Point = readonly [X: bigint, Y: bigint, Z: bigint, T: bigint];

const neutral: Point = [0n, 1n, 1n, 0n];
const base: Point = ((): Point => {
  const x = 15112221349535400772501151409588531511454012693041857206046113283949847762202n;
  const y = mod(4n * invert(5n));
  return [x, y, 1n, mod(x * y)];
})();

/** The formula of RFC 8032, 5.1.4, which holds for two equal points, too. */
function add([x1, y1, z1, t1]: Point, [x2, y2, z2, t2]: Point): Point {
  const a = mod((y1 - x1) * (y2 - x2));
  const b = mod((y1 + x1) * (y2 + x2));
  const c = mod(t1 * twiceD * t2);
  const d = mod(2n * z1 * z2);
  const [e, f, g, h] = [b - a, d - c, d + c, b + a];
  return [mod(e * f), mod(g * h), mod(f * g), mod(e * h)];
}

function multiply(scalar: bigint): Point {
  let sum = neutral;
  for (let bit = 255n; bit >= 0n; bit--) {
    const doubled = add(sum, sum);
    const more = add(doubled, base);
    sum = (scalar >> bit) & 1n ? more : doubled;
  }
  return sum;
}

function encode([x, y, z]: Point): Buffer {
  const inverse = invert(z);
  return toBytes(mod(y * inverse) | ((mod(x * inverse) & 1n) << 255n));
}

function mod(number: bigint): bigint {
  const rest = number % prime;
  return rest < 0n ? rest + prime : rest;
}

/** By Fermat: the power of p - 2. */
function invert(number: bigint): bigint {
  let [result, square] = [1n, number];
  for (let rest = prime - 2n; rest > 0n; rest >>= 1n) {
    if (rest & 1n) result = (result * square) % prime;
    square = (square * square) % prime;
  }
  return result;
}

function sha512(...parts: readonly Uint8Array[]): Buffer {
  const hash = createHash('sha512');
  for (const part of parts) hash.update(part);
  return hash.digest();
}

/** Numbers are written with the least byte first. */
function toNumber(bytes: Buffer): bigint {
  return BigInt(`0x${Buffer.from(bytes).reverse().toString('hex')}`);
}

function toBytes(number: bigint): Buffer {
  return Buffer.from(number.toString(16).padStart(64, '0'), 'hex').reverse();
}
