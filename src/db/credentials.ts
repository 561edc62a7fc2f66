import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { createSecureContext } from 'node:tls';
import type { SslOptions } from 'mysql2';
import type { DatabaseAddress, PasswordSource } from '../config.ts';
import type { Credentials } from './connection-pool.ts';

/** How long the command for a password may take, in milliseconds: command lines of clouds need some seconds. */
export const commandLimitMs = 10_000;

/** How long a command's output is used for further connections, and how long its failure is not tried again, in milliseconds. */
const keptMs = 10_000;
const failedMs = 1000;

/** Most bytes that a command may print. Tokens have one to four thousand. */
const maxPasswordBytes = 64 * 1024;

/** Thrown when credentials cannot be read. The message names the setting, and neither the secret nor the command. */
class CredentialsError extends Error {
  override readonly name = 'CredentialsError';
  /** Set as the driver sets it on errors that end a connection. */
  readonly fatal = true;
}

/** Makes the function that reads the credentials of each new connection: from files as they are at that time, and by commands. */
export function createCredentials(address: DatabaseAddress): () => Promise<Credentials> {
  const { ssl, passwordSource } = address;
  const tls = ssl === undefined ? undefined : tlsOptionsOf({ ...address, ssl });
  const password = passwordSource === undefined ? () => address.password : () => readPassword(passwordSource);
  return async () => {
    const [secret, options] = await Promise.all([password(), tls?.()]);
    return { ...(secret === undefined ? {} : { password: secret }), ...(options === undefined ? {} : { ssl: options }) };
  };
}

/** The last run of the command of each source, for all pools of the process. */
const runs = new WeakMap<PasswordSource, { readonly password: Promise<string>; freshUntil: number }>();

function readPassword(source: PasswordSource): Promise<string> {
  if (source.file !== undefined) return readPasswordFile(source.variable, source.file);
  const last = runs.get(source);
  if (last !== undefined && performance.now() < last.freshUntil) return last.password;
  const run = { password: runCommand(source.variable, source.command), freshUntil: Number.POSITIVE_INFINITY };
  runs.set(source, run);
  run.password.then(
    () => {
      run.freshUntil = performance.now() + keptMs;
    },
    () => {
      run.freshUntil = performance.now() + failedMs;
    },
  );
  return run.password;
}

async function readPasswordFile(variable: string, file: string): Promise<string> {
  const text = await readFile(file, 'utf8').catch(() => {
    throw new CredentialsError(`${variable}: the file cannot be read`);
  });
  const password = withoutLineBreak(text);
  if (password === '') throw new CredentialsError(`${variable}: the file is empty`);
  return password;
}

/** What a command prints on its standard output. Its standard error may contain a secret and is dropped. */
function runCommand(variable: string, [program, ...args]: readonly [string, ...string[]]): Promise<string> {
  return new Promise((resolve, reject) => {
    const limits = { timeout: commandLimitMs, killSignal: 'SIGKILL', maxBuffer: maxPasswordBytes } as const;
    const child = execFile(program, args, limits, (error, stdout) => {
      const password = withoutLineBreak(stdout);
      if (error !== null) reject(new CredentialsError(`${variable}: ${whyItFailed(error)}`));
      else if (password === '') reject(new CredentialsError(`${variable}: the command printed nothing`));
      else resolve(password);
    });
    child.stdin?.end();
  });
}

function whyItFailed({ code, killed, signal }: { code?: unknown; killed?: unknown; signal?: unknown }): string {
  if (code === 'ERR_CHILD_PROCESS_STDIO_MAXBUFFER') return `the command printed more than ${maxPasswordBytes / 1024} KiB`;
  if (killed === true) return `the command did not end within ${commandLimitMs / 1000} seconds`;
  if (typeof code === 'number') return `the command ended with exit code ${code}`;
  return typeof code === 'string' ? `the command cannot be run (${code})` : `the command was ended by ${String(signal)}`;
}

/** Removes the line break that editors and `echo` append; no password ends with one. */
function withoutLineBreak(text: string): string {
  return text.replace(/\r?\n$/, '');
}

/**
 * Makes the function that reads the options of TLS. It returns the same object while the files are unchanged, so that the driver
 * can resume TLS sessions.
 */
function tlsOptionsOf(address: DatabaseAddress & Required<Pick<DatabaseAddress, 'ssl'>>): () => Promise<SslOptions> {
  const { ssl } = address;
  let current: (SslOptions & TlsFiles) | undefined;
  return async () => {
    const files = await readTlsFiles(address);
    if (current === undefined || current.ca !== files.ca || current.cert !== files.cert || current.key !== files.key) {
      // The driver would throw in an event of the socket, where it cannot be caught.
      const problem = tlsFilesProblem(files);
      if (problem !== undefined) throw new CredentialsError(`TLS to the database: ${problem}`);
      current = { ...files, rejectUnauthorized: ssl !== 'no-verify', verifyIdentity: ssl === 'verify' };
    }
    return current;
  };
}

/** The texts of the files for TLS, in PEM. */
interface TlsFiles {
  readonly ca?: string;
  readonly cert?: string;
  readonly key?: string;
}

async function readTlsFiles({ caFile, certFile, keyFile }: DatabaseAddress): Promise<TlsFiles> {
  const read = async (name: keyof TlsFiles, file: string | undefined): Promise<TlsFiles> => {
    if (file === undefined) return {};
    const text = await readFile(file, 'utf8').catch(() => {
      throw new CredentialsError(`TLS to the database: the file of ${name} cannot be read`);
    });
    return { [name]: text };
  };
  const [ca, cert, key] = await Promise.all([read('ca', caFile), read('cert', certFile), read('key', keyFile)]);
  return { ...ca, ...cert, ...key };
}

/** What is wrong with the files together, if anything is. */
function tlsFilesProblem({ ca, cert, key }: TlsFiles): string | undefined {
  try {
    createSecureContext({ ca, cert, key });
    return undefined;
  } catch {
    return 'the files of ca, cert and key are no certificates in PEM with the key of the first, without a passphrase';
  }
}
