import { Counter, Gauge, type Registry } from 'prom-client';
import type { Sync, SyncStatus } from './sync.ts';

/** The counters of a sync as metrics: name, meaning, and where the number is. */
const counters: readonly (readonly [name: string, help: string, of: 'copies' | 'changes' | 'failures'])[] = [
  ['tasks_sync_copies_total', "Complete copies of Coder's tables that this process made.", 'copies'],
  ['tasks_sync_changes_total', 'Changes of Coder that this process wrote.', 'changes'],
  ['tasks_sync_failures_total', 'How often copying from Coder failed in this process, and was tried again.', 'failures'],
];

/** The activities of a sync, each a value of the label. */
const activities: readonly SyncStatus['activity'][] = ['connecting', 'standby', 'copying', 'following', 'failed', 'stopped'];

/** Adds the figures of a sync to the metrics. They are read when the metrics are. */
export function addSyncMetrics(registry: Registry, sync: Sync): void {
  const registers = [registry];
  for (const [name, help, of] of counters) {
    new Counter({
      name,
      help,
      registers,
      collect() {
        this.reset();
        this.inc(sync.status()[of]);
      },
    });
  }
  new Gauge({
    name: 'tasks_sync_activity',
    help: 'What the copying from Coder does in this process: 1 for one of the activities, 0 for the others.',
    labelNames: ['activity'],
    registers,
    collect() {
      const { activity } = sync.status();
      for (const one of activities) this.set({ activity: one }, one === activity ? 1 : 0);
    },
  });
  new Gauge({
    name: 'tasks_sync_copied_rows',
    help: 'Rows of Coder that the copy which is being made has read; NaN while none is made.',
    registers,
    collect() {
      this.set(sync.status().progress?.rows ?? Number.NaN);
    },
  });
}
