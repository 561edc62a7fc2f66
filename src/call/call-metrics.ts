import type { DescMethod } from '@bufbuild/protobuf';
import { Code } from '@connectrpc/connect';
import { Counter, Histogram, type Registry } from 'prom-client';

/** The counters of one method. */
export interface MethodMetrics {
  started(): void;
  received(): void;
  sent(): void;
  /** A call has ended. `code` is 0 for OK. */
  handled(code: number, seconds: number): void;
}

/** What the metrics tell of a method. */
export interface MethodLabels {
  readonly parent: { readonly typeName: string };
  readonly name: string;
  readonly methodKind: DescMethod['methodKind'];
}

/** Every code a call can end with, in the words of go-grpc-prometheus. */
const codes: readonly string[] = [
  'OK',
  ...Object.values(Code)
    .filter((code): code is Code => typeof code === 'number')
    .map((code) => Code[code]),
];

/** Buckets from 1 ms, since a warm call takes a few, to 10 s, after which a drain cuts calls. */
const secondsBuckets = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];

/**
 * Adds the metrics of the calls to a registry, under the names of go-grpc-prometheus: `grpc_server_started_total`,
 * `grpc_server_handled_total`, `grpc_server_handling_seconds`, `grpc_server_msg_received_total`, `grpc_server_msg_sent_total`.
 *
 * Calls are counted in plain numbers, which are copied into prom-client when the metrics are read: its counters would look up their
 * labels at each call. Every code of every method exists from the start with 0, so that `rate` sees the first error.
 *
 * @returns the function that gives the counters of one method. Labels come from such methods alone: a client cannot add any.
 */
export function createCallMetrics(registry: Registry): (method: MethodLabels) => MethodMetrics {
  const methods = new Map<MethodLabels, Counted>();
  const labelNames = ['grpc_type', 'grpc_service', 'grpc_method'] as const;
  const counter = (name: string, help: string, count: (method: Counted) => number): void => {
    const metric: Counter<(typeof labelNames)[number]> = new Counter({
      name,
      help,
      labelNames,
      registers: [registry],
      collect() {
        metric.reset();
        for (const method of methods.values()) metric.inc(method.labels, count(method));
      },
    });
  };
  counter('grpc_server_started_total', 'Calls started on the server.', (method) => method.startedCalls);
  counter('grpc_server_msg_received_total', 'Messages received from clients.', (method) => method.receivedMessages);
  counter('grpc_server_msg_sent_total', 'Messages sent to clients.', (method) => method.sentMessages);
  const handled: Counter<(typeof labelNames)[number] | 'grpc_code'> = new Counter({
    name: 'grpc_server_handled_total',
    help: 'Calls ended on the server, by the code they ended with.',
    labelNames: [...labelNames, 'grpc_code'],
    registers: [registry],
    collect() {
      handled.reset();
      for (const method of methods.values()) {
        for (const [code, name] of codes.entries()) handled.inc({ ...method.labels, grpc_code: name }, method.endedCalls[code]);
      }
    },
  });
  const seconds = new Histogram({
    name: 'grpc_server_handling_seconds',
    help: 'How long calls took on the server, in seconds.',
    labelNames,
    buckets: secondsBuckets,
    registers: [registry],
  });

  return (desc) => {
    const known = methods.get(desc);
    if (known !== undefined) return known;
    const labels = { grpc_type: typeOf(desc), grpc_service: desc.parent.typeName, grpc_method: desc.name };
    seconds.zero(labels);
    const method = new Counted(labels, seconds.labels(labels));
    methods.set(desc, method);
    return method;
  };
}

type Labels = Readonly<Record<'grpc_type' | 'grpc_service' | 'grpc_method', string>>;

class Counted implements MethodMetrics {
  readonly labels: Labels;
  readonly endedCalls: number[] = codes.map(() => 0);
  startedCalls = 0;
  receivedMessages = 0;
  sentMessages = 0;
  readonly #duration: { observe(seconds: number): void };

  constructor(labels: Labels, duration: { observe(seconds: number): void }) {
    this.labels = labels;
    this.#duration = duration;
  }

  started(): void {
    this.startedCalls += 1;
  }

  received(): void {
    this.receivedMessages += 1;
  }

  sent(): void {
    this.sentMessages += 1;
  }

  handled(code: number, seconds: number): void {
    this.endedCalls[code] = (this.endedCalls[code] ?? 0) + 1;
    this.#duration.observe(seconds);
  }
}

function typeOf(method: MethodLabels): string {
  switch (method.methodKind) {
    case 'unary':
      return 'unary';
    case 'server_streaming':
      return 'server_stream';
    case 'client_streaming':
      return 'client_stream';
    case 'bidi_streaming':
      return 'bidi_stream';
  }
}
