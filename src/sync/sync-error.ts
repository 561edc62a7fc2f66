/**
 * Copying from Coder cannot go on, for a reason that an operator can act on; the message is one line, and printed without a
 * stack.
 */
export class SyncError extends Error {
  override readonly name: string = 'SyncError';
}

/** The copy is not what Coder's changes can be applied to: everything has to be compared and copied again. */
export class CopyOutdatedError extends SyncError {
  override readonly name = 'CopyOutdatedError';
}
