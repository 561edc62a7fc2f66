import { randomBytes } from 'node:crypto';
import type { Message } from '@bufbuild/protobuf';
import { Code, type ConnectError } from '@connectrpc/connect';
import { status as statusNames } from '@grpc/grpc-js';
import type { Authenticate, HeaderReader } from '../auth/authenticate.ts';
import { formatUuid } from '../db/uuid.ts';
import { type Logger, writeMembers } from '../platform/log.ts';
import type { CallSpan, TraceCall } from '../platform/tracing.ts';
import type { Call } from './call.ts';
import type { MethodLabels, MethodMetrics } from './call-metrics.ts';
import type { Caller } from './caller.ts';
import { canceled, overloaded, rateLimited, reasonOf, shuttingDown, toConnectError } from './errors.ts';
import { maxUnaryCalls } from './limits.ts';
import type { BidiStreamingMethod, Method, ServerStreamingMethod } from './method.ts';
import type { RateLimit } from './rate-limit.ts';

/** Services that anyone may call without a token: they tell how to call the others, and whether they answer. */
export const openServices: ReadonlySet<string> = new Set([
  'grpc.health.v1.Health',
  'grpc.reflection.v1.ServerReflection',
  'grpc.reflection.v1alpha.ServerReflection',
]);

/** A call as its transport hands it over. */
export interface Incoming {
  /** For the log: `grpc`, `grpc-web`, `connect` or `coder-json`. */
  readonly protocol: string;
  /** The address of the client's end of the connection, for the log. */
  readonly peer: string;
  readonly header: HeaderReader;
}

/** Answers the calls of one method. */
export interface Route {
  readonly method: Method;
  /** Starts a call; one of the answers of what it returns must follow. */
  begin(incoming: Incoming): RunningCall;
}

/**
 * What every call goes through, whichever transport it came over: request id, authentication, reading the request, the handler,
 * errors, one line in the log, metrics.
 */
export interface CallChain {
  route(method: Method): Route;
  /** Starts a call of what is no method of ours; it must be refused. All of them are one method in metrics and log. */
  beginUnknown(incoming: Incoming): RunningCall;
  /**
   * Refuses new calls with SHUTTING_DOWN and ends the streams with it, which would never end by themselves. Health checks are
   * still answered. Resolves when no call is running.
   */
  drain(): Promise<void>;
  /** Ends all running calls with SHUTTING_DOWN. */
  abort(): void;
  /** How many calls are running. */
  readonly running: number;
}

/** Makes the chain. `metrics` makes the counters of a method. */
export function createCallChain(parts: {
  readonly authenticate: Authenticate;
  readonly log: Logger;
  readonly metrics: (method: MethodLabels) => MethodMetrics;
  /** What limits the calls of a user over a protocol, if anything does. */
  readonly rateLimitOf?: RateLimitOf | undefined;
  /** Whether more work waits than can be done in time. New calls are then refused at once, which costs next to nothing. */
  readonly isOverloaded?: (() => boolean) | undefined;
  /** Starts a span for each call of a service that is not open, if traces are on. */
  readonly trace?: TraceCall | undefined;
}): CallChain {
  const state: ChainState = {
    authenticate: parts.authenticate,
    log: parts.log,
    running: new Set(),
    admitted: 0,
    draining: false,
    rateLimitOf: parts.rateLimitOf,
    isOverloaded: parts.isOverloaded ?? (() => false),
    trace: parts.trace,
  };
  const unknown: MethodInChain = { kind: 'unary', name: 'unknown', open: false, metrics: parts.metrics(unknownLabels) };
  return {
    route(method: Method): Route {
      const { parent, name } = method.desc;
      const about: MethodInChain = {
        kind: method.kind,
        name: `${parent.typeName}/${name}`,
        open: openServices.has(parent.typeName),
        metrics: parts.metrics(method.desc),
      };
      return { method, begin: (incoming) => new RunningCall(state, about, incoming) };
    },

    beginUnknown: (incoming) => new RunningCall(state, unknown, incoming),

    drain() {
      state.draining = true;
      for (const call of state.running) if (call.kind !== 'unary') call.drain();
      if (state.running.size === 0) return Promise.resolve();
      return new Promise((resolve) => {
        state.idle = resolve;
      });
    },

    abort() {
      for (const call of state.running) call.abort(shuttingDown);
    },

    get running() {
      return state.running.size;
    },
  };
}

/** Chooses the limit for a protocol. */
export type RateLimitOf = (protocol: string) => RateLimit | undefined;

