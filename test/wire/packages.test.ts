import { execFile } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { TaskPhase, TaskSchema, TaskState, WatchTasksResponseSchema } from '../../src/gen/tasks/v1/tasks_pb.ts';
import { findNode20 } from '../support/node-20.ts';
import { goodToken, startTestServer, type TestServer } from '../support/test-server.ts';

const run = promisify(execFile);
const root = path.resolve(import.meta.dirname, '../..');

/** What the packages are run by: the oldest Node that they name, and where that cannot be had, the one of the project. */
function oldestNode(): string {
  try {
    return findNode20();
  } catch (error) {
    console.log(`NOT RUN: the packages on Node 20: ${error instanceof Error ? error.message : String(error)}`);
    return process.execPath;
  }
}

describe('the packages, as they are published', () => {
  const folder = mkdtempSync(path.join(tmpdir(), 'packages-'));
  const node = oldestNode();
  const { version } = JSON.parse(readFileSync(path.join(root, 'packages/cli/package.json'), 'utf8')) as { version: string };
  const packed = (name: string) => path.join(folder, `tasks-service-${name}-${version}.tgz`);
  let server: TestServer;
  let env: Record<string, string>;

  beforeAll(async () => {
    await run(process.execPath, ['tools/pack-packages.ts', folder], { cwd: root });
    const event = (task: MessageInitShape<typeof TaskSchema>) => ({
      case: 'upserted' as const,
      value: create(TaskSchema, { name: 'followed', ownerName: 'owner', phase: TaskPhase.ACTIVE, ...task }),
    });
    server = await startTestServer({
      handlers: {
        watchTasks: async function* ({ resumeToken }) {
          if (resumeToken === '') yield create(WatchTasksResponseSchema, { event: event({ id: 'first' }), resumeToken: 'one' });
          else {
            const currentState = { $typeName: 'tasks.v1.TaskStateEntry' as const, state: TaskState.IDLE, message: '', uri: '' };
            yield create(WatchTasksResponseSchema, { event: event({ id: 'first', currentState }), resumeToken: 'two' });
            yield create(WatchTasksResponseSchema, { event: { case: 'synced', value: {} }, resumeToken: 'two' });
          }
          // The stream breaks off, and is resumed.
        },
      },
    });
    const home = path.join(folder, 'home');
    mkdirSync(home);
    env = { PATH: process.env['PATH'] ?? '', HOME: home, TASKS_ADDRESS: `http://${server.web}`, TASKS_TOKEN: goodToken };
  });
  afterAll(async () => {
    await server.stop();
    rmSync(folder, { recursive: true, force: true });
  });

  /** Installs packages into an empty folder, and nothing from the network. */
  async function install(name: string, ...packages: readonly string[]): Promise<string> {
    const into = path.join(folder, name);
    mkdirSync(into);
    writeFileSync(path.join(into, 'package.json'), '{"private": true, "type": "module"}');
    const quiet = ['--offline', '--install-links', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'];
    await run('npm', ['install', ...quiet, ...packages], { cwd: into, env });
    return into;
  }

  test('@tasks-service/cli needs no other package, and lists, counts and watches', async () => {
    const into = await install('with-cli', packed('cli'));
    expect(readdirSync(path.join(into, 'node_modules')).filter((name) => !name.startsWith('.'))).toEqual(['@tasks-service']);
    const holds = readdirSync(path.join(into, 'node_modules/@tasks-service/cli'), { recursive: true, encoding: 'utf8' }).sort();
    expect(holds).toEqual(['LICENSE', 'README.md', 'dist', 'dist/licenses.md', 'dist/tasks.cjs', 'package.json']);
    const tasks = async (...args: readonly string[]) =>
      (await run(node, [path.join(into, 'node_modules/.bin/tasks'), ...args], { cwd: into, env })).stdout;
    expect(await tasks('--version')).toBe(`${version}\n`);
    expect(await tasks('list', '--query', 'waiting:true', '--output', 'name')).toBe('/waiting:true\n');
    expect(await tasks('count', '--query', 'abc', '-q')).toBe('3\n');
    const lines = (await tasks('watch', '--json', '--until', 'waiting:true')).trim().split('\n');
    expect(lines.map((line) => (JSON.parse(line) as { event: string }).event)).toEqual(['upserted', 'upserted', 'synced']);
  });

  test('the program is one file, which is enough of it', async () => {
    const alone = path.join(folder, 'alone');
    mkdirSync(alone);
    const program = path.join(alone, 'tasks');
    copyFileSync(path.join(folder, 'tasks'), program);
    expect(statSync(path.join(folder, 'tasks')).mode & 0o777).toBe(0o755);
    const { stdout } = await run(program, ['count', '--query', 'abcd', '-q'], {
      env: { ...env, PATH: `${path.dirname(node)}:${env['PATH']}` },
    });
    expect(stdout).toBe('4\n');
  });

  test('@tasks-service/client lists, follows, and has types', async () => {
    const dependencies = ['@bufbuild/protobuf', '@connectrpc/connect', '@connectrpc/connect-web'];
    const into = await install(
      'with-client',
      packed('client'),
      ...dependencies.map((name) => path.join(root, 'node_modules', name)),
    );
    const source = `
      import { createTasksClient, listAllTasks } from '@tasks-service/client';
      import { followTasks } from '@tasks-service/client/follow-tasks';
      import { TaskState } from '@tasks-service/client/tasks_pb';

      const client = createTasksClient({ address: ${JSON.stringify(env['TASKS_ADDRESS'])}, token: () => ${JSON.stringify(goodToken)} });
      for await (const task of listAllTasks(client, { query: 'some' })) console.log(task.name);
      const stop = new AbortController();
      for await (const followed of followTasks(client, 'owner:me', stop.signal)) {
        console.log(followed.event, followed.event === 'upserted' && followed.task.currentState?.state === TaskState.IDLE);
        if (followed.event === 'synced') stop.abort();
      }
    `;
    for (const end of ['ts', 'mjs']) writeFileSync(path.join(into, `consumer.${end}`), source);
    const options = ['--noEmit', '--strict', '--module', 'nodenext', '--target', 'es2022', '--lib', 'es2022,dom', '--types', ''];
    await run('tsc', [...options, 'consumer.ts'], { cwd: into, env }).catch((error: { stdout: string }) => {
      throw new Error(error.stdout);
    });
    const { stdout } = await run(node, ['consumer.mjs'], { cwd: into, env });
    expect(stdout).toBe('some\nupserted false\nupserted true\nsynced false\n');
  });
});
