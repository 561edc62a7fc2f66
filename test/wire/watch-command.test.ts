import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createApiKeyRepository } from '../../src/auth/api-key-repository.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { insertUser } from '../support/people.ts';
import { type RunningService, startService } from '../support/service.ts';
import { insertRunningTask, insertStatus, type SourceTaskIds } from '../support/source-writer.ts';
import { newId } from '../support/tasks.ts';
import { openTerminal, runAtTerminal } from '../support/terminal.ts';
import { until } from '../support/test-server.ts';

const root = path.resolve(import.meta.dirname, '../..');

/** The program as `watch` of a process of its own. */
function run(args: readonly string[], env: Readonly<Record<string, string>>) {
  const child = spawn(process.execPath, ['packages/cli/src/main.ts', 'watch', ...args], {
    cwd: root,
    env: { PATH: process.env['PATH'] ?? '', XDG_CONFIG_HOME: '/nonexistent', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const running = { out: '', err: '', code: undefined as number | null | undefined, kill: () => child.kill('SIGINT') };
  child.stdout.on('data', (chunk: Buffer) => {
    running.out += chunk.toString();
  });
  child.stderr.on('data', (chunk: Buffer) => {
    running.err += chunk.toString();
  });
  const ended = new Promise<number | null>((resolve) => child.once('close', resolve));
  void ended.then((code) => {
    running.code = code;
  });
  return Object.assign(running, { ended });
}

describe('watch', () => {
  let testDatabase: TestDatabase;
  let service: RunningService;
  let env: Record<string, string>;
  const organization = newId();
  let owner: Buffer;

  beforeAll(async () => {
    testDatabase = await createTestDatabase('mariadb');
    const { database } = testDatabase;
    owner = await insertUser(database, { username: 'owner', memberships: [[organization]] });
    const token = (await createApiKeyRepository(database).create('owner', { lifetimeSeconds: 3600, name: 'test' })) ?? '';
    service = await startService(testDatabase.address);
    env = { TASKS_ADDRESS: service.web, TASKS_TOKEN: token };
  });
  afterAll(async () => {
    await service.stop();
    await testDatabase.drop();
  });

  const task = (name: string) =>
    insertRunningTask(testDatabase.database, { name, owner_id: owner, organization_id: organization });
  const report = (ids: SourceTaskIds, state: string, message: string) => insertStatus(testDatabase.database, ids, state, message);

  test('--until ends with 0 when the condition is met, also when the service restarted meanwhile', async () => {
    const ids = await task('for-a-script');
    const watching = run(['--query', 'name:for-a-script', '--until', 'state:idle', '--until', 'status:failed', '--json'], env);
    await until('the task', () => watching.out.includes('"synced"'));
    const { web } = service;
    await service.stop();
    await until('the end of the connection', () => watching.out.includes('"disconnected"'));
    service = await startService(testDatabase.address, { WEB_PORT: web.split(':')[1] ?? '' });
    await report(ids, 'working', 'still at it');
    await until('the message', () => watching.out.includes('still at it'));
    expect(watching.code).toBeUndefined();
    await report(ids, 'idle', 'done');
    expect(await watching.ended).toBe(0);
    const events = watching.out
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { event: string; task?: { name: string; currentState: { state: string } } });
    expect(events.at(-1)).toMatchObject({ event: 'upserted', task: { currentState: { state: 'TASK_STATE_IDLE' } } });
    expect(watching.err).toBe('');
  });

  test('lines for people hold nothing that steers a terminal', async () => {
    await task('hostile');
    const watching = run(['--query', 'name:hostile'], env);
    await until('the task', () => watching.out.includes('hostile'));
    const ids = await task('hostile-too');
    await report(ids, 'idle', 'a\u001b[2Jb\nc\u202ed');
    await until('the message', () => watching.out.includes('a[2Jb cd'));
    watching.kill();
    expect(await watching.ended).toBe(0);
    expect(watching.out.replaceAll(/[\t\n]/g, '')).not.toMatch(/[\p{Cc}\p{Cf}]/u);
  });

  test.each<[name: string, env: Record<string, string>, escapes: boolean]>([
    ['at-a-terminal', { TERM: 'xterm' }, true],
    ['at-a-dumb-one', { TERM: 'dumb' }, false],
    ['without-colors', { TERM: 'xterm', NO_COLOR: '1' }, false],
  ])('%s, with %j, escapes: %s', async (name, terminal, escapes) => {
    await task(name);
    const watch = `"${process.execPath}" packages/cli/src/main.ts watch --query name:${name} --until status:running`;
    const { code, out } = await runAtTerminal(watch, { ...env, ...terminal });
    expect(code).toBe(0);
    expect(out).toContain(name);
    expect(out.includes('\u001b')).toBe(escapes);
  });

  test('the table stays inside the screen, and follows its size', async () => {
    for (let i = 0; i < 24; i += 1) await task(`of-many-${i}`);
    const resize = 'sleep 0; stty rows 12 cols 60';
    const watch = `"${process.execPath}" packages/cli/src/main.ts watch --query name:of-many`;
    // The shell of that terminal gives it a size, and another one later, of which a signal tells.
    const command = `stty rows 24 cols 80; ${watch} & until [ -e "$GO" ]; do sleep 0.1; done; ${resize}; wait`;
    const folder = mkdtempSync(path.join(tmpdir(), 'watch-'));
    const go = path.join(folder, 'go');
    const shell = openTerminal(command, { ...env, TERM: 'xterm', GO: go });
    const screens = () =>
      shell.out
        .split('\u001b[2J\u001b[H')
        .slice(1)
        .map((screen) => screen.trimEnd().split('\r\n'));
    await until('all tasks', () => screens().some(([status]) => status?.startsWith('24 tasks, live')));
    expect(Math.max(...screens().map((lines) => lines.length))).toBe(24);
    writeFileSync(go, '');
    await until('a smaller table', () => screens().at(-1)?.length === 12 && screens().at(-1)?.[0]?.startsWith('24 tasks, live'));
    shell.kill();
    rmSync(folder, { recursive: true });
  });

  test('--until ends with 3 when no task is left', async () => {
    const ids = await task('to-be-deleted');
    const waiting = run(['--query', 'name:to-be-deleted', '--until', 'state:idle', '--json'], env);
    await until('the task', () => waiting.out.includes('"synced"'));
    await testDatabase.database('workspaces').where('id', ids.workspace).update({ deleted: 1 });
    expect([await waiting.ended, waiting.err]).toEqual([3, 'no task matches the query any more\n']);
  });

  test('it ends quietly when nobody reads on', async () => {
    await task('for-head');
    const shell = spawn('sh', ['-c', `"${process.execPath}" packages/cli/src/main.ts watch --query name:for-head | head -n 1`], {
      cwd: root,
      env: { PATH: process.env['PATH'] ?? '', ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let [out, err] = ['', ''];
    shell.stdout.on('data', (chunk: Buffer) => {
      out += chunk.toString();
    });
    shell.stderr.on('data', (chunk: Buffer) => {
      err += chunk.toString();
    });
    const closed = new Promise((resolve) => shell.once('close', resolve));
    await until('the task', () => out.includes('for-head'));
    const ids = await task('for-head-again'); // what it writes next is one line too many
    await report(ids, 'idle', 'done');
    await closed;
    expect(err).toBe('');
  });

  test.each<[string, args: string[], exitCode: number, message: string]>([
    [
      'what never comes',
      ['--query', 'name:nothing-like-it', '--until', 'state:idle', '--timeout', '1'],
      3,
      'timed out after 1 s: no --until condition was met',
    ],
    ['a wrong query', ['--query', 'status:nonsense'], 4, 'status: "nonsense" is not a valid value'],
    ['a wrong condition', ['--until', 'name:x'], 1, '--until: name: is not allowed'],
    ['an invalid condition', ['--until', 'state:nonsense'], 1, '--until: state:'],
    ['an empty condition', ['--until', ' '], 1, '--until: is empty'],
    ['an invalid address', ['--address', 'http://'], 1, 'is not an address'],
  ])('of %s it says so in one line, and exits with %3$i', async (_, args, exitCode, message) => {
    const watching = run(args, env);
    expect(await watching.ended).toBe(exitCode);
    expect(watching.err).toContain(message);
    expect(watching.err.trim().split('\n')).toHaveLength(1);
  });

  test('--timeout without a condition ends it with 0', async () => {
    const watching = run(['--query', 'name:nothing-like-it', '--timeout', '3'], env);
    expect([await watching.ended, watching.err]).toEqual([0, '']);
  });

  test('a service that is away when the time is over is told by a code of its own, with a condition and without', async () => {
    for (const more of [[], ['--until', 'state:idle']]) {
      const watching = run([...more, '--timeout', '1'], { ...env, TASKS_ADDRESS: '127.0.0.1:1' });
      expect([await watching.ended, watching.err]).toEqual([
        6,
        expect.stringContaining('while the service is away: connect ECONNREFUSED'),
      ]);
    }
  });

  test('without an address, or with a wrong token, it says what is missing', async () => {
    expect(await run([], {}).ended).toBe(5);
    const nobody = run([], { TASKS_ADDRESS: service.web });
    expect([await nobody.ended, nobody.err]).toEqual([5, expect.stringContaining('TASKS_TOKEN')]);
    const wrong = run([], { ...env, TASKS_TOKEN: 'aaaaaaaaaa-aaaaaaaaaaaaaaaaaaaaaa' });
    expect([await wrong.ended, wrong.err]).toEqual([5, expect.stringContaining('session')]);
  });
});
