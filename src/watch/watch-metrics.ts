import { Counter, Gauge, type Registry } from 'prom-client';
import type { WatchTasksResponse } from '../gen/tasks/v1/tasks_pb.ts';
import type { TaskFeed } from './task-feed.ts';

/** The event of a message of a watch. */
type WatchEvent = Exclude<WatchTasksResponse['event']['case'], undefined>;

/** Counters of watches. */
export interface WatchMetrics {
  sent(event: WatchEvent): void;
  /** Counts a watch that could not continue. */
  expired(): void;
}

const events: readonly WatchEvent[] = ['upserted', 'removed', 'synced', 'heartbeat'];

/** Adds the metrics of watches. */
export function addWatchMetrics(registry: Registry, feed: TaskFeed): WatchMetrics {
  const registers = [registry];
  new Gauge({
    name: 'tasks_watchers',
    help: 'Streams of WatchTasks that follow the feed of changes.',
    registers,
    collect() {
      this.set(feed.listeners);
    },
  });
  const sent = new Counter({
    name: 'tasks_watch_events_total',
    help: 'Messages of WatchTasks, by event.',
    labelNames: ['event'],
    registers,
  });
  for (const event of events) sent.inc({ event }, 0);
  const expired = new Counter({
    name: 'tasks_watch_expired_total',
    help: 'Watches that had to begin anew: their token was too old, or the client too slow.',
    registers,
  });
  return { sent: (event) => sent.inc({ event }), expired: () => expired.inc() };
}
