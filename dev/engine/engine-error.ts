/** Why the embedded engine cannot run: its message is one line for the person who started the service, and needs no stack. */
export class EngineError extends Error {
  override readonly name = 'EngineError';
}
