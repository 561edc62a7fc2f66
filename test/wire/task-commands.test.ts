import { execFile, spawnSync } from 'node:child_process';
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { stripVTControlCharacters } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createApiKeyRepository } from '../../src/auth/api-key-repository.ts';
import { formatUuid } from '../../src/db/uuid.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { insertUser } from '../support/people.ts';
import { type RunningService, startService } from '../support/service.ts';
import { insertRunningTask } from '../support/source-writer.ts';
import { newId } from '../support/tasks.ts';
import { runAtTerminal } from '../support/terminal.ts';
import { until } from '../support/test-server.ts';

const root = path.resolve(import.meta.dirname, '../..');

interface Ended {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

/** Runs the program in a process of its own, with pipes. */
function run(
  args: readonly string[],
  env: Readonly<Record<string, string>>,
  program = 'packages/cli/src/main.ts',
): Promise<Ended> {
  return new Promise((resolve) => {
    const child = execFile(
      process.execPath,
      [program, ...args],
      { cwd: root, env: { PATH: process.env['PATH'] ?? '', XDG_CONFIG_HOME: '/nonexistent', ...env } },
      (_, out, err) => resolve({ code: child.exitCode, out, err }),
    );
  });
}

describe('list, get and count', () => {
  const folder = mkdtempSync(path.join(tmpdir(), 'commands-'));
  let testDatabase: TestDatabase;
  let service: RunningService;
  let env: Record<string, string>;
  const ids = new Map<string, string>();
  const organization = newId();

  beforeAll(async () => {
    testDatabase = await createTestDatabase('mariadb');
    const { database } = testDatabase;
    const owner = await insertUser(database, { username: 'owner', memberships: [[organization]] });
    const token = (await createApiKeyRepository(database).create('owner', { lifetimeSeconds: 3600, name: 'test' })) ?? '';
    const reports = [
      ['first', 'working', 2, 'https://example.com/pull/1'],
      ['second', 'idle', 20, ''],
      ['third', 'idle', 300, 'javascript:alert(1)'],
      ['fourth', 'working', 2, ''],
    ] as const;
    for (const [name, state, minutes, uri] of reports) {
      const task = await insertRunningTask(database, { name, owner_id: owner, organization_id: organization });
      ids.set(name, formatUuid(task.workspace));
      const report = { state, message: `report of\n${name}\u001b[2J`, uri, created_at: minutesAgo(minutes) };
      await database('workspace_app_statuses').where('id', task.status).update(report);
    }
    // The reports are older than the builds would be.
    await database('workspace_builds').update({ created_at: minutesAgo(10_000) });
    service = await startService(testDatabase.address);
    env = { TASKS_ADDRESS: service.web, TASKS_TOKEN: token };
    await until('all reports', async () => (await run(['count', '--query', 'waiting:true', '-q'], env)).out === '2\n');
  });
  afterAll(async () => {
    await service.stop();
    await testDatabase.drop();
    rmSync(folder, { recursive: true });
  });

  const names = (text: string) => text.trim().split('\n');

  test('list prints what waits first, a line for each task with times as in RFC 3339', async () => {
    const { code, out, err } = await run(['list'], env);
    expect([code, err]).toEqual([0, '']);
    const cells = names(out).map((line) => line.split('\t'));
    expect(cells.map(([name]) => name)).toEqual(['third', 'second', 'first', 'fourth']);
    expect(cells[0]).toEqual([
      'third',
      'owner',
      'running',
      'active',
      'idle',
      expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/),
      'report of third[2J',
    ]);
  });

  test.each<[string, args: string[], lines: () => string[]]>([
    ['names', ['--output', 'name'], () => ['owner/third', 'owner/second', 'owner/first', 'owner/fourth']],
    ['ids', ['-q', '--order-by', 'name desc'], () => ['third', 'second', 'fourth', 'first'].map((name) => ids.get(name) ?? '')],
    ['of a query', ['--query', 'state:working', '-o', 'name'], () => ['owner/first', 'owner/fourth']],
    ['what waits alone', ['--query', 'waiting:true', '--order-by', 'name', '-o', 'name'], () => ['owner/second', 'owner/third']],
  ])('list prints %s', async (_name, args, lines) => {
    const { code, out } = await run(['list', ...args], env);
    expect([code, names(out)]).toEqual([0, lines()]);
  });

  test('list prints JSON of as many tasks as it may, and says that there are more', async () => {
    const array = await run(['list', '-o', 'json', '--limit', '3'], env);
    const lines = await run(['list', '-o', 'jsonl', '--limit', '3'], env);
    const tasks = JSON.parse(array.out) as { name: string; waitingSince?: string }[];
    expect(tasks.map(({ name }) => name)).toEqual(['third', 'second', 'first']);
    expect(names(lines.out).map((line) => JSON.parse(line) as unknown)).toEqual(tasks);
    expect([array.code, array.err]).toEqual([0, 'the list has more than 3 tasks: --limit shows more of them\n']);
  });

  test('get finds a task by its name, its owner and its id', async () => {
    const id = ids.get('first') ?? '';
    for (const named of ['first', 'owner/FIRST', id.toUpperCase()]) {
      const { code, out } = await run(['get', named, '-q'], env);
      expect([code, out], named).toEqual([0, `${id}\n`]);
    }
    const { out } = await run(['get', 'first', '-o', 'json'], env);
    expect(JSON.parse(out)).toMatchObject({ id, name: 'first', currentState: { uri: 'https://example.com/pull/1' } });
    const pairs = names((await run(['get', 'third'], env)).out).map((line) => line.split('\t'));
    expect(Object.fromEntries(pairs)).toMatchObject({
      task: 'third',
      state: 'idle',
      message: 'report of third[2J',
      'waiting since': expect.stringMatching(/Z$/) as string,
    });
  });

  test('get --open opens the link of a page, and nothing else', async () => {
    const [program, opened] = [path.join(folder, 'browser'), path.join(folder, 'opened')];
    writeFileSync(program, `#!/bin/sh\nprintf %s "$*" > '${opened}.new' && mv '${opened}.new' '${opened}'\n`);
    chmodSync(program, 0o700);
    const withBrowser = { ...env, BROWSER: program };
    expect(await run(['get', 'first', '--open'], withBrowser)).toEqual({ code: 0, out: 'https://example.com/pull/1\n', err: '' });
    await until('the browser', () => existsSync(opened));
    expect(readFileSync(opened, 'utf8')).toBe('https://example.com/pull/1');
    for (const [name, message] of [
      ['second', 'second has reported no link'],
      ['third', 'the link is no web page: javascript:alert(1)'],
    ] as const) {
      expect(await run(['get', name, '--open'], withBrowser)).toEqual({ code: 1, out: '', err: `${message}\n` });
    }
    const missing = await run(['get', 'first', '--open'], { ...env, BROWSER: '/nonexistent' });
    expect([missing.code, missing.err]).toEqual([1, expect.stringContaining('https://example.com/pull/1')]);
  });

  test('count prints the terms of queries that have tasks', async () => {
    const { code, out } = await run(['count'], env);
    expect(code).toBe(0);
    expect(names(out)).toEqual([
      'all\t4',
      'waiting:true\t2',
      'status:running\t4',
      'phase:active\t4',
      'state:working\t2',
      'state:idle\t2',
    ]);
    const { out: json } = await run(['count', '--query', 'state:idle', '-o', 'jsonl'], env);
    expect(JSON.parse(json)).toMatchObject({ total: { count: 2 }, waiting: { count: 2 } });
  });

  test.each<[string, columns: number, terminal: Record<string, string>, colors: boolean]>([
    ['of 80 columns', 80, { TERM: 'xterm' }, true],
    ['of 50 columns without colors', 50, { TERM: 'xterm', NO_COLOR: '1' }, false],
    ['that is dumb', 80, { TERM: 'dumb' }, false],
  ])('at a terminal %s list is a table that fits', async (_name, columns, terminal, colors) => {
    const command = `stty rows 24 cols ${columns}; exec "${process.execPath}" packages/cli/src/main.ts list`;
    const { code, out } = await runAtTerminal(command, { ...env, ...terminal });
    expect(code).toBe(0);
    const lines = out.trim().split('\r\n');
    expect(out.includes('\u001b')).toBe(colors);
    expect(lines[1]?.startsWith('\u001b[33mthird ')).toBe(colors);
    if (columns === 80) expect(out).toContain('5 h ago');
    for (const line of lines) expect(stripVTControlCharacters(line).length).toBeLessThanOrEqual(columns);
  });

  test('list says at a terminal that there are no tasks, and nothing in a pipe', async () => {
    const args = 'packages/cli/src/main.ts list --query name:nothing-like-it';
    const { code, out } = await runAtTerminal(`exec "${process.execPath}" ${args}`, env);
    expect([code, out.trim()]).toEqual([0, 'no tasks']);
    expect(await run(['list', '--query', 'name:nothing-like-it'], env)).toMatchObject({ code: 0, out: '', err: '' });
    expect((await run(['list', '--limit', '1'], env)).err).toBe('the list has more than 1 task: --limit shows more of them\n');
  });

  test('the help ends quietly when nobody reads it', () => {
    const { stderr } = spawnSync('sh', ['-c', `"${process.execPath}" packages/cli/src/main.ts --help | :`], {
      cwd: root,
      encoding: 'utf8',
    });
    expect(stderr).toBe('');
  });

  test('each way to fail has an exit code of its own, which the help lists', async () => {
    const away = { ...env, TASKS_ADDRESS: '127.0.0.1:1' };
    const stranger = { ...env, TASKS_TOKEN: 'aaaaaaaaaa-aaaaaaaaaaaaaaaaaaaaaa' };
    for (const [args, exitCode, how] of [
      [['list', '--query', 'status:nonsense'], 4, env],
      [['list', '--order-by', 'size'], 4, env],
      [['count', '--query', 'nonsense:x'], 4, env],
      [['count'], 5, stranger],
      [['list'], 6, away],
      [['get', 'nobody/knows'], 7, env],
      [['get'], 1, env],
      [['list', '--output', 'xml'], 1, env],
    ] as const) {
      const { code, out, err } = await run(args, how);
      expect([code, out, err.trim().split('\n').length], args.join(' ')).toEqual([exitCode, '', 1]);
    }
    const { out } = await run(['list', '--help'], env);
    for (const meaning of ['3  an --until condition', '4  the service refuses', '5  not signed in', '6  the service is away'])
      expect(out).toContain(meaning);
    expect((await run(['--help'], env)).out).toContain('5  not signed in');
    // A checkout has them in one program with those for operators.
    const all = await run(['--help'], env, 'dev/main.ts');
    expect(all.out).toMatch(/For people.*\n {2}list .*\n(.*\n)+ {2}login .*\n(.*\n)+For operators:\n {2}serve /);
  });
});

/** A time so many minutes ago, as the tables of Coder have it. */
function minutesAgo(minutes: number): string {
  return new Date(Date.now() - minutes * 60_000).toISOString().slice(0, 23).replace('T', ' ');
}
