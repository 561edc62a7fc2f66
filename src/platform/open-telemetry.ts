import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { type Context, context, propagation, ROOT_CONTEXT, SpanKind, SpanStatusCode, trace } from '@opentelemetry/api';
import {
  defaultResource,
  resourceAttributesEnvDetector,
  resourceFromAttributes,
  serviceInstanceIdDetector,
  serviceNameEnvDetector,
} from '@opentelemetry/resources';
import { NodeSDK } from '@opentelemetry/sdk-node';
import type { CallSpan, Tracing } from './tracing.ts';

/** The service's name in traces unless `OTEL_SERVICE_NAME` is set. */
const serviceName = 'tasks-service';

/**
 * Starts OpenTelemetry as configured by its variables (sampler, exporter, endpoint, headers, resource, propagators), for traces
 * only: metrics are read from `/metrics`, and logs from standard output.
 *
 * Names follow its semantic conventions 1.45. The span of a call has what the access log has, the span of a statement its name: no
 * query, no value, no token, and of an error only its kind.
 */
export function startOpenTelemetry(version: string): Tracing {
  const sdk = new NodeSDK({
    resource: defaultResource().merge(resourceFromAttributes({ 'service.name': serviceName, 'service.version': version })),
    // Without the detectors of process and system, which would report the command line.
    resourceDetectors: [serviceInstanceIdDetector, resourceAttributesEnvDetector, serviceNameEnvDetector],
    instrumentations: [],
    metricReaders: [],
    logRecordProcessors: [],
  });
  sdk.start();
  const tracer = trace.getTracer('tasks-service', version);
  subscribe(fetchChannel, passOn);

  return {
    call(method, protocol, header) {
      const from = propagation.extract(ROOT_CONTEXT, header, {
        get: (read, name) => read(name),
        keys: () => [],
      });
      const attributes = { 'rpc.system.name': systems[protocol] ?? protocol, 'rpc.method': method };
      const span = tracer.startSpan(method, { kind: SpanKind.SERVER, attributes }, from);
      const inside: Context = trace.setSpan(from, span);
      return {
        traceId: span.spanContext().traceId,
        run: (work) => context.with(inside, work),
        end({ code, isFault, reason, requestId, caller, rows }) {
          span.setAttributes({
            'rpc.response.status_code': code,
            'tasks.request_id': requestId,
            ...(caller === undefined ? {} : { 'user.id': caller }),
            ...(rows === undefined ? {} : { 'tasks.rows': rows }),
            ...(code === 'OK' ? {} : { 'error.type': reason ?? code }),
          });
          if (isFault) span.setStatus({ code: SpanStatusCode.ERROR });
          span.end();
        },
      } satisfies CallSpan;
    },

    statement(name, work) {
      if (trace.getActiveSpan() === undefined) return work(); // reads of the feed belong to no call
      const attributes = { 'db.system.name': 'mysql', 'db.query.summary': name };
      return tracer.startActiveSpan(name, { kind: SpanKind.CLIENT, attributes }, async (span) => {
        try {
          return await work();
        } catch (error) {
          span.setAttribute('error.type', kindOf(error));
          span.setStatus({ code: SpanStatusCode.ERROR });
          throw error;
        } finally {
          span.end();
        }
      });
    },

    batch({ changes, events, seconds }) {
      const now = Date.now();
      tracer
        .startSpan(
          'project changes',
          {
            kind: SpanKind.CONSUMER,
            startTime: now - seconds * 1000,
            attributes: { 'tasks.changes': changes, 'tasks.events': events },
          },
          ROOT_CONTEXT,
        )
        .end(now);
    },

    async close() {
      unsubscribe(fetchChannel, passOn);
      await sdk.shutdown().catch(() => {}); // the collector is away: the remaining spans are dropped
    },
  };
}

/** Protocols by their names in the conventions. */
const systems: Readonly<Record<string, string>> = {
  grpc: 'grpc',
  'grpc-web': 'grpc',
  connect: 'connectrpc',
  'coder-json': 'http',
};

/** The diagnostics channel on which Node announces each request that `fetch` is about to make. */
const fetchChannel = 'undici:request:create';

/** Makes requests that the service sends for a call, such as for an issuer's keys, part of the call's trace. */
function passOn(message: unknown): void {
  if (trace.getActiveSpan() === undefined) return;
  const { request } = message as { request: { addHeader(name: string, value: string): void } };
  propagation.inject(context.active(), request, { set: (to, name, value) => to.addHeader(name, value) });
}

/** The kind of an error: the driver's code, else its name. Its message is left out, since it may contain values. */
function kindOf(error: unknown): string {
  const { code, name } = Object(error) as { code?: unknown; name?: unknown };
  return [code, name].find((text) => typeof text === 'string') ?? typeof error;
}
