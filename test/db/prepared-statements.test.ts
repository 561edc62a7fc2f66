import { create } from '@bufbuild/protobuf';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import type { Call } from '../../src/call/call.ts';
import { closeDatabase, type Database, openDatabase } from '../../src/db/connection.ts';
import { formatUuid } from '../../src/db/uuid.ts';
import { CountTasksRequestSchema, GetTaskRequestSchema, ListTasksRequestSchema } from '../../src/gen/tasks/v1/tasks_pb.ts';
import { phaseWords, queryKeys, stateWords, statusWords } from '../../src/tasks/query-keys.ts';
import { createTestDatabase, describeOnEngines, type TestDatabase } from '../support/database.ts';
import type { Engine } from '../support/engines.ts';
import { insertOrganization, insertUser } from '../support/people.ts';
import { newId } from '../support/tasks.ts';
import { createTasksService, type TestTasksService } from '../support/tasks-service.ts';
import { callerWith, testCall } from '../support/test-call.ts';

const values = 500;

/** How many are sent of a key that has only a few. */
const fewValues = 32;

/** Lists that grow up to a length, over and over. */
const listOf = (most: number, i: number, word: (at: number) => string) =>
  Array.from({ length: 1 + (i % most) }, (_, at) => word(at)).join(',');
const uuid = () => formatUuid(newId());
const boolean = (i: number) => String(i % 2 === 0);
const day = (i: number) => new Date(Date.UTC(2026, 0, 1 + i)).toISOString();
const wordOf = (words: ReadonlyMap<string, unknown>) => (i: number) => [...words.keys()][i % words.size] as string;
const agents = ['connecting', 'connected', 'disconnected', 'timeout', 'odd'];

/** How a value of each key is made, and how many statements all of them may have. */
const keys: Readonly<Record<string, readonly [valueOf: (i: number) => string, most: number, count?: number]>> = {
  owner: [(i) => (i % 3 === 0 ? `user-${i}` : uuid()), 1],
  name: [(i) => 'x'.repeat(i % 40) + i.toString(36), 6], // parts of a name: 1, 2, 4, 8, or 16
  prompt: [(i) => `${'é'.repeat(i)}abc${i}`, 1],
  template: [(i) => `template-${i}`, 5], // templates of a name: 1 to 9
  organization: [(i) => (i % 2 === 0 ? 'home' : uuid()), 1],
  id: [(i) => listOf(100, i, uuid), 8],
  status: [wordOf(statusWords), 10, fewValues],
  phase: [wordOf(phaseWords), 6, fewValues],
  state: [wordOf(stateWords), 4, fewValues],
  waiting: [boolean, 2, fewValues],
  'has-agent': [(i) => agents.filter((_, at) => (i >> at) % 2 === 1).join(',') || `none-${i}`, 16, fewValues], // each set of them
  healthy: [boolean, 2, fewValues],
  dormant: [boolean, 2, fewValues],
  outdated: [boolean, 2, fewValues],
  has_external_agent: [boolean, 2, fewValues],
  'has-ai-task': [boolean, 1, fewValues],
  shared: [boolean, 2, fewValues],
  shared_with_user: [(i) => (i % 3 === 0 ? 'somebody' : uuid()), 1],
  shared_with_group: [uuid, 1],
  // Names, or names with values: lists of 1 to 64, and texts of 1, 2, 4 or 8 pieces of 512 characters.
  param: [(i) => (i % 5 === 0 ? 'é'.repeat(3 * i) : listOf(60, i, (at) => (i % 2 === 0 ? `p${i}-${at}` : `p${at}=${i}`))), 18],
  created_after: [day, 1],
  created_before: [day, 1],
  last_used_after: [day, 1],
  last_used_before: [day, 1],
};

// The texts are the same for each engine: one is enough.
const on = ['mariadb'] as const;

