import { setTimeout as sleep } from 'node:timers/promises';
import type { Database } from '../../src/db/connection.ts';
import { formatUuid } from '../../src/db/uuid.ts';
import type { NodeService } from './cluster-services.ts';
import { Follower } from './watching.ts';

/** How often a probe is written, and how often it is looked whether it shows, in milliseconds. */
const everyMs = 100;
const lookMs = 5;

/** A node that probes are written to. */
export interface ProbedNode {
  readonly database: Database;
  readonly service: NodeService;
}

/** A time in which a service is expected to show nothing new, since something was broken. */
interface Outage {
  readonly began: number;
  /** What is written after this must show, and ends the outage. */
  mended: number;
  ended: number | undefined;
}

/** How long one probe took from its commit until a watcher of one service was told. */
interface Shown {
  readonly committed: number;
  readonly lagMs: number;
}

/**
 * Renames one task again and again, on one node after another, and measures how long each name takes until a watcher of each service
 * has it: over the cluster, the projector and the feed. All times are those of this process, in milliseconds.
 */
export class Probes {
  readonly #workspace: Buffer;
  readonly #nodes: readonly ProbedNode[];
  readonly #watches: readonly {
    readonly follower: Follower;
    readonly outages: Outage[];
    readonly shown: Shown[];
    seen: number;
  }[];
  /** When each probe was committed, by its number. */
  readonly #committed: number[] = [];
  readonly #left = new Set<ProbedNode>();
  readonly #running: Promise<unknown>;
  #stopped = false;
  #written = 0;

  constructor(workspace: Buffer, nodes: readonly ProbedNode[], token: string) {
    this.#workspace = workspace;
    this.#nodes = nodes;
    this.#watches = nodes.map(({ service }) => ({
      follower: new Follower({ who: service.node.name, query: 'owner:* name:probe-', token }, () => [service.grpc]),
      outages: [],
      shown: [],
      seen: 0,
    }));
    this.#running = Promise.all([this.#write(), this.#look()]);
    this.#running.catch(() => {}); // told by stop
  }

  /** The number of the last probe that was committed. */
  get last(): number {
    return this.#committed.length - 1;
  }

  /** Whether these tasks have a probe that was committed after this time. */
  hasSince(follower: Follower, time: number): boolean {
    return (this.#committed[this.#numberIn(follower)] ?? 0) > time;
  }

  /** No probes are written to this node any more, until it comes back. */
  leaveOut(node: ProbedNode): void {
    this.#left.add(node);
  }

  comeBack(node: ProbedNode): void {
    this.#left.delete(node);
  }

  /** Something is broken now: each service's times do not count until it shows what was written after it was mended. */
  breakNow(): void {
    for (const { outages } of this.#watches) {
      if (outages.at(-1)?.ended === undefined && outages.length > 0) continue;
      outages.push({ began: performance.now(), mended: Number.POSITIVE_INFINITY, ended: undefined });
    }
  }

  /** What is written from now on must show at this service. */
  mendNow(node: ProbedNode): void {
    const outage = this.#watches[this.#nodes.indexOf(node)]?.outages.at(-1);
    if (outage !== undefined) outage.mended = performance.now();
  }

  /** Waits until what was written after its mending shows there. Resolves to how long the outage took, or to nothing in time. */
  async untilShown(node: ProbedNode, limitMs: number): Promise<number | undefined> {
    const outage = this.#watches[this.#nodes.indexOf(node)]?.outages.at(-1);
    for (const deadline = performance.now() + limitMs; performance.now() < deadline; await sleep(lookMs)) {
      if (outage?.ended !== undefined) return outage.ended - outage.began;
    }
    return undefined;
  }

  /** Waits until a probe was committed after this time. Resolves to how long that took, or to nothing in time. */
  async untilWritten(since: number, limitMs: number): Promise<number | undefined> {
    for (const deadline = performance.now() + limitMs; performance.now() < deadline; await sleep(lookMs)) {
      const committed = this.#committed.find((time) => time > since);
      if (committed !== undefined) return committed - since;
    }
    return undefined;
  }

  /** How long probes took that were under way in no outage, in order of length. */
  lags(): number[] {
    return this.#watches
      .flatMap(({ shown, outages }) =>
        shown.filter(({ committed, lagMs }) =>
          outages.every(({ began, ended = Number.POSITIVE_INFINITY }) => committed + lagMs < began || committed > ended),
        ),
      )
      .map(({ lagMs }) => lagMs)
      .toSorted((a, b) => a - b);
  }

  /** Writes no more. Rejects with what no writer may meet. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#running;
  }

  /** Ends the watches. */
  close(): void {
    for (const { follower } of this.#watches) follower.stop();
  }

  async #write(): Promise<void> {
    for (let turn = 0; !this.#stopped; turn++) {
      const nodes = this.#nodes.filter((node) => !this.#left.has(node));
      const node = nodes[turn % nodes.length];
      if (node !== undefined) await this.#writeTo(node.database);
      await sleep(everyMs);
    }
  }

  async #writeTo(database: Database): Promise<void> {
    this.#written += 1;
    const number = this.#written;
    try {
      await database('workspaces')
        .where('id', this.#workspace)
        .update({ name: `probe-${number}` });
      const now = performance.now();
      // Those before, whose fate was unknown, are overwritten by this one.
      while (this.#committed.length <= number) this.#committed.push(now);
    } catch {
      // A conflict, or a node that is gone: it is written or not, and the next one tells.
    }
  }

  async #look(): Promise<void> {
    while (!this.#stopped) {
      const now = performance.now();
      for (const watch of this.#watches) {
        const number = this.#numberIn(watch.follower);
        for (let n = watch.seen + 1; n <= number; n++) {
          const committed = this.#committed[n];
          if (committed === undefined) break; // its writer is about to hear of it
          watch.shown.push({ committed, lagMs: now - committed });
          watch.seen = n;
        }
        const outage = watch.outages.at(-1);
        if (outage?.ended === undefined && outage !== undefined && (this.#committed[number] ?? 0) > outage.mended) {
          outage.ended = now;
        }
      }
      await sleep(lookMs);
    }
  }

  #numberIn({ tasks }: Follower): number {
    return Number(/^probe-(\d+)$/.exec(tasks.get(formatUuid(this.#workspace))?.name ?? '')?.[1] ?? 0);
  }
}
