import type { ConnectError } from '@connectrpc/connect';
import type { Caller } from './caller.ts';
import { overloaded, rateLimited, tooManyOpenStreams } from './errors.ts';
import { authenticatingLimits, maxReceivingCalls, maxUnaryCalls, openCallLimits, stalledAfterMs } from './limits.ts';
import { networkOf } from './network.ts';
import type { RateLimit } from './rate-limit.ts';

/** Reads a header of a call: metadata on gRPC, HTTP headers on the web port. `cookie` is there on the web port only. */
export type HeaderReader = (name: string) => string | undefined;

/**
 * Finds out who calls: at once where the caller is remembered, else by asking somebody.
 *
 * @throws {ConnectError} UNAUTHENTICATED, with one message for everything that can be wrong.
 */
export type Authenticate = (header: HeaderReader, address?: string) => Caller | Promise<Caller>;

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
  /** @throws {ConnectError} why the call was aborted, if it was. */
  throwIfAborted(): void;
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

/** One error for all calls: making one with its stack costs more than the rest of a refusal. */
export const overloadRefusal: ConnectError = overloaded();

/**
 * Makes the admission of one process. In this order, a call has to pass: the limit of calls at work and the overload signal, its
 * token, the budget of requests that are being received, and the rate limit of its user. Methods that are open to everybody have
 * limits of their own, a budget of requests and counts of streams, so that they can take nothing from callers with a token.
 */
export function createAdmission({ authenticate, rateLimitOf, isOverloaded = () => false }: AdmissionParts): Admission {
  let unaryCalls = 0;
  const authenticating = createAuthenticating();
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
      const answer = authenticate(call.header, call.address);
      const caller = answer instanceof Promise ? await authenticating.wait(call.address, answer) : answer;
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

/**
 * Counts the calls whose caller somebody has to be asked about, in all and by network. Until the answer each may hold 64 KiB that its
 * client sends, and no token keeps anyone from making such calls. Remembered callers wait for nobody, and are not counted.
 */
function createAuthenticating(): { wait<T>(address: string, answer: Promise<T>): Promise<T> } {
  const { total, perNetwork } = authenticatingLimits;
  const counts = new Map<string, number>();
  let all = 0;
  return {
    async wait(address, answer) {
      const network = networkOf(address);
      const count = counts.get(network) ?? 0;
      if (all >= total || count >= perNetwork) {
        answer.catch(() => {}); // nobody waits for it
        throw overloadRefusal;
      }
      counts.set(network, count + 1);
      all += 1;
      try {
        return await answer;
      } finally {
        all -= 1;
        const left = (counts.get(network) ?? 1) - 1;
        if (left === 0) counts.delete(network);
        else counts.set(network, left);
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
