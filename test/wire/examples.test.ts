import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { create } from '@bufbuild/protobuf';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createApiKeyRepository } from '../../src/auth/api-key-repository.ts';
import { shuttingDown } from '../../src/call/errors.ts';
import { formatUuid } from '../../src/db/uuid.ts';
import { ListTasksResponseSchema, WorkspaceStatus } from '../../src/gen/tasks/v1/tasks_pb.ts';
import { startGeneration } from '../../src/projection/feed.ts';
import { createTestDatabase, describeOnOneEngine, type TestDatabase } from '../support/database.ts';
import { type ExampleProgram, exampleLanguages } from '../support/example-programs.ts';
import { insertUser } from '../support/people.ts';
import { type RunningService, startService } from '../support/service.ts';
import { insertRunningTask, insertStatus } from '../support/source-writer.ts';
import { newId } from '../support/tasks.ts';
import { goodToken, startTestServer, until } from '../support/test-server.ts';

const root = path.resolve(import.meta.dirname, '../..');
const execute = promisify(execFile);

const found = await Promise.all(
  Object.entries(exampleLanguages).map(async ([language, find]) => {
    const program = await find().catch((error: unknown) => String(error));
    console.log(
      typeof program === 'string' ? `NOT RUN: the example in ${language}: ${program}` : `${language} ${program.version}`,
    );
    return { language, program };
  }),
);

/** An example that runs. */
interface Running {
  readonly language: string;
  out: string;
  err: string;
  readonly process: ChildProcess;
  readonly ended: Promise<number | null>;
}

function start(language: string, { command, env }: ExampleProgram, args: readonly string[], more: NodeJS.ProcessEnv): Running {
  const [program = '', ...before] = command;
  const child = spawn(program, [...before, ...args], {
    env: { ...process.env, ...env, ...more },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const ended = new Promise<number | null>((resolve) => child.once('close', resolve));
  const running: Running = { language, out: '', err: '', process: child, ended };
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    running.out += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    running.err += text;
  });
  return running;
}

