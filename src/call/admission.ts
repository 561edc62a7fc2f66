import type { ConnectError } from '@connectrpc/connect';
import type { Caller } from './caller.ts';
import { databaseUnavailable, overloaded, rateLimited, tooManyOpenStreams } from './errors.ts';
import { authenticatingLimits, maxReceivingCalls, maxUnaryCalls, openCallLimits, stalledAfterMs } from './limits.ts';
import { networkOf } from './network.ts';
import type { RateLimit } from './rate-limit.ts';

/** Reads a header of a call: metadata of gRPC, HTTP headers on the web port. `cookie` exists on the web port only. */
export type HeaderReader = (name: string) => string | undefined;

/**
 * Authenticates the caller: at once where the caller is cached, else by a statement or the issuer's keys.
 *
 * @throws {ConnectError} UNAUTHENTICATED, with one message for everything that can be wrong.
 */
export type Authenticate = (header: HeaderReader, address?: string) => Caller | Promise<Caller>;

/** Chooses the limit for a protocol, if there is one. */
export type RateLimitOf = (protocol: string) => RateLimit | undefined;

/** What the decision to admit a call depends on. */
export interface AdmissionParts {
  readonly authenticate: Authenticate;
  /** What limits the calls of a user over a protocol, if anything does. */
  readonly rateLimitOf?: RateLimitOf | undefined;
  /** Whether more calls wait than can be answered in time. New calls are then refused at once, which is cheap. */
  readonly isOverloaded?: (() => boolean) | undefined;
  /** Why nothing is to be served now, since the database may show old rows; undefined when all is well. */
  readonly whyNotServing?: (() => string | undefined) | undefined;
}

/** What admission knows of a call: its method and its headers, and nothing of its request. */
export interface AdmissionRequest {
  readonly method: string;
  readonly kind: 'unary' | 'server_streaming' | 'bidi_streaming';
  /** Whether the method may be called without a token. */
  readonly open: boolean;
  readonly protocol: string;
  /** The client's address. */
  readonly address: string;
  /** What tells one connection from another. */
  readonly connection: string;
  readonly header: HeaderReader;
  /** @throws {ConnectError} why the call was aborted, if it was. */
  throwIfAborted(): void;
  /** Ends the call with an error, if it has not ended. */
  abort(why: () => ConnectError): void;
}

/** What an admitted call holds while it runs. */
export interface Admitted {
  /** The caller; undefined for methods that need no token. */
  readonly caller: Caller | undefined;
  /** Tells that the whole request has been read. */
  requestReceived(): void;
  /** Releases what the call holds, when it has ended. */
  release(): void;
}

/** Decides on the headers of a call whether its request is read at all. */
export interface Admission {
  /**
   * Admits a call, or refuses it.
   *
   * @throws {ConnectError} why the call is refused.
   */
  admit(call: AdmissionRequest): Promise<Admitted>;
}

/** One error for all calls: making one with its stack costs more than the rest of a refusal. */
export const overloadRefusal: ConnectError = overloaded();

/**
 * Makes the admission of one process. A call has to pass, in this order: the limit of running calls and the overload signal, its
 * token, the budget of requests being received, and the rate limit of its user. Open methods have limits of their own, a budget of
 * requests and counts of streams, so that they cannot affect callers with a token.
 */
