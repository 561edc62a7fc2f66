import { createLog } from '../../src/log.ts';
import type { Call } from '../../src/server/call.ts';
import type { Caller } from '../../src/tasks/caller.ts';

/** A call of somebody, for handlers that are asked without a transport. It is never canceled. */
export function testCall(caller: Caller): Call {
  const never = new AbortController().signal;
  return {
    requestId: 'test',
    caller,
    signal: never,
    draining: never,
    reauthenticate: () => Promise.resolve(caller),
    log: createLog('silent'),
  };
}
