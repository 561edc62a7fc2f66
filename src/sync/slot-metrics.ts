import type { Registry } from 'prom-client';
import { addGauges, type ReadMetric } from '../platform/read-metrics.ts';
import type { Applied } from './apply-changes.ts';
import type { SlotStatus } from './replication-standing.ts';

/** What {@link addSlotMetrics} has to be told. */
interface SlotListener {
  onApplied(applied: Applied): void;
  onSlot(slot: SlotStatus | undefined): void;
}

/**
 * Adds the metrics of a replication: how old changes were, and how the slot is doing. Returns what has to be told of both.
 *
 * @param isFollowing whether this process follows now: what it knew when it was active is not told any more.
 */
export function addSlotMetrics(registry: Registry, isFollowing: () => boolean): SlotListener {
  let lagSeconds = Number.NaN;
  let slot: SlotStatus | undefined;
  const gauges: readonly ReadMetric<number | undefined>[] = [
    [
      'tasks_sync_lag_seconds',
      'How old the changes that were written last were then, since their commit in PostgreSQL.',
      () => lagSeconds,
    ],
    ['tasks_sync_slot_behind_bytes', 'How far the log of PostgreSQL is beyond what was confirmed.', () => slot?.behindBytes],
    [
      'tasks_sync_slot_retained_bytes',
      "How much of its log PostgreSQL keeps on Coder's disk for the slot.",
      () => slot?.retainedBytes,
    ],
    [
      'tasks_sync_slot_safe_bytes',
      'How much more may be written before the slot is lost; NaN without a limit.',
      () => slot?.safeBytes,
    ],
  ];
  addGauges(
    registry,
    gauges.map(([name, help, value]) => [
      name,
      `${help} NaN in processes that do not follow.`,
      () => (isFollowing() ? value() : undefined),
    ]),
  );
  return {
    onApplied({ committedAt }) {
      lagSeconds = Math.max(0, Date.now() - committedAt) / 1000;
    },
    onSlot(status) {
      slot = status;
    },
  };
}
