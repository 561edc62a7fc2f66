import { Code } from '@connectrpc/connect';
import type { Logger } from '../platform/log.ts';
import type { Certificates } from './certificates.ts';
import { type CoderJson, sendAnswer } from './coder/coder-json.ts';
import type { CoderProxy } from './coder/coder-proxy.ts';
import type { ConnectHandler } from './connect/connect-handler.ts';
import { createCors } from './cors.ts';
import { dropForeignCookies } from './foreign-cookies.ts';
import { type HttpRequest, type HttpResponse, maxHeaders, pathOf, protect, sendGrpcStatus, sendJson } from './http.ts';
import { dropLongTimeout } from './http2-limits.ts';
import type { Page } from './page/page.ts';

/** Strict-Transport-Security: browsers that have used the service over TLS do not use clear text for a year, the usual time. */
const hsts = 'max-age=31536000';

/** Most bytes of a request that are read and dropped after its answer, so that the connection can be used for the next request. */
const maxDroppedBytes = 1024 * 1024;

/** The handlers of requests on the web port. */
interface WebRequestParts {
  /** Answers the paths of the methods. */
  readonly methods: ConnectHandler;
  /** Answers the paths of the Coder-shaped JSON. */
  readonly coderJson?: CoderJson;
  /** Passes requests on to Coder. */
  readonly coderProxy?: CoderProxy | undefined;
  /** Answers the paths of the page. */
  readonly page?: Page | undefined;
  /** The origins whose pages may call it from a browser. */
  readonly origins?: readonly string[];
  /** A path under which everything is served as well as at the root, with a slash at both ends; `/` is the root alone. */
  readonly basePath?: string | undefined;
  readonly log?: Logger;
  readonly certificates?: Certificates | undefined;
  /** Whether HTTP/1.1 connections are told to close (`connection: close`). */
  isDraining(): boolean;
}

/** Makes the listener of requests of the web port, the same over both versions of HTTP. */
export function createWebRequests({
  methods,
  coderJson = () => undefined,
  coderProxy = () => undefined,
  page = () => false,
  origins = [],
  basePath = '/',
  log,
  certificates,
  isDraining,
}: WebRequestParts): (request: HttpRequest, response: HttpResponse) => void {
  const answerCors = createCors(origins);

  /** Answers a request by the handler of its path; undefined when no handler has it. */
  const answerAt = (request: HttpRequest, response: HttpResponse, beforeAnswer: () => void): Promise<void> | undefined => {
    const passed = coderProxy(request, response);
    if (passed !== undefined) {
      beforeAnswer();
      return passed;
    }
    const json = coderJson(request, response);
    if (json !== undefined) {
      return json.then((toSend) => {
        beforeAnswer();
        return sendAnswer(request, response, toSend);
      });
    }
    const call = methods(request, response, beforeAnswer);
    if (call !== undefined) return call;
    beforeAnswer();
    return page(request, response) ? Promise.resolve() : undefined;
  };

  const answer = async (request: HttpRequest, response: HttpResponse): Promise<void> => {
    if (certificates !== undefined) response.setHeader('strict-transport-security', hsts);
    // Over HTTP/1.1 Node would silently drop headers beyond its limit.
    if (request.rawHeaders.length > 2 * maxHeaders) {
      response.setHeader('connection', 'close');
      sendJson(request, response, 431, { code: 'resource_exhausted', message: `a request has at most ${maxHeaders} headers` });
      return;
    }
    if (answerCors(request, response)) return;
    dropForeignCookies(request);
    dropLongTimeout(request.headers);
    // Decided when the answer is sent: the server may have begun to stop since the request came.
    const leaveWhenDraining = (): void => {
      if (isDraining() && request.httpVersionMajor === 1) response.setHeader('connection', 'close');
    };
    if (redirectToBase(request, response, basePath)) return;
    const addresses = addressesOf(request, basePath);
    for (const address of addresses) {
      request.url = address;
      const answered = answerAt(request, response, leaveWhenDraining);
      if (answered !== undefined) return answered;
    }
    request.url = addresses[0];
    if (page(request, response, true)) return;
    if (isGrpc(request)) sendGrpcStatus(request, response, Code.Unimplemented, 'there is no such method');
    else sendJson(request, response, 404, { code: 'unimplemented', message: 'there is no such method or page' });
  };

  return (request, response) => {
    const { socket } = request; // kept, since the request loses it when the connection breaks
    request.on('error', () => {}); // a client that hangs up; the call learns it from the signal
    response.on('error', () => {});
    if (request.httpVersionMajor === 1) response.once('finish', () => dropRest(request, socket));
    answer(request, response).catch((error: unknown) => {
      // A client that disconnects before its answer is no fault. Over HTTP/2 the stream is the first to know.
      const gone = response.destroyed || response.closed || ('stream' in response && response.stream.destroyed);
      if (!gone) log?.error({ err: error }, 'a request on the web port could not be answered');
      response.destroy();
    });
  };
}

/**
 * The addresses that a request can mean, of which the first that is served counts. A proxy may pass the base path on, or have removed
 * it: so they are the path without the base path, and the path as it came.
 */
export function addressesOf({ url = '' }: Pick<HttpRequest, 'url'>, basePath = '/'): readonly string[] {
  return basePath === '/' || !url.startsWith(basePath) ? [url] : [url.slice(basePath.length - 1), url];
}

/** Redirects a request for the base path without its last slash: links of the page are relative to the slash. */
function redirectToBase(request: HttpRequest, response: HttpResponse, basePath: string): boolean {
  const path = pathOf(request);
  if (basePath === '/' || `${path}/` !== basePath || (request.method !== 'GET' && request.method !== 'HEAD')) return false;
  protect(response);
  // Relative, since only proxies know what precedes the base path.
  response.setHeader('location', `${path.slice(path.lastIndexOf('/') + 1)}/${request.url?.slice(path.length) ?? ''}`);
  response.statusCode = 307;
  response.end();
  return true;
}

/** Whether a request is of gRPC or of gRPC-Web, in any of its forms. */
function isGrpc(request: HttpRequest): boolean {
  return (
    request.method === 'POST' && /^application\/grpc(?:-web(?:-text)?)?(?:[+;\s]|$)/i.test(request.headers['content-type'] ?? '')
  );
}

/**
 * Reads and drops the rest of an answered HTTP/1.1 request, up to a limit, so that the next one on its connection can be read.
 *
 * @param socket of the request, which loses it when it is destroyed.
 */
function dropRest(request: HttpRequest, socket: HttpRequest['socket']): void {
  if (request.complete) return;
  const mostRead = socket.bytesRead + maxDroppedBytes;
  const drop = (): void => {
    if (request.complete || socket.destroyed) clearInterval(timer);
    else if (socket.bytesRead > mostRead) socket.destroy();
    else request.resume(); // repeatedly: the library, if it still awaits a part of the body, takes one more before it stops
  };
  const timer = setInterval(drop, 100).unref();
  drop();
}