describeOnOneEngine('the examples of clients in other languages', (engine) => {
  let testDatabase: TestDatabase;
  let service: RunningService;
  let env: Record<string, string>;
  let ids: Awaited<ReturnType<typeof insertRunningTask>>;
  let other: Awaited<ReturnType<typeof insertRunningTask>>;
  /** Those whose tools and libraries are there. */
  const built = found.flatMap(({ language, program }) => (typeof program === 'string' ? [] : [{ language, program }]));

  beforeAll(async () => {
    const building = Promise.all(built.map(({ program }) => program.build()));
    testDatabase = await createTestDatabase(engine);
    const { database } = testDatabase;
    const organization = newId();
    const owner = await insertUser(database, { username: 'owner', memberships: [[organization]] });
    const token = (await createApiKeyRepository(database).create('owner', { lifetimeSeconds: 3600, name: 'test' })) ?? '';
    ids = await insertRunningTask(database, { name: 'fix-login', owner_id: owner, organization_id: organization });
    other = await insertRunningTask(database, { name: 'write-docs', owner_id: owner, organization_id: organization });
    service = await startService(testDatabase.address);
    env = { TASKS_ADDRESS: service.grpc, TASKS_TOKEN: token };
    await building;
  }, 600_000);

  afterAll(async () => {
    await service.stop();
    await testDatabase.drop();
  });

  const line = (task: typeof ids, name: string, state = 'TASK_STATE_WORKING') =>
    `${formatUuid(task.workspace)}\towner/${name}\tWORKSPACE_STATUS_RUNNING\t${state}\n`;
  const report = (task: typeof ids, state: string) => insertStatus(testDatabase.database, task, state);

  describe.each(found)('in $language', ({ language, program }) => {
    const example = (args: readonly string[], more: Record<string, string> = env): Running => {
      if (typeof program === 'string') throw new Error(program);
      return start(language, program, args, more);
    };

    test.skipIf(typeof program === 'string')('list and get print tasks, and say what is wrong', async () => {
      await until('both tasks', async () => {
        const listing = example(['list', 'owner:me']);
        expect([await listing.ended, listing.err]).toEqual([0, '']);
        return listing.out === line(ids, 'fix-login') + line(other, 'write-docs');
      });
      const getting = example(['get', 'me/fix-login']);
      expect([await getting.ended, getting.err, getting.out]).toEqual([0, '', line(ids, 'fix-login')]);
      const unread = example(['list', 'owner:me']);
      unread.process.stdout?.destroy();
      await unread.ended;
      expect(unread.err).toBe('');
      const absent = example(['get', 'me/nothing-like-it']);
      expect([await absent.ended, absent.out]).toEqual([1, '']);
      expect(absent.err).toMatch(/not.?found/i);
      const wrong = example(['watch', 'status:nonsense']);
      expect([await wrong.ended, wrong.out]).toEqual([1, '']);
      expect(wrong.err).toContain('"nonsense" is not a valid value');
    });

    test.skipIf(typeof program === 'string')('list reads all pages, and its service config retries', async () => {
      const asked: string[] = [];
      const server = await startTestServer({
        handlers: {
          listTasks: ({ pageToken }) => {
            asked.push(pageToken);
            if (asked.length <= 2) return Promise.reject(shuttingDown());
            const task = { id: String(asked.length), ownerName: 'me', name: 'one', status: WorkspaceStatus.PENDING };
            const nextPageToken = pageToken === '' ? 'second' : '';
            return Promise.resolve(create(ListTasksResponseSchema, { tasks: [task], nextPageToken }));
          },
        },
      });
      const listing = example(['list'], { TASKS_ADDRESS: server.grpc, TASKS_TOKEN: goodToken });
      const code = await listing.ended;
      await server.stop();
      expect([code, listing.err]).toEqual([0, '']);
      expect(listing.out).toBe('3\tme/one\tWORKSPACE_STATUS_PENDING\t-\n4\tme/one\tWORKSPACE_STATUS_PENDING\t-\n');
      expect(asked).toEqual(['', '', '', 'second']);
    });
  });

  test.skipIf(built.length === 0)('watch tells changes, goes on where it was after a restart, and else begins anew', async () => {
    const watching = built.map(({ language, program }) => start(language, program, ['watch', 'owner:me'], env));
    const upserted = (...of: Parameters<typeof line>) => `upserted\t${line(...of)}`;
    const read = watching.map(() => 0);
    /** Waits until each has printed these lines, and no other, since the last time. */
    const expectLines = async (lines: readonly string[], arrange = (printed: readonly string[]) => printed) => {
      await expect
        .poll(() => watching.map(({ out }, index) => arrange(out.slice(read[index]).split(/(?<=\n)/))))
        .toEqual(watching.map(() => arrange(lines)));
      for (const [index, { out }] of watching.entries()) read[index] = out.length;
    };
    /** Stops the service, and starts it again when each has noticed. */
    const restart = async (meanwhile: () => Promise<unknown>) => {
      const before = watching.map(({ err }) => err.length);
      await service.stop();
      await until('the end of the streams', () => watching.every(({ err }, index) => err.length > (before[index] ?? 0)));
      await meanwhile();
      service = await startService(testDatabase.address, { GRPC_PORT: service.grpc.split(':')[1] ?? '' });
    };

    await expectLines([upserted(other, 'write-docs'), upserted(ids, 'fix-login'), 'synced\t2 tasks\n']);
    await report(ids, 'idle');
    await expectLines([upserted(ids, 'fix-login', 'TASK_STATE_IDLE')]);
    // What has changed while the service was away comes alone, at once or when it is projected.
    await restart(() => report(ids, 'complete'));
    const complete = upserted(ids, 'fix-login', 'TASK_STATE_COMPLETE');
    await expectLines([complete, 'synced\t2 tasks\n'], (printed) => printed.toSorted());
    await restart(() => startGeneration(testDatabase.database));
    await expectLines(['restarted\n', upserted(other, 'write-docs'), complete, 'synced\t2 tasks\n']);
    await testDatabase.database('workspaces').where('id', other.workspace).update({ deleted: 1 });
    await expectLines([`removed\t${formatUuid(other.workspace)}\n`]);
    for (const each of watching) each.process.kill('SIGTERM');
    expect(await Promise.all(watching.map(({ ended }) => ended))).toEqual(watching.map(() => 0));
  });
});

test('buf generates the contract alone from the address of a repository', async () => {
  const folder = mkdtempSync(path.join(tmpdir(), 'contract-'));
  const repository = path.join(folder, 'repository');
  for (const name of ['buf.yaml', 'proto', 'third_party']) {
    cpSync(path.join(root, name), path.join(repository, name), { recursive: true });
  }
  const git = (...args: string[]) =>
    execute('git', ['-C', repository, '-c', 'user.name=test', '-c', 'user.email=t@example.com', ...args]);
  await git('init', '--quiet', '--initial-branch=main');
  await git('add', '.');
  await git('commit', '--quiet', '--message=test');
  const opt = ['target=ts', 'import_extension=ts', 'erasable_syntax=true'];
  const template = { version: 'v2', plugins: [{ local: 'protoc-gen-es', out: 'gen', opt }] };
  const from = `file://${repository}/.git#branch=main,subdir=proto`;
  const PATH = `${path.join(root, 'node_modules/.bin')}${path.delimiter}${process.env['PATH'] ?? ''}`;
  await execute('buf', ['generate', from, '--template', JSON.stringify(template)], {
    cwd: folder,
    env: { ...process.env, PATH },
  });
  const generated = readdirSync(path.join(folder, 'gen'), { recursive: true, encoding: 'utf8' });
  expect(generated.filter((name) => name.endsWith('.ts'))).toEqual(['tasks/v1/tasks_pb.ts']);
  expect(readFileSync(path.join(folder, 'gen/tasks/v1/tasks_pb.ts'), 'utf8')).toBe(
    readFileSync(path.join(root, 'src/gen/tasks/v1/tasks_pb.ts'), 'utf8'),
  );
  rmSync(folder, { recursive: true });
});
