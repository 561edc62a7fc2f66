import type { OutgoingHttpHeaders } from 'node:http';
import { looksLikeJwt } from '../../auth/verify-jwt.ts';
import type { HeaderReader } from '../../call/admission.ts';
import type { ClientAddress } from '../client-address.ts';
import type { HttpRequest } from '../http.ts';
import type { PassedRequests } from './passed-requests.ts';

/** What all that is passed on to Coder needs to know. */
export interface WayToCoder {
  /** Where Coder is, perhaps below a path. */
  readonly address: string;
  readonly clientAddress: ClientAddress;
  /** Records what is passed on; nothing is recorded if absent. */
  readonly passed?: PassedRequests;
}

/** Headers of a request that Coder gets, besides the token and the client's address; none else. */
const requestHeaders = ['accept', 'accept-encoding', 'content-type', 'user-agent', 'x-coder-bypass-ratelimit'] as const;

/** The headers of a request as Coder gets them: those of the list, the caller's own session token, and the client's address. */
export function headersForCoder(header: HeaderReader, client: string): OutgoingHttpHeaders {
  const token = tokenOf(header);
  return {
    ...pickHeaders(header, requestHeaders),
    ...(token === undefined ? {} : { 'coder-session-token': token }),
    'x-forwarded-for': client,
  };
}

/** Those headers of a list that are there. */
export function pickHeaders(header: HeaderReader, names: readonly string[]): Readonly<Record<string, string>> {
  return Object.fromEntries(
    names.flatMap((name) => {
      const value = header(name);
      return value === undefined ? [] : [[name, value] as const];
    }),
  );
}

/** What follows the path of a request, without tokens, which have no place in an address. */
export function queryForCoder(request: HttpRequest, path: string): string {
  const search = new URLSearchParams(request.url?.slice(path.length));
  search.delete('coder_session_token');
  search.delete('access_token');
  return search.size === 0 ? '' : `?${search.toString()}`;
}

/** The session token of a request, from a header. A cookie is the browser's, and a JSON Web Token is for this service alone. */
function tokenOf(header: HeaderReader): string | undefined {
  const own = header('coder-session-token')?.trim();
  if (own) return own;
  const bearer = /^bearer +(\S+)\s*$/i.exec(header('authorization') ?? '')?.[1];
  return bearer === undefined || looksLikeJwt(bearer) ? undefined : bearer;
}

/** How many may run at once, in all and of one network, so that nobody without a session can take them all. */
export class Places {
  readonly #total: number;
  readonly #perNetwork: number;
  readonly #taken: string[] = [];

  constructor(total: number, perNetwork: number) {
    this.#total = total;
    this.#perNetwork = perNetwork;
  }

  /** Takes a place for a network, and returns what gives it back; undefined when there is none. */
  take(network: string): (() => void) | undefined {
    const ofNetwork = this.#taken.filter((one) => one === network).length;
    if (this.#taken.length >= this.#total || ofNetwork >= this.#perNetwork) return undefined;
    this.#taken.push(network);
    return () => {
      const at = this.#taken.indexOf(network);
      if (at !== -1) this.#taken.splice(at, 1);
    };
  }
}
