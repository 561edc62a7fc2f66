import type { Logger } from 'pino';
import type { Caller } from './caller.ts';

/** The context of a call for its handler, the same over every transport. */
export interface Call {
  /** Identifies the call in the log and in the header `x-request-id` of its answer. */
  readonly requestId: string;
  /** The caller. */
  readonly caller: Caller;
  /**
   * Aborted when the client cancels, its deadline passes, or the server stops. Statements that are given the signal end then,
   * too.
   */
  readonly signal: AbortSignal;
  /**
   * Aborted when the server is about to stop. A stream that uses it may send a last message and must then end; others are
   * aborted.
   */
  readonly draining: AbortSignal;
  /**
   * Authenticates the caller again, as a stream must from time to time. It reads the database at most every AUTH_CACHE_SECONDS, and
   * returns the same object in between.
   *
   * @throws {ConnectError} UNAUTHENTICATED when the token is no longer good.
   */
  reauthenticate(): Promise<Caller>;
  /** The call's own logger, which adds the request id. */
  readonly log: Logger;
  /** How many tasks were read for the call, for the log. Set by the code that reads them. */
  rows?: number;
}
