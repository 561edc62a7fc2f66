import type { Config } from '../config.ts';
import { CommandError } from './command-error.ts';

/** Asks the operator port of a service on this machine whether it is ready, for container health checks. */
export async function checkHealth(config: Config): Promise<void> {
  const host = config.HOST === undefined || config.HOST === '0.0.0.0' || config.HOST === '::' ? '127.0.0.1' : config.HOST;
  const address = `http://${host.includes(':') ? `[${host}]` : host}:${config.OPS_PORT}/readyz`;
  const answer = await fetch(address, { signal: AbortSignal.timeout(2000) }).catch(() => undefined);
  if (answer === undefined) throw new CommandError(`no answer from ${address}`);
  const text = await answer.text();
  if (!answer.ok) throw new CommandError(text);
  console.log(text);
}
