/** Bytes that a writer has room for at first, and most that it keeps: a page of usual tasks has some 20 KiB. */
const usualBytes = 64 * 1024;
const keptBytes = 1024 * 1024;

/** Most code units of a text whose UTF-8 has at most 127 bytes, so that its length is one byte. */
const shortText = 42;

/** Most code units that are written one by one; a call of the runtime costs as much as some 24 of them. */
const tinyText = 24;

/** The two hexadecimal digits of each byte. */
const highDigits = Uint8Array.from({ length: 256 }, (_, byte) => (byte >> 4).toString(16).charCodeAt(0));
const lowDigits = Uint8Array.from({ length: 256 }, (_, byte) => (byte & 15).toString(16).charCodeAt(0));
const dash = 0x2d;

/** The tag in front of a field: its number and how its value is written. */
export function tagOf(field: { readonly number: number }, type: 'varint' | 'bytes'): number {
  return (field.number << 3) | (type === 'varint' ? 0 : 2);
}

/**
 * Writes the binary form of Protobuf messages, field by field, into memory that is used again and again. The methods write a field
 * that is there; it is the caller who leaves out what has no presence and is empty.
 */
export class WireWriter {
  #bytes: Buffer = Buffer.allocUnsafe(usualBytes);
  #end = 0;

  /** Begins anew. What an error left behind is gone. */
  reset(): void {
    this.#end = 0;
    if (this.#bytes.length > keptBytes) this.#bytes = Buffer.allocUnsafe(usualBytes);
  }

  /** A copy of what has been written. */
  toBytes(): Buffer<ArrayBuffer> {
    return Buffer.copyBytesFrom(this.#bytes, 0, this.#end);
  }

  text(tag: number, text: string): void {
    const units = text.length;
    this.#reserve(3 * units);
    this.#varint(tag);
    const bytes = this.#bytes;
    if (units > shortText) {
      // Most texts are ASCII, and have as many bytes as units; where the length takes more room than that, they are moved.
      const lengthBytes = varintBytes(units);
      const start = this.#end + lengthBytes;
      const written = bytes.write(text, start);
      const needed = varintBytes(written);
      if (needed !== lengthBytes) bytes.copyWithin(start + needed - lengthBytes, start, start + written);
      this.#varint(written);
      this.#end += written;
      return;
    }
    const start = this.#end + 1;
    const written = (units <= tinyText ? writeAscii(bytes, start, text) : undefined) ?? bytes.write(text, start);
    bytes[this.#end] = written;
    this.#end = start + written;
  }

  /** A UUID of 16 bytes, as its text of 36 characters. */
  uuid(tag: number, id: Buffer): void {
    this.#reserve(40);
    this.#varint(tag);
    const bytes = this.#bytes;
    let at = this.#end;
    bytes[at++] = 36;
    at = writeHex(bytes, at, id, 0, 4);
    bytes[at++] = dash;
    at = writeHex(bytes, at, id, 4, 6);
    bytes[at++] = dash;
    at = writeHex(bytes, at, id, 6, 8);
    bytes[at++] = dash;
    at = writeHex(bytes, at, id, 8, 10);
    bytes[at++] = dash;
    this.#end = writeHex(bytes, at, id, 10, 16);
  }

  /** A whole number, an enum value or, as 0 or 1, a boolean. */
  number(tag: number, value: number): void {
    this.#reserve(0);
    this.#varint(tag);
    this.#varint(value);
  }

  /**
   * Begins a message; its fields follow, and then {@link end}.
   *
   * @param lengthBytes bytes of the length, as far as one knows: 1 up to 127 bytes, 2 up to 16,383.
   * @returns what `end` needs.
   */
  begin(tag: number, lengthBytes: 1 | 2): number {
    this.#reserve(0);
    this.#varint(tag);
    this.#end += lengthBytes;
    return this.#end;
  }

  end(start: number, lengthBytes: 1 | 2): void {
    const length = this.#end - start;
    const needed = varintBytes(length);
    if (needed !== lengthBytes) {
      this.#reserve(0);
      this.#bytes.copyWithin(start + needed - lengthBytes, start, this.#end);
    }
    this.#end = start - lengthBytes;
    this.#varint(length);
    this.#end += length;
  }

  /** Makes room for so many bytes, and for a tag and a length or a number in front of them. */
  #reserve(length: number): void {
    const needed = this.#end + length + 16;
    if (needed <= this.#bytes.length) return;
    const larger = Buffer.allocUnsafe(Math.max(needed, 2 * this.#bytes.length));
    this.#bytes.copy(larger, 0, 0, this.#end);
    this.#bytes = larger;
  }

  #varint(value: number): void {
    const bytes = this.#bytes;
    if (value >= 0 && value < 128) {
      bytes[this.#end++] = value;
      return;
    }
    if (value < 0) {
      // Ten bytes: the two's complement of 64 bits.
      let rest = BigInt.asUintN(64, BigInt(value));
      for (; rest > 127n; rest >>= 7n) bytes[this.#end++] = Number(rest & 127n) | 128;
      bytes[this.#end++] = Number(rest);
      return;
    }
    let rest = value;
    for (; rest > 0x7fff_ffff; rest = Math.floor(rest / 128)) bytes[this.#end++] = (rest % 128) | 128;
    for (; rest > 127; rest >>>= 7) bytes[this.#end++] = (rest & 127) | 128;
    bytes[this.#end++] = rest;
  }
}

/** Writes some of the bytes in hexadecimal, and returns where that ends. */
function writeHex(bytes: Buffer, start: number, id: Buffer, from: number, to: number): number {
  let at = start;
  for (let i = from; i < to; i++) {
    const byte = id[i] as number;
    bytes[at++] = highDigits[byte] as number;
    bytes[at++] = lowDigits[byte] as number;
  }
  return at;
}

/** Writes a text that is ASCII, and returns how many bytes that were; returns undefined when it is not. */
function writeAscii(bytes: Buffer, start: number, text: string): number | undefined {
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code > 127) return undefined;
    bytes[start + i] = code;
  }
  return text.length;
}

function varintBytes(length: number): number {
  return length < 128 ? 1 : length < 16_384 ? 2 : length < 2_097_152 ? 3 : length < 268_435_456 ? 4 : 5;
}
