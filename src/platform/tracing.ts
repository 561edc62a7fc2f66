/** Reads a header of a call, such as `traceparent`. */
type Header = (name: string) => string | undefined;

/** What a span records of a call that has ended. Never its request. */
interface CallOutcome {
  /** Such as `OK` or `NOT_FOUND`. */
  readonly code: string;
  /** Whether it is the server's fault and not the client's. */
  readonly isFault: boolean;
  /** The reason of an error. */
  readonly reason: string | undefined;
  readonly requestId: string;
  /** The caller's id. */
  readonly caller: string | undefined;
  readonly rows: number | undefined;
}

/** The span of a call. */
export interface CallSpan {
  readonly traceId: string;
  /** Does some work of the call; spans that it starts are children of this one. */
  run<T>(work: () => T): T;
  end(outcome: CallOutcome): void;
}

/** Starts the span of a call, as a child of the one that the client's headers name, if they name one. */
export type TraceCall = (method: string, protocol: string, header: Header) => CallSpan;

/** What a span records of a batch of changes that the projector has written. */
interface TracedBatch {
  readonly changes: number;
  readonly events: number;
  readonly seconds: number;
}

/** Writes spans of calls, statements and batches of the projector. */
export interface Tracing {
  readonly call: TraceCall;
  /** Runs a statement under its name. */
  readonly statement: <T>(name: string, run: () => Promise<T>) => Promise<T>;
  readonly batch: (batch: TracedBatch) => void;
  /** Sends the spans that have not been sent. */
  close(): Promise<void>;
}

/**
 * Turns traces on if OpenTelemetry's variables ask for them: an endpoint (`OTEL_EXPORTER_OTLP_ENDPOINT` or
 * `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`) or an exporter (`OTEL_TRACES_EXPORTER`) is set. Otherwise the library is not even loaded.
 *
 * @param environment the variables; the library reads its own from the process.
 */
export async function openTracing(
  environment: Readonly<Record<string, string | undefined>>,
  version: string,
): Promise<Tracing | undefined> {
  if (!wantsTraces(environment)) return undefined;
  return (await import('./open-telemetry.ts')).startOpenTelemetry(version);
}

/** Whether the variables ask for traces. */
export function wantsTraces(environment: Readonly<Record<string, string | undefined>>): boolean {
  if (environment['OTEL_SDK_DISABLED']?.toLowerCase() === 'true') return false;
  const exporters = environment['OTEL_TRACES_EXPORTER'] ?? '';
  if (exporters !== '') return exporters !== 'none';
  return [environment['OTEL_EXPORTER_OTLP_ENDPOINT'], environment['OTEL_EXPORTER_OTLP_TRACES_ENDPOINT']].some(Boolean);
}
