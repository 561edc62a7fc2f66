import { execFile, spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

const root = path.resolve(import.meta.dirname, '../..');
const run = promisify(execFile);
const readme = readFileSync(path.join(root, 'README.md'), 'utf8');

/** The shell examples of the README between two headings, as they stand. */
function examples(from: string, to: string): string[] {
  const part = readme.slice(readme.indexOf(`\n## ${from}\n`), readme.indexOf(`\n## ${to}\n`));
  return [...part.matchAll(/^```sh\n(.*?)^```$/gms)].map(([, text]) => text ?? '');
}

const [token = '', ...calls] = examples('Call it', 'Know more');
const example = (sign: string) => calls.find((text) => text.includes(sign)) ?? expect.unreachable(`no example has ${sign}`);

const hasGrpcurl = spawnSync('grpcurl', ['-version']).status === 0;
if (!hasGrpcurl) console.log('skipped: there is no grpcurl on this machine to run its example with');

describe('the examples of the README', () => {
  // A folder like a checkout, with data of its own: the examples read `.data` and import what is installed.
  const folder = mkdtempSync(path.join(tmpdir(), 'readme '));
  const ports = { GRPC_PORT: 50051, WEB_PORT: 8080, OPS_PORT: 9090 };
  let service: ReturnType<typeof spawn>;
  let output = '';

  beforeAll(async () => {
    for (const name of ['bin', 'dev', 'node_modules', 'package.json', 'proto', 'src'])
      symlinkSync(path.join(root, name), path.join(folder, name));
    // The ports of the README, unless something else has them just now.
    for (const [name, port] of Object.entries(ports)) ports[name as keyof typeof ports] = await freePort(port);
    service = spawn(process.execPath, [path.join(root, 'dev/main.ts'), 'serve'], {
      cwd: folder,
      env: {
        PATH: process.env['PATH'] ?? '',
        CACHE_DIR: path.join(root, process.env['CACHE_DIR'] ?? '.cache'),
        ...Object.fromEntries(Object.entries(ports).map(([name, port]) => [name, String(port)])),
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    await new Promise<void>((resolve, reject) => {
      const read = (chunk: Buffer) => {
        output += chunk.toString();
        if (output.includes('Ctrl-C stops it')) resolve();
      };
      service.stdout?.on('data', read);
      service.stderr?.on('data', read);
      service.once('exit', (code) => reject(new Error(`the service ended with ${code}:\n${output}`)));
    });
  }, 120_000);

  afterAll(async () => {
    const ended = new Promise<number | null>((resolve) => service.once('exit', resolve));
    service.kill('SIGTERM');
    expect(await ended).toBe(0);
    rmSync(folder, { recursive: true, force: true });
  });

  /** Runs an example the way a person does who pastes it behind the one that sets TOKEN. */
  async function paste(text: string): Promise<string> {
    const here = text.replaceAll(':50051', `:${ports.GRPC_PORT}`).replaceAll(':8080', `:${ports.WEB_PORT}`);
    // What npm runs works in the checkout, and not in the folder that is like one.
    const env = { ...process.env, DATA_DIR: path.join(folder, '.data') };
    const { stdout } = await run('sh', ['-euc', `${token}\n${here}`], { cwd: folder, env, timeout: 30_000 });
    return stdout;
  }

  test.runIf(hasGrpcurl || process.env['GRPCURL_REQUIRED'] === '1')('grpcurl lists running tasks', async () => {
    const page = JSON.parse(await paste(example('grpcurl'))) as { tasks: { status: string }[]; nextPageToken: string };
    expect(page.tasks).toHaveLength(5);
    expect(page.tasks.every(({ status }) => status === 'WORKSPACE_STATUS_RUNNING')).toBe(true);
    expect(page.nextPageToken).not.toBe('');
  });

  test('buf curl gets a task by its name', async () => {
    const { task } = JSON.parse(await paste(example('buf curl'))) as { task: Record<string, unknown> };
    expect(task).toMatchObject({
      id: '50f92138-f463-4f2b-abad-1816264b065f',
      ownerId: '9e9b9475-0fc0-47b2-9170-a5b7b9a075ee',
      organizationId: '241e869f-1a61-42c9-ae1e-9d46df874058',
      templateId: 'accab607-bbda-4794-89ac-da3926a8b71c',
      initialPrompt: 'What is 1 + 1?',
      status: 'WORKSPACE_STATUS_RUNNING',
      createdAt: '2025-08-22T09:18:28.027378Z',
      updatedAt: '2025-08-22T09:18:28.027378Z',
      currentState: {
        timestamp: '2025-08-22T09:22:33.810707Z',
        state: 'TASK_STATE_IDLE',
        message: 'Completed arithmetic calculation',
      },
    });
  });

  test('curl gets a task by its id', async () => {
    const { task } = JSON.parse(await paste(example('curl -sS'))) as { task: Record<string, unknown> };
    expect(task).toMatchObject({
      id: 'a7a27450-ca16-4553-a6c5-9d6f04808569',
      name: 'task-hardcore-herschel-bd08',
      ownerName: 'developer',
      initialPrompt: 'What directory are you in?',
      status: 'WORKSPACE_STATUS_RUNNING',
      createdAt: '2025-08-22T09:21:39.697094Z',
      updatedAt: '2025-08-22T09:21:39.697094Z',
      currentState: {
        timestamp: '2025-08-22T10:03:27.837842Z',
        state: 'TASK_STATE_WORKING',
        message: 'Listed root directory contents, working directory reset',
      },
    });
  });

  test('grpc-js walks all pages', async () => {
    const lines = (await paste(example('grpc-js'))).trim().split('\n');
    expect(lines.length).toBeGreaterThan(10);
    expect(new Set(lines).size).toBe(lines.length);
    expect(lines).toContain('task-musing-dewdney-f058 WORKSPACE_STATUS_RUNNING');
  });

  test('connect-web counts', async () => {
    expect(await paste(example('connect-web'))).toMatch(/^[1-9]\d* running on the first page, of [1-9]\d+ tasks\n$/);
  });

  test('list, get and count print tasks', async () => {
    const lines = (await paste(example('list --limit'))).trim().split('\n');
    expect(lines.slice(0, 5).every((line) => line.split('\t')[1] === 'developer')).toBe(true);
    expect(lines[0]).toMatch(/\tactive\tidle\t/);
    const json = lines.findIndex((line) => line === '{');
    const end = lines.findIndex((line) => line === '}');
    expect(JSON.parse(lines.slice(json, end + 1).join('\n'))).toMatchObject({ name: 'task-musing-dewdney-f058' });
    expect(lines[end + 1]).toMatch(/^all\t[1-9]\d*\+?$/);
  });

  test('watch waits until a task is idle', async () => {
    expect(await paste(example('watch --query'))).toMatch(/^task-musing-dewdney-f058\tdeveloper\trunning\tactive\tidle\t/);
  });

  test('each example is run by a test', () => {
    expect(calls).toHaveLength(7);
  });

  test('what the service prints at its start can be pasted as well', async () => {
    const printed = [...output.matchAll(/^ {2}((?:curl|node_modules\/\.bin\/buf|grpcurl) .*)$/gm)].map(([, text]) => text ?? '');
    expect(printed).toHaveLength(3);
    for (const command of printed) {
      if (command.startsWith('grpcurl') && !hasGrpcurl) continue;
      const { stdout } = await run('sh', ['-euc', command], { cwd: folder, timeout: 30_000 });
      expect((JSON.parse(stdout) as { count: number }).count).toBe(25);
    }
  });

  test('the file with tokens can be read by its owner alone, and names what runs', async () => {
    const file = JSON.parse(readFileSync(path.join(folder, '.data/demo.json'), 'utf8')) as Record<string, unknown>;
    expect(file).toMatchObject({
      grpc: `127.0.0.1:${ports.GRPC_PORT}`,
      web: `http://127.0.0.1:${ports.WEB_PORT}`,
      user: 'root',
      database: 'tasks',
    });
    expect(Object.keys(file['tokens'] as object)).toEqual(['admin', 'developer', 'teammate', 'outsider']);
    const { stdout } = await run('stat', ['-c', '%a', path.join(folder, '.data/demo.json')]);
    expect(stdout.trim()).toBe('600');
  });
});

/** The port, if nothing listens there, else another one that is free. */
async function freePort(wanted: number): Promise<number> {
  const server = createServer();
  const listen = (port: number) =>
    new Promise<boolean>((resolve) => {
      server.once('error', () => resolve(false));
      server.listen(port, '127.0.0.1', () => resolve(true));
    });
  if (!(await listen(wanted))) await listen(0);
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}
