import { createHash, timingSafeEqual } from 'node:crypto';
import { type HttpRequest, type HttpResponse, sendJson } from '../http.ts';

/** The session tokens of the demo's users, and who may have them. */
export interface DemoTokens {
  /** By username. */
  readonly tokens: Readonly<Record<string, string>>;
  /** Whoever knows it may have them. It is made anew at each start, and in the page's address that is printed then. */
  readonly secret: string;
}

/** The header in which the page sends the secret. */
const secretHeader = 'demo-secret';

/** Headers by which a proxy says that a request comes from somebody else. */
const forwardedHeaders = /^(?:forwarded|via|x-real-ip|x-forwarded(?:-.*)?)$/;

/** Answers the page of this machine with the tokens, if it knows the secret, and refuses everybody else. */
export function sendDemoTokens(
  request: HttpRequest,
  response: HttpResponse,
  { tokens, secret }: DemoTokens,
  secure: boolean,
): void {
  if (isOnThisMachine(request, secure ? 'https' : 'http') && isSecret(request.headers[secretHeader], secret)) {
    sendJson(request, response, 200, { tokens });
    return;
  }
  sendJson(request, response, 403, {
    code: 'permission_denied',
    message: 'only the page of this machine may ask, opened at the address that was printed at the start',
  });
}

/**
 * Whether a request comes from this machine, for a name that means this machine, and from the page itself: another site could
 * let its own name mean 127.0.0.1 (DNS rebinding), or have a browser here ask for it. A proxy on this machine could look like that,
 * too, for anybody: it is known if it says so, and else by the missing secret.
 */
function isOnThisMachine({ headers, socket }: HttpRequest, scheme: string): boolean {
  if (Object.keys(headers).some((name) => forwardedHeaders.test(name))) return false;
  const host = headers.host ?? headers[':authority'];
  if (typeof host !== 'string' || !/^(?:localhost|127(?:\.\d{1,3}){3}|\[::1\])(?::\d+)?$/i.test(host)) return false;
  if (!/^(?:::1|(?:::ffff:)?127\.[\d.]+)$/.test(socket.remoteAddress ?? '')) return false;
  const { origin } = headers;
  return (
    (origin === undefined || origin === `${scheme}://${host}`) && (headers['sec-fetch-site'] ?? 'same-origin') === 'same-origin'
  );
}

/** Compares in a time that tells nothing of the secret. */
function isSecret(given: string | string[] | undefined, secret: string): boolean {
  const hash = (text: string): Buffer => createHash('sha256').update(text).digest();
  return typeof given === 'string' && timingSafeEqual(hash(given), hash(secret));
}
