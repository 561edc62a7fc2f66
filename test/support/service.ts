import { type ChildProcess, spawn } from 'node:child_process';
import path from 'node:path';
import type { DatabaseAddress } from '../../src/config.ts';
import type { TestDatabase } from './database.ts';

const root = path.resolve(import.meta.dirname, '../..');

/** The program as a process of its own, serving a database on free ports. */
export interface RunningService {
  /** `host:port` of each port. */
  readonly grpc: string;
  readonly web: string;
  readonly ops: string;
  readonly process: ChildProcess;
  /** Everything the program has printed so far. */
  readonly output: () => string;
  /** Ends it as an operator would, and resolves with its exit code. */
  stop(signal?: NodeJS.Signals): Promise<number | null>;
}

/** `DATABASE_URL` for an address. */
export function databaseUrl(address: DatabaseAddress): string {
  const { socketPath, host, port, user, password, database, ssl, caFile, certFile, keyFile } = address;
  const login = `${encodeURIComponent(user)}${password === undefined ? '' : `:${encodeURIComponent(password)}`}`;
  const parameters = { socket: socketPath, ssl: ssl === 'verify' ? 'true' : ssl, ca: caFile, cert: certFile, key: keyFile };
  const given = Object.entries(parameters).filter((each): each is [string, string] => each[1] !== undefined);
  const query = new URLSearchParams(given).toString();
  return `mysql://${login}@${host ?? 'localhost'}:${port ?? 3306}/${database}${query === '' ? '' : `?${query}`}`;
}

/** How a service of a test is started. */
interface StartOptions {
  readonly folder?: string;
  readonly program?: string;
  /** Is told of everything that the program has printed, whenever it prints. */
  onOutput?(output: string): void;
}

/** Runs `serve` on a database that is migrated, and waits until it answers; the program is that of the sources unless said. */
export function startService(
  address: DatabaseAddress,
  env: Readonly<Record<string, string>> = {},
  options: StartOptions = {},
): Promise<RunningService> {
  const { folder = root, program = 'src/main.ts' } = options;
  return startProgram([program, 'serve'], address, env, folder, (output) => options.onOutput?.(output));
}

/** Runs `sync` with these options as a process of its own, and waits until its operators' port answers. */
export function startSync(
  address: DatabaseAddress,
  env: Readonly<Record<string, string>>,
  ...options: readonly string[]
): Promise<Omit<RunningService, 'grpc' | 'web'>> {
  return startProgram(['src/main.ts', 'sync', ...options], address, env, root);
}

async function startProgram(
  args: readonly string[],
  address: DatabaseAddress,
  env: Readonly<Record<string, string>>,
  folder: string,
  onOutput: (output: string) => void = () => {},
): Promise<RunningService> {
  const child = spawn(process.execPath, args, {
    cwd: folder,
    env: {
      PATH: process.env['PATH'] ?? '',
      LAUNCHER_PID: String(process.pid), // it ends with this process, also when that is killed
      DATABASE_URL: databaseUrl(address),
      HOST: '127.0.0.1',
      GRPC_PORT: '0',
      WEB_PORT: '0',
      OPS_PORT: '0',
      ...env,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  const ended = new Promise<number | null>((resolve) => child.once('exit', (code) => resolve(code)));
  const listening = new Promise<{ grpc: string; web: string; ops: string }>((resolve) => {
    const read = (chunk: Buffer) => {
      output += chunk.toString();
      onOutput(output);
      const line = output.split('\n').find((text) => text.includes('"msg":"listening"'));
      if (line !== undefined) resolve(JSON.parse(line) as { grpc: string; web: string; ops: string });
    };
    child.stdout.on('data', read);
    child.stderr.on('data', read);
  });
  const addresses = await Promise.race([
    listening,
    ended.then((code) => {
      throw new Error(`the service ended with ${code}:\n${output}`);
    }),
  ]);
  return {
    grpc: addresses.grpc,
    web: addresses.web,
    ops: addresses.ops,
    process: child,
    output: () => output,
    async stop(signal = 'SIGTERM') {
      child.kill(signal);
      const timer = setTimeout(() => child.kill('SIGKILL'), 20_000);
      const code = await ended;
      clearTimeout(timer);
      return code;
    },
  };
}

/** Ends a service and drops its database. @throws {Error} when the service did not end in order. */
export async function endService(service: RunningService, { drop }: Pick<TestDatabase, 'drop'>): Promise<void> {
  try {
    const code = await service.stop();
    if (code !== 0) throw new Error(`the service ended with ${code}:\n${service.output()}`);
  } finally {
    await drop();
  }
}
