import { Counter, Gauge, type Registry } from 'prom-client';

/** A metric whose number is kept elsewhere: its name, what it means, and what reads it. */
export type ReadMetric<Value> = readonly [name: string, help: string, value: () => Value];

/** Adds counters that are read when the metrics are. */
export function addCounters(registry: Registry, counters: readonly ReadMetric<number>[]): void {
  for (const [name, help, value] of counters) {
    new Counter({
      name,
      help,
      registers: [registry],
      collect() {
        this.reset();
        this.inc(value());
      },
    });
  }
}

/** Adds gauges that are read when the metrics are; what is `undefined` is NaN there. */
export function addGauges(registry: Registry, gauges: readonly ReadMetric<number | undefined>[]): void {
  for (const [name, help, value] of gauges) {
    new Gauge({
      name,
      help,
      registers: [registry],
      collect() {
        this.set(value() ?? Number.NaN);
      },
    });
  }
}
