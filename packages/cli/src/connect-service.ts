import { Agent as HttpAgent } from 'node:http';
import { Agent as HttpsAgent } from 'node:https';
import { Code, ConnectError, createClient, type Interceptor } from '@connectrpc/connect';
import { createConnectTransport } from '@connectrpc/connect-node';
import { HttpsProxyAgent } from 'https-proxy-agent';
import { getProxyForUrl } from 'proxy-from-env';
import { CommandError } from '../../../src/commands/command-error.ts';
import { TasksService } from '../../../src/gen/tasks/v1/tasks_pb.ts';
import { sessionToken, type TasksClient } from '../../client/src/tasks-client.ts';
import { exitCodes } from './exit-codes.ts';
import type { Login } from './login-file.ts';

/** A service that is called. */
export interface ConnectedService {
  readonly client: TasksClient;
  readonly address: string;
}

/** The options of a call that is one request and one response: how long it may take, in milliseconds. */
export const unary = { timeoutMs: 30_000 } as const;

/**
 * Calls a service: by the Connect protocol over HTTP/1.1, which passes proxies, at the port of its page. HTTPS_PROXY, HTTP_PROXY and
 * NO_PROXY of the process say through which proxy.
 *
 * @throws {CommandError} when a call fails, with an exit code that says how.
 */
export async function withService<Result>(
  { address, token }: Login,
  work: (service: ConnectedService) => Promise<Result>,
): Promise<Result> {
  const proxy = getProxyForUrl(address);
  const agent = agentFor(address, proxy);
  const transport = createConnectTransport({
    httpVersion: '1.1',
    baseUrl: address,
    nodeOptions: { agent },
    interceptors: [...(proxy === '' ? [] : [namesProxy(new URL(proxy).host)]), sessionToken(token)],
  });
  try {
    return await work({ client: createClient(TasksService, transport), address });
  } catch (error) {
    if (!(error instanceof ConnectError)) throw error;
    const exitCode = exitCodeOf.get(error.code);
    if (exitCode !== undefined) throw new CommandError(error.rawMessage, exitCode);
    if (error.rawMessage.includes('wrong version number'))
      throw new CommandError(`${address} does not speak TLS: is ${address.replace('https:', 'http:')} meant?`);
    // Most of these are of something else that listens there.
    const what = error.rawMessage.trim() || Code[error.code];
    throw new CommandError(`${what}: is ${address} the address of the service's page?`);
  } finally {
    agent.destroy(); // an open connection would keep the process alive
  }
}

/** Says through which proxy a service was called that is away: the address in the error may be that of the proxy. */
function namesProxy(host: string): Interceptor {
  return (next) => async (request) => {
    try {
      return await next(request);
    } catch (error) {
      if (!(error instanceof ConnectError) || error.code !== Code.Unavailable) throw error;
      const { code, metadata, cause } = error;
      throw new ConnectError(`${error.rawMessage} (through the proxy ${host})`, code, metadata, undefined, cause);
    }
  };
}

function agentFor(address: string, proxy: string): HttpAgent {
  const isTls = address.startsWith('https:');
  if (proxy === '') return isTls ? new HttpsAgent({ keepAlive: true }) : new HttpAgent({ keepAlive: true });
  if (!URL.canParse(proxy)) throw new CommandError(`the proxy "${proxy}" of the environment is not a URL`);
  // A tunnel for both, as other clients have it: what passes through is the same as without a proxy.
  return new HttpsProxyAgent(proxy, { keepAlive: true });
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
