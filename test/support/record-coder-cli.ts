import { spawn } from 'node:child_process';
import { subscribe } from 'node:diagnostics_channel';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import type { IncomingMessage, Server } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { cliTasks, type RecordedCommand, startForCoderCli } from './coder-cli.ts';
import { goodToken } from './test-server.ts';

/*
 * Records what Coder's command line asks for: `CODER_CLI=/path/to/coder node test/support/record-coder-cli.ts`. Each command must
 * succeed. The recorded requests are test data (which `biome check --write .` formats), and test/wire/coder-cli.test.ts asks for them again.
 */

const { active, initializing, paused } = cliTasks;
const lists = [[], ['--all'], ['--user', 'alice'], ['--status', 'active'], ['--output', 'json'], ['--quiet']];
const creates = [
  ['do it'],
  ['do it', '--name', 'new', '--owner', 'alice', '--quiet'],
  ['do it', '--template', 'agent', '--org', 'other'],
  ['do it', '--template', 'agent', '--template-version', 'v1'],
  ['do it', '--template', 'agent', '--preset', 'large'],
];
const commands: readonly (readonly string[])[] = [
  ['login', '--token', goodToken],
  ['login', '--token', goodToken, '--use-token-as-session'],
  ['whoami'],
  ...lists.map((options) => ['task', 'list', ...options]),
  ...['active', 'alice/active', active].map((name) => ['task', 'status', name]),
  ['task', 'status', 'active', '--watch', '--watch-interval', '10ms'],
  ['task', 'status', 'active', '--output', 'json'],
  ...['active', 'alice/active', active].map((name) => ['task', 'logs', name]),
  ...['active', initializing, paused].map((name) => ['task', 'send', name, 'go on']),
  ...creates.map((options) => ['task', 'create', ...options]),
  ['task', 'pause', 'active', '--yes'],
  ['task', 'resume', 'paused', '--yes'],
  ['task', 'resume', 'paused', '--yes', '--no-wait'],
  ['task', 'delete', 'active', 'alice/paused', '--yes'],
  ['logout', '--yes'],
];

const program = process.env['CODER_CLI'];
if (program === undefined) throw new Error('CODER_CLI is not set: the path of the program coder');

/** Runs the program to its end, and returns what it has printed. */
async function run(command: readonly string[], folder: string, web: string): Promise<string> {
  const env = {
    HOME: folder,
    CODER_CONFIG_DIR: folder,
    CODER_URL: `http://${web}`,
    CODER_SESSION_TOKEN: goodToken,
    NO_COLOR: '1',
  };
  const child = spawn(program ?? '', command, { env, stdio: ['ignore', 'pipe', 'pipe'] });
  const printed: Buffer[] = [];
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => printed.push(chunk));
  const [code] = (await once(child, 'close')) as [number | null];
  const text = Buffer.concat(printed).toString();
  process.stderr.write(`\n$ coder ${command.join(' ')}\n${text}`);
  if (code !== 0) throw new Error(`coder ${command.join(' ')} ended with ${code}`);
  return text;
}

const folder = mkdtempSync(join(tmpdir(), 'coder-cli-'));
const recorded: RecordedCommand[] = [];
let requests: string[] = [];
let standIn: Server | undefined;
subscribe('http.server.request.start', (message) => {
  const { request, server } = message as { request: IncomingMessage; server: Server };
  if (server !== standIn) requests.push(`${request.method} ${request.url}`);
});
try {
  const version = (await run(['version'], folder, '127.0.0.1:9')).split('\n')[0]?.trim();
  for (const command of commands) {
    const service = await startForCoderCli();
    standIn = service.coder.server;
    standIn.on('upgrade', ({ url }: IncomingMessage) => requests.push(`WebSocket ${url}`));
    requests = [];
    try {
      await run(command, folder, service.web);
    } finally {
      await service.stop();
    }
    const words = command.map((word) => (word === goodToken ? 'TOKEN' : word.includes(' ') ? `'${word}'` : word));
    recorded.push({ command: words.join(' '), requests });
  }
  const text = JSON.stringify({ version, commands: recorded }, null, 2);
  writeFileSync(join(import.meta.dirname, '../data/coder/cli-requests.json'), `${text}\n`);
} finally {
  rmSync(folder, { recursive: true });
}
