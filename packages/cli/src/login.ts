import { createInterface } from 'node:readline';
import { Writable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { CommandError } from '../../../src/commands/command-error.ts';
import { unary, withService } from './connect-service.ts';
import { exitCodes } from './exit-codes.ts';
import { serviceAddress } from './find-login.ts';
import { forgetLogin, keepLogin, loginFile } from './login-file.ts';

/**
 * Signs in to a service: reads a session token, from a prompt that does not show it or from a pipe, tries it, and keeps both.
 *
 * @throws {CommandError} when the service does not take the token or is away; then nothing is kept.
 */
export async function login(named: string, env: NodeJS.ProcessEnv): Promise<void> {
  const address = serviceAddress(named);
  const { protocol, hostname } = new URL(address);
  if (protocol === 'http:' && !/^(?:localhost|127\..*|\[::1\])$/.test(hostname))
    console.error(`${address} is without TLS: everybody on the way can read the token`);
  const token = (process.stdin.isTTY ? await promptFor(`Session token for ${address}: `) : await text(process.stdin)).trim();
  if (token === '') throw new CommandError('there is no session token: `coder tokens create` makes one', exitCodes.notSignedIn);
  await withService({ address, token }, ({ client }) => client.listTasks({ pageSize: 1 }, unary));
  keepLogin({ address, token }, env);
  console.error(`signed in to ${address}; ${loginFile(env)} keeps it until \`tasks logout\``);
}

/** Forgets what `login` has kept. */
export function logout(env: NodeJS.ProcessEnv): void {
  console.error(
    forgetLogin(env) ? 'signed out here; `coder tokens remove` makes the token invalid everywhere' : 'nobody was signed in',
  );
}

/** Asks for a line at the terminal, without showing it. */
function promptFor(question: string): Promise<string> {
  // What readline would show goes nowhere, and it keeps the terminal from showing what is typed.
  const output = new Writable({ write: (_chunk, _encoding, done) => done() });
  const lines = createInterface({ input: process.stdin, output, terminal: true });
  process.stderr.write(question);
  return new Promise((resolve, reject) => {
    lines.once('line', resolve);
    lines.once('SIGINT', () => lines.close());
    lines.once('close', () => {
      process.stderr.write('\n');
      reject(new CommandError('no session token was given', exitCodes.notSignedIn));
    });
  }).finally(() => lines.close()) as Promise<string>;
}
