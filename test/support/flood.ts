/** What the script `flood` is asked to do. */
export interface FloodQuestion {
  readonly address: string;
  /** Of the method. */
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  /** The request's message, in base64. */
  readonly body: string;
  /** How long the flood takes; what comes before and after it takes half of that. */
  readonly milliseconds: number;
}

/** What it found: calls a second, and more. */
export interface FloodResult {
  /** Answered when no more are made than are answered, before and after. */
  before: number;
  after: number;
  /** Made, and answered, when five times as many are made. */
  offered: number;
  answered: number;
  /** Below what all but a hundredth of those stayed that were answered then. */
  p99Ms: number;
  /** How all of them ended, by gRPC's status. */
  outcomes: Record<string, number>;
  /** Answers that were others than the first. */
  wrong: number;
}
