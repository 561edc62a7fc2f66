import type { Logger } from 'pino';
import type { Caller } from './caller.ts';

/** What a handler knows of the call it answers, the same over every transport. */
export interface Call {
  /** Identifies the call in the log and in the header `x-request-id` of its answer. */
  readonly requestId: string;
  /** Who calls. */
  readonly caller: Caller;
  /** Aborted when the client cancels, its deadline passes, or the server stops. Statements that are given it end then, too. */
  readonly signal: AbortSignal;
  /** Aborted when the server is about to stop. A stream that asks for it may say a last word and must then end; others are ended. */
  readonly draining: AbortSignal;
  /**
   * Finds out anew who calls, which a stream must do from time to time. It asks the database at most each AUTH_CACHE_SECONDS, and
   * gives the same object as long as it has not asked.
   *
   * @throws {ConnectError} UNAUTHENTICATED when the token is no longer good.
   */
  reauthenticate(): Promise<Caller>;
  /** The call's own logger, which adds the request id. */
  readonly log: Logger;
  /** How many tasks were read for it, for the log; whoever reads them says so. */
  rows?: number;
}
