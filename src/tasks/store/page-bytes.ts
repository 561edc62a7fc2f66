import type { TaskRow } from './tables.ts';

/** A page ends before its encoding passes this: gRPC clients refuse messages over 4 MiB by default. */
export const maxPageBytes = 3 * 1024 * 1024;

/** Bytes of a task beside its long texts: ids, names, times and icons, at their longest, with their tags. */
const otherBytes = 4096;

/** How many rows fit into a page: at least one, so that every list ends. */
export function rowsInPage(rows: readonly TaskRow[]): number {
  let used = 0;
  const fitting = rows.findIndex((row, index) => {
    const { prompt, state_message: message, state_uri: uri, owner_avatar_url: avatar, texts_bytes: counted } = row;
    const texts = counted === 0 ? Buffer.byteLength(prompt) + Buffer.byteLength(message) + Buffer.byteLength(uri) : counted;
    used += otherBytes + texts + Buffer.byteLength(avatar ?? '');
    return used > maxPageBytes && index > 0;
  });
  return fitting === -1 ? rows.length : fitting;
}