interface ChainState {
  readonly authenticate: Authenticate;
  readonly log: Logger;
  readonly running: Set<RunningCall>;
  readonly rateLimitOf: RateLimitOf | undefined;
  readonly isOverloaded: () => boolean;
  /** How many of those that run are unary calls that were let in. */
  admitted: number;
  readonly trace: TraceCall | undefined;
  draining: boolean;
  /** Called when the last running call of a drain has ended. */
  idle?: () => void;
}

interface MethodInChain {
  readonly kind: Method['kind'];
  readonly name: string;
  readonly open: boolean;
  readonly metrics: MethodMetrics;
}

/** What answers a unary call: a method of a service, or what stands for it on a transport with a shape of its own. */
export interface Handling<I, O> {
  handle(request: I, call: Call): Promise<O>;
}

/** Who calls where nobody had to say so: a caller that may read nothing. */
const anyone: Caller = {
  userId: Buffer.alloc(0),
  username: '',
  roles: [],
  customRoles: [],
  memberships: [],
  groupIds: [],
  mayRead: false,
};

/** A client shall not choose labels. */
const unknownLabels: MethodLabels = { parent: { typeName: 'unknown' }, name: 'unknown', methodKind: 'unary' };

/** One for all: an error with its stack costs more than the rest of a refusal, and would say the same each time. */
const refusal = overloaded();

/** A client's own request id is taken if it looks like one; anything else could forge lines of a log. */
const saneRequestId = /^[A-Za-z0-9._-]{1,64}$/;

/** How long a stream may take for its last word when the server stops, in milliseconds: its client may have stopped reading. */
const lastWordMs = 1000;

/** Request ids count the calls of a process, behind what tells it from all others. A UUID for each would take ten times as long. */
const processId = randomBytes(9).toString('base64url');
let requests = 0;

function newRequestId(): string {
  requests += 1;
  return `${processId}-${requests.toString(36)}`;
}

/**
 * A call on its way through the chain.
 *
 * A call that is aborted is answered at once with the reason, whether or not its handler listens to the signal.
 */
export class RunningCall implements Call {
  readonly requestId: string;
  caller: Caller = anyone;
  rows?: number;
  readonly #chain: ChainState;
  readonly #method: MethodInChain;
  readonly #incoming: Incoming;
  readonly #startedAt = performance.now();
  readonly #span: CallSpan | undefined;
  #controller: AbortController | undefined;
  #draining: AbortController | undefined;
  #log: Logger | undefined;
  #abortedBy: ConnectError | undefined;
  /** Ends the wait of the moment. */
  #interrupt: ((reason: ConnectError) => void) | undefined;
  #admitted = false;
  #ended = false;

  constructor(chain: ChainState, method: MethodInChain, incoming: Incoming) {
    this.#chain = chain;
    this.#method = method;
    this.#incoming = incoming;
    const given = incoming.header('x-request-id');
    this.requestId = given !== undefined && saneRequestId.test(given) ? given : newRequestId();
    if (!method.open) this.#span = chain.trace?.(method.name, incoming.protocol, incoming.header);
    method.metrics.started();
    chain.running.add(this);
    if (chain.draining && !(method.open && method.kind === 'unary')) this.abort(shuttingDown);
  }

  get kind(): Method['kind'] {
    return this.#method.kind;
  }

  /** Whether the call has been answered, or given up. */
  get ended(): boolean {
    return this.#ended;
  }

