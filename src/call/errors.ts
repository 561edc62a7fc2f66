import type { DescMessage, MessageInitShape } from '@bufbuild/protobuf';
import { create, type Message } from '@bufbuild/protobuf';
import { durationFromMs } from '@bufbuild/protobuf/wkt';
import { Code, ConnectError } from '@connectrpc/connect';
import { databaseErrorKind } from '../db/database-errors.ts';
import { BadRequestSchema, ErrorInfoSchema, RequestInfoSchema, RetryInfoSchema } from '../gen/google/rpc/error_details_pb.ts';

/** The domain of every `google.rpc.ErrorInfo` of this service. */
const errorDomain = 'tasks.v1';

/**
 * Why a call failed, for programs. These words are part of the API (the comment of `TasksService` in the proto); the text of a
 * message is not.
 */
type Reason =
  | 'INVALID_ARGUMENT'
  | 'INVALID_QUERY'
  | 'PAGE_TOKEN_INVALID'
  | 'UNAUTHENTICATED'
  | 'TASK_NOT_FOUND'
  | 'RATE_LIMITED'
  | 'OVERLOADED'
  | 'DATABASE_UNAVAILABLE'
  | 'ISSUER_UNAVAILABLE'
  | 'QUERY_TOO_EXPENSIVE'
  | 'RESUME_TOKEN_EXPIRED'
  | 'DEADLINE_EXCEEDED'
  | 'SHUTTING_DOWN'
  | 'INTERNAL';

/** One violation in a request: the field or query key, and what would be valid. */
export interface Violation {
  readonly field: string;
  readonly description: string;
}

/** Most violations in one error, and most bytes of their text together. */
export const maxViolations = 20;
const maxViolationBytes = 4096 - 512;

/** Bad input as it may be repeated in an error: at most 64 characters, or `length`, with control characters shown as `�`. */
export function echo(text: string, length = 64): string {
  const head = [...text.slice(0, 2 * length + 2)].slice(0, length).join('');
  return (head.length < text.length ? `${head}…` : head).replace(/\p{Cc}|\p{Cs}/gu, '\u{fffd}');
}

/** INVALID_ARGUMENT that names every field that is wrong; past 20 of them, or 4 KiB, a last violation says how many more. */
export function invalidArgument(
  violations: readonly [Violation, ...Violation[]],
  reason: 'INVALID_ARGUMENT' | 'INVALID_QUERY' | 'PAGE_TOKEN_INVALID' = 'INVALID_ARGUMENT',
): ConnectError {
  const told: Violation[] = [];
  let bytes = 0;
  for (const violation of violations) {
    bytes += violation.field.length * 3 + violation.description.length * 3;
    if (
      told.length > 0 &&
      (told.length === maxViolations - 1 || bytes > maxViolationBytes) &&
      violations.length > told.length + 1
    )
      break;
    told.push(violation);
  }
  const more = violations.length - told.length;
  if (more > 0) told.push({ field: violations[told.length]?.field ?? '', description: `and ${more} more` });
  const first = violations[0];
  const message = `${first.field}: ${first.description}${violations.length > 1 ? ` (and ${violations.length - 1} more)` : ''}`;
  return failure(Code.InvalidArgument, message, reason, [
    detail(BadRequestSchema, { fieldViolations: told.map(({ field, description }) => ({ field, description })) }),
  ]);
}

/** INVALID_ARGUMENT for a request that cannot be read as its message, in Protobuf or JSON. `why` is the decoder's own text. */
export function unreadableRequest(why: string): ConnectError {
  return invalidArgument([{ field: 'request', description: `cannot be read: ${echo(why, 200)}` }]);
}

/** UNIMPLEMENTED for a request in a form that the protocol has and this server does not, such as an unknown compression. */
export function unsupportedRequest(why: string): ConnectError {
  return failure(Code.Unimplemented, echo(why, 200), 'INVALID_ARGUMENT');
}

/** UNAUTHENTICATED, with one message whatever is wrong with the token, so that it tells nothing about valid tokens. */
export function unauthenticated(): ConnectError {
  return failure(
    Code.Unauthenticated,
    'you are signed out, or your session has expired: send a valid session token',
    'UNAUTHENTICATED',
  );
}

/** NOT_FOUND, the same for a task that is absent and one that the caller may not read. */
export function taskNotFound(): ConnectError {
  return failure(Code.NotFound, 'no such task, or you may not read it', 'TASK_NOT_FOUND');
}

/** RESOURCE_EXHAUSTED because the caller made too many calls, with the time after which the next one is let through. */
export function rateLimited(retryMs: number): ConnectError {
  return failure(Code.ResourceExhausted, 'too many calls, slow down', 'RATE_LIMITED', [retryIn(Math.ceil(retryMs))]);
}

/** UNAVAILABLE because the database cannot be reached, or refuses. */
export function databaseUnavailable(cause: unknown): ConnectError {
  return failure(Code.Unavailable, 'the database is unavailable, try again', 'DATABASE_UNAVAILABLE', [retryIn(1000)], cause);
}

