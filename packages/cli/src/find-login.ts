import { readFileSync } from 'node:fs';
import { CommandError } from '../../../src/commands/command-error.ts';
import { exitCodes } from './exit-codes.ts';
import { type Login, readLogin } from './login-file.ts';

/** The options of a command that says which service it calls. */
export interface ServiceOptions {
  /** The address of the service's page. */
  readonly address?: string;
}

/** The service of this machine that is used when nobody names another one. */
export interface LocalService {
  readonly address: string;
  readonly token: string | undefined;
}

/**
 * Which service a command calls, and as whom: what the options and the environment say, then the service of this machine, then what
 * `login` has kept. A token that was kept or found is for its own address alone.
 *
 * @throws {CommandError} when there is no address or no token.
 */
export function findLogin({ address: given }: ServiceOptions, env: NodeJS.ProcessEnv, local: LocalService | undefined): Login {
  const named = given ?? (env['TASKS_ADDRESS'] || undefined);
  const ownToken = tokenOf(env);
  if (named !== undefined && ownToken !== undefined) return { address: serviceAddress(named), token: ownToken };
  const known = [local, readLogin(env)].filter((each) => each !== undefined);
  const address = named === undefined ? known[0]?.address : serviceAddress(named);
  if (address === undefined)
    throw new CommandError(
      'no service address: `tasks login ADDRESS` keeps one; or set --address or TASKS_ADDRESS',
      exitCodes.notSignedIn,
    );
  const token = ownToken ?? known.find((each) => each.address === address)?.token;
  if (token === undefined)
    throw new CommandError(
      `no session token for ${address}: use \`tasks login\`, or set TASKS_TOKEN or TASKS_TOKEN_FILE`,
      exitCodes.notSignedIn,
    );
  return { address, token };
}

/** The URL of a service as people write it: that of its page, or `host:port`, which is one without TLS. */
export function serviceAddress(text: string): string {
  const scheme = /^([a-z][a-z\d+.-]*):\/\//i.exec(text)?.[1]?.toLowerCase();
  const url = scheme === undefined ? `http://${text}` : text;
  if ((scheme !== undefined && scheme !== 'http' && scheme !== 'https') || !URL.canParse(url))
    throw new CommandError(`"${text}" is not an address: use that of the page, such as https://tasks.example.com`);
  const { origin, pathname } = new URL(url);
  return origin + pathname.replace(/\/+$/, '');
}

function tokenOf(env: NodeJS.ProcessEnv): string | undefined {
  const { TASKS_TOKEN: token = '', TASKS_TOKEN_FILE: file = '' } = env;
  if (token !== '' || file === '') return token.trim() || undefined;
  try {
    return readFileSync(file, 'utf8').trim();
  } catch (error) {
    throw new CommandError(`TASKS_TOKEN_FILE: ${(error as Error).message}`, exitCodes.notSignedIn);
  }
}
