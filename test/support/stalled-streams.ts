/** What the script `stalled-streams` is asked to do. */
export interface StalledStreams {
  readonly address: string;
  /** Of the method. */
  readonly path: string;
  readonly connections: number;
  /** Of each connection. */
  readonly streams: number;
  /** Whether each has a token that was made up. */
  readonly tokens: boolean;
  /** How many may stay open. */
  readonly leaveOpen: number;
  /** How long the connections are held at most, in milliseconds. */
  readonly holdMs: number;
}

/** How the calls ended, by gRPC's status, and how many were open in the end. */
export interface StalledStreamsResult {
  readonly outcomes: Readonly<Record<string, number>>;
  readonly open: number;
}
