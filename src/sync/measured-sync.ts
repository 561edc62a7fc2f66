import type { Registry } from 'prom-client';
import { type KeepSettings, keepBySettings } from './keep-copy.ts';
import { addSlotMetrics } from './slot-metrics.ts';
import { createSync, type Sync, type SyncOptions } from './sync.ts';
import { addSyncMetrics } from './sync-metrics.ts';

/** Makes a sync that keeps its copy by the settings, and adds its metrics and those of its slot. */
export function createMeasuredSync(settings: KeepSettings, registry: Registry, options: Omit<SyncOptions, 'keep'>): Sync {
  const listener = addSlotMetrics(registry, () => sync.status().activity === 'following');
  const sync: Sync = createSync({ ...options, keep: keepBySettings(settings, options.log, listener) });
  addSyncMetrics(registry, sync);
  return sync;
}
