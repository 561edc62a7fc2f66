import type { HttpRequest } from './http.ts';

/**
 * Removes the cookies of a request that another site has made a browser send, so that it is not authenticated by them.
 *
 * Browsers tell where a request comes from in `sec-fetch-site`, old ones by an `origin` that is not the host they call. Other
 * clients send neither, and cannot be made to send cookies by a site.
 */
export function dropForeignCookies(request: HttpRequest): void {
  const { headers } = request;
  if (headers.cookie === undefined) return;
  const site = headers['sec-fetch-site'];
  const own = site === undefined ? isOwnOrigin(headers.origin, request) : site === 'same-origin' || site === 'none';
  if (!own) delete headers.cookie;
}

/** Whether an origin is the called host. The scheme is not compared, since TLS may end at a proxy. */
function isOwnOrigin(origin: string | undefined, request: HttpRequest): boolean {
  if (origin === undefined) return true;
  const host = 'authority' in request ? request.authority : request.headers.host;
  return host !== undefined && URL.parse(origin)?.host === host.toLowerCase();
}
