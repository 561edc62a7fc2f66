/** Copying from Coder cannot go on, for a reason that an operator can act on; the message is one line, and printed without a stack. */
export class SyncError extends Error {
  override readonly name = 'SyncError';
}
