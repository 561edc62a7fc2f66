import { readFileSync } from 'node:fs';
import { type Client, Code, ConnectError, createClient } from '@connectrpc/connect';
import { createGrpcTransport, Http2SessionManager } from '@connectrpc/connect-node';
import type { DevelopmentService } from '../development.ts';
import { TasksService } from '../gen/tasks/v1/tasks_pb.ts';
import { CommandError, exitCodes } from './command-error.ts';

/** The options of a command that says which service it calls. */
export interface ServiceOptions {
  /** `host:port` of the gRPC port, or its URL. */
  readonly address?: string;
}

/** A client of a service until disposal, and what its calls need. */
export interface ConnectedService extends Disposable {
  readonly client: Client<typeof TasksService>;
  readonly address: string;
  readonly token: string;
  /** The options of a call that is one request and one response. */
  readonly call: { readonly headers: Readonly<Record<string, string>>; readonly timeoutMs: number };
}

/** How long a call may take, in milliseconds. */
const callMs = 30_000;

/**
 * A client of the service that the options or the environment name. What neither gives is taken from `local`.
 *
 * @throws {CommandError} when there is no address or no token.
 */
export function connectService(
  { address: given }: ServiceOptions,
  env: NodeJS.ProcessEnv,
  local: DevelopmentService | undefined,
): ConnectedService {
  const address = addressOf(given ?? env['TASKS_ADDRESS'] ?? local?.grpc);
  const file = env['TASKS_TOKEN_FILE'];
  const token = (env['TASKS_TOKEN'] ?? (file === undefined ? local?.token : readToken(file)))?.trim();
  if (token === undefined) throw new CommandError('no session token: set TASKS_TOKEN or TASKS_TOKEN_FILE', exitCodes.notSignedIn);
  const sessionManager = new Http2SessionManager(address);
  return {
    client: createClient(TasksService, createGrpcTransport({ baseUrl: address, sessionManager })),
    address,
    token,
    call: { headers: { 'coder-session-token': token }, timeoutMs: callMs },
    // An open connection would keep the process alive.
    [Symbol.dispose]: () => sessionManager.abort(),
  };
}

function addressOf(target: string | undefined): string {
  if (target === undefined)
    throw new CommandError('no service address: set --address or TASKS_ADDRESS, or run a local service with `npm start`');
  const url = /^https?:\/\//.test(target) ? target : `http://${target}`;
  if (!URL.canParse(url)) throw new CommandError(`"${target}" is not an address: use host:port, or a URL with https:// for TLS`);
  return url;
}

function readToken(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    throw new CommandError(`TASKS_TOKEN_FILE: ${(error as Error).message}`, exitCodes.notSignedIn);
  }
}

/** What a call of one request answers. @throws {CommandError} when it fails. */
export function answerOf<Answer>(call: Promise<Answer>): Promise<Answer> {
  return call.catch((error: unknown) => Promise.reject(callError(error)));
}

/** The error that a command ends with when a call has failed. */
export function callError(error: unknown): CommandError {
  const { code, rawMessage } = ConnectError.from(error);
  return new CommandError(rawMessage, exitCodeOf.get(code) ?? exitCodes.failed);
}

const exitCodeOf: ReadonlyMap<Code, number> = new Map([
  [Code.InvalidArgument, exitCodes.refused],
  [Code.ResourceExhausted, exitCodes.refused],
  [Code.Unauthenticated, exitCodes.notSignedIn],
  [Code.PermissionDenied, exitCodes.notSignedIn],
  [Code.Unavailable, exitCodes.away],
  [Code.DeadlineExceeded, exitCodes.away],
  [Code.NotFound, exitCodes.notFound],
]);
