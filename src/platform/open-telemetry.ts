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

/** What the service is called in traces unless `OTEL_SERVICE_NAME` says otherwise. */
const serviceName = 'tasks-service';

/**
 * Starts OpenTelemetry as its variables say (sampler, exporter, endpoint, headers, resource, propagators), for traces alone:
 * metrics and logs go other ways.
 *
 * Names follow its semantic conventions 1.45. A span holds what the log has of a call, and of a statement its name: no query, no
 * value, no token, and of an error no more than its kind.
 */
export function startOpenTelemetry(version: string): Tracing {
  const sdk = new NodeSDK({
    resource: defaultResource().merge(resourceFromAttributes({ 'service.name': serviceName, 'service.version': version })),
    // Not those of the process and the system: its command line is nobody's business.
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
      if (trace.getActiveSpan() === undefined) return work(); // looks into the feed belong to no call
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
      await sdk.shutdown().catch(() => {}); // nobody takes what is left
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

/** On which Node tells of each request that `fetch` is about to make. */
const fetchChannel = 'undici:request:create';

/** Lets what the service fetches for a call, such as keys of an issuer, be part of the call's trace. */
function passOn(message: unknown): void {
  if (trace.getActiveSpan() === undefined) return;
  const { request } = message as { request: { addHeader(name: string, value: string): void } };
  propagation.inject(context.active(), request, { set: (to, name, value) => to.addHeader(name, value) });
}

/** What kind of error it is: the driver's code, else its name. Messages may hold values. */
function kindOf(error: unknown): string {
  const { code, name } = Object(error) as { code?: unknown; name?: unknown };
  return [code, name].find((text) => typeof text === 'string') ?? typeof error;
}
