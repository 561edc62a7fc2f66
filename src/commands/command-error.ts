/** A command failed for a reason that its user can act on; the message is printed without a stack. */
export class CommandError extends Error {
  override readonly name = 'CommandError';
  /** What the process ends with. */
  readonly exitCode: number;

  constructor(message: string, exitCode = 1) {
    super(message);
    this.exitCode = exitCode;
  }
}
