import { Gauge, Histogram, type Registry } from 'prom-client';
import type { Database } from './connection.ts';

/** The part of knex's pool that its metrics are read from. */
interface Pool {
  readonly max: number;
  numUsed(): number;
  numFree(): number;
  numPendingAcquires(): number;
  on(event: 'acquireRequest' | 'acquireSuccess' | 'acquireFail', listener: (id: number) => void): void;
}

/** From 0.1 ms, when a connection is free, to 2 s, when the wait for one ends. */
const secondsBuckets = [0.0001, 0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2];

/** Adds the metrics of pools of connections, by the pools' names. */
export function addPoolMetrics(registry: Registry, databases: Readonly<Record<string, Database>>): void {
  const pools = Object.entries(databases).map(([name, database]) => [name, (database.client as { pool: Pool }).pool] as const);
  const gauges: readonly (readonly [name: string, help: string, of: (pool: Pool) => number])[] = [
    ['tasks_db_pool_size', 'Most connections that the pool may have.', (pool) => pool.max],
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
    const since = new Map<number, number>();
    const ended = (id: number): void => {
      wait.observe((performance.now() - (since.get(id) ?? performance.now())) / 1000);
      since.delete(id);
    };
    pool.on('acquireRequest', (id) => since.set(id, performance.now()));
    pool.on('acquireSuccess', ended);
    pool.on('acquireFail', ended);
  }
}
