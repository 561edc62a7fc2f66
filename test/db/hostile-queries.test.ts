import { create } from '@bufbuild/protobuf';
import { Code, ConnectError } from '@connectrpc/connect';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createApiKeyRepository } from '../../src/auth/api-key-repository.ts';
import { createAuthenticate } from '../../src/auth/authenticate.ts';
import type { Call } from '../../src/call/call.ts';
import { GetTaskRequestSchema, ListTasksRequestSchema } from '../../src/gen/tasks/v1/tasks_pb.ts';
import { projectAll } from '../../src/projection/rebuild.ts';
import { migrateUp } from '../../src/schema/migrations.ts';
import type { TaskMessages } from '../../src/tasks/task-messages.ts';
import { createTestDatabase, describeOnEngines, type TestDatabase } from '../support/database.ts';
import { inactiveSeconds, randomWorld } from '../support/random-world.ts';
import { createReference, type Reference } from '../support/reference.ts';
import { createTasksService } from '../support/tasks-service.ts';
import { testCall } from '../support/test-call.ts';
import { loadWorld, tokenOf, type World } from '../support/world.ts';

/** Texts that have broken programs: by what they are. */
const hostile: readonly (readonly [what: string, text: string])[] = [
  ['a quotation mark', '"'],
  ['three quotation marks', '"""'],
  ['a quotation mark inside', 'a"b'],
  ['an apostrophe', "'"],
  ['two apostrophes', "''"],
  ['a backtick', '`'],
  ['a backslash', '\\'],
  ['a backslash before an apostrophe', "\\'"],
  ['SQL that ends a text', "' or '1'='1"],
  ['SQL that ends a text and comments the rest', "x' or 1=1 -- "],
  ['SQL of a second statement', "'; drop table workspace_tasks; -- "],
  ['SQL of a union', "' union select hashed_secret from api_keys #"],
  ['SQL in a comment of the server', '/*!50000 or sleep(5) */'],
  ['SQL that sleeps', "' or sleep(5) or '"],
  ['SQL without apostrophes', '1 or 1=1'],
  ['a byte that ends a text in another character set', "\u00bf' or 1=1 -- "],
  ['a placeholder', '?'],
  ['a placeholder for a name', '??'],
  ['a named placeholder', ':id'],
  ['a percent sign', '%'],
  ['underscores', '____'],
  ['an escaped percent sign', '\\%'],
  ['a regular expression', '(a+)+$'],
  ['a JSON path', '$.*'],
  ['a JSON path that ends its quotation', '"]."'],
  ['a NUL', '\0'],
  ['a NUL inside', 'a\0b'],
  ['control characters', '\x01\x07\x1b[31m\x7f'],
  ['line breaks and tabs', 'a\r\nb\tc'],
  ['an emoji', '🦊'],
  ['a family of emoji', '👨‍👩‍👧‍👦'],
  ['the first half of an emoji', '\ud83e'],
  ['the second half of an emoji', '\udd8a'],
  ['the halves of an emoji the wrong way round', '\udd8a\ud83e'],
  ['right-to-left text', 'مرحبا بالعالم'],
  ['a right-to-left override', '\u202egnol\u202c'],
  ['a zero-width space', 'a\u200bb'],
  ['a byte order mark', '\ufeffa'],
  ['a no-break space', 'a\u00a0b'],
  ['many accents on one letter', `e${'\u0301'.repeat(200)}`],
  ['letters that grow when lower-cased', 'İİİ'],
  ['a letter that another case writes as two', 'straße ﬁ'],
  ['a noncharacter', '\uffff'],
  ['colons', '::'],
  ['colons between words', 'a:b:c'],
  ['slashes', '//'],
  ['slashes between words', 'a/b/c'],
  ['equals signs', 'a=b=c'],
  ['commas', ',,,'],
  ['a list of 201', Array.from({ length: 201 }, (_, i) => i).join()],
  ['a key of every object', '__proto__'],
  ['a method of every object', 'constructor'],
  ['a path', '../../etc/passwd'],
  ['markup', '<script>alert(1)</script>'],
  ['a template', '${7*7}{{7*7}}'],
  ['a huge number', '99999999999999999999999999'],
  ['not a number', 'NaN'],
  ['a date of year 0', '0000-00-00'],
  ['a date after the last', '9999-12-31T23:59:60Z'],
  ['a date far off', '+275760-09-13T00:00:00.000Z'],
  ['a word of 4,000 letters', 'x'.repeat(4000)],
  ['a word of 100,000 letters', 'x'.repeat(100_000)],
  ['10,000 words', 'x '.repeat(10_000)],
  ['10,000 terms', 'name:x '.repeat(10_000)],
  ['100,000 quotation marks', '"'.repeat(100_000)],
  ['100,000 colons', 'a:'.repeat(50_000)],
  ['100,000 slashes', 'a/'.repeat(50_000)],
  ['4,000 bytes of emoji', '🦊'.repeat(1000)],
  ['nothing', ''],
  ['a space', ' '],
];

const keys = [
  ...[
    'owner',
    'name',
    'prompt',
    'template',
    'organization',
    'id',
    'status',
    'phase',
    'state',
    'waiting',
    'has-agent',
    'healthy',
    'dormant',
  ],
  ...[
    'outdated',
    'has_external_agent',
    'has-ai-task',
    'shared',
    'shared_with_user',
    'shared_with_group',
    'param',
    'created_after',
  ],
  ...['created_before', 'last_used_after', 'last_used_before', 'no-such-key'],
];

