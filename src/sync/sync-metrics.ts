import { Gauge, type Registry } from 'prom-client';
import { addCounters, addGauges } from '../platform/read-metrics.ts';
import type { Sync, SyncStatus } from './sync.ts';

/** The activities of a sync, each a value of the label. */
const activities: readonly SyncStatus['activity'][] = ['connecting', 'standby', 'copying', 'following', 'failed', 'stopped'];

/** Adds the figures of a sync to the metrics. They are read when the metrics are. */
export function addSyncMetrics(registry: Registry, { status }: Sync): void {
  addCounters(registry, [
    ['tasks_sync_copies_total', "Complete copies of Coder's tables that this process made.", () => status().copies],
    ['tasks_sync_changes_total', 'Changes of Coder that this process wrote.', () => status().changes],
    [
      'tasks_sync_failures_total',
      'How often copying from Coder failed in this process, and was tried again.',
      () => status().failures,
    ],
  ]);
  addGauges(registry, [
    [
      'tasks_sync_copied_rows',
      'Rows of Coder that the copy which is being made has read; NaN while none is made.',
      () => status().progress?.rows,
    ],
  ]);
  new Gauge({
    name: 'tasks_sync_activity',
    help: 'What the copying from Coder does in this process: 1 for one of the activities, 0 for the others.',
    labelNames: ['activity'],
    registers: [registry],
    collect() {
      const { activity } = status();
      for (const one of activities) this.set({ activity: one }, one === activity ? 1 : 0);
    },
  });
}
