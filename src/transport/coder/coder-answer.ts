import type { IncomingMessage } from 'node:http';
import { pipeline } from 'node:stream/promises';
import type { Logger } from '../../platform/log.ts';
import { type HttpRequest, type HttpResponse, protect, sendJson } from '../http.ts';

/** Headers of Coder's answer that the client gets, besides our own; no cookies. */
const answerHeaders = [
  'content-encoding',
  'content-length',
  'content-type',
  'retry-after',
  'www-authenticate',
  'x-coder-build-version',
  'x-coder-entitlements-warning',
] as const;

/** Hands on Coder's answer. A redirect, which would lead the client away, is an error. */
export async function handOn(
  request: HttpRequest,
  response: HttpResponse,
  answer: IncomingMessage,
  { signal, log }: { readonly signal: AbortSignal; readonly log: Logger | undefined },
): Promise<void> {
  const { statusCode: status = 502 } = answer;
  if (status >= 300 && status < 400) {
    answer.destroy();
    log?.warn({ status }, 'Coder answers with a redirect: CODER_URL must be its access URL');
    return refuse(request, response, 502, 'Coder answers with a redirect.');
  }
  response.statusCode = status;
  protect(response);
  for (const name of answerHeaders) {
    const value = answer.headers[name];
    if (value !== undefined) response.setHeader(name, value);
  }
  await pipeline(answer, response, { signal });
}

/** Answers in the shape of Coder's errors. */
export function refuse(request: HttpRequest, response: HttpResponse, status: number, message: string): Promise<void> {
  if (!request.complete && request.httpVersionMajor === 1) response.setHeader('connection', 'close');
  sendJson(request, response, status, { message });
  return Promise.resolve();
}
