import { createHash, timingSafeEqual } from 'node:crypto';
import { type HttpRequest, type HttpResponse, sendJson } from '../http.ts';

/** The session tokens of the demo's users, and the secret that protects them. */
export interface DemoTokens {
  /** By username. */
  readonly tokens: Readonly<Record<string, string>>;
  /**
   * The secret that a client must send to get them. It is made at each start, and is part of the page's address that is printed.
   */
  readonly secret: string;
}

/** The header in which the page sends the secret. */
const secretHeader = 'demo-secret';

/** Headers by which a proxy tells that it forwards a request. */
const forwardedHeaders = /^(?:forwarded|via|x-real-ip|x-forwarded(?:-.*)?)$/;

/** Answers the page on this machine with the tokens, if it sends the secret, and refuses any other request. */
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
 * Whether a request comes from this machine, is addressed to a name of this machine, and was sent by the page itself: another
 * site could let its own name resolve to 127.0.0.1 (DNS rebinding), or make a browser here send the request. A proxy on this
 * machine looks the same for every client: it is detected by its headers, and otherwise its clients lack the secret.
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

/** Compares in constant time. */
function isSecret(given: string | string[] | undefined, secret: string): boolean {
  const hash = (text: string): Buffer => createHash('sha256').update(text).digest();
  return typeof given === 'string' && timingSafeEqual(hash(given), hash(secret));
}
