import { Counter, Gauge, type Registry } from 'prom-client';
import { type Backlog, maxWaiting } from '../schema/outbox.ts';
import type { Projector, ProjectorStatus } from './projector.ts';

type CounterOf = Exclude<keyof ProjectorStatus, 'active' | 'lagMs' | 'backlog' | 'deadLetters'>;

/** The counters of a projector as metrics: name, meaning, and where the number is. */
const counters: readonly (readonly [name: string, help: string, of: CounterOf])[] = [
  ['tasks_projector_polls_total', 'Looks of this process into the outbox.', 'polls'],
  ['tasks_projector_poll_seconds_total', 'How long the looks into the outbox took in all, in seconds.', 'pollSeconds'],
  ['tasks_projector_batches_total', 'Batches that were projected by this process.', 'batches'],
  ['tasks_projector_batch_seconds_total', 'How long the batches took in all, in seconds.', 'batchSeconds'],
  ['tasks_projector_changes_total', 'Changes taken from the outbox by this process.', 'changes'],
  ['tasks_projector_events_total', 'Events written to the feed by this process.', 'events'],
  ['tasks_projector_swept_total', 'Workspaces that the sweep of this process compared with their sources.', 'swept'],
  [
    'tasks_projector_repairs_total',
    'Tasks that the sweep of this process put right. More than 0 means that changes went by without a note.',
    'repairs',
  ],
];

/** Adds the figures of a projector to the metrics. They are read when the metrics are. */
export function addProjectorMetrics(registry: Registry, projector: Projector): void {
  const registers = [registry];
  for (const [name, help, of] of counters) {
    new Counter({
      name,
      help,
      registers,
      collect() {
        this.reset();
        this.inc(projector.status()[of]);
      },
    });
  }
  new Gauge({
    name: 'tasks_projector_active',
    help: 'Whether the projector of this process is the one that works (1) or stands by (0).',
    registers,
    collect() {
      this.set(projector.status().active ? 1 : 0);
    },
  });
  new Gauge({
    name: 'tasks_projector_lag_seconds',
    help: 'Age of the oldest change that is not in the read model yet; NaN while the database is away.',
    registers,
    collect() {
      const { lagMs } = projector.status();
      this.set(lagMs === undefined ? Number.NaN : lagMs / 1000);
    },
  });
  const backlogs: readonly (readonly [name: string, help: string, of: keyof Backlog])[] = [
    ['tasks_projector_outbox_rows', `Changes that wait in the outbox, counted up to ${maxWaiting}.`, 'waiting'],
    ['tasks_feed_seq', 'Sequence of the newest event of the feed.', 'seq'],
    ['tasks_feed_events', 'Events of the feed that are kept.', 'events'],
  ];
  for (const [name, help, of] of backlogs) {
    new Gauge({
      name,
      help: `${help} NaN while the database is away.`,
      registers,
      collect() {
        this.set(projector.status().backlog?.[of] ?? Number.NaN);
      },
    });
  }
  new Gauge({
    name: 'tasks_projector_dead_letters',
    help: 'Changes that could not be projected and wait in workspace_changes_failed.',
    registers,
    collect() {
      this.set(projector.status().deadLetters);
    },
  });
}
