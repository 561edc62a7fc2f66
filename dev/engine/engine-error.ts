/** The embedded engine cannot run; the message is one line and is printed without a stack. */
export class EngineError extends Error {
  override readonly name = 'EngineError';
}
