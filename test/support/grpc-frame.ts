/** What stands in front of a message on a gRPC stream: whether it is compressed, and its length. */
export const frameHeaderBytes = 5;

/** A message as it stands on a gRPC stream. */
export function frameOf(message: Uint8Array): Buffer {
  const header = Buffer.alloc(frameHeaderBytes);
  header.writeUInt32BE(message.length, 1);
  return Buffer.concat([header, message]);
}
