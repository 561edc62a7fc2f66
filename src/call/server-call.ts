import type { Message } from '@bufbuild/protobuf';
import type { ConnectError } from '@connectrpc/connect';
import type { Logger } from '../platform/log.ts';
import type { CallSpan, TraceCall } from '../platform/tracing.ts';
import { callerIdOf, codeName, isFault, requestIdOf, writeAccessLog } from './access-log.ts';
import type { Admission, AdmissionRequest, Admitted, Authenticate, HeaderReader } from './admission.ts';
import type { Call } from './call.ts';
import type { MethodMetrics } from './call-metrics.ts';
import type { Caller } from './caller.ts';
import { canceled, reasonOf, shuttingDown, toConnectError } from './errors.ts';
import type { Method } from './method.ts';

/** What a transport knows of a call before its request: the client's address and the headers. */
export interface CallInfo {
  /** `grpc`, `grpc-web`, `connect` or `coder-json`. */
  readonly protocol: string;
  /** The client for the log: its address and port, or only its address where a trusted proxy told it. */
  readonly peer: string;
  /** The client's address. */
  readonly address: string;
  /** Identifies the connection: the address and port of its other end. */
  readonly connection: string;
  readonly header: HeaderReader;
}

/** A method as calls of it are logged and counted. */
export interface MethodInfo {
  readonly kind: Method['kind'];
  /** `package.Service/Method`. */
  readonly name: string;
  /** Whether it may be called without a token. */
  readonly open: boolean;
  readonly metrics: MethodMetrics;
}

/** What calls of one process share. */
export interface SharedByCalls {
  readonly admission: Admission;
  /** Authenticates the caller again. */
  readonly reauthenticate: Authenticate;
  readonly log: Logger;
  /** Starts a span for each call of a service that is not open, if traces are on. */
  readonly trace?: TraceCall | undefined;
  readonly draining: boolean;
  /** Called when a call has ended. */
  ended(call: ServerCall): void;
}

/** The caller of methods that need no token: it may read nothing. */
const anyone: Caller = {
  userId: Buffer.alloc(0),
  username: '',
  roles: [],
  customRoles: [],
  memberships: [],
  groupIds: [],
  mayRead: false,
};

/** How long a stream may take to send its last message when the server stops, in milliseconds: its client may not be reading. */
const lastMessageMs = 1000;

/**
 * A call from its headers to its end, the same over every transport. A transport begins it, asks {@link admit} before it reads
 * the request, then answers it by {@link unary} or {@link stream}. `admit` ends the call only by failing, the other two always,
 * with one line in the access log and one count in the metrics.
 *
 * A call that is aborted is answered at once with the reason, whether or not its handler listens to the signal.
 */
export class ServerCall implements Call, AdmissionRequest {
  readonly requestId: string;
  caller: Caller = anyone;
  rows?: number;
  readonly #shared: SharedByCalls;
  readonly #method: MethodInfo;
  readonly #info: CallInfo;
  readonly #startedAt = performance.now();
  readonly #span: CallSpan | undefined;
  #admitted: Admitted | undefined;
  #controller: AbortController | undefined;
  #draining: AbortController | undefined;
  #log: Logger | undefined;
  #abortedBy: ConnectError | undefined;
  /** Ends what the call waits for: its handler, or a client that has to take a response. */
  #interrupt: ((reason: ConnectError) => void) | undefined;
  #onAborted: ((failure: ConnectError) => void) | undefined;
  #ended = false;

  constructor(shared: SharedByCalls, method: MethodInfo, info: CallInfo) {
    this.#shared = shared;
    this.#method = method;
    this.#info = info;
    this.requestId = requestIdOf(info.header('x-request-id'));
    if (!method.open) this.#span = shared.trace?.(method.name, info.protocol, info.header);
    method.metrics.started();
    if (shared.draining && !(method.open && method.kind === 'unary')) this.abort(shuttingDown);
  }

  get method(): string {
    return this.#method.name;
  }

  get kind(): Method['kind'] {
    return this.#method.kind;
  }

  get open(): boolean {
    return this.#method.open;
  }

  get protocol(): string {
    return this.#info.protocol;
  }

  get connection(): string {
    return this.#info.connection;
  }

  get address(): string {
    return this.#info.address;
  }

  get header(): HeaderReader {
    return this.#info.header;
  }

