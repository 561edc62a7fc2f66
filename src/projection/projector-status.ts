import type { Backlog } from '../schema/outbox.ts';

/** What a batch did. */
export type ProjectedBatch = Pick<ProjectorStatus, 'changes' | 'events'> & { readonly seconds: number };

/** How a projector is doing. The counters are this process's, since it started. */
export interface ProjectorStatus {
  /** Whether this process is the one that projects. */
  readonly active: boolean;
  /** Age of the oldest change in the outbox, in milliseconds; 0 when it is empty; undefined while the database is away. */
  readonly lagMs: number | undefined;
  /** The lengths of the outbox and the feed, a second old at most, or ten when idle; undefined while the database is away. */
  readonly backlog: Backlog | undefined;
  /** Reads of the outbox, and how long they took together. */
  readonly polls: number;
  readonly pollSeconds: number;
  readonly batches: number;
  /** How long the batches took together. */
  readonly batchSeconds: number;
  /** Rows taken from the outbox. */
  readonly changes: number;
  readonly events: number;
  /** Workspaces that the sweep compared with their sources. */
  readonly swept: number;
  /** Tasks that the sweep repaired. More than 0 means that changes were not written to the outbox. */
  readonly repairs: number;
  /** Changes that could not be projected and wait in `workspace_changes_failed`, as this process last saw. */
  readonly deadLetters: number;
}
