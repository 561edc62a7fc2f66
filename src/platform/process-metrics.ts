import { readFileSync } from 'node:fs';
import { collectDefaultMetrics, Gauge, type Registry } from 'prom-client';

/** The version of this program. */
export const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
  version: string;
};

/** How often the event loop's lag is measured, in milliseconds: prom-client's 10 would wake an idle process 100 times a second. */
const lagEveryMs = 100;

/**
 * Adds the metrics of the process: processor time, memory, garbage collection and the event loop's lag under prom-client's
 * names; `tasks_build_info`, always 1, with the versions as labels; `tasks_calls_in_flight`; with TLS, when the certificate runs out.
 */
export function addProcessMetrics(registry: Registry, running: () => number, certificates?: { readonly expiresAt: Date }): void {
  collectDefaultMetrics({ register: registry, eventLoopMonitoringPrecision: lagEveryMs });
  new Gauge({
    name: 'tasks_build_info',
    help: 'Which program this is.',
    labelNames: ['version', 'node'],
    registers: [registry],
  }).set({ version, node: process.version }, 1);
  const inFlight: Gauge = new Gauge({
    name: 'tasks_calls_in_flight',
    help: 'Calls that are running.',
    registers: [registry],
    collect() {
      inFlight.set(running());
    },
  });
  if (certificates === undefined) return;
  const expires: Gauge = new Gauge({
    name: 'tasks_tls_certificate_expires_timestamp_seconds',
    help: 'When the TLS certificate in use runs out, in seconds since 1970.',
    registers: [registry],
    collect() {
      expires.set(certificates.expiresAt.getTime() / 1000);
    },
  });
}
