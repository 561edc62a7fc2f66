const canonical = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;

/** The 16 bytes of a UUID in its 36-character form, in either case; undefined for any other text. */
export function parseUuid(text: string): Buffer | undefined {
  return canonical.test(text) ? Buffer.from(text.replaceAll('-', ''), 'hex') : undefined;
}

/** The lower-case 36-character form of 16 bytes. */
export function formatUuid(bytes: Buffer): string {
  const hex = bytes.toString('hex');
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}

/** Whether an id is among some. */
export function hasId(ids: readonly Buffer[], wanted: Buffer): boolean {
  return ids.some((id) => id.equals(wanted));
}
