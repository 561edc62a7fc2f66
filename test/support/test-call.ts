import type { Call } from '../../src/call/call.ts';
import type { Caller } from '../../src/call/caller.ts';
import { createLog } from '../../src/platform/log.ts';
import { newId } from './tasks.ts';

/** Somebody who has nothing but what is given. */
export function callerWith(init: Partial<Caller>): Caller {
  return {
    userId: newId(),
    username: 'somebody',
    roles: [],
    customRoles: [],
    memberships: [],
    groupIds: [],
    mayRead: true,
    ...init,
  };
}

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
