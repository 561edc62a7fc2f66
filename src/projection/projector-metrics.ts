import type { Registry } from 'prom-client';
import { addCounters, addGauges } from '../platform/read-metrics.ts';
import { maxWaiting } from '../schema/outbox.ts';
import type { Projector } from './projector.ts';

/** Adds the figures of a projector to the metrics. They are read when the metrics are. */
export function addProjectorMetrics(registry: Registry, { status }: Projector): void {
  addCounters(registry, [
    ['tasks_projector_polls_total', 'Looks of this process into the outbox.', () => status().polls],
    [
      'tasks_projector_poll_seconds_total',
      'How long the looks into the outbox took in all, in seconds.',
      () => status().pollSeconds,
    ],
    ['tasks_projector_batches_total', 'Batches that were projected by this process.', () => status().batches],
    ['tasks_projector_batch_seconds_total', 'How long the batches took in all, in seconds.', () => status().batchSeconds],
    ['tasks_projector_changes_total', 'Changes taken from the outbox by this process.', () => status().changes],
    ['tasks_projector_events_total', 'Events written to the feed by this process.', () => status().events],
    [
      'tasks_projector_swept_total',
      'Workspaces that the sweep of this process compared with their sources.',
      () => status().swept,
    ],
    [
      'tasks_projector_repairs_total',
      'Tasks that the sweep of this process put right. More than 0 means that changes went by without a note.',
      () => status().repairs,
    ],
  ]);
  addGauges(registry, [
    [
      'tasks_projector_active',
      'Whether the projector of this process is the one that works (1) or stands by (0).',
      () => (status().active ? 1 : 0),
    ],
    [
      'tasks_projector_lag_seconds',
      'Age of the oldest change that is not in the read model yet; NaN while the database is away.',
      () => {
        const { lagMs } = status();
        return lagMs === undefined ? undefined : lagMs / 1000;
      },
    ],
    [
      'tasks_projector_outbox_rows',
      `Changes that wait in the outbox, counted up to ${maxWaiting}. NaN while the database is away.`,
      () => status().backlog?.waiting,
    ],
    ['tasks_feed_seq', 'Sequence of the newest event of the feed. NaN while the database is away.', () => status().backlog?.seq],
    ['tasks_feed_events', 'Events of the feed that are kept. NaN while the database is away.', () => status().backlog?.events],
    [
      'tasks_projector_dead_letters',
      'Changes that could not be projected and wait in workspace_changes_failed.',
      () => status().deadLetters,
    ],
  ]);
}
