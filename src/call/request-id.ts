import { randomBytes } from 'node:crypto';

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
