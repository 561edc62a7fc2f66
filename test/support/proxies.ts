import { execFile } from 'node:child_process';
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { mkdtemp } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { promisify } from 'node:util';
import { describe } from 'vitest';
import { fetchedProgram, fetchPackages } from '../../dev/engine/fetch-packages.ts';
import { startServerProcess } from '../../dev/engine/server-process.ts';
import { cacheDir } from './engines.ts';
import { until } from './test-server.ts';

const run = promisify(execFile);

/** The proxies that tests put before the service. */
export type ProxyName = 'nginx' | 'haproxy';

/** A proxy that can be started here. */
export interface ProxyProgram {
  /** Such as `1.22.1`. */
  readonly version: string;
  readonly command: readonly string[];
  readonly env: Readonly<Record<string, string>>;
}

/** A proxy that runs. */
export interface RunningProxy {
  /** What it has logged. */
  log(): string;
  stop(): Promise<void>;
}

/** Starts a proxy, and waits until it takes connections at all ports of 127.0.0.1 that its configuration names. */
export type StartProxy = (config: string, ports: readonly number[]) => Promise<RunningProxy>;

/**
 * Defines tests that need a proxy. It is that of this machine, or is fetched into the cache folder from the packages of the
 * distribution; where it cannot be had, the tests are skipped, and a line says so.
 *
 * The configuration that they start it with is, of nginx, what stands in `http { }`, and of HAProxy the whole file.
 */
export async function describeBehind(name: ProxyName, title: string, define: (start: StartProxy) => void): Promise<void> {
  const found = await findProxy(name);
  console.log('notRun' in found ? `NOT RUN: ${title}: ${found.notRun}` : `${name} ${found.version}`);
  describe.skipIf('notRun' in found)(title, () => {
    define((config, ports) => {
      if ('notRun' in found) throw new Error(found.notRun);
      return startProxy(name, found, config, ports);
    });
  });
}

/** Finds a proxy on this machine, or fetches it into the cache folder; or says why there is none. */
export async function findProxy(name: ProxyName): Promise<ProxyProgram | { readonly notRun: string }> {
  for (const folder of [...(process.env['PATH'] ?? '').split(delimiter), '/usr/sbin', '/usr/local/sbin']) {
    const file = join(folder, name);
    const found = existsSync(file) ? await versionOf([file], {}).catch(() => undefined) : undefined;
    if (found !== undefined) return found;
  }
  const root = join(cacheDir, `${name}-${process.arch}`);
  try {
    if (!existsSync(root)) {
      console.log(`fetching ${name} from the packages of the distribution`);
      await fetchPackages({ packages: [name], into: root });
    }
    const { command, env } = fetchedProgram(root, `usr/sbin/${name}`);
    return await versionOf(command, env);
  } catch (error) {
    return { notRun: `${name}: ${error instanceof Error ? error.message : String(error)}` };
  }
}

async function versionOf(command: readonly string[], env: Readonly<Record<string, string>>): Promise<ProxyProgram> {
  const [program = '', ...before] = command;
  const { stdout, stderr } = await run(program, [...before, '-v'], { env: { ...process.env, ...env } });
  return { version: /\d+\.\d+\.\d+/.exec(stdout + stderr)?.[0] ?? 'of an unknown version', command, env };
}

/** Starts a proxy, and waits until it takes connections at these ports of 127.0.0.1. */
export async function startProxy(
  name: ProxyName,
  { command, env }: ProxyProgram,
  config: string,
  ports: readonly number[],
): Promise<RunningProxy> {
  const folder = await mkdtemp(join(tmpdir(), `${name}-`));
  const file = join(folder, 'proxy.conf');
  const logFile = join(folder, 'log');
  writeFileSync(file, name === 'nginx' ? nginxFile(config) : config);
  const args = name === 'nginx' ? ['-p', folder, '-c', file, '-e', logFile] : ['-db', '-f', file];
  const server = startServerProcess({ command: [...command, ...args], env, logFile });
  const log = (): string => readFileSync(logFile, 'utf8');
  let ended: string | undefined;
  void server.ended.then((how) => {
    ended = how;
  });
  const stop = async (): Promise<void> => {
    await server.stop(5000); // killed at once, nginx would leave its worker behind
    rmSync(folder, { recursive: true, force: true });
  };
  try {
    for (const port of ports) {
      await until(`${name} on port ${port}`, async () => {
        if (ended !== undefined) throw new Error(`${name} ended with ${ended}: ${log()}`);
        return await takesConnections(port);
      });
    }
  } catch (error) {
    await stop();
    throw error;
  }
  return { log, stop };
}

/** The defaults of nginx, but for where it may write: it runs without root, or as root with its data in our folder. */
function nginxFile(config: string): string {
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((what) => `  ${what}_temp_path ${what}_temp;`);
  return [
    ...(process.getuid?.() === 0 ? ['user root;'] : []),
    'daemon off;',
    'pid nginx.pid;',
    'events {}',
    'http {',
    '  access_log off;',
    ...temporary,
    config,
    '}',
    '',
  ].join('\n');
}

function takesConnections(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    socket.once('connect', () => resolve(true));
    socket.once('error', () => resolve(false));
    socket.once('connect', () => socket.destroy());
  });
}
