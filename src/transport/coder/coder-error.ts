import { durationMs } from '@bufbuild/protobuf/wkt';
import { Code, type ConnectError } from '@connectrpc/connect';
import { reasonOf } from '../../call/errors.ts';
import { BadRequestSchema, RetryInfoSchema } from '../../gen/google/rpc/error_details_pb.ts';

/** The body of an error in Coder's JSON (codersdk/client.go, Response). */
export interface CoderErrorBody {
  readonly message: string;
  readonly detail?: string;
  /** Every parameter, or key of `q`, that is wrong. */
  readonly validations?: readonly { readonly field: string; readonly detail: string }[];
}

/** An error as a client of Coder's JSON sees it. */
interface CoderError {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: CoderErrorBody;
}

/** The messages of errors that differ between versions of Coder. */
export interface CoderWording {
  readonly notFound: string;
  readonly invalidQuery: string;
  /** What is said instead of the text of UNAUTHENTICATED, where it is another. */
  readonly signedOut?: string;
}

/** Those of the endpoints under `/api/experimental`. */
export const experimentalWording: CoderWording = {
  notFound: 'No such task or user, or you may not read it.',
  invalidQuery: 'Invalid workspace search query.', // coderd/aitasks.go
};

/** Those of the endpoints under `/api/v2`, word for word (coderd/httpapi/httpapi.go, httpmw/apikey.go, aitasks.go). */
export const stableWording: CoderWording = {
  notFound: 'Resource not found or you do not have access to this resource',
  invalidQuery: 'Invalid task search query.',
  signedOut: 'You are signed out or your session has expired. Please sign in again to continue.',
};

/** The field of the violation for an invalid id in a path: its message becomes the message of the answer. */
export const pathIdField = 'task ID';

/**
 * Puts an error into Coder's JSON: INVALID_ARGUMENT is 400, UNAUTHENTICATED 401, NOT_FOUND 404, RESOURCE_EXHAUSTED 429,
 * UNAVAILABLE 503 and the rest 500. A query that reads too much is 400, since sending it again cannot help.
 */
export function toCoderError(error: ConnectError, wording: CoderWording = experimentalWording): CoderError {
  const text = sentence(error.rawMessage);
  const retryDelay = error.findDetails(RetryInfoSchema)[0]?.retryDelay;
  const retry = retryDelay === undefined ? {} : { 'retry-after': String(Math.max(1, Math.ceil(durationMs(retryDelay) / 1000))) };
  const answer = (status: number, body: CoderErrorBody, headers: CoderError['headers'] = retry): CoderError => ({
    status,
    headers,
    body,
  });
  switch (error.code) {
    case Code.InvalidArgument:
      return answer(400, invalidBody(error, wording));
    case Code.Unauthenticated:
      return answer(401, { message: wording.signedOut ?? text }, { 'www-authenticate': challenge });
    case Code.NotFound:
      return answer(404, { message: wording.notFound });
    case Code.ResourceExhausted:
      if (reasonOf(error) !== 'QUERY_TOO_EXPENSIVE') return answer(429, { message: text });
      return answer(400, { message: wording.invalidQuery, validations: [{ field: 'q', detail: error.rawMessage }] });
    case Code.Unavailable:
      return answer(503, { message: text });
    default:
      // The text of an internal error is its request id and nothing more.
      return answer(500, { message: 'An internal error occurred.', detail: error.rawMessage });
  }
}

/** The challenge of a 401 (RFC 6750, section 3), under Coder's name for the realm. */
const challenge =
  'Bearer realm="coder", error="invalid_token", error_description="The access token is missing, invalid or expired"';

/** Coder's message for bad parameters of a list (coderd/pagination.go). */
const invalidParameters = 'Query parameters have invalid values.';

function invalidBody(error: ConnectError, { invalidQuery }: CoderWording): CoderErrorBody {
  const validations = error
    .findDetails(BadRequestSchema)
    .flatMap(({ fieldViolations }) => fieldViolations)
    .map(({ field, description }) => ({ field: field === 'query' ? 'q' : field, detail: description }));
  const [first] = validations;
  if (first?.field === pathIdField) return { message: first.detail };
  return { message: reasonOf(error) === 'INVALID_QUERY' ? invalidQuery : invalidParameters, validations };
}

/** The text of an error as a sentence, which Coder's messages are. */
function sentence(text: string): string {
  return `${text.slice(0, 1).toUpperCase()}${text.slice(1)}.`;
}
