import { Gauge, Histogram, type Registry } from 'prom-client';
import { connectionsOf, type Database } from './connection.ts';
import type { ConnectionPool } from './connection-pool.ts';

/** From 0.1 ms, when a connection is free, to 2 s, when the wait for one ends. */
const secondsBuckets = [0.0001, 0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2];

/** Adds the metrics of pools of connections, by the pools' names. */
export function addPoolMetrics(registry: Registry, databases: Readonly<Record<string, Database>>): void {
  const pools = Object.entries(databases).map(([name, database]) => [name, connectionsOf(database)] as const);
  const gauges: readonly (readonly [name: string, help: string, of: (pool: ConnectionPool) => number])[] = [
    ['tasks_db_pool_size', 'Most connections that the pool may have.', (pool) => pool.size],
    ['tasks_db_pool_in_use', 'Connections that run statements.', (pool) => pool.numUsed()],
    ['tasks_db_pool_idle', 'Connections that are open and free.', (pool) => pool.numFree()],
    ['tasks_db_pool_waiting', 'Statements that wait for a connection.', (pool) => pool.numPendingAcquires()],
  ];
  for (const [name, help, of] of gauges) {
    new Gauge({
      name,
      help,
      labelNames: ['pool'],
      registers: [registry],
      collect() {
        for (const [name, pool] of pools) this.set({ pool: name }, of(pool));
      },
    });
  }
  const seconds = new Histogram({
    name: 'tasks_db_pool_acquire_seconds',
    help: 'How long statements waited for a connection, in seconds, with those that waited in vain.',
    labelNames: ['pool'],
    buckets: secondsBuckets,
    registers: [registry],
  });
  for (const [name, pool] of pools) {
    seconds.zero({ pool: name });
    const wait = seconds.labels({ pool: name });
    pool.onWaited = (waited) => wait.observe(waited);
  }
}
