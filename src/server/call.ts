import type { Logger } from 'pino';
import type { Caller } from '../tasks/caller.ts';

/** What a handler knows of the call it answers, the same over every transport. */
export interface Call {
  /** Identifies the call in the log and in the header `x-request-id` of its answer. */
  readonly requestId: string;
  /** Who calls. */
  readonly caller: Caller;
  /** Aborted when the client cancels, its deadline passes, or the server stops. Statements that are given it end then, too. */
  readonly signal: AbortSignal;
  /** The call's own logger, which adds the request id. */
  readonly log: Logger;
  /** How many tasks were read for it, for the log; whoever reads them says so. */
  rows?: number;
}
