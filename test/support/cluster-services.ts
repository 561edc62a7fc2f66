import type { ClusterNode } from './cluster.ts';
import { type RunningService, startService } from './service.ts';

/** What is served on each node: small, since all of them share a machine. */
const settings = { DATABASE_POOL_SIZE: '4', AUTH_CACHE_SECONDS: '5' };

/** `serve` on one node of a cluster, with a projector: a process that a test may kill. */
export class NodeService {
  readonly node: ClusterNode;
  readonly #database: string;
  #running: RunningService | undefined;
  #grpc = '';

  constructor(node: ClusterNode, database: string) {
    this.node = node;
    this.#database = database;
  }

  /** `host:port`, of the last process if there is none. */
  get grpc(): string {
    return this.#grpc;
  }

  async start(): Promise<void> {
    this.#running = await startService({ ...this.node.address, database: this.#database }, settings);
    this.#grpc = this.#running.grpc;
  }

  /** Ends it as `kill -9` does. */
  async kill(): Promise<void> {
    await this.#running?.stop('SIGKILL');
    this.#running = undefined;
  }

  /** The status of its readiness; 0 when it does not answer. */
  async readiness(): Promise<number> {
    return (await this.#ask('/readyz'))?.status ?? 0;
  }

  /** A number of its metrics; undefined when it does not answer. */
  async metric(name: string): Promise<number | undefined> {
    const text = (await (await this.#ask('/metrics'))?.text()) ?? '';
    const value = new RegExp(`^${name}(?:\\{\\})? (\\S+)$`, 'm').exec(text)?.[1];
    return value === undefined ? undefined : Number(value);
  }

  /** Whether it says that it is the one that projects. */
  async isActive(): Promise<boolean> {
    return (await this.metric('tasks_projector_active')) === 1;
  }

  /** What it has logged as a fault of its own. */
  errors(): string[] {
    return (this.#running?.output() ?? '').split('\n').filter((line) => /"level":"(error|fatal)"/.test(line));
  }

  async #ask(path: string): Promise<Response | undefined> {
    if (this.#running === undefined) return undefined;
    return fetch(`http://${this.#running.ops}${path}`, { signal: AbortSignal.timeout(5000) }).catch(() => undefined);
  }
}
