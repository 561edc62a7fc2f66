import { formatDatetime, parseDatetime } from '../db/datetime.ts';
import type { ListOrder, Position } from './store/list-order.ts';

/**
 * The bytes of a position for a page token: the sort key; or the name and 16 bytes of id; or 8 bytes of microseconds and the id, or
 * of the id alone where there is no time.
 */
export function encodePosition([first, second]: Position): Buffer {
  if (second === undefined) return first as Buffer;
  if (first === null) return second;
  return Buffer.concat([typeof first === 'string' ? toMicroseconds(first) : first, second]);
}

/** The position in these bytes, or undefined when they are too short for the order. */
export function decodePosition(bytes: Buffer, order: ListOrder): Position | undefined {
  if (order === 'key' || order === 'run') return [bytes];
  const split = bytes.length - 16;
  const id = bytes.subarray(split);
  if (order === 'name' || order === 'name desc') return split < 0 ? undefined : [bytes.subarray(0, split), id];
  if (split === 0 && (order === 'state_at' || order === 'state_at desc')) return [null, id];
  if (split !== 8) return undefined;
  const microseconds = bytes.readBigInt64BE();
  const rest = ((microseconds % 1_000_000n) + 1_000_000n) % 1_000_000n;
  return [formatDatetime({ seconds: (microseconds - rest) / 1_000_000n, nanos: Number(rest) * 1000 }), id];
}

function toMicroseconds(datetime: string): Buffer {
  const { seconds, nanos } = parseDatetime(datetime);
  const bytes = Buffer.alloc(8);
  bytes.writeBigInt64BE(seconds * 1_000_000n + BigInt(nanos / 1000));
  return bytes;
}
