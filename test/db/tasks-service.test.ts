import { create, toBinary } from '@bufbuild/protobuf';
import { Code, ConnectError } from '@connectrpc/connect';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Caller } from '../../src/call/caller.ts';
import { closeDatabase, type Database, openDatabase } from '../../src/db/connection.ts';
import { readPageTokenKey } from '../../src/db/settings.ts';
import { formatUuid } from '../../src/db/uuid.ts';
import { BadRequestSchema, ErrorInfoSchema } from '../../src/gen/google/rpc/error_details_pb.ts';
import {
  GetTaskRequestSchema,
  type ListTasksRequest,
  ListTasksRequestSchema,
  ListTasksResponseSchema,
  WorkspaceStatus,
} from '../../src/gen/tasks/v1/tasks_pb.ts';
import { createTaskRepository, maxPageBytes } from '../../src/tasks/store/task-repository.ts';
import type { TaskMessages } from '../../src/tasks/task-messages.ts';
import { createTestDatabase, describeOnEngines, type TestDatabase } from '../support/database.ts';
import { insertOrganization, insertTemplate, insertUser } from '../support/people.ts';
import { aTask, insertTasks, newId } from '../support/tasks.ts';
import { createTasksService } from '../support/tasks-service.ts';
import { testCall } from '../support/test-call.ts';

/** What a plain member of an organization has. */
const memberOf = (organizationId: Buffer) => ({
  customRoles: [],
  memberships: [{ organizationId, roles: [], customRoles: [] }],
  groupIds: [],
  mayRead: true,
});

type Init = Partial<Pick<ListTasksRequest, 'pageSize' | 'pageToken' | 'query' | 'orderBy' | 'includeTotalSize'>>;