  // The next three are made when first used: most calls need none.
  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController();
      if (this.#abortedBy !== undefined) this.#controller.abort(this.#abortedBy);
    }
    return this.#controller.signal;
  }

  get draining(): AbortSignal {
    this.#draining ??= new AbortController();
    return this.#draining.signal;
  }

  get log(): Logger {
    this.#log ??= this.#chain.log.child({ requestId: this.requestId });
    return this.#log;
  }

  async reauthenticate(): Promise<Caller> {
    this.caller = await this.#chain.authenticate(this.#incoming.header, this.#incoming.peer);
    return this.caller;
  }

  /** Ends the call because the server stops, in a moment if it has a last word to say. */
  drain(): void {
    if (this.#draining === undefined) return this.abort(shuttingDown);
    this.#draining.abort();
    setTimeout(() => this.abort(shuttingDown), lastWordMs).unref();
  }

  /**
   * Ends the call early. Nothing happens when it has ended already: transports say at the end of every call that the client is
   * gone, which is why they pass a function, an error with its stack being costly.
   */
  abort(why: () => ConnectError): void {
    if (this.#ended || this.#abortedBy !== undefined) return;
    const reason = why();
    this.#abortedBy = reason;
    this.#controller?.abort(reason);
    this.#interrupt?.(reason);
  }

  /**
   * Answers a call that goes no further, because its request never came whole, with an error.
   *
   * @returns what the client shall see; the log has it already, with its cause.
   */
  refuse(error: ConnectError): ConnectError {
    return this.#fail(error);
  }

  /**
   * Answers a unary call. Requests and responses are messages, or what a transport has in their place.
   *
   * @param read gives the request, after the caller is known and not before; what it throws is the call's error.
   * @param write makes of the response what the transport sends.
   * @throws {ConnectError} what the client shall see; the log has it already, with its cause.
   */
  async unary<I, O, T>(method: Handling<I, O>, read: () => I | Promise<I>, write: (response: O) => T): Promise<T> {
    try {
      const response = write(await this.#untilAborted(this.#inSpan(() => this.#handle(method, read))));
      this.#method.metrics.sent();
      this.#end();
      return response;
    } catch (error) {
      throw this.#fail(error);
    }
  }

  /**
   * Answers a streaming call. When the consumer stops early, the call counts as canceled.
   *
   * @param read gives the request, or the requests, after the caller is known and not before.
   * @throws {ConnectError} what the client shall see; the log has it already, with its cause.
   */
  async *stream(
    method: ServerStreamingMethod | BidiStreamingMethod,
    read: () => Message | AsyncIterable<Message> | Promise<Message | AsyncIterable<Message>>,
  ): AsyncGenerator<Message, void> {
    let responses: AsyncIterator<Message> | undefined;
    const leave = (): void => {
      if (!this.#ended) this.#fail(canceled());
      this.#controller?.abort(canceled()); // ends the waits of a handler that is left in the middle
      void responses?.return?.()?.catch(() => {}); // it may wait for something, and the client does not
    };
    try {
      responses = await this.#untilAborted(this.#inSpan(() => this.#open(method, read)));
      for (;;) {
        const from = responses;
        const next = await this.#untilAborted(this.#inSpan(() => from.next()));
        if (next.done === true) break;
        this.#method.metrics.sent();
        this.#interrupt = leave; // a client that is gone may never take the response
        yield next.value;
      }
      this.#end();
    } catch (error) {
      throw this.#fail(error);
    } finally {
      leave();
    }
  }

  async #handle<I, O>(method: Handling<I, O>, read: () => I | Promise<I>): Promise<O> {
    await this.#admit();
    const request = await read();
    this.#goOn();
    this.#method.metrics.received();
    return method.handle(request, this);
  }

  async #open(
    method: ServerStreamingMethod | BidiStreamingMethod,
    read: () => Message | AsyncIterable<Message> | Promise<Message | AsyncIterable<Message>>,
  ): Promise<AsyncIterator<Message>> {
    await this.#admit();
    const request = await read();
    this.#goOn();
    if (method.kind === 'bidi_streaming') {
      return method.handle(this.#counted(request as AsyncIterable<Message>), this)[Symbol.asyncIterator]();
    }
    this.#method.metrics.received();
    return method.handle(request as Message, this)[Symbol.asyncIterator]();
  }

  /** Does work of the call where its span, if it has one, is the parent of others. */
  #inSpan<T>(work: () => T): T {
    return this.#span === undefined ? work() : this.#span.run(work);
  }

  /** Finds out whether the call can be answered in time, who calls, and whether not too often. */
  async #admit(): Promise<void> {
    this.#goOn();
    if (this.#method.open) return;
    if (this.#chain.admitted >= maxUnaryCalls || this.#chain.isOverloaded()) throw refusal;
    if (this.kind === 'unary') {
      this.#admitted = true;
      this.#chain.admitted += 1;
    }
    this.caller = await this.#chain.authenticate(this.#incoming.header, this.#incoming.peer);
    this.#goOn();
    const limit = this.#chain.rateLimitOf?.(this.#incoming.protocol);
    if (limit === undefined || liftsRateLimit(this.caller, this.#incoming.header)) return;
    const early = limit.take(this.caller.userId, this.#method.name);
    if (early !== undefined) throw rateLimited(early);
  }

  /** A call that was aborted during one step does not take the next. */
  #goOn(): void {
    if (this.#abortedBy !== undefined) throw this.#abortedBy;
  }

  async *#counted(requests: AsyncIterable<Message>): AsyncGenerator<Message> {
    for await (const request of requests) {
      this.#method.metrics.received();
      yield request;
    }
  }

  #untilAborted<T>(work: Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      this.#interrupt = reject;
      work.then(resolve, reject);
      if (this.#abortedBy !== undefined) reject(this.#abortedBy);
    });
  }

  #fail(error: unknown): ConnectError {
    const failure = this.#abortedBy ?? toConnectError(error, this);
    this.#end(failure);
    return failure;
  }

  #end(failure?: ConnectError): void {
    if (this.#ended) return;
    this.#ended = true;
    const milliseconds = performance.now() - this.#startedAt;
    this.#method.metrics.handled(failure?.code ?? 0, milliseconds / 1000);
    this.#writeLog(failure, milliseconds);
    if (this.#span !== undefined) this.#endSpan(this.#span, failure);
    const { running, idle } = this.#chain;
    running.delete(this);
    if (this.#admitted) this.#chain.admitted -= 1;
    if (running.size === 0) idle?.();
  }

  #endSpan(span: CallSpan, failure: ConnectError | undefined): void {
    span.end({
      code: statusNames[failure?.code ?? 0] ?? '',
      isFault: ['error', 'warn'].includes(levelOf(failure?.code)),
      reason: failure === undefined ? undefined : reasonOf(failure),
      requestId: this.requestId,
      caller: this.#callerId,
      rows: this.rows,
    });
  }

  get #callerId(): string | undefined {
    return this.caller === anyone ? undefined : callerIdOf(this.caller);
  }

  /** One line a call. It never holds what the client asked for, nor a token. */
  #writeLog(failure: ConnectError | undefined, milliseconds: number): void {
    const { log } = this.#chain;
    const durationMs = Math.round(milliseconds * 1000) / 1000;
    const { protocol, peer } = this.#incoming;
    const { rows } = this;
    const caller = this.#callerId;
    const traceId = this.#span?.traceId;
    if (failure === undefined) {
      const members =
        `"method":"${this.#method.name}","protocol":"${protocol}","code":"OK","durationMs":${durationMs}` +
        (rows === undefined ? '' : `,"rows":${rows}`) +
        (caller === undefined ? '' : `,"caller":"${caller}"`) +
        `,"requestId":"${this.requestId}"` +
        (traceId === undefined ? '' : `,"traceId":"${traceId}"`) +
        `,"peer":${quote(peer)}`;
      // Probes come every few seconds.
      writeMembers(log, this.#method.open ? 'debug' : 'info', members, 'call');
      return;
    }
    let level = levelOf(failure.code);
    if (level === 'info' && this.#method.open) level = 'debug';
    if (failure === refusal) level = 'debug'; // thousands a second, and the metrics count them
    if (!log.isLevelEnabled(level)) return;
    const line = {
      method: this.#method.name,
      protocol,
      code: statusNames[failure.code],
      durationMs,
      rows,
      caller,
      requestId: this.requestId,
      traceId,
      peer,
      reason: reasonOf(failure),
      cause: causeOf(failure),
    };
    log[level](line, 'call failed');
  }
}

/** A text in JSON. An address is nearly always plain, and `JSON.stringify` takes 4 KiB of memory for whatever it is given. */
function quote(text: string): string {
  return /^[\w.:-]*$/.test(text) ? `"${text}"` : JSON.stringify(text);
}

/** The ids of the callers that are remembered, as texts. */
const callerIds = new WeakMap<Caller, string>();

function callerIdOf(caller: Caller): string {
  let id = callerIds.get(caller);
  if (id === undefined) {
    id = formatUuid(caller.userId);
    callerIds.set(caller, id);
  }
  return id;
}

/** Site owners may lift the limit for their load tests and automation (coderd/httpmw/ratelimit.go). */
function liftsRateLimit({ roles }: Caller, header: HeaderReader): boolean {
  return roles.includes('owner') && /^(1|t|true)$/i.test(header('x-coder-bypass-ratelimit') ?? '');
}

/** Our own faults are errors, what is away is a warning, and what clients do wrong is no trouble of ours. */
function levelOf(code: Code | undefined): 'error' | 'warn' | 'info' | 'debug' {
  switch (code) {
    case Code.Internal:
    case Code.Unknown:
    case Code.DataLoss:
      return 'error';
    case Code.Unavailable:
      return 'warn';
    default:
      return 'info';
  }
}

/** Why a call failed, for the log: of an error its name, message, stack and codes, and no more. A driver's error also holds the SQL with its values. */
function causeOf({ cause }: Error, depth = 0): object | undefined {
  if (cause === undefined || cause === null) return undefined;
  if (!(cause instanceof Error)) return { type: typeof cause };
  const { code, errno } = cause as { code?: unknown; errno?: unknown };
  // Three levels show what failed; a chain may be a ring.
  const deeper = depth < 3 ? causeOf(cause, depth + 1) : undefined;
  return { type: cause.name, message: cause.message, stack: cause.stack, code, errno, cause: deeper };
}
