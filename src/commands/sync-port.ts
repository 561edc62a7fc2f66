import type { Registry } from 'prom-client';
import { type Config, listenHost } from '../config.ts';
import type { Database } from '../db/connection.ts';
import { addProcessMetrics } from '../platform/process-metrics.ts';
import { createReadiness } from '../platform/readiness.ts';
import type { Sync } from '../sync/sync.ts';
import { readSyncState, whyNotLive } from '../sync/sync-state.ts';
import { listen } from '../transport/listener.ts';
import { createOpsListener } from '../transport/ops/ops-listener.ts';

/** The operators' port of a process. */
interface OpsPort {
  /** Where it is, as `host:port`. */
  readonly address: string;
  close(): Promise<void>;
}

/** What the port tells of. */
interface SyncPortParts {
  readonly config: Config;
  readonly database: Database;
  readonly sync: Sync;
  /** Where the metrics of the sync are; those of the process come to them. */
  readonly registry: Registry;
}

/**
 * Opens the operators' port of a process that copies from Coder and serves nobody: `/healthz` says that the process lives, `/readyz`
 * whether it copies, follows or stands by, or why it does not; `/metrics` has the figures of process, sync and slot.
 *
 * @throws {PortError} when the port cannot be opened.
 */
export async function openSyncPort({ config, database, sync, registry }: SyncPortParts): Promise<OpsPort> {
  addProcessMetrics(registry, () => 0);
  const readiness = createReadiness({
    async database() {
      await database.raw('select 1');
    },
    async sync() {
      const { activity, error } = sync.status();
      if (activity === 'failed') throw new Error(error);
      if (activity === 'standby') return 'another process copies from Coder';
      return whyNotLive(await readSyncState(database));
    },
  });
  const listener = createOpsListener(readiness, registry);
  const address = await listen(listener.port, listenHost(config), config.OPS_PORT, 'OPS_PORT');
  return {
    address,
    async close() {
      const closed = listener.drain();
      listener.destroy();
      await closed;
    },
  };
}
