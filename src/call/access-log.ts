import { randomBytes } from 'node:crypto';
import { Code, type ConnectError } from '@connectrpc/connect';
import { status as statusNames } from '@grpc/grpc-js';
import { formatUuid } from '../db/uuid.ts';
import type { Logger } from '../platform/log.ts';
import { overloadRefusal } from './admission.ts';
import type { Caller } from './caller.ts';
import { reasonOf } from './errors.ts';

/** What the access log says of a call that has ended. It never holds what the client asked for, nor a token. */
interface AccessLogEntry {
  /** `package.Service/Method`. */
  readonly method: string;
  /** Whether the method may be called without a token. */
  readonly open: boolean;
  /** `grpc`, `grpc-web`, `connect` or `coder-json`. */
  readonly protocol: string;
  readonly milliseconds: number;
  /** How many tasks were read. */
  readonly rows: number | undefined;
  readonly caller: Caller | undefined;
  readonly requestId: string;
  readonly traceId: string | undefined;
  /** The client's address and port, or its address alone where a trusted proxy has told it. */
  readonly peer: string;
  /** Why the call failed; absent when it did not. */
  readonly failure: ConnectError | undefined;
}

/** Writes one line for a call: at `debug` for open services and refusals by overload, at `error` for the server's own faults. */
export function writeAccessLog(log: Logger, entry: AccessLogEntry): void {
  const level = levelOfEntry(entry);
  if (!log.isLevelEnabled(level)) return;
  const { method, protocol, rows, requestId, traceId, peer, failure } = entry;
  const caller = entry.caller === undefined ? undefined : callerIdOf(entry.caller);
  const durationMs = Math.round(entry.milliseconds * 1000) / 1000;
  const code = codeName(failure);
  if (failure === undefined) log[level]({ method, protocol, code, durationMs, rows, caller, requestId, traceId, peer }, 'call');
  else {
    const why = { reason: reasonOf(failure), cause: causeOf(failure) };
    log[level]({ method, protocol, code, durationMs, rows, caller, requestId, traceId, peer, ...why }, 'call failed');
  }
}

/** The code a call ended with, as gRPC writes it. */
export function codeName(failure: ConnectError | undefined): string {
  return statusNames[failure?.code ?? 0] ?? '';
}

/** The id of a caller as text, made once for each cached caller. */
export function callerIdOf(caller: Caller): string {
  let id = callerIds.get(caller);
  if (id === undefined) {
    id = formatUuid(caller.userId);
    callerIds.set(caller, id);
  }
  return id;
}

const callerIds = new WeakMap<Caller, string>();

/** Whether a call failed through a fault of the server, or of what it depends on, and not of its client. */
export function isFault(failure: ConnectError | undefined): boolean {
  return ['error', 'warn'].includes(levelOf(failure?.code));
}

function levelOfEntry({ failure, open }: AccessLogEntry): 'error' | 'warn' | 'info' | 'debug' {
  if (failure === overloadRefusal) return 'debug'; // thousands a second, and the metrics count them
  const level = levelOf(failure?.code);
  return level === 'info' && open ? 'debug' : level; // probes come every few seconds
}

function levelOf(code: Code | undefined): 'error' | 'warn' | 'info' {
  switch (code) {
    case Code.Internal:
    case Code.Unknown:
    case Code.DataLoss:
      return 'error';
    case Code.Unavailable:
      return 'warn';
    default:
      return 'info';
  }
}

/**
 * Why a call failed: the name, message, stack and codes of an error. Nothing else is logged: a driver's error also has the SQL
 * with its values.
 */
function causeOf({ cause }: Error, depth = 0): object | undefined {
  if (cause === undefined || cause === null) return undefined;
  if (!(cause instanceof Error)) return { type: typeof cause };
  const { code, errno } = cause as { code?: unknown; errno?: unknown };
  // Three levels of causes are enough; a chain of causes may be circular.
  const deeper = depth < 3 ? causeOf(cause, depth + 1) : undefined;
  return { type: cause.name, message: cause.message, stack: cause.stack, code, errno, cause: deeper };
}

/** The form in which a client's own request id is accepted; any other text could forge log lines. */
const saneRequestId = /^[A-Za-z0-9._-]{1,64}$/;

/** Request ids are a random prefix of the process and the number of the call. A UUID for each call would take ten times as long. */
const processId = randomBytes(9).toString('base64url');
let requests = 0;

/** The id of a request: the client's own, from `x-request-id`, or a new one. */
export function requestIdOf(given: string | undefined): string {
  if (given !== undefined && saneRequestId.test(given)) return given;
  requests += 1;
  return `${processId}-${requests.toString(36)}`;
}