function define(engine: Engine): void {
  let testDatabase: TestDatabase;
  let only: Database;
  let service: TestTasksService;
  let call: Call;

  beforeAll(async () => {
    testDatabase = await createTestDatabase(engine);
    const { database } = testDatabase;
    const home = await insertOrganization(database, 'home');
    await insertUser(database, { username: 'somebody' });
    const now = '2026-01-01 00:00:00.000000';
    const at = { active_version_id: newId(), user_acl: '{}', group_acl: '{}', created_at: now, updated_at: now };
    const templates = Array.from({ length: values }, (_, i) =>
      Array.from({ length: 1 + (i % 9) }, () => ({ id: newId(), organization_id: newId(), name: `template-${i}`, ...at })),
    );
    await database.batchInsert('templates', templates.flat(), 500);
    await database.batchInsert(
      'users',
      Array.from({ length: values }, (_, i) => ({
        id: newId(),
        username: `user-${i}`,
        avatar_url: '',
        status: 'active',
        rbac_roles: '[]',
        created_at: now,
        updated_at: now,
      })),
      500,
    );
    // A member with groups, so that all ways of reading are in the statements.
    call = testCall(
      callerWith({
        userId: await insertUser(database, { username: 'caller', memberships: [[home]] }),
        username: 'caller',
        roles: ['auditor'], // may know of everybody
        memberships: [{ organizationId: home, roles: [], customRoles: [] }],
        groupIds: [newId(), newId()],
      }),
    );
  });
  afterAll(() => testDatabase.drop());
  beforeEach(() => {
    only = openDatabase(testDatabase.address, { size: 1, statementTimeoutMs: 30_000 });
    service = createTasksService(only);
  });
  afterEach(() => closeDatabase(only));

  /** How many statements the one connection has prepared while something was done. */
  async function prepared(work: () => Promise<unknown>): Promise<number> {
    const count = async () => {
      const [[row]] = (await only.raw("show session status like 'Com_stmt_prepare'")) as [[{ Value: string }]];
      return Number(row.Value);
    };
    const before = await count();
    await work();
    return (await count()) - before;
  }
  const list = (query: string, pageSize = 0) => service.listTasks(create(ListTasksRequestSchema, { query, pageSize }), call);

  test('200 page sizes are 5 statements', async () => {
    const all = async () => {
      for (let pageSize = 1; pageSize <= 200; pageSize++) await list('', pageSize);
    };
    expect(await prepared(all)).toBe(5);
    expect(await prepared(all)).toBe(0);
  });

  test.each(Object.entries(keys))(
    'as many values of "%s" as one likes are a few statements',
    async (key, [valueOf, most, count = values]) => {
      const all = async () => {
        for (let i = 0; i < count; i++) await list(`owner:me ${key}:"${valueOf(i)}"`.replace(/^owner:me (owner)/, '$1'));
      };
      const statements = await prepared(all);
      expect(statements).toBeLessThanOrEqual(most);
      expect(statements).toBeGreaterThan(0);
    },
  );

  test.each(Object.entries(keys))(
    'and as few for counts of as many values of "%s"',
    { timeout: 60_000 },
    async (key, [valueOf, most, count = values]) => {
      const all = async () => {
        for (let i = 0; i < count; i++) {
          const query = `owner:me ${key}:"${valueOf(i)}"`.replace(/^owner:me (owner)/, '$1');
          await service.countTasks(create(CountTasksRequestSchema, { query }), call);
        }
      };
      expect(await prepared(all)).toBeLessThanOrEqual(most);
    },
  );

  test('every key of a query is among them', () => {
    expect(Object.keys(keys).toSorted()).toEqual([...queryKeys.keys()].toSorted());
  });

  test(`${values} tasks that are asked for by id, or by name, are a few statements`, async () => {
    const get = (identifier: Parameters<typeof create<typeof GetTaskRequestSchema>>[1] & object) =>
      service.getTask(create(GetTaskRequestSchema, identifier), call).catch(() => {});
    const byId = async () => {
      for (let i = 0; i < values; i++) await get({ identifier: { case: 'id', value: uuid() } });
    };
    expect(await prepared(byId)).toBe(1);
    const together = async () => {
      for (let i = 0; i < 40; i++) {
        await Promise.all(Array.from({ length: i }, () => get({ identifier: { case: 'id', value: uuid() } })));
      }
    };
    expect(await prepared(together)).toBeLessThanOrEqual(4); // 2, 4, 8, or 16 at once
    const byName = async () => {
      for (let i = 0; i < values; i++) {
        await get({ identifier: { case: 'name', value: { owner: i % 2 === 0 ? uuid() : `user-${i}`, name: `name-${i}` } } });
      }
    };
    expect(await prepared(byName)).toBe(2);
  });

  test('numbers of statements for lists with a total do not depend on the page', async () => {
    const all = async () => {
      for (let pageSize = 1; pageSize <= 200; pageSize++) {
        await service.listTasks(create(ListTasksRequestSchema, { pageSize, includeTotalSize: true }), call);
      }
    };
    expect(await prepared(all)).toBeLessThanOrEqual(6);
  });
}

describeOnEngines('prepared statements', define, on);
