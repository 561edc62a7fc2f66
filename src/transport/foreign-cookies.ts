import type { HttpRequest } from './http.ts';

/**
 * Takes the cookies off a request that another site has made a browser send, so that it is nobody's.
 *
 * Browsers say where a request comes from in `sec-fetch-site`, and old ones by an `origin` that is not the host they call. What is
 * no browser says neither, and nobody can make it send cookies.
 */
export function dropForeignCookies(request: HttpRequest): void {
  const { headers } = request;
  if (headers.cookie === undefined) return;
  const site = headers['sec-fetch-site'];
  const own = site === undefined ? isOwnOrigin(headers.origin, request) : site === 'same-origin' || site === 'none';
  if (!own) delete headers.cookie;
}

/** Whether an origin is the host that is called. Its scheme is not compared, since TLS may end at a proxy. */
function isOwnOrigin(origin: string | undefined, request: HttpRequest): boolean {
  if (origin === undefined) return true;
  const host = 'authority' in request ? request.authority : request.headers.host;
  return host !== undefined && URL.parse(origin)?.host === host.toLowerCase();
}
