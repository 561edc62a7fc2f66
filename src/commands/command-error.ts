/** A command could not do what it was asked, for a reason the person who typed it can do something about. */
export class CommandError extends Error {
  override readonly name = 'CommandError';
}
