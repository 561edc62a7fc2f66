import { escape } from 'mysql2';
import type { Database } from './connection.ts';

/** A value that is bound to a statement of the text protocol. */
export type TextValue = Buffer | string | number | null;

/** The smallest `max_allowed_packet` that the service accepts: with it every statement of a few rows can be sent. */
const leastPacketBytes = 64 * 1024;

/** Most bytes of values in one statement, even where the server takes more: they are in memory several times. */
const mostValueBytes = 4 * 1024 * 1024;

/** Room for the text of a statement around its values. */
const statementBytes = 8 * 1024;

/** How large a statement may be on a connection. */
export interface PacketLimit {
  /** `max_allowed_packet`: a larger statement ends the connection, and no function of SQL returns a longer text. */
  readonly bytes: number;
  /** Most bytes of values in one statement. */
  readonly valueBytes: number;
}

/**
 * Asks the server how large a statement may be. It is a global setting that applies to new connections.
 *
 *   select @@session.max_allowed_packet as bytes
 *
 * @throws {Error} when the limit is too low to write anything.
 */
export async function readPacketLimit(database: Database): Promise<PacketLimit> {
  const [[row]] = (await database.raw('select @@session.max_allowed_packet as `bytes`')) as [[{ bytes: number | string }]];
  const bytes = Number(row.bytes);
  if (bytes < leastPacketBytes) {
    throw new Error(`max_allowed_packet of the server is ${bytes}: it must be at least ${leastPacketBytes}`);
  }
  return { bytes, valueBytes: Math.min(bytes - statementBytes, mostValueBytes) };
}

/** Texts up to this length are not measured: a character has at most three bytes, or two when it is escaped. */
const measuredCharacters = 1000;

/** How many bytes values take in a statement, as the driver writes them: bytes in hexadecimal, quotes and backslashes escaped. */
export function bytesInStatement(values: readonly TextValue[]): number {
  let bytes = 4; // parentheses and a comma
  for (const value of values) bytes += 2 + bytesOf(value);
  return bytes;
}

function bytesOf(value: TextValue): number {
  if (value === null) return 4;
  if (Buffer.isBuffer(value)) return 3 + 2 * value.length;
  if (typeof value === 'number') return 24;
  return value.length <= measuredCharacters ? 2 + 3 * value.length : Buffer.byteLength(escape(value));
}

/**
 * Splits items for several statements: each part has as many items as fit, by their bytes and their number. An item that is too
 * large for a statement is a part of its own.
 */
export function* partsOf<Item>(
  items: readonly Item[],
  bytesOfItem: (item: Item) => number,
  { valueBytes }: PacketLimit,
  mostItems = Number.POSITIVE_INFINITY,
): Generator<Item[]> {
  let part: Item[] = [];
  let bytes = 0;
  for (const item of items) {
    const size = bytesOfItem(item);
    if (part.length > 0 && (bytes + size > valueBytes || part.length >= mostItems)) {
      yield part;
      part = [];
      bytes = 0;
    }
    part.push(item);
    bytes += size;
  }
  if (part.length > 0) yield part;
}

/**
 * Appends a value that is too long for one statement to a column, piece by piece.
 *
 * @param update such as `update t set c = concat(c, ?) where id = ?`; the piece is its first value.
 * @param others its other values.
 * @throws {RangeError} when the value is longer than what `concat` returns on this server.
 */
export async function appendInPieces(
  database: Database,
  update: string,
  value: string | Buffer,
  others: readonly TextValue[],
  limit: PacketLimit,
): Promise<void> {
  const bytes = Buffer.byteLength(value);
  if (bytes > limit.bytes) {
    throw new RangeError(
      `a value of ${bytes} bytes is more than max_allowed_packet of the server, ${limit.bytes}, lets be written`,
    );
  }
  for (const piece of piecesOf(value, limit.valueBytes)) await database.raw(update, [piece, ...others] as never);
}

/** Pieces that fit into a statement even if every character is escaped; no character is split. */
function* piecesOf(value: string | Buffer, valueBytes: number): Generator<string | Buffer> {
  const length = Math.floor(valueBytes / 3) - 2;
  for (let from = 0; from < value.length; ) {
    let to = Math.min(value.length, from + length);
    if (typeof value === 'string' && to < value.length && isHighSurrogate(value.charCodeAt(to - 1))) to -= 1;
    yield typeof value === 'string' ? value.slice(from, to) : value.subarray(from, to);
    from = to;
  }
}

function isHighSurrogate(unit: number): boolean {
  return unit >= 0xd800 && unit <= 0xdbff;
}