/** UNAVAILABLE because the keys of the issuer of JSON Web Tokens cannot be fetched, and the token's key is not cached. */
export function issuerUnavailable(cause: unknown): ConnectError {
  return failure(Code.Unavailable, 'the token cannot be checked now, try again', 'ISSUER_UNAVAILABLE', [retryIn(1000)], cause);
}

/** UNAVAILABLE because more calls wait than can be answered in time. */
export function overloaded(cause?: unknown): ConnectError {
  return failure(Code.Unavailable, 'too many calls at once, try again', 'OVERLOADED', [retryIn(1000)], cause);
}

/** UNAVAILABLE because the service is about to stop. */
export function shuttingDown(): ConnectError {
  return failure(Code.Unavailable, 'the server is shutting down, try again', 'SHUTTING_DOWN', [retryIn(100)]);
}

/** RESOURCE_EXHAUSTED because the database would have had to read too much. */
export function queryTooExpensive(cause: unknown): ConnectError {
  return failure(
    Code.ResourceExhausted,
    'the query reads too much: narrow it, for example with owner:, organization: or status:',
    'QUERY_TOO_EXPENSIVE',
    [],
    cause,
  );
}

/** RESOURCE_EXHAUSTED because the caller is at the limit of watches. */
export function tooManyWatches(limit: number): ConnectError {
  return failure(Code.ResourceExhausted, `you have ${limit} watches, and no more are allowed: end one first`, 'RATE_LIMITED', [
    retryIn(1000),
  ]);
}

/** RESOURCE_EXHAUSTED because the connection is at the limit of streams of services that need no token. */
export function tooManyOpenStreams(limit: number): ConnectError {
  return failure(
    Code.ResourceExhausted,
    `this connection has ${limit} streams of services that need no token, and no more are allowed: end one first`,
    'RATE_LIMITED',
    [retryIn(1000)],
  );
}

/** OUT_OF_RANGE because a watch cannot be resumed at this token: it must start again without one. */
export function resumeTokenExpired(why: string): ConnectError {
  return failure(Code.OutOfRange, `${why}: watch again without resume_token`, 'RESUME_TOKEN_EXPIRED');
}

/** DEADLINE_EXCEEDED because the caller's own deadline passed. */
export function deadlineExceeded(cause?: unknown): ConnectError {
  return failure(Code.DeadlineExceeded, 'the deadline has passed', 'DEADLINE_EXCEEDED', [], cause);
}

/** CANCELLED because the client canceled the call, or its connection broke. It is seen in the log only. */
export function canceled(cause?: unknown): ConnectError {
  return new ConnectError('the call was canceled', Code.Canceled, undefined, undefined, cause);
}

/** INTERNAL with only the request id under which the cause is logged. */
export function internal(requestId: string, cause: unknown): ConnectError {
  return failure(
    Code.Internal,
    `internal error (request ${requestId})`,
    'INTERNAL',
    [detail(RequestInfoSchema, { requestId })],
    cause,
  );
}

/**
 * Translates an error for the client: if the call was aborted, into the reason of that, such as a passed deadline; an error of
 * the database by the table `databaseErrors`; a ConnectError is kept; anything else becomes INTERNAL. The cause goes to the log
 * and never to the client.
 */
export function toConnectError(error: unknown, call: { readonly requestId: string; readonly signal: AbortSignal }): ConnectError {
  if (error instanceof ConnectError) return error;
  if (call.signal.aborted) {
    const reason: unknown = call.signal.reason;
    return reason instanceof ConnectError ? reason : canceled(error);
  }
  switch (databaseErrorKind(error)) {
    case 'unavailable':
      return databaseUnavailable(error);
    case 'too-expensive':
      return queryTooExpensive(error);
    case 'busy':
      return overloaded(error);
    case undefined:
      return internal(call.requestId, error);
  }
}

/** The reason in an error's `google.rpc.ErrorInfo`, if it has one. */
export function reasonOf(error: ConnectError): string | undefined {
  return error.findDetails(ErrorInfoSchema)[0]?.reason;
}

type Detail = { desc: DescMessage; value: MessageInitShape<DescMessage> };

function detail<S extends DescMessage>(desc: S, value: MessageInitShape<S>): Detail {
  return { desc, value: create(desc, value) as Message };
}

function retryIn(milliseconds: number): Detail {
  return detail(RetryInfoSchema, { retryDelay: durationFromMs(milliseconds) });
}

function failure(code: Code, message: string, reason: Reason, details: readonly Detail[] = [], cause?: unknown): ConnectError {
  return new ConnectError(
    message.toWellFormed(), // gRPC percent-encodes it, which fails for half a surrogate pair
    code,
    undefined,
    [detail(ErrorInfoSchema, { reason, domain: errorDomain }), ...details],
    cause,
  );
}
