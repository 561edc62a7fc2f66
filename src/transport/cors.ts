import { cors as connectCors } from '@connectrpc/connect';
import { type HttpRequest, type HttpResponse, sendJson } from './http.ts';

const allowedMethods = connectCors.allowedMethods.join(', ');
const allowedHeaders = [...connectCors.allowedHeaders, 'Authorization', 'Coder-Session-Token', 'X-Request-Id'].join(', ');
const exposedHeaders = [...connectCors.exposedHeaders, 'X-Request-Id'].join(', ');

/** How long browsers may remember a preflight, in seconds: two hours, the most that Chromium does. */
const maxAge = '7200';

/**
 * Lets pages of the listed origins call the service from a browser.
 *
 * Credentials are not allowed: such a page sends a token of its own in a header. Cookies thus work for pages of the same origin
 * only, whatever the list says.
 *
 * @param origins are compared exactly, as browsers send them: `https://tasks.example.com`, without a path.
 * @returns the function that adds the headers to a response, and tells whether it has answered the request, as it does a preflight.
 */
export function createCors(origins: readonly string[]): (request: HttpRequest, response: HttpResponse) => boolean {
  const allowed = new Set(origins);
  return (request, response) => {
    // Without a list no answer depends on the origin.
    if (allowed.size > 0) response.setHeader('vary', 'Origin');
    const { origin } = request.headers;
    const listed = typeof origin === 'string' && allowed.has(origin);
    if (listed) {
      response.setHeader('access-control-allow-origin', origin);
      response.setHeader('access-control-expose-headers', exposedHeaders);
    }
    if (request.method !== 'OPTIONS' || request.headers['access-control-request-method'] === undefined) return false;
    if (listed) {
      response.setHeader('access-control-allow-methods', allowedMethods);
      response.setHeader('access-control-allow-headers', allowedHeaders);
      response.setHeader('access-control-max-age', maxAge);
      response.statusCode = 204;
      response.end();
    } else sendJson(request, response, 403, { code: 'permission_denied', message: 'this origin is not in WEB_ORIGINS' });
    return true;
  };
}