export function createAdmission(parts: AdmissionParts): Admission {
  const { authenticate, rateLimitOf, isOverloaded = () => false, whyNotServing = () => undefined } = parts;
  let unaryCalls = 0;
  const authenticating = createCount({ perKey: authenticatingLimits.perNetwork, total: authenticatingLimits.total });
  const receiving = createReceiving(maxReceivingCalls);
  const openReceiving = createReceiving(openCallLimits.receiving);
  const perKey = openCallLimits.streamsPerConnection;
  const openStreams = createCount({ perKey, total: openCallLimits.streams }, () => tooManyOpenStreams(perKey));
  const openBidiStreams = createCount({ perKey, total: openCallLimits.bidiStreams }, () => tooManyOpenStreams(perKey));

  // Until it is authenticated a call may hold 64 KiB that its client sends, and anyone can make such calls. Cached callers are
  // authenticated at once and not counted.
  const authenticated = async (answer: Promise<Caller>, address: string): Promise<Caller> => {
    let release = (): void => {};
    try {
      release = authenticating.add(networkOf(address));
      return await answer;
    } finally {
      release();
      answer.catch(() => {}); // it is not awaited when there were too many
    }
  };

  const admitOpen = (call: AdmissionRequest): Admitted => {
    // The requests of a bidirectional stream come as long as it lasts.
    if (call.kind === 'bidi_streaming') {
      return { caller: undefined, requestReceived() {}, release: openBidiStreams.add(call.connection) };
    }
    const left = call.kind === 'unary' ? () => {} : openStreams.add(call.connection);
    try {
      const requestReceived = openReceiving.add(call);
      return {
        caller: undefined,
        requestReceived,
        release() {
          requestReceived();
          left();
        },
      };
    } catch (error) {
      left();
      throw error;
    }
  };

  return {
    async admit(call) {
      if (call.open) return admitOpen(call);
      if (unaryCalls >= maxUnaryCalls || isOverloaded()) throw overloadRefusal;
      const why = whyNotServing();
      if (why !== undefined) throw databaseUnavailable(new Error(why));
      const answer = authenticate(call.header, call.address);
      const caller = answer instanceof Promise ? await authenticated(answer, call.address) : answer;
      call.throwIfAborted();
      // The requests of a bidirectional stream come as long as it lasts.
      const received = call.kind === 'bidi_streaming' ? () => {} : receiving.add(call);
      const limit = rateLimitOf?.(call.protocol);
      if (limit !== undefined && !liftsRateLimit(caller, call.header)) {
        const early = limit.take(caller.userId, call.method);
        if (early !== undefined) {
          received();
          throw rateLimited(early);
        }
      }
      let isAtWork = false;
      return {
        caller,
        requestReceived() {
          received();
          isAtWork = call.kind === 'unary';
          if (isAtWork) unaryCalls += 1;
        },
        release() {
          received();
          if (isAtWork) unaryCalls -= 1;
        },
      };
    },
  };
}

/** Site owners may bypass the limit for load tests and automation (coderd/httpmw/ratelimit.go). */
function liftsRateLimit({ roles }: Caller, header: HeaderReader): boolean {
  return roles.includes('owner') && /^(1|t|true)$/i.test(header('x-coder-bypass-ratelimit') ?? '');
}

/**
 * Counts the calls whose requests are incomplete, each of which may hold up to 64 KiB. When there are too many, the oldest is ended
 * if it has had a second, which is longer than any sound client takes; else the new one is refused. So clients that stop in the
 * middle of a request cannot lock others out.
 */
function createReceiving(most: number): { add(call: AdmissionRequest): () => void } {
  const calls = new Map<AdmissionRequest, number>();
  return {
    add(call) {
      if (calls.size >= most) {
        for (const [oldest, since] of calls) {
          if (performance.now() - since < stalledAfterMs) throw overloadRefusal;
          calls.delete(oldest);
          oldest.abort(overloaded);
          break;
        }
      }
      calls.set(call, performance.now());
      return () => void calls.delete(call);
    },
  };
}

/**
 * Counts calls by key, such as a connection, and in all; both counts are limited. `add` returns the function that ends its count.
 *
 * @param tooManyOfKey the refusal when a key has as many as it may have.
 */
function createCount(
  { perKey, total }: { readonly perKey: number; readonly total: number },
  tooManyOfKey: () => ConnectError = () => overloadRefusal,
): { add(key: string): () => void } {
  const counts = new Map<string, number>();
  let all = 0;
  return {
    add(key) {
      const count = counts.get(key) ?? 0;
      if (count >= perKey) throw tooManyOfKey();
      if (all >= total) throw overloadRefusal;
      counts.set(key, count + 1);
      all += 1;
      return () => {
        const left = (counts.get(key) ?? 1) - 1;
        if (left === 0) counts.delete(key);
        else counts.set(key, left);
        all -= 1;
      };
    },
  };
}
