import { create } from '@bufbuild/protobuf';
import { Code, ConnectError } from '@connectrpc/connect';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Caller } from '../../src/call/caller.ts';
import type { Database } from '../../src/db/connection.ts';
import { ListQueryValuesRequestSchema, type ListQueryValuesResponse, QueryKey } from '../../src/gen/tasks/v1/tasks_pb.ts';
import { scopeOf } from '../../src/tasks/scope.ts';
import type { ValueKey } from '../../src/tasks/store/value-query.ts';
import { createTestDatabase, describeOnEngines, type TestDatabase } from '../support/database.ts';
import { measureRead } from '../support/measure-read.ts';
import { insertOrganization, insertTemplate, insertUser } from '../support/people.ts';
import { aTask, insertTasks, newId } from '../support/tasks.ts';
import { createTasksService, listAllTasks, type TestTasksService } from '../support/tasks-service.ts';
import { testCall } from '../support/test-call.ts';

const group = newId();

describeOnEngines('values of a query', (engine) => {
  let testDatabase: TestDatabase;
  let database: Database;
  let service: TestTasksService;
  const organizations: Record<string, Buffer> = {};
  const users: Record<string, Buffer> = {};

  /** 140 people of home and 20 of away with tasks, 300 without any, and two who have a thousand. */
  beforeAll(async () => {
    testDatabase = await createTestDatabase(engine);
    database = testDatabase.database;
    for (const name of ['home', 'away']) organizations[name] = await insertOrganization(database, name);
    const templates: Record<string, Buffer> = {};
    for (const [organization, name] of [
      ...['docker', 'Kubernetes', '50%_off', 'only-shared', 'only-deleted', 'unused'].map((name) => ['home', name] as const),
      ...['docker', 'windows'].map((name) => ['away', name] as const),
    ]) {
      const organizationId = organizations[organization] as Buffer;
      templates[`${organization}/${name}`] = await insertTemplate(database, { organizationId, name });
    }
    const gone = await insertTemplate(database, { organizationId: organizations['home'] as Buffer, name: 'gone', deleted: true });
    const people = [
      ...Array.from({ length: 138 }, (_, i) => `home-${String(i).padStart(3, '0')}`),
      ...Array.from({ length: 20 }, (_, i) => `away-${String(i).padStart(3, '0')}`),
      ...Array.from({ length: 300 }, (_, i) => `idle-${String(i).padStart(3, '0')}`),
      ...['Busy', 'sharer', 'only-deleted'],
    ];
    for (const username of people) users[username] = await insertUser(database, { username });
    const left = await insertUser(database, { username: 'left', deleted: true });

    const inHome = { organizationId: organizations['home'] as Buffer, templateId: templates['home/docker'] as Buffer };
    const inAway = { organizationId: organizations['away'] as Buffer, templateId: templates['away/docker'] as Buffer };
    const of = (start: string) => people.filter((name) => name.startsWith(start)).map((name) => users[name] as Buffer);
    const [busy, sharer, first] = [users['Busy'], users['sharer'], users['home-000']] as [Buffer, Buffer, Buffer];
    const shared = [
      aTask({ ...inHome, ownerId: sharer, templateId: templates['home/only-shared'] as Buffer }),
      ...Array.from({ length: 1000 }, () => aTask({ ...inAway, ownerId: sharer, createdAt: '2025-01-01 00:00:00.000000' })),
    ];
    await insertTasks(database, [
      ...of('home-').map((ownerId) => aTask({ ...inHome, ownerId })),
      ...of('away-').map((ownerId) => aTask({ ...inAway, ownerId })),
      ...Array.from({ length: 1000 }, () => aTask({ ...inHome, ownerId: busy })),
      aTask({ ...inHome, ownerId: first, templateId: templates['home/Kubernetes'] as Buffer }),
      aTask({ ...inHome, ownerId: first, templateId: templates['home/50%_off'] as Buffer }),
      aTask({ ...inAway, ownerId: of('away-')[0] as Buffer, templateId: templates['away/windows'] as Buffer }),
      aTask({ ...inHome, ownerId: left, templateId: gone }),
      aTask({
        ...inHome,
        ownerId: users['only-deleted'] as Buffer,
        templateId: templates['home/only-deleted'] as Buffer,
        deleted: true,
      }),
      ...shared,
    ]);
    await database.batchInsert(
      'workspace_task_acl',
      shared.flatMap((task) => {
        const row = { created_at: task['created_at'], task_id: task.id, owner_id: task['owner_id'] };
        const inOrganization = { ...row, organization_id: task['organization_id'] };
        return [
          { ...inOrganization, kind: 2, subject_id: group },
          // Named without the right to read.
          { ...inOrganization, kind: 11, subject_id: users['idle-001'] as Buffer },
        ];
      }),
      1000,
    );
    await database.raw('analyze table workspace_tasks, workspace_task_acl, users, templates');
    service = createTasksService(database);
  });
  afterAll(() => testDatabase.drop());

  /** A caller by name, and who they are. */
  function callerOf(kind: keyof typeof kinds): Caller {
    const { username, roles, home, away } = kinds[kind];
    const memberships = Object.entries({ home, away }).flatMap(([name, its]) =>
      its === undefined ? [] : [{ organizationId: organizations[name] as Buffer, roles: its, customRoles: [] }],
    );
    const userId = users[username] as Buffer;
    return { userId, username, roles, customRoles: [], memberships, groupIds: [group], mayRead: true };
  }
  interface Kind {
    readonly username: string;
    readonly roles: readonly string[];
    readonly home?: readonly string[];
    readonly away?: readonly string[];
  }
  const kinds = {
    'the site owner': { username: 'idle-000', roles: ['owner'] } as Kind,
    'an admin of one organization': { username: 'idle-000', roles: [], home: ['organization-admin'] } as Kind,
    'an admin of another, and member': { username: 'home-001', roles: [], home: [], away: ['organization-admin'] } as Kind,
    'a member with tasks': { username: 'home-000', roles: [], home: [] } as Kind,
    'a member without tasks': { username: 'idle-000', roles: [], home: [] } as Kind,
    'a member of two': { username: 'idle-000', roles: [], home: [], away: [] } as Kind,
    'a member of nothing': { username: 'idle-001', roles: [] } as Kind,
  };

  const list = (caller: Caller, key: QueryKey, prefix = ''): Promise<ListQueryValuesResponse> =>
    service.listQueryValues(create(ListQueryValuesRequestSchema, { key, prefix }), testCall(caller));
  const valuesOf = async (caller: Caller, key: QueryKey, prefix = '') =>
    (await list(caller, key, prefix)).values.map(({ value }) => value);

  const listAll = (caller: Caller) => listAllTasks(service, testCall(caller), { query: 'owner:*' });

  test.each(Object.keys(kinds) as (keyof typeof kinds)[])('for %s are those of all their tasks', async (kind) => {
    const caller = callerOf(kind);
    const tasks = await listAll(caller);
    const fold = (names: readonly string[]) => [...new Set(names.map((name) => name.toLowerCase()))].toSorted();
    // Who or what is gone is in no query.
    const owners = fold(tasks.map(({ ownerName }) => ownerName)).filter((name) => name !== 'left');
    const templates = fold(tasks.map(({ templateName }) => templateName)).filter((name) => name !== 'gone');
    const answer = await list(caller, QueryKey.OWNER);
    expect(answer.values.map(({ value }) => value.toLowerCase())).toEqual(owners.slice(0, 100));
    expect(answer.incomplete).toBe(owners.length > 100);
    expect((await valuesOf(caller, QueryKey.TEMPLATE)).map((value) => value.toLowerCase())).toEqual(templates);
    // And what a longer prefix finds is the rest.
    const all = [];
    for (const start of ['a', 'b', 'home-0', 'home-1', 'i', 'l', 'o', 's', 'u'])
      all.push(...(await valuesOf(caller, QueryKey.OWNER, start)));
    expect(all.map((value) => value.toLowerCase())).toEqual(owners);
  });

  test.each([
    ['BU', ['Busy']],
    ['busy', ['Busy']],
    ['%', []],
    ['_usy', []],
    ['busy\u{0}', []],
    ["'", []],
    ['|', []],
  ])('that begin with %j', async (prefix, expected) => {
    expect(await valuesOf(callerOf('the site owner'), QueryKey.OWNER, prefix)).toEqual(expected);
  });

  test('may have characters that mean something to a database, and names as people know them', async () => {
    const site = callerOf('the site owner');
    expect(await valuesOf(site, QueryKey.TEMPLATE, '50%_')).toEqual(['50%_off']);
    await database('templates').where({ name: 'windows' }).update({ display_name: 'Windows 11', icon: '/icon/windows.svg' });
    await database('users').where({ username: 'Busy' }).update({ name: 'Bea Busy', avatar_url: 'https://example.com/bea' });
    expect((await list(site, QueryKey.TEMPLATE, 'w')).values).toMatchObject([
      { value: 'windows', displayName: 'Windows 11', icon: '/icon/windows.svg' },
    ]);
    expect((await list(site, QueryKey.OWNER, 'b')).values).toMatchObject([
      { value: 'Busy', displayName: 'Bea Busy', icon: 'https://example.com/bea' },
    ]);
  });

  test.each([QueryKey.UNSPECIFIED, 77 as QueryKey])('of the key %s are refused', async (key) => {
    const refused = ConnectError.from(await list(callerOf('the site owner'), key).catch((error: unknown) => error));
    expect([refused.code, refused.rawMessage]).toEqual([
      Code.InvalidArgument,
      'key: must be QUERY_KEY_OWNER or QUERY_KEY_TEMPLATE',
    ]);
  });

  test('for a token that is good for some tasks alone are those of these', async () => {
    const caller = callerOf('the site owner');
    const task = (await listAll(caller)).find(({ ownerName }) => ownerName === 'home-000');
    const [row] = (await database('workspace_tasks').where({ name: task?.name }).select('id')) as { id: Buffer }[];
    const narrow = { ...caller, onlyIds: [row?.id as Buffer] };
    expect(await valuesOf(narrow, QueryKey.OWNER)).toEqual(['home-000']);
    expect(await valuesOf({ ...caller, onlyIds: [] }, QueryKey.OWNER)).toEqual([]);
  });

  test.each<[keyof typeof kinds, ValueKey, prefix: string, indexes: string[], most: number]>([
    ['the site owner', 'owner', '', ['own_ct'], 500],
    ['the site owner', 'template', '', ['tpl_ct'], 30],
    ['an admin of one organization', 'owner', '', ['org_own'], 500],
    ['an admin of one organization', 'owner', 'home-00', ['org_own'], 30],
    ['an admin of one organization', 'template', '', ['tpl_ct'], 30],
    ['a member of two', 'owner', '', ['own_ct'], 1010],
    ['a member of two', 'template', '', ['own_ct'], 1010],
  ])('for %s, of key %s with the prefix "%s", read no more than they say', async (kind, key, prefix, indexes, most) => {
    const { plan, steps } = await measureRead(engine, testDatabase.address, (tasks) =>
      tasks.values(scopeOf(callerOf(kind)), key, prefix),
    );
    // None has walked the 2,200 tasks, or the 1,001 of somebody, but where these are what is shared.
    expect(steps).toBeLessThanOrEqual(most);
    const used = plan.filter(({ table }) => table === 't').map((step) => step.key);
    for (const index of indexes) expect(used).toContain(index);
    expect(plan.filter(({ table, type }) => ['t', 's', 'c', 'n'].includes(table ?? '') && type === 'ALL')).toEqual([]);
  });
});
