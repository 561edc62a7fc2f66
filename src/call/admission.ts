import type { ConnectError } from '@connectrpc/connect';
import type { Caller } from './caller.ts';
import { overloaded, rateLimited, tooManyOpenStreams } from './errors.ts';
import { maxReceivingCalls, maxUnaryCalls, openCallLimits, stalledAfterMs } from './limits.ts';
import type { RateLimit } from './rate-limit.ts';

/** Reads a header of a call: metadata on gRPC, HTTP headers on the web port. `cookie` is there on the web port only. */
export type HeaderReader = (name: string) => string | undefined;

/** Finds out who calls. @throws {ConnectError} UNAUTHENTICATED, with one message for everything that can be wrong. */
export type Authenticate = (header: HeaderReader, address?: string) => Promise<Caller>;

/** Chooses the limit for a protocol, if there is one. */
export type RateLimitOf = (protocol: string) => RateLimit | undefined;

/** What admission is decided by. */
export interface AdmissionParts {
  readonly authenticate: Authenticate;
  /** What limits the calls of a user over a protocol, if anything does. */
  readonly rateLimitOf?: RateLimitOf | undefined;
  /** Whether more work waits than can be done in time. New calls are then refused at once, which costs next to nothing. */
  readonly isOverloaded?: (() => boolean) | undefined;
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
  /** Ends the call with an error, if it has not ended. */
  abort(why: () => ConnectError): void;
}

/** What a call takes up while it runs. */
export interface Admitted {
  /** Who calls; undefined where nobody had to say so. */
  readonly caller: Caller | undefined;
  /** Says that the request has been read whole. */
  requestReceived(): void;
  /** Gives back what is left when the call has ended. */
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

/** One error for all: an error with its stack costs more than the rest of a refusal, and would say the same each time. */
export const overloadRefusal: ConnectError = overloaded();

/**
 * Makes the admission of one process. In this order, a call has to pass: the limit of calls at work and the overload signal, its
 * token, the rate limit of its user, and the budget of requests that are being received. Methods that are open to everybody have
 * limits of their own in place of the first three, so that they can take nothing from callers with a token.
 */
export function createAdmission({ authenticate, rateLimitOf, isOverloaded = () => false }: AdmissionParts): Admission {
  let unaryCalls = 0;
  const receiving = createReceiving(maxReceivingCalls);
  const openReceiving = createReceiving(openCallLimits.receiving);
  const openStreams = createStreamCount(openCallLimits.streamsPerConnection, openCallLimits.streams);
  const openBidiStreams = createStreamCount(openCallLimits.streamsPerConnection, openCallLimits.bidiStreams);

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
      const isUnary = call.kind === 'unary';
      if (isUnary) unaryCalls += 1;
      try {
        const caller = await authenticate(call.header, call.address);
        const limit = rateLimitOf?.(call.protocol);
        if (limit !== undefined && !liftsRateLimit(caller, call.header)) {
          const early = limit.take(caller.userId, call.method);
          if (early !== undefined) throw rateLimited(early);
        }
        const received = receiving.add(call);
        return {
          caller,
          requestReceived: received,
          release() {
            received();
            if (isUnary) unaryCalls -= 1;
          },
        };
      } catch (error) {
        if (isUnary) unaryCalls -= 1;
        throw error;
      }
    },
  };
}

/** Site owners may lift the limit for their load tests and automation (coderd/httpmw/ratelimit.go). */
function liftsRateLimit({ roles }: Caller, header: HeaderReader): boolean {
  return roles.includes('owner') && /^(1|t|true)$/i.test(header('x-coder-bypass-ratelimit') ?? '');
}

/**
 * Counts the calls whose requests are not whole yet, each of which may hold up to 64 KiB. When there are too many, the one that has
 * been sending for longest makes room if it has had a second, which is longer than any sound client takes; else the new one is
 * refused. So clients that stop in the middle of a request shut nobody out.
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

/** Counts open streams, by connection and in all. */
function createStreamCount(perConnection: number, total: number): { add(connection: string): () => void } {
  const counts = new Map<string, number>();
  let all = 0;
  return {
    add(connection) {
      const count = counts.get(connection) ?? 0;
      if (count >= perConnection) throw tooManyOpenStreams(perConnection);
      if (all >= total) throw overloadRefusal;
      counts.set(connection, count + 1);
      all += 1;
      return () => {
        const left = (counts.get(connection) ?? 1) - 1;
        if (left === 0) counts.delete(connection);
        else counts.set(connection, left);
        all -= 1;
      };
    },
  };
}