describeOnEngines('hostile input', (engine) => {
  let testDatabase: TestDatabase;
  let service: TaskMessages;
  let world: World;
  let reference: Reference;
  let callerId: string;
  let call: Call;

  beforeAll(async () => {
    testDatabase = await createTestDatabase(engine, { migrate: false });
    const { database } = testDatabase;
    await migrateUp(database, { triggers: false });
    const now = new Date();
    // A site owner who may read everything: what is not found then was not asked for.
    const random = randomWorld(1, now);
    callerId = random.users[0]?.id ?? '';
    world = {
      ...random,
      users: random.users.map((user) => (user.id === callerId ? { ...user, rbac_roles: ['owner'] } : user)),
      api_keys: random.users.map(({ id }) => ({ user_id: id, scope: 'all', scopes: null, allow_list: null })),
    };
    await loadWorld(database, world);
    await projectAll(database);
    reference = createReference(world, now, inactiveSeconds);
    service = createTasksService(database, { agentInactiveSeconds: inactiveSeconds });
    const authenticate = createAuthenticate(createApiKeyRepository(database), 0);
    const caller = await authenticate((name) => (name === 'coder-session-token' ? tokenOf(callerId) : undefined));
    call = testCall(caller);
  });
  afterAll(() => testDatabase.drop());

  /** What the service answers: names in order, or the code of its refusal. */
  const list = async (query: string, init: { orderBy?: string; pageToken?: string } = {}): Promise<string[] | string> => {
    const request = create(ListTasksRequestSchema, { query, pageSize: 200, includeTotalSize: true, ...init });
    try {
      const { tasks, totalSize } = await service.listTasks(request, call);
      expect(totalSize).toBe(tasks.length);
      return tasks.map(({ id }) => id);
    } catch (error) {
      if (!(error instanceof ConnectError)) throw error;
      expect(error.message.length).toBeLessThan(2000);
      expect(error.message.isWellFormed()).toBe(true);
      return Code[error.code];
    }
  };
  const expected = (query: string, orderBy = ''): string[] | string => {
    const answer = reference.list(callerId, { query, orderBy });
    return 'tasks' in answer ? answer.tasks.map(({ id }) => id) : 'InvalidArgument';
  };

  test('there is something to be found', async () => {
    expect((await list('owner:*')).length).toBeGreaterThan(5);
  });

  test.each(hostile)('as a query: %s', async (_what, text) => {
    for (const query of [text, `owner:* ${text}`, `"${text}" owner:*`, `owner:*${text}`, `${text}:${text}`]) {
      expect(await list(query), query.slice(0, 100)).toEqual(expected(query));
    }
  });

  test.each(hostile)('as the value of each key: %s', async (_what, text) => {
    const queries = keys.flatMap((key) => [
      `${key}:${text}`,
      `${key}:"${text}"`,
      `owner:* ${key}:"${text}"`,
      `owner:* param:region=${text}`,
    ]);
    const answers = await Promise.all([...new Set(queries)].map(async (query) => [query.slice(0, 100), await list(query)]));
    expect(answers).toEqual([...new Set(queries)].map((query) => [query.slice(0, 100), expected(query)]));
  });

  test.each(hostile)('as an order: %s', async (_what, text) => {
    for (const orderBy of [text, `name ${text}`, `created_at desc${text}`, `created_at, ${text}`]) {
      expect(await list('', { orderBy }), orderBy.slice(0, 100)).toEqual(expected('', orderBy));
    }
  });

  test.each(hostile)('as a page token: %s', async (_what, pageToken) => {
    expect(await list('', { pageToken })).toEqual(pageToken === '' ? expected('') : 'InvalidArgument');
  });

  test.each(hostile)('as an id, an owner or a name to get: %s', async (_what, text) => {
    const get = async (identifier: { case: 'id'; value: string } | { case: 'name'; value: { owner: string; name: string } }) => {
      const request = create(GetTaskRequestSchema, {
        identifier:
          identifier.case === 'id'
            ? identifier
            : { case: 'name', value: { ...identifier.value, $typeName: 'tasks.v1.TaskName' } },
      });
      try {
        return (await service.getTask(request, call)).task?.id;
      } catch (error) {
        if (!(error instanceof ConnectError)) throw error;
        return Code[error.code];
      }
    };
    const byName = (owner: string, name: string) =>
      owner === '' || name === '' ? 'InvalidArgument' : (reference.getByName(callerId, owner, name)?.id ?? 'NotFound');
    expect(await get({ case: 'id', value: text })).toBe('InvalidArgument');
    for (const owner of [text, 'me', ...world.users.slice(0, 2).map(({ username }) => username)]) {
      for (const name of [text, `fix-login${text}`, world.workspaces[0]?.name ?? '']) {
        expect(await get({ case: 'name', value: { owner, name } })).toBe(byName(owner, name));
      }
    }
  });

  test('nothing was written', async () => {
    const [row] = await testDatabase.database('workspace_tasks').count<{ count: number }[]>({ count: '*' });
    const tasks = world.workspaces.filter(({ id }) => reference.get(callerId, id) !== undefined);
    expect(row?.count).toBe(tasks.length);
  });
});
