import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Code, ConnectError, createClient } from '@connectrpc/connect';
import { createGrpcTransport } from '@connectrpc/connect-node';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { DemoFile } from '../../dev/demo/demo-file.ts';
import { closeDatabase, openDatabase } from '../../src/db/connection.ts';
import { type Task, TaskPhase, TaskState, TasksService, WorkspaceStatus } from '../../src/gen/tasks/v1/tasks_pb.ts';
import { createTestDatabase, describeOnServerKinds } from '../support/database.ts';
import { databaseUrl, startService } from '../support/service.ts';

const root = path.resolve(import.meta.dirname, '../..');

/** A run of the program. */
interface Run {
  readonly child: ChildProcess;
  readonly ended: Promise<number | null>;
  readonly output: () => string;
}

/** Runs the program in a folder of its own, on free ports. */
function start(args: readonly string[], env: Readonly<Record<string, string>>): Run {
  const child = spawn(process.execPath, [path.join(root, 'dev/main.ts'), ...args], {
    cwd: root,
    env: {
      PATH: process.env['PATH'] ?? '',
      CACHE_DIR: process.env['CACHE_DIR'] ?? '.cache',
      GRPC_PORT: '0',
      WEB_PORT: '0',
      OPS_PORT: '0',
      ...env,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  const read = (chunk: Buffer) => {
    output += chunk.toString();
  };
  child.stdout.on('data', read);
  child.stderr.on('data', read);
  return { child, ended: new Promise((resolve) => child.once('exit', resolve)), output: () => output };
}

/** Runs a command to its end. */
async function run(
  args: readonly string[],
  env: Readonly<Record<string, string>>,
): Promise<{ code: number | null; output: string }> {
  const { ended, output } = start(args, env);
  const code = await ended;
  return { code, output: output() };
}

/** Waits until something holds. */
async function until<T>(what: string, probe: () => Promise<T | undefined> | T | undefined, limitMs = 10_000): Promise<T> {
  const deadline = performance.now() + limitMs;
  for (;;) {
    const value = await probe();
    if (value !== undefined) return value;
    if (performance.now() > deadline) throw new Error(`${what} did not come within ${limitMs} ms`);
    await sleep(20);
  }
}

const alive = (pid: number): boolean => {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
};

describe('serve without a database', () => {
  const dataDir = mkdtempSync(path.join(tmpdir(), 'serve '));
  const env = { DATA_DIR: dataDir };
  const fileName = path.join(dataDir, 'demo.json');
  let service: Run;
  let demo: DemoFile;

  async function startHere(): Promise<void> {
    service = start(['serve'], env);
    demo = await until(
      'the service',
      () => {
        if (service.child.exitCode !== null) throw new Error(service.output());
        return existsSync(fileName) && service.output().includes('Ctrl-C stops it')
          ? (JSON.parse(readFileSync(fileName, 'utf8')) as DemoFile)
          : undefined;
      },
      60_000,
    );
  }
  const client = () => createClient(TasksService, createGrpcTransport({ baseUrl: `http://${demo.grpc}` }));
  const as = (user: string) => ({ headers: { 'coder-session-token': demo.tokens[user] ?? user } });
  async function all(user: string, query: string): Promise<Task[]> {
    const tasks: Task[] = [];
    let pageToken = '';
    do {
      const page = await client().listTasks({ query, pageToken, pageSize: 200 }, as(user));
      tasks.push(...page.tasks);
      pageToken = page.nextPageToken;
    } while (pageToken !== '');
    return tasks;
  }
  const codeOf = (promise: Promise<unknown>) =>
    promise.then(
      () => undefined,
      (error: unknown) => Code[ConnectError.from(error).code],
    );

  beforeAll(startHere);
  afterAll(async () => {
    service.child.kill('SIGTERM');
    expect(await service.ended).toBe(0);
    rmSync(dataDir, { recursive: true, force: true });
  });

  test('what admin lists shows every status but deleted, every phase and every state', async () => {
    const tasks = await all('admin', 'owner:*');
    const values = (all: Record<string, number>) => Object.values(all).filter((value) => value > 0);
    expect(new Set(tasks.map(({ status }) => status))).toEqual(
      new Set(values(WorkspaceStatus).filter((status) => status !== WorkspaceStatus.DELETED)),
    );
    expect(new Set(tasks.map(({ phase }) => phase))).toEqual(new Set(values(TaskPhase)));
    expect(new Set(tasks.flatMap(({ currentState }) => (currentState === undefined ? [] : [currentState.state])))).toEqual(
      new Set(values(TaskState)),
    );
    expect(tasks.length).toBeGreaterThan(100);
    expect((await all('admin', 'owner:* status:deleted')).length).toBeGreaterThan(0);
  });

  test('the address of the page that is printed has what the page must send for the tokens', async () => {
    const [, address = '', secret = ''] = /^ {2}the page +(\S+#demo=([\w-]{22}))$/m.exec(service.output()) ?? [];
    expect(demo.page).toBe(address);
    expect(address).toBe(`${demo.web}/#demo=${secret}`);
    const ask = (headers: Record<string, string>) => fetch(`${demo.web}/demo/tokens`, { headers });
    expect(await (await ask({ 'demo-secret': secret })).json()).toEqual({ tokens: demo.tokens });
    expect((await ask({})).status).toBe(403);
  });

  test('each sees what they may', async () => {
    const developers = await all('developer', '');
    expect(developers.map(({ name }) => name)).toEqual(
      expect.arrayContaining(['task-hardcore-herschel-bd08', 'task-musing-dewdney-f058']),
    );
    expect((await all('admin', 'owner:developer')).length).toBe(developers.length);
    const outsiders = await all('outsider', 'owner:*');
    expect(outsiders.filter(({ ownerName }) => ownerName === 'outsider').length).toBeGreaterThan(0);
    // Of the other organization an outsider sees what was shared with them by name, and no more.
    expect(outsiders.filter(({ ownerName }) => ownerName === 'developer').length).toBeLessThan(developers.length / 4);
    expect(developers.some(({ favorite }) => favorite)).toBe(true);
  });

  test('connected agents of the demo are healthy', async () => {
    const { task } = await client().getTask(
      { identifier: { case: 'id', value: 'a7a27450-ca16-4553-a6c5-9d6f04808569' } },
      as('developer'),
    );
    expect(task?.workspaceAgentHealth).toMatchObject({ healthy: true });
    expect(task?.phase).toBe(TaskPhase.ACTIVE);
  });

  test('a second one on the same folder says who holds it', async () => {
    const { code, output } = await run(['serve'], env);
    expect(code).toBe(1);
    expect(output.trim().split('\n')).toHaveLength(1);
    expect(output).toContain(String(service.child.pid));
  });

  test('a busy port is one line that names the variable', async () => {
    const other = mkdtempSync(path.join(tmpdir(), 'busy-'));
    const blocker = createServer();
    await new Promise<void>((resolve) => blocker.listen(0, '127.0.0.1', resolve));
    try {
      const { port } = blocker.address() as { port: number };
      for (const name of ['GRPC_PORT', 'WEB_PORT', 'OPS_PORT']) {
        const { code, output } = await run(['serve'], { DATA_DIR: other, LOG_LEVEL: 'silent', [name]: String(port) });
        expect(code).toBe(1);
        expect(output.trim().split('\n')).toHaveLength(1);
        expect(output).toContain(name);
        expect(output).toContain(String(port));
      }
    } finally {
      blocker.close();
      rmSync(other, { recursive: true, force: true });
    }
  });

  test('keys: made and shown once, listed by id, revoked', async () => {
    const made = await run(['keys', 'create', '--user', 'Developer', '--name', 'for a script'], env);
    expect(made).toMatchObject({ code: 0, output: expect.stringMatching(/^[0-9A-Za-z]{10}-[0-9A-Za-z]{22}\n$/) });
    const token = made.output.trim();
    expect((await client().listTasks({}, as(token))).count).toBeGreaterThan(0);

    const listed = await run(['keys', 'list', '--user', 'developer'], env);
    expect(listed.output).toContain(token.slice(0, 10));
    expect(listed.output).toContain('for a script');
    expect(listed.output).not.toContain(token.slice(11));

    expect((await run(['keys', 'revoke', token.slice(0, 10)], env)).code).toBe(0);
    await until('the refusal', async () => (await codeOf(client().listTasks({}, as(token)))) === 'Unauthenticated' || undefined);
    expect((await run(['keys', 'create', '--user', 'nobody'], env)).code).toBe(1);

    for (const name of ['n'.repeat(192), 'two\nlines', '\u001b[31mred']) {
      const { code, output } = await run(['keys', 'create', '--user', 'developer', '--name', name], env);
      expect([code, output.includes('must have at most 191 characters')]).toEqual([1, true]);
    }
    const suspended = (await run(['keys', 'create', '--user', 'suspended'], env)).output.trim();
    expect(await codeOf(client().listTasks({}, as(suspended)))).toBe('Unauthenticated');
  });

  test('a change that another program writes is seen at once', async () => {
    const database = openDatabase(
      { socketPath: demo.socket, user: demo.user, database: demo.database },
      { size: 1, statementTimeoutMs: 5000 },
    );
    try {
      const id = '50f92138-f463-4f2b-abad-1816264b065f';
      const rename = (name: string) =>
        database('workspaces')
          .where('workspaces.id', Buffer.from(id.replaceAll('-', ''), 'hex'))
          .update({ name });
      const named = async (name: string) =>
        (await client().getTask({ identifier: { case: 'id', value: id } }, as('developer'))).task?.name === name || undefined;
      await rename('task-renamed');
      await until('the new name', () => named('task-renamed'), 2000);
      await rename('task-musing-dewdney-f058');
      await until('the old name', () => named('task-musing-dewdney-f058'), 2000);
    } finally {
      await closeDatabase(database);
    }
  });

  test('the read model is true to the source tables', async () => {
    expect(await run(['project', '--verify'], env)).toMatchObject({ code: 0 });
    const retried = await run(['project', '--retry'], env);
    expect(retried).toMatchObject({ code: 0, output: expect.stringContaining('0 workspaces tried again; 0 projected') });
  });

  test('is ready, and says so to a health check', async () => {
    const answer = await fetch(`${demo.ops}/readyz`);
    expect(answer.status).toBe(200);
    expect((await run(['healthcheck'], { ...env, OPS_PORT: new URL(demo.ops).port })).code).toBe(0);
    expect((await fetch(`${demo.ops}/metrics`)).status).toBe(200);
  });

  test('when the engine dies, it comes back, and the service with it', async () => {
    process.kill(demo.engine.pid, 'SIGKILL');
    await until('an answer', async () => (await codeOf(client().listTasks({}, as('developer')))) === undefined || undefined);
    expect((await all('developer', '')).length).toBeGreaterThan(0);
    await until('readiness', async () => ((await fetch(`${demo.ops}/readyz`)).ok ? true : undefined));
    // Commands still find it, and the file names the new engine.
    expect((await run(['keys', 'list'], env)).code).toBe(0);
    const dead = demo.engine.pid;
    demo = await until('the new engine in the file', () => {
      const file = JSON.parse(readFileSync(fileName, 'utf8')) as DemoFile;
      return file.engine.pid === dead ? undefined : file;
    });
  });

  test('stops on SIGTERM with everything it started, and starts again with its data', async () => {
    const before = await all('developer', '');
    const old = demo.tokens['developer'] ?? '';
    const stopping = performance.now();
    service.child.kill('SIGTERM');
    expect(await service.ended).toBe(0);
    expect(performance.now() - stopping).toBeLessThan(5000);
    expect(alive(demo.engine.pid)).toBe(false);
    expect(existsSync(fileName)).toBe(false);

    await startHere();
    expect((await all('developer', '')).map(({ id }) => id)).toEqual(before.map(({ id }) => id));
    // Whoever is signed in stays so.
    expect(demo.tokens['developer']).not.toBe(old);
    expect(await codeOf(client().listTasks({}, as(old)))).toBeUndefined();
  });

  test('killed with -9, it leaves no engine behind, and the next start works', async () => {
    const { pid } = demo.engine;
    service.child.kill('SIGKILL');
    await service.ended;
    await until('the end of the engine', () => (alive(pid) ? undefined : true), 5000);
    // What was left in demo.json must not mislead a command.
    expect((await run(['keys', 'list'], env)).code).toBe(0);
    await startHere();
    expect((await all('developer', '')).length).toBeGreaterThan(0);
  });
});

describe('settings', () => {
  test('everything that is wrong is told in one message', async () => {
    const { code, output } = await run(['serve'], { GRPC_PORT: 'x', LOG_LEVEL: 'loud', DATABASE_URL: 'postgres://u:s3cret@h/d' });
    expect(code).toBe(1);
    for (const name of ['GRPC_PORT', 'LOG_LEVEL', 'DATABASE_URL']) expect(output).toContain(name);
    expect(output).not.toContain('s3cret');
    expect(output).not.toContain('    at ');
  });

  test('a database that is not there is one line: a command ends with it, serve waits until it is told to end', async () => {
    const env = { DATABASE_URL: 'mysql://u:s3cret@127.0.0.1:1/d' };
    const { code, output } = await run(['migrate', 'status'], env);
    expect(code).toBe(1);
    const serving = start(['serve'], env);
    await until('the line', () => (serving.output().includes('waiting for it') ? true : undefined));
    await sleep(1000);
    serving.child.kill('SIGTERM');
    expect(await serving.ended).toBe(0);
    for (const text of [output, serving.output()]) {
      expect(text.trim().split('\n')).toHaveLength(1);
      expect(text).toContain('cannot be reached');
      expect(text).not.toContain('s3cret');
    }
  });
});

describeOnServerKinds('serve with a database', (engine) => {
  test('waits for one that is started later, and for no other password', async () => {
    const { address, drop } = await createTestDatabase(engine);
    const folder = mkdtempSync(path.join(tmpdir(), 'tasks-late-'));
    try {
      const refused = await run(['serve'], { DATABASE_URL: databaseUrl({ ...address, user: 'nobody', password: 'wrong' }) });
      expect([refused.code, refused.output.trim().split('\n')]).toEqual([1, [expect.stringContaining('Access denied')]]);
      const socketPath = path.join(folder, 'db.sock');
      let isThere = false;
      const onOutput = (output: string): void => {
        if (isThere || !output.includes('waiting for it')) return;
        isThere = true;
        symlinkSync(address.socketPath ?? '', socketPath);
      };
      const service = await startService({ ...address, socketPath }, {}, { onOutput });
      expect((await fetch(`http://${service.ops}/readyz`)).status).toBe(200);
      expect(await service.stop()).toBe(0);
    } finally {
      rmSync(folder, { recursive: true, force: true });
      await drop();
    }
  });

  test('refuses one that is not migrated, and one that is newer, and migrates it when told to', async () => {
    const { address, drop } = await createTestDatabase(engine, { migrate: false });
    try {
      for (const command of [
        ['keys', 'list'],
        ['project', '--verify'],
        ['project', '--all'],
        ['project', '--retry'],
        ['project', '--follow'],
      ]) {
        const { code, output } = await run(command, { DATABASE_URL: databaseUrl(address) });
        expect([code, output.trim().split('\n')], command.join(' ')).toEqual([1, [expect.stringContaining('run "migrate up"')]]);
      }
      const refused = await run(['serve'], { DATABASE_URL: databaseUrl(address) });
      expect(refused.code).toBe(1);
      expect(refused.output).toContain('migrate up');
      expect(refused.output.trim().split('\n')).toHaveLength(1);
      const service = await startService(address, { MIGRATE_ON_START: 'true' });
      expect((await fetch(`http://${service.ops}/readyz`)).status).toBe(200);
      expect(await service.stop('SIGINT')).toBe(0);
      const status = await run(['migrate', 'status'], { DATABASE_URL: databaseUrl(address) });
      expect(status.output).not.toContain('pending');

      const change = openDatabase(address, { size: 1, statementTimeoutMs: 10_000 });
      await change('knex_migrations').insert({ name: '20991231000000_from_the_future', batch: 9, migration_time: '2099-12-31' });
      await closeDatabase(change);
      const tooNew = await run(['serve'], { DATABASE_URL: databaseUrl(address) });
      expect([tooNew.code, tooNew.output.trim().split('\n')]).toEqual([1, [expect.stringContaining('newer than this program')]]);
    } finally {
      await drop();
    }
  });
});
