/** What the exit codes of the commands for people mean, beside 0. */
export const exitCodes = {
  /** Wrong arguments, or an error that has no code of its own. */
  failed: 1,
  notMet: 3,
  refused: 4,
  notSignedIn: 5,
  away: 6,
  notFound: 7,
} as const;

/** A command failed for a reason that its user can act on; the message is printed without a stack. */
export class CommandError extends Error {
  override readonly name = 'CommandError';
  /** What the process ends with. */
  readonly exitCode: number;

  constructor(message: string, exitCode: number = exitCodes.failed) {
    super(message);
    this.exitCode = exitCode;
  }
}
