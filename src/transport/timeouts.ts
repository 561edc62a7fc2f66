import type { IncomingHttpHeaders } from 'node:http';
import { longestTimerMs } from '../call/limits.ts';

/** The units of `grpc-timeout` in milliseconds. */
const unitMs: Readonly<Record<string, number>> = { H: 3_600_000, M: 60_000, S: 1000, m: 1, u: 1e-3, n: 1e-6 };

/**
 * Takes a timeout off the headers of a call that is longer than any timer of Node, 24.8 days. Libraries would take it for a passed
 * one; nobody waits for so long.
 */
export function dropLongTimeout(headers: IncomingHttpHeaders): void {
  if (Number(headers['connect-timeout-ms']) > longestTimerMs) delete headers['connect-timeout-ms'];
  const grpcTimeout = headers['grpc-timeout'];
  if (typeof grpcTimeout !== 'string') return;
  const [, amount, unit = ''] = /^(\d{1,8})([HMSmun])$/.exec(grpcTimeout) ?? [];
  if (Number(amount) * (unitMs[unit] ?? 0) > longestTimerMs) delete headers['grpc-timeout'];
}