describeOnEngines('the service', (engine) => {
  let testDatabase: TestDatabase;
  let database: Database;
  let service: TaskMessages;
  let owner: Caller;
  let member: Caller;
  let siteOwner: Caller;
  let home: Buffer;
  const task = { id: newId(), name: 'Fix-Login' };
  let sent = 0;

  const list = (caller: Caller, init: Init = {}) => service.listTasks(create(ListTasksRequestSchema, init), testCall(caller));
  const get = (caller: Caller, identifier: { id: string } | { owner: string; name: string }) =>
    service.getTask(
      create(GetTaskRequestSchema, {
        identifier: 'id' in identifier ? { case: 'id', value: identifier.id } : { case: 'name', value: identifier },
      }),
      testCall(caller),
    );
  const refusal = async (promise: Promise<unknown>) => {
    const error = ConnectError.from(
      await promise.then(
        () => expect.unreachable('was not refused'),
        (thrown: unknown) => thrown,
      ),
    );
    return {
      code: error.code,
      reason: error.findDetails(ErrorInfoSchema)[0]?.reason,
      fields: error.findDetails(BadRequestSchema)[0]?.fieldViolations.map(({ field }) => field),
    };
  };

  beforeAll(async () => {
    testDatabase = await createTestDatabase(engine, { onStatement: () => void sent++ });
    database = testDatabase.database;
    home = await insertOrganization(database, 'home');
    const template = await insertTemplate(database, { organizationId: home, name: 'typescript' });
    const person = async (username: string, roles: string[] = []): Promise<Caller> => ({
      userId: await insertUser(database, { username, roles, memberships: [[home]] }),
      username,
      roles,
      ...memberOf(home),
    });
    owner = await person('owner');
    member = await person('member');
    siteOwner = await person('boss', ['owner']);
    service = createTasksService(database, { pageTokenKey: await readPageTokenKey(database) });
    const common = { ownerId: owner.userId, organizationId: home, templateId: template };
    await insertTasks(database, [
      aTask({ ...common, ...task, favorite: true }),
      ...Array.from({ length: 29 }, (_, i) =>
        aTask({ ...common, status: i % 3 === 0 ? WorkspaceStatus.STOPPED : WorkspaceStatus.RUNNING }),
      ),
      aTask({ ...common, name: 'gone', deleted: true }),
    ]);
  });
  afterAll(() => testDatabase.drop());

  test('a page without a size has 25 tasks, and a token for the rest', async () => {
    const first = await list(owner);
    expect([first.tasks.length, first.count, first.totalSize]).toEqual([25, 25, undefined]);
    const second = await list(owner, { pageToken: first.nextPageToken });
    expect([second.tasks.length, second.count, second.nextPageToken]).toEqual([5, 5, '']);
    expect(new Set([...first.tasks, ...second.tasks].map(({ id }) => id)).size).toBe(30);
  });

  test('favorites come first, then running ones, then by name', async () => {
    const { tasks } = await list(owner, { pageSize: 200 });
    expect(tasks[0]).toMatchObject({
      name: task.name,
      favorite: true,
      ownerName: 'owner',
      organizationName: 'home',
      templateName: 'typescript',
    });
    const rank = tasks.slice(1).map(({ status, name }) => `${status === WorkspaceStatus.RUNNING ? 0 : 1} ${name}`);
    expect(rank).toEqual(rank.toSorted());
  });

  test('a page size may change from page to page', async () => {
    const ids: string[] = [];
    let pageToken = '';
    for (let pageSize = 1; ; pageSize++) {
      const page = await list(owner, { pageSize, pageToken });
      ids.push(...page.tasks.map(({ id }) => id));
      pageToken = page.nextPageToken;
      if (pageToken === '') break;
    }
    expect(ids).toHaveLength(30);
    expect(new Set(ids).size).toBe(30);
  });

  test.each(['', 'created_at', 'created_at desc', 'name', 'name desc'])(
    'a walk shows no task twice, and misses none, while others come and go (order "%s")',
    async (orderBy) => {
      const walker = newId();
      const caller: Caller = { userId: walker, username: 'walker', roles: [], ...memberOf(home) };
      const some = (count: number) =>
        Array.from({ length: count }, () => {
          const random = Math.random();
          return aTask({
            ownerId: walker,
            organizationId: home,
            name: `${random.toString(36).slice(2, 12)}-${newId().toString('hex').slice(0, 6)}`,
            status: random < 0.5 ? WorkspaceStatus.RUNNING : WorkspaceStatus.STOPPED,
            favorite: random < 0.2,
            createdAt: `2026-05-01 00:00:00.${String(Math.floor(random * 20)).padStart(6, '0')}`,
          });
        });
      const staying = some(40);
      await insertTasks(database, staying);
      let passing = some(20);
      await insertTasks(database, passing);
      const shown: string[] = [];
      let pageToken = '';
      do {
        const page = await list(caller, { pageSize: 3, pageToken, orderBy });
        shown.push(...page.tasks.map(({ id }) => id));
        pageToken = page.nextPageToken;
        const [first, second, ...rest] = passing;
        await database('workspace_tasks')
          .whereIn(
            'workspace_tasks.id',
            [first, second].flatMap((one) => (one === undefined ? [] : [one.id])),
          )
          .delete();
        const more = some(2);
        await insertTasks(database, more);
        passing = [...rest, ...more].toSorted(() => Math.random() - 0.5);
      } while (pageToken !== '');
      expect(new Set(shown).size, 'no task twice').toBe(shown.length);
      for (const { id } of staying) expect(shown).toContain(formatUuid(id));
    },
  );

  test('the total counts all pages, on request', async () => {
    expect(await list(owner, { pageSize: 1, includeTotalSize: true })).toMatchObject({ totalSize: 30, totalSizeCapped: false });
    expect(await list(owner, { includeTotalSize: true, query: 'status:stopped' })).toMatchObject({ totalSize: 10, count: 10 });
    expect(await list(owner, { includeTotalSize: true, query: 'template:none' })).toMatchObject({ totalSize: 0, count: 0 });
    expect(await list(member, { includeTotalSize: true, query: 'owner:owner' })).toMatchObject({ totalSize: 0, count: 0 });
  });

  describe('three personas', () => {
    test('list', async () => {
      expect((await list(owner, { query: 'owner:me' })).count).toBe(25);
      expect((await list(siteOwner, { query: 'owner:OWNER status:running' })).count).toBe(20);
      expect((await list(siteOwner, { query: 'owner:*' })).count).toBe(25);
      expect((await list(siteOwner)).count).toBe(0);
      expect((await list(member)).count).toBe(0);
      expect((await list(member, { query: 'owner:owner' })).count).toBe(0);
      expect((await list(member, { query: 'owner:*' })).count).toBe(0);
      expect((await list(member, { query: `owner:${formatUuid(owner.userId)}` })).count).toBe(0);
      expect((await list(owner, { query: 'owner:nobody' })).count).toBe(0);
    });

    test.each([
      ['by id', () => ({ id: formatUuid(task.id) })],
      ['by id in upper case', () => ({ id: formatUuid(task.id).toUpperCase() })],
      ['by owner and name', () => ({ owner: 'owner', name: 'fix-login' })],
      ['by owner and name in another case', () => ({ owner: 'OWNER', name: 'FIX-LOGIN' })],
      ["by the owner's id and name", () => ({ owner: formatUuid(owner.userId), name: 'Fix-Login' })],
    ])('get %s', async (_name, identifier) => {
      expect((await get(owner, identifier())).task).toMatchObject({ id: formatUuid(task.id), favorite: true });
      expect((await get(siteOwner, identifier())).task).toMatchObject({ id: formatUuid(task.id), favorite: false });
      expect(await refusal(get(member, identifier()))).toMatchObject({ code: Code.NotFound, reason: 'TASK_NOT_FOUND' });
    });

    test('get my own by name', async () => {
      expect((await get(owner, { owner: 'me', name: 'fix-login' })).task?.id).toBe(formatUuid(task.id));
      expect(await refusal(get(siteOwner, { owner: 'me', name: 'fix-login' }))).toMatchObject({ code: Code.NotFound });
    });

    test('what is absent is answered like what may not be read', async () => {
      const absent = await refusal(get(member, { id: formatUuid(newId()) }));
      expect(absent).toEqual(await refusal(get(member, { id: formatUuid(task.id) })));
      expect(await refusal(get(owner, { owner: 'owner', name: 'gone' }))).toEqual(absent);
      expect(await refusal(get(owner, { owner: 'nobody', name: 'x' }))).toEqual(absent);
    });
  });

  test('names that are unknown are told together with all else that is wrong', async () => {
    const query = 'organization:nowhere status:bad shared_with_user:nobody odd:key';
    expect(await refusal(list(owner, { query, pageSize: -1 }))).toMatchObject({
      code: Code.InvalidArgument,
      reason: 'INVALID_QUERY',
      fields: ['status', 'odd', 'organization', 'shared_with_user', 'page_size'],
    });
  });

  describe('a page token is refused', () => {
    test.each<[string, (token: string) => Promise<unknown>]>([
      ['for another query', (pageToken) => list(owner, { pageToken, query: 'owner:me status:running' })],
      ['for another order', (pageToken) => list(owner, { pageToken, orderBy: 'name' })],
      ['for another caller', (pageToken) => list(siteOwner, { pageToken })],
      [
        'when it was edited',
        (pageToken) =>
          list(owner, { pageToken: `${pageToken.slice(0, 9)}${pageToken[9] === 'x' ? 'y' : 'x'}${pageToken.slice(10)}` }),
      ],
      ['when it was cut', (pageToken) => list(owner, { pageToken: pageToken.slice(0, -4) })],
      [
        'when it is of another format',
        (pageToken) => list(owner, { pageToken: Buffer.from(`\u0000${pageToken}`).toString('base64url') }),
      ],
      ['when it is something else', () => list(owner, { pageToken: 'next' })],
    ])('%s', async (_name, attempt) => {
      const { nextPageToken } = await list(owner, { pageSize: 3 });
      await expect(list(owner, { pageToken: nextPageToken })).resolves.toBeDefined();
      expect(await refusal(attempt(nextPageToken))).toEqual({
        code: Code.InvalidArgument,
        reason: 'PAGE_TOKEN_INVALID',
        fields: ['page_token'],
      });
    });
  });

  describe('a request is refused', () => {
    test.each<[string, () => Promise<unknown>, string, string[]]>([
      ['a negative page size', () => list(owner, { pageSize: -1 }), 'INVALID_ARGUMENT', ['page_size']],
      ['an unknown key', () => list(owner, { query: 'colour:red' }), 'INVALID_QUERY', ['colour']],
      ['a query of 100 kB', () => list(owner, { query: 'x'.repeat(100_000) }), 'INVALID_QUERY', ['query']],
      ['an id that is no UUID', () => get(owner, { id: 'fix-login' }), 'INVALID_ARGUMENT', ['id']],
      ['an empty id', () => get(owner, { id: '' }), 'INVALID_ARGUMENT', ['id']],
      ['an empty name', () => get(owner, { owner: '', name: '' }), 'INVALID_ARGUMENT', ['name.owner', 'name.name']],
      ['nothing to get', () => service.getTask(create(GetTaskRequestSchema), testCall(owner)), 'INVALID_ARGUMENT', ['id']],
    ])('for %s', async (_name, attempt, reason, fields) => {
      expect(await refusal(attempt())).toEqual({ code: Code.InvalidArgument, reason, fields });
    });
  });

  test('a warm call is one statement, and a total one more', async () => {
    const statements = async (work: () => Promise<unknown>): Promise<number> => {
      await work();
      const before = sent;
      await work();
      return sent - before;
    };
    expect(await statements(() => list(owner))).toBe(1);
    expect(await statements(() => list(siteOwner, { query: 'owner:owner template:typescript status:running fix' }))).toBe(1);
    expect(await statements(() => list(siteOwner, { query: 'owner:*' }))).toBe(1);
    expect(await statements(() => list(owner, { includeTotalSize: true }))).toBe(2);
    expect(await statements(() => get(owner, { id: formatUuid(task.id) }))).toBe(1);
    expect(await statements(() => get(owner, { owner: 'owner', name: 'fix-login' }))).toBe(1);
  });

  test('a page ends before its encoding passes 3 MiB, and the list still gives each task once', async () => {
    const writer = newId();
    const prompts = [5, 70_000, 1_048_576, 2_000_000, 3_500_000, 10, 64_000, 1_500_000, 1_500_000, 20];
    await insertTasks(
      database,
      prompts.map((length, i) =>
        aTask({ ownerId: writer, organizationId: home, prompt: 'é'.repeat(length / 2), name: `long-${i}` }),
      ),
    );
    const caller: Caller = { userId: writer, username: 'writer', roles: [], ...memberOf(home) };
    const names: string[] = [];
    let pageToken = '';
    do {
      const page = await list(caller, { pageSize: 200, pageToken });
      expect(page.tasks.length).toBeGreaterThan(0);
      expect(page.count).toBe(page.tasks.length);
      if (page.tasks.length > 1) expect(toBinary(ListTasksResponseSchema, page).length).toBeLessThan(maxPageBytes);
      names.push(...page.tasks.map(({ name }) => name));
      pageToken = page.nextPageToken;
    } while (pageToken !== '');
    expect(names).toEqual(prompts.map((_, i) => `long-${i}`));
  });

  test('a page of 200 reads no more prompts of 1 MiB than it has room for', async () => {
    const writer = newId();
    const tasks = Array.from({ length: 201 }, (_, i) => aTask({ ownerId: writer, organizationId: home, name: `huge-${i}` }));
    await insertTasks(database, tasks);
    const huge = { prompt: database.raw("repeat('p', 1048576)"), texts_bytes: 1_048_576 };
    await database('workspace_tasks').where('workspace_tasks.owner_id', writer).update(huge);
    const pool = openDatabase(testDatabase.address, { size: 1, statementTimeoutMs: 30_000 });
    try {
      const bytesSent = async (): Promise<number> => {
        const [[row]] = (await pool.raw("show session status like 'Bytes_sent'")) as [[{ Value: string }]];
        return Number(row.Value);
      };
      const before = await bytesSent();
      const memory = process.memoryUsage().rss;
      const { rows, next } = await createTaskRepository(pool, 30).list(
        { userId: writer, everything: true, organizations: [], ownIn: [], memberOf: [], sharedWith: [] },
        { filter: { ownerId: writer }, order: 'created_at', limit: 200 },
      );
      expect(rows.map(({ prompt }) => prompt.length)).toEqual([1_048_576, 1_048_576]);
      expect(next).toBeDefined();
      const bytes = (await bytesSent()) - before;
      expect(bytes).toBeGreaterThan(2 * 1024 * 1024); // it went over this connection
      expect(bytes).toBeLessThan(3 * 1024 * 1024);
      expect(process.memoryUsage().rss - memory).toBeLessThan(100 * 1024 * 1024);
    } finally {
      await closeDatabase(pool);
    }
  });
});
