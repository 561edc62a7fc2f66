import { once } from 'node:events';
import http, { type IncomingMessage, type OutgoingHttpHeaders } from 'node:http';
import https from 'node:https';
import { pipeline } from 'node:stream/promises';
import { looksLikeJwt } from '../../auth/verify-jwt.ts';
import type { HeaderReader } from '../../call/admission.ts';
import { networkOf } from '../../call/network.ts';
import type { Logger } from '../../platform/log.ts';
import type { ClientAddress } from '../client-address.ts';
import { connectionOf, type HttpRequest, type HttpResponse, headerReader, pathOf, protect, sendJson } from '../http.ts';
import { isCoderRoute } from './coder-routes.ts';

/** Passes a request on to Coder, or returns undefined when it is none of those that are passed on. Never throws for what Coder does. */
export type CoderProxy = (request: HttpRequest, response: HttpResponse) => Promise<void> | undefined;

/** What the proxy is made of. */
interface CoderProxyParts {
  /** Where Coder is, perhaps below a path. */
  readonly address: string;
  readonly clientAddress: ClientAddress;
  readonly log?: Logger;
  /** How long Coder may take for an answer, in milliseconds: sending to a task waits for its agent. A stream ends after a minute. */
  readonly timeoutMs?: number;
  /** How long a client may take to send its request, in milliseconds. */
  readonly bodyTimeoutMs?: number;
}

/**
 * Most requests that are passed on at once, in all and of one network (an IPv4 address, or a /64 of IPv6), so that nobody without a
 * session can take them all; and most bytes of each, which are kept until all are there.
 */
export const proxyLimits = { requests: 32, perNetwork: 24, bodyBytes: 1024 * 1024 } as const;

/** Headers of a request that Coder gets, besides the token and the client's address; none else. */
const requestHeaders = ['accept', 'accept-encoding', 'content-type', 'user-agent', 'x-coder-bypass-ratelimit'] as const;

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

/**
 * Makes what passes requests on to Coder, with the caller's own session token: those to create, delete, pause and resume tasks, to
 * send to them and to read their logs, and what Coder's command line reads for these. Coder decides what they may do.
 *
 * The request is read whole first, so that what Coder gets has one length that is right. Each has a connection of its own: nothing
 * of one client can come before another's, and nothing is sent twice.
 */
export function createCoderProxy({
  address,
  clientAddress,
  log,
  timeoutMs = 50_000,
  bodyTimeoutMs = 10_000,
}: CoderProxyParts): CoderProxy {
  const base = new URL(address);
  const { request: send } = base.protocol === 'https:' ? https : http;
  const root = base.pathname.replace(/\/$/, '');
  /** The network of each request that is being passed on. */
  const running: string[] = [];

  return (request, response) => {
    const path = pathOf(request);
    if (!isCoderRoute(request.method, path)) return undefined;
    const client = clientAddress(connectionOf(request), headerReader(request)).address;
    const network = networkOf(client);
    const ofNetwork = running.filter((one) => one === network).length;
    if (running.length >= proxyLimits.requests || ofNetwork >= proxyLimits.perNetwork) {
      response.setHeader('retry-after', '1');
      return refuse(request, response, 503, 'Too many requests to Coder at once, try again.');
    }
    running.push(network);
    return pass(request, response, path, client).finally(() => {
      running.splice(running.indexOf(network), 1);
    });
  };

  async function pass(request: HttpRequest, response: HttpResponse, path: string, client: string): Promise<void> {
    const body = await readBody(request, bodyTimeoutMs);
    if (body === 'too large') {
      return refuse(request, response, 413, `A request may have ${proxyLimits.bodyBytes} bytes at most.`);
    }
    if (body === 'too late') return refuse(request, response, 408, 'The request was not sent in time.');

    const gone = new AbortController();
    const late = AbortSignal.timeout(timeoutMs);
    response.once('close', () => gone.abort());
    const signal = AbortSignal.any([gone.signal, late]);
    try {
      const outgoing = send(base, {
        method: request.method ?? 'GET',
        path: root + path + queryOf(request, path),
        headers: headersFor(request, body, client),
        agent: false,
        signal,
      });
      outgoing.on('error', () => {}); // also after the answer has begun; the wait below tells of it
      outgoing.end(body);
      const [answer] = (await once(outgoing, 'response', { signal })) as [IncomingMessage];
      await answerWith(request, response, answer, signal);
    } catch (error) {
      if (gone.signal.aborted) return;
      log?.warn({ err: error, late: late.aborted }, 'a request could not be passed on to Coder');
      if (response.headersSent) response.destroy();
      else if (late.aborted) await refuse(request, response, 504, 'Coder did not answer in time.');
      else await refuse(request, response, 502, 'Coder cannot be reached.');
    }
  }

  async function answerWith(
    request: HttpRequest,
    response: HttpResponse,
    answer: IncomingMessage,
    signal: AbortSignal,
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

  function headersFor(request: HttpRequest, body: Buffer, client: string): OutgoingHttpHeaders {
    const header = headerReader(request);
    const passed = requestHeaders.flatMap((name) => {
      const value = header(name);
      return value === undefined ? [] : [[name, value] as const];
    });
    const token = tokenOf(header);
    return {
      ...Object.fromEntries(passed),
      ...(token === undefined ? {} : { 'coder-session-token': token }),
      ...(request.method === 'GET' && body.length === 0 ? {} : { 'content-length': body.length }),
      'x-forwarded-for': client,
      connection: 'close',
    };
  }
}

/** The session token of a request, from a header. A cookie is the browser's, and a JSON Web Token is for this service alone. */
function tokenOf(header: HeaderReader): string | undefined {
  const own = header('coder-session-token')?.trim();
  if (own) return own;
  const bearer = /^bearer +(\S+)\s*$/i.exec(header('authorization') ?? '')?.[1];
  return bearer === undefined || looksLikeJwt(bearer) ? undefined : bearer;
}

/** What follows the path, without tokens, which have no place in an address. */
function queryOf(request: HttpRequest, path: string): string {
  const search = new URLSearchParams(request.url?.slice(path.length));
  search.delete('coder_session_token');
  search.delete('access_token');
  return search.size === 0 ? '' : `?${search.toString()}`;
}

/** The body of a request, when it is whole. */
function readBody(request: HttpRequest, timeoutMs: number): Promise<Buffer | 'too large' | 'too late'> {
  const { promise, resolve } = Promise.withResolvers<Buffer | 'too large' | 'too late'>();
  const chunks: Buffer[] = [];
  let bytes = 0;
  const timer = setTimeout(() => resolve('too late'), timeoutMs);
  const onData = (chunk: Buffer): void => {
    bytes += chunk.length;
    if (bytes > proxyLimits.bodyBytes) resolve('too large');
    else chunks.push(chunk);
  };
  request.on('data', onData);
  request.once('end', () => resolve(Buffer.concat(chunks)));
  request.once('close', () => resolve('too late'));
  return promise.finally(() => {
    clearTimeout(timer);
    request.off('data', onData);
    chunks.length = 0;
  });
}

/** Answers in the shape of Coder's errors. */
function refuse(request: HttpRequest, response: HttpResponse, status: number, message: string): Promise<void> {
  if (!request.complete && request.httpVersionMajor === 1) response.setHeader('connection', 'close');
  sendJson(request, response, status, { message });
  return Promise.resolve();
}
