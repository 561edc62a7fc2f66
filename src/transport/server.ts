import type { AddressInfo, BlockList } from 'node:net';
import { setTimeout as delay, setImmediate as turn } from 'node:timers/promises';
import type { Logger } from 'pino';
import { Registry } from 'prom-client';
import type { FindUser } from '../auth/user-lookup.ts';
import type { Authenticate, RateLimitOf } from '../call/admission.ts';
import { createCallMetrics } from '../call/call-metrics.ts';
import { createCalls } from '../call/calls.ts';
import type { Method } from '../call/method.ts';
import { file_google_rpc_error_details } from '../gen/google/rpc/error_details_pb.ts';
import { file_google_rpc_status } from '../gen/google/rpc/status_pb.ts';
import { Health as HealthService } from '../gen/grpc/health/v1/health_pb.ts';
import { TasksService } from '../gen/tasks/v1/tasks_pb.ts';
import { addProcessMetrics } from '../platform/process-metrics.ts';
import { createReadiness, type ReadinessCheck } from '../platform/readiness.ts';
import { withTimeLimit } from '../platform/time-limit.ts';
import type { TraceCall } from '../platform/tracing.ts';
import type { TaskMessages } from '../tasks/task-messages.ts';
import type { Certificates } from './certificates.ts';
import { createClientAddress } from './client-address.ts';
import { createCoderJson } from './coder/coder-json.ts';
import { createCoderProxy } from './coder/coder-proxy.ts';
import { createCoderStreams } from './coder/coder-streams.ts';
import { createPassedRequests } from './coder/passed-requests.ts';
import { createGrpcListener } from './grpc/grpc-listener.ts';
import { type Listener, listen } from './listener.ts';
import { createOpsListener } from './ops/ops-listener.ts';
import { createPage, type PageParts } from './page/page.ts';
import { createHealth } from './services/health.ts';
import { reflectionMethods, reflectionServices } from './services/reflection.ts';
import { createWebListener } from './web-listener.ts';

/** The parts of the server. */
export interface ServerParts {
  /** The methods of the service, without those of health and reflection. */
  readonly methods: readonly Method[];
  /** Answers the Coder-shaped JSON. */
  readonly tasks: TaskMessages;
  /** Finds the user whom a path of the Coder-shaped JSON names. */
  readonly findUser: FindUser;
  /** Where Coder is, to pass on to it what it alone can do with tasks; nothing is passed on if absent. */
  readonly coderUrl?: string | undefined;
  readonly authenticate: Authenticate;
  /** The address to listen on, `0.0.0.0` for all. */
  readonly host: string;
  /** The three ports; 0 takes any that is free. */
  readonly ports: { readonly grpc: number; readonly web: number; readonly ops: number };
  /** TLS of the gRPC and the web port; clear text if absent. The operator port is always clear text. */
  readonly certificates?: Certificates | undefined;
  /** Origins whose pages may call the web port from a browser. */
  readonly webOrigins: readonly string[];
  /** The path under which the web port is served as well as at the root, with a slash at both ends; only the root if absent. */
  readonly basePath?: string | undefined;
  /** The page for people on the web port; none if absent. */
  readonly page?: PageParts;
  /** Whether the proto files are served by reflection. */
  readonly reflection: { readonly grpc: boolean; readonly web: boolean };
  /** The checks of readiness, such as of the database, by name. */
  readonly readiness: Readonly<Record<string, ReadinessCheck>>;
  readonly log: Logger;
  /** The rate limit of a user over a protocol, if there is one. */
  readonly rateLimitOf?: RateLimitOf;
  /** Whether new calls are refused because others already wait too long; never if absent. */
  readonly isOverloaded?: () => boolean;
  /** Why nothing is to be served now; never if absent. */
  readonly whyNotServing?: () => string | undefined;
  /** Proxies whose `x-forwarded-for` is trusted; none if absent. */
  readonly trustedProxies?: BlockList | undefined;
  /** Starts the spans of calls, if traces are on. */
  readonly trace?: TraceCall | undefined;
  /** The registry of metrics, to which the server adds its own. */
  readonly registry?: Registry;
  /** How long running calls may take after `stop`, in milliseconds; 10 seconds if absent. */
  readonly drainMs?: number;
  /** How long clients may take after that to close their connections, in milliseconds; half a second if absent. */
  readonly hangUpMs?: number;
}

/** Where the server answers, as `host:port`. */
export interface Addresses {
  readonly grpc: string;
  readonly web: string;
  readonly ops: string;
}