  // The signals and the log are made when they are first used: most calls need none.
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
    this.#log ??= this.#shared.log.child({ requestId: this.requestId });
    return this.#log;
  }

  async reauthenticate(): Promise<Caller> {
    this.caller = await this.#shared.reauthenticate(this.header, this.address);
    return this.caller;
  }

  /**
   * Decides on the headers whether the request is read.
   *
   * @param onAborted called with the error for the client when the call ends before its request has been read.
   * @throws {ConnectError} the error for the client; the call has ended.
   */
  async admit(onAborted: (failure: ConnectError) => void): Promise<void> {
    this.#onAborted = onAborted;
    try {
      this.throwIfAborted();
      const admission = this.#inSpan(() => this.#shared.admission.admit(this));
      // An aborted call does not wait for its admission. If that succeeds later, what it holds is released.
      admission.then(
        (admitted) => {
          if (this.#ended) admitted.release();
          else this.#admitted = admitted;
        },
        () => {},
      );
      const { caller } = await this.#untilAborted(admission);
      this.throwIfAborted(); // between the admission and here
      if (caller !== undefined) this.caller = caller;
    } catch (error) {
      throw this.fail(error);
    }
  }

  /**
   * Answers a unary call, whose request has been read.
   *
   * @param answer makes the response in the form that the transport sends.
   * @throws {ConnectError} the error for the client; the call has ended.
   */
  async unary<T>(answer: () => Promise<T>): Promise<T> {
    try {
      this.#receive();
      const response = await this.#untilAborted(this.#inSpan(answer));
      this.#method.metrics.sent();
      this.#end();
      return response;
    } catch (error) {
      throw this.fail(error);
    }
  }

  /**
   * Answers a call with one request, which has been read, and any number of responses. When the consumer stops early, the call
   * counts as canceled.
   *
   * @throws {ConnectError} the error for the client; the call has ended.
   */
  stream(answer: () => AsyncIterable<Message>): AsyncGenerator<Message, void> {
    return this.#stream(() => {
      this.#receive();
      return answer();
    });
  }

  /** The same for any number of requests, which come while the call runs. */
  bidiStream(
    requests: AsyncIterable<Message>,
    answer: (requests: AsyncIterable<Message>) => AsyncIterable<Message>,
  ): AsyncGenerator<Message, void> {
    return this.#stream(() => {
      this.throwIfAborted();
      return answer(this.#counted(requests));
    });
  }

  async *#stream(open: () => AsyncIterable<Message>): AsyncGenerator<Message, void> {
    let responses: AsyncIterator<Message> | undefined;
    const leave = (): void => {
      if (!this.#ended) this.fail(canceled());
      this.#controller?.abort(canceled()); // ends what a handler waits for when its consumer stops early
      void responses?.return?.()?.catch(() => {}); // not awaited: the handler may still wait for something
    };
    try {
      const from = open()[Symbol.asyncIterator]();
      responses = from;
      for (;;) {
        const next = await this.#untilAborted(this.#inSpan(() => from.next()));
        if (next.done === true) break;
        this.#method.metrics.sent();
        this.#interrupt = leave; // a disconnected client never takes the response
        yield next.value;
      }
      this.#end();
    } catch (error) {
      throw this.fail(error);
    } finally {
      leave();
    }
  }

  /** Ends the call because the server stops; a stream that asked for it may send a last message first. */
  drain(): void {
    if (this.#draining === undefined) return this.abort(shuttingDown);
    this.#draining.abort();
    setTimeout(() => this.abort(shuttingDown), lastMessageMs).unref();
  }

  /**
   * Ends the call early; without effect when it has ended already. Takes a function because most aborts come after the end, and
   * making an error with its stack is expensive.
   */
  abort(why: () => ConnectError): void {
    if (this.#ended || this.#abortedBy !== undefined) return;
    const reason = why();
    this.#abortedBy = reason;
    this.#controller?.abort(reason);
    if (this.#interrupt !== undefined) this.#interrupt(reason);
    else if (this.#admitted !== undefined) this.#onAborted?.(this.fail(reason)); // not read yet: no handler waits
  }

  /**
   * Ends a call with an error.
   *
   * @returns the error for the client: if the call was aborted, the reason of that. It is logged already, with its cause.
   */
  fail(error: unknown): ConnectError {
    const failure = this.#abortedBy ?? toConnectError(error, this);
    this.#end(failure);
    return failure;
  }

  /** Runs work of the call within its span, if it has one. */
  #inSpan<T>(work: () => T): T {
    return this.#span === undefined ? work() : this.#span.run(work);
  }

  #receive(): void {
    this.throwIfAborted();
    this.#admitted?.requestReceived();
    this.#method.metrics.received();
  }

  async *#counted(requests: AsyncIterable<Message>): AsyncGenerator<Message> {
    for await (const request of requests) {
      this.#method.metrics.received();
      yield request;
    }
  }

  throwIfAborted(): void {
    if (this.#abortedBy !== undefined) throw this.#abortedBy;
  }

  async #untilAborted<T>(work: Promise<T>): Promise<T> {
    try {
      return await new Promise((resolve, reject) => {
        this.#interrupt = reject;
        work.then(resolve, reject);
        if (this.#abortedBy !== undefined) reject(this.#abortedBy);
      });
    } finally {
      this.#interrupt = undefined;
    }
  }

  #end(failure?: ConnectError): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#admitted?.release();
    const milliseconds = performance.now() - this.#startedAt;
    this.#method.metrics.handled(failure?.code ?? 0, milliseconds / 1000);
    const caller = this.caller === anyone ? undefined : this.caller;
    const { requestId, rows } = this;
    writeAccessLog(this.#shared.log, {
      method: this.#method.name,
      open: this.#method.open,
      protocol: this.#info.protocol,
      milliseconds,
      rows,
      caller,
      requestId,
      traceId: this.#span?.traceId,
      peer: this.#info.peer,
      failure,
    });
    this.#span?.end({
      code: codeName(failure),
      isFault: isFault(failure),
      reason: failure === undefined ? undefined : reasonOf(failure),
      requestId,
      caller: caller && callerIdOf(caller),
      rows,
    });
    this.#shared.ended(this);
  }
}
