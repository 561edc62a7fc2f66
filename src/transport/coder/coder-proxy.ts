import { once } from 'node:events';
import http, { type IncomingMessage } from 'node:http';
import https from 'node:https';
import { networkOf } from '../../call/network.ts';
import type { Logger } from '../../platform/log.ts';
import { connectionOf, type HttpRequest, type HttpResponse, headerReader, pathOf } from '../http.ts';
import { handOn, refuse } from './coder-answer.ts';
import { headersForCoder, Places, queryForCoder, type WayToCoder } from './coder-request.ts';
import { coderRouteOf } from './coder-routes.ts';
import { clientLeft, createPassedRequests } from './passed-requests.ts';

/** Passes a request on to Coder, or returns undefined when it is none of those that are passed on. Never throws for what Coder does. */
export type CoderProxy = (request: HttpRequest, response: HttpResponse) => Promise<void> | undefined;

/** What the proxy is made of. */
interface CoderProxyParts extends WayToCoder {
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
  passed = createPassedRequests(),
  timeoutMs = 50_000,
  bodyTimeoutMs = 10_000,
}: CoderProxyParts): CoderProxy {
  const base = new URL(address);
  const { request: send } = base.protocol === 'https:' ? https : http;
  const root = base.pathname.replace(/\/$/, '');
  const places = new Places(proxyLimits.requests, proxyLimits.perNetwork);

  return (request, response) => {
    const path = pathOf(request);
    const route = coderRouteOf(request.method, path);
    if (route === undefined) return undefined;
    const header = headerReader(request);
    const client = clientAddress(connectionOf(request), header);
    const passing = passed.begin(route, client.peer, header('x-request-id'));
    response.setHeader('x-request-id', passing.requestId);
    response.once('close', () => passing.end(response.headersSent ? response.statusCode : clientLeft));
    const leave = places.take(networkOf(client.address));
    if (leave === undefined) {
      response.setHeader('retry-after', '1');
      return refuse(request, response, 503, 'Too many requests to Coder at once, try again.');
    }
    return pass(request, response, path, client.address, passing.log).finally(leave);
  };

  async function pass(
    request: HttpRequest,
    response: HttpResponse,
    path: string,
    client: string,
    log: Logger | undefined,
  ): Promise<void> {
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
        path: root + path + queryForCoder(request, path),
        headers: {
          ...headersForCoder(headerReader(request), client),
          ...(request.method === 'GET' && body.length === 0 ? {} : { 'content-length': body.length }),
          connection: 'close',
        },
        agent: false,
        signal,
      });
      outgoing.on('error', () => {}); // also after the answer has begun; the wait below tells of it
      outgoing.end(body);
      const [answer] = (await once(outgoing, 'response', { signal })) as [IncomingMessage];
      await handOn(request, response, answer, { signal, log });
    } catch (error) {
      if (gone.signal.aborted) return;
      log?.warn({ err: error, late: late.aborted }, 'a request could not be passed on to Coder');
      if (response.headersSent) response.destroy();
      else if (late.aborted) await refuse(request, response, 504, 'Coder did not answer in time.');
      else await refuse(request, response, 502, 'Coder cannot be reached.');
    }
  }
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