/** The service on its three ports. */
export interface Server {
  /** Starts listening. @throws {PortError} when a port cannot be opened; then none is left open. */
  start(): Promise<Addresses>;
  /** Lets running calls finish, ends those that take too long, and closes the ports. Further calls wait for the first. */
  stop(): Promise<void>;
}

/** How long running calls may take after `stop`. Kubernetes kills after 30 s; a call takes at most the statement limit, 2 s. */
const defaultDrainMs = 10_000;

/** How long clients may take to read their last answers, in milliseconds: slow watchers first read what was sent before. */
const lastAnswersMs = 3000;

/** How long they may then take to close their connections. */
const defaultHangUpMs = 500;

/** How often to check whether the last answers have been read, in milliseconds. */
const lookEveryMs = 10;

/**
 * Makes the server: the service over gRPC and the web protocols, which share one way of a call; health and reflection beside it;
 * and the operator port.
 */
export function createServer(parts: ServerParts): Server {
  const registry = parts.registry ?? new Registry();
  const { authenticate, log, rateLimitOf, isOverloaded, whyNotServing, trace, certificates } = parts;
  const metrics = createCallMetrics(registry);
  const calls = createCalls({ authenticate, log, metrics, rateLimitOf, isOverloaded, whyNotServing, trace });
  const clientAddress = createClientAddress(parts.trustedProxies);
  addProcessMetrics(registry, () => calls.running, certificates);

  const health = createHealth([TasksService.typeName]);
  const readiness = createReadiness(parts.readiness);
  const served = [...parts.methods, ...health.methods];
  const reflection = reflectionMethods(
    [TasksService, HealthService, ...reflectionServices],
    [file_google_rpc_error_details, file_google_rpc_status], // clients decode the details of errors by them
  );
  const grpcMethods = parts.reflection.grpc ? [...served, ...reflection] : served;
  const grpc = createGrpcListener(grpcMethods, calls, { certificates, clientAddress });
  const coderJson = createCoderJson({ tasks: parts.tasks, findUser: parts.findUser, calls, clientAddress });
  const toCoder = parts.coderUrl && {
    address: parts.coderUrl,
    clientAddress,
    passed: createPassedRequests(registry, log),
  };
  const coderProxy = toCoder ? createCoderProxy(toCoder) : undefined;
  const coderStreams = toCoder ? createCoderStreams(toCoder) : undefined;
  const page = parts.page && createPage(parts.page, { secure: parts.certificates !== undefined, grpcPort: () => portOf(grpc) });
  const web = createWebListener(parts.reflection.web ? [...served, ...reflection] : served, calls, {
    origins: parts.webOrigins,
    basePath: parts.basePath,
    coderJson,
    coderProxy,
    coderStreams,
    page,
    log,
    certificates,
    clientAddress,
  });
  const ops = createOpsListener(readiness, registry);
  const stopped = new AbortController();
  let stopping: Promise<void> | undefined;

  const stop = async (): Promise<void> => {
    stopped.abort();
    readiness.drain();
    health.drain();
    await turn(); // Health's watchers are told before their streams end
    const idle = calls.drain();
    const closed = Promise.all([grpc.drain(), web.drain()]);
    await withTimeLimit(parts.drainMs ?? defaultDrainMs, idle).catch(() => {}); // then calls that still run are aborted
    calls.abort();
    const until = performance.now() + lastAnswersMs;
    while (grpc.open + web.open > 0 && performance.now() < until) await delay(lookEveryMs);
    await withTimeLimit(parts.hangUpMs ?? defaultHangUpMs, closed).catch(() => {});
    grpc.destroy();
    web.destroy();
    await closed;
    ops.destroy();
    await ops.drain();
  };

  return {
    async start() {
      const bound: Listener[] = [];
      const bind = async (listener: Listener, port: number, variable: string): Promise<string> => {
        const address = await listen(listener.port, parts.host, port, variable);
        bound.push(listener);
        return address;
      };
      await readiness.watch(({ ready }) => health.setServing(TasksService.typeName, ready), stopped.signal);
      try {
        return {
          grpc: await bind(grpc, parts.ports.grpc, 'GRPC_PORT'),
          web: await bind(web, parts.ports.web, 'WEB_PORT'),
          ops: await bind(ops, parts.ports.ops, 'OPS_PORT'),
        };
      } catch (error) {
        stopped.abort();
        for (const listener of bound) listener.destroy();
        await Promise.all(bound.map((listener) => listener.drain()));
        throw error;
      }
    },

    stop() {
      stopping ??= stop();
      return stopping;
    },
  };
}

function portOf(listener: Listener): number {
  return (listener.port.address() as AddressInfo).port;
}
