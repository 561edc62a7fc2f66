/** A queue with one reader, which makes its writer wait while it is full. */
export class MessageQueue<Message> {
  readonly #messages: { readonly message: Message; readonly bytes: number }[] = [];
  readonly #mostBytes: number;
  #taken = 0;
  #bytes = 0;
  #failure: { readonly error: unknown } | undefined;
  readonly #failed = Promise.withResolvers<unknown>();
  #wakeReader: (() => void) | undefined;
  #wakeWriters: (() => void)[] = [];

  /** @param mostBytes the writer waits while the queue has more bytes than this. */
  constructor(mostBytes: number) {
    this.#mostBytes = mostBytes;
  }

  /** Resolves with the error when it fails, also while nobody reads. */
  get failed(): Promise<unknown> {
    return this.#failed.promise;
  }

  /** How many messages wait. */
  get length(): number {
    return this.#messages.length - this.#taken;
  }

  /** Adds a message. The promise resolves when there is room for the next one. */
  push(message: Message, bytes = 0): Promise<void> | undefined {
    this.#messages.push({ message, bytes });
    this.#bytes += bytes;
    this.#wakeReader?.();
    if (this.#bytes <= this.#mostBytes || this.#failure !== undefined) return undefined;
    return new Promise((resolve) => {
      this.#wakeWriters.push(resolve);
    });
  }

  /** Makes all further reads fail with this error, and drops the messages in the queue. */
  fail(error: unknown): void {
    this.#failure ??= { error };
    this.#failed.resolve(error);
    this.#messages.length = 0;
    this.#taken = 0;
    this.#bytes = 0;
    this.#wakeReader?.();
    this.#letWrite();
  }

  /** Takes the next message, and waits for it without a limit, or so many milliseconds and then returns `undefined`. */
  async next(milliseconds?: number): Promise<Message | undefined> {
    if (this.length === 0 && this.#failure === undefined && milliseconds !== 0) await this.#arrival(milliseconds);
    if (this.#failure !== undefined) throw this.#failure.error;
    return this.#take();
  }

  #take(): Message | undefined {
    const entry = this.#messages[this.#taken];
    if (entry === undefined) return undefined;
    this.#taken += 1;
    if (this.#taken === this.#messages.length) {
      this.#messages.length = 0;
      this.#taken = 0;
    } else if (this.#taken >= 1024) {
      this.#messages.splice(0, this.#taken);
      this.#taken = 0;
    }
    this.#bytes -= entry.bytes;
    if (this.#bytes <= this.#mostBytes / 2) this.#letWrite();
    return entry.message;
  }

  #letWrite(): void {
    for (const wake of this.#wakeWriters.splice(0)) wake();
  }

  async #arrival(milliseconds: number | undefined): Promise<void> {
    await new Promise<void>((resolve) => {
      const timer = milliseconds === undefined ? undefined : setTimeout(resolve, milliseconds);
      this.#wakeReader = () => {
        clearTimeout(timer);
        resolve();
      };
    });
    this.#wakeReader = undefined;
  }
}
