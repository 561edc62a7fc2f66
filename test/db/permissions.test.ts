import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createAuthenticate } from '../../src/auth/authenticate.ts';
import { createFindTasksHaveRights } from '../../src/auth/user-rights.ts';
import type { Database } from '../../src/db/connection.ts';
import { formatUuid } from '../../src/db/uuid.ts';
import type { TaskSourceName } from '../../src/schema/task-source.ts';
import { describeOnEngines, describeOnServerKinds } from '../support/database.ts';
import type { Engine } from '../support/engines.ts';
import { insertOrganization, insertUser } from '../support/people.ts';
import {
  type NewerRightsRow,
  newerRightsMatrix,
  type Right,
  rightsMatrix,
  type TaskName,
  taskNames,
} from '../support/rights-matrix.ts';
import { idText, rightsNow as now, openRightsWorld, type RightsWorld, type WrittenTask } from '../support/rights-world.ts';
import { newId } from '../support/tasks.ts';
import { describeWhere, testWhere } from '../support/test-where.ts';

const read = [{ negate: false, resource_type: 'workspace', action: 'read' }];

/** The caller of a row, and the tasks of the matrix that were written for it. */
interface Cast {
  readonly username: string;
  /** Who owns the tasks that are not the caller's. */
  readonly other: string;
  readonly ids: Readonly<Record<TaskName, WrittenTask>>;
}

const nameOf = (task: TaskName, username: string): string => `${task}-${username}`.slice(0, 60);

describeOnEngines('who may read, where workspaces are the tasks', (engine) => whoMayRead(engine, 'workspaces'));
describeOnServerKinds('who may read, where tasks have a table and ids of their own', (engine) => whoMayRead(engine, 'tasks'));

function whoMayRead(engine: Engine, tasksAre: TaskSourceName): void {
  let world: RightsWorld;
  let database: Database;

  beforeAll(async () => {
    world = await openRightsWorld(engine, tasksAre);
    ({ database } = world);
    const role = (name: string, organizationId: Buffer | null, level: 'site' | 'org' | 'user', permissions: object[]) => ({
      id: newId(),
      name,
      organization_id: organizationId,
      site_permissions: JSON.stringify(level === 'site' ? permissions : []),
      org_permissions: JSON.stringify(level === 'org' ? permissions : []),
      user_permissions: JSON.stringify(level === 'user' ? permissions : []),
      created_at: now,
      updated_at: now,
    });
    const deny = [{ ...read[0], negate: true }];
    await database('custom_roles').insert([
      role('site-reader', null, 'site', read),
      role('home-reader', world.home, 'org', read),
      role('own-denier', world.home, 'user', deny),
      role('site-denier', null, 'site', deny),
    ]);
    await world.begin(await insertUser(database, { username: 'first', memberships: [[world.away]] }));
  });
  afterAll(() => world.close());

  test.each(rightsMatrix)('$caller reads $reads', async (row) => {
    const { reads, readsWithTable = reads } = row;
    const cast = await writeCast(row, world.home);
    await checkReads(cast, await world.tokenOf(cast.username), tasksAre === 'tasks' ? readsWithTable : reads);
  });

  /** Writes the caller of a row, somebody else, and their tasks, with `home` being an organization. */
  async function writeCast(row: NewerRightsRow, home: Buffer): Promise<Cast> {
    const { caller, site = [], home: roles, share, serviceAccount = false } = row;
    const username = `${caller.replaceAll(/[^a-z]+/g, '-').slice(0, 26)}-${newId().toString('hex').slice(0, 4)}`;
    const memberships = roles === undefined ? [] : [[home, ...roles] as const];
    const callerId = await insertUser(database, { username, roles: site, serviceAccount, memberships });
    const other = `${username}-x`;
    const { away } = world;
    const ownerId = await insertUser(database, { username: other, memberships: [[home], [away]] });
    const group = newId();
    if (share === 'group') await database('group_members').insert({ user_id: callerId, group_id: group });
    const right = { permissions: ['read'] };
    const acl = {
      ...(share === 'user' ? { userAcl: { [formatUuid(callerId)]: { permissions: ['ssh', 'read'] } } } : {}),
      ...(share === 'group' ? { groupAcl: { [formatUuid(group)]: { permissions: ['*'] } } } : {}),
      ...(share === 'everyone' ? { groupAcl: { [formatUuid(home)]: right, [formatUuid(away)]: right } } : {}),
      ...(share === 'nobody, by words that are no right'
        ? { userAcl: { [formatUuid(callerId)]: { permissions: ['ssh'] } } }
        : {}),
    };
    const mine = { ownerId: callerId, organizationId: home };
    const theirs = { ownerId, organizationId: home };
    const write = (task: TaskName, init: Omit<Parameters<RightsWorld['insertTask']>[0], 'name'>) =>
      world.insertTask({ name: nameOf(task, username), ...init });
    const ids = {
      own: await write('own', mine),
      'own-dormant': await write('own-dormant', { ...mine, dormant: true }),
      'own-left': await write('own-left', { ...mine, organizationId: away }),
      home: await write('home', { ...theirs, ...acl }),
      'home-dormant': await write('home-dormant', { ...theirs, dormant: true, ...acl }),
      away: await write('away', { ...theirs, organizationId: away, ...acl }),
      deleted: await write('deleted', { ...theirs, deleted: true }),
    };
    await world.settle();
    return { username, other, ids };
  }

  /** Whether a token lists, counts, gets and watches exactly these tasks, by each method and endpoint. */
  async function checkReads({ username, other, ids }: Cast, token: string, reads: readonly TaskName[]): Promise<void> {
    const call = await world.callOf(token);
    const isOfTest = new Set(Object.values(ids).map(idText));
    const ofTest = (some: Iterable<string>) => [...some].filter((id) => isOfTest.has(id)).toSorted();
    const lists = ['owner:*', 'owner:* status:deleted', 'owner:me', `owner:${other}`, `owner:${other} status:deleted`];
    const [all = [], deleted = [], ofMine = [], ...ofOther] = await Promise.all(
      lists.map(async (query) => {
        const found = await world.list(query, call);
        const { length } = found;
        const { counted, failed } = await world.count(query, call);
        expect(counted, query).toEqual({ total: length, capped: false, byPhase: length });
        expect(failed, `${query} over time`).toMatchObject({
          before: 0,
          now: query.includes('deleted') ? 0 : failed.counted,
        });
        return found;
      }),
    );
    expect(ofTest(ofOther.flat())).toEqual(ofOther.flat().toSorted());
    expect(await world.ownersToChooseFrom(username, call), 'owners to choose from').toEqual([
      ...(reads.some((task) => task.startsWith('own')) ? [username] : []),
      ...(reads.some((task) => ['home', 'home-dormant', 'away'].includes(task)) ? [other] : []),
    ]);
    const checkTask = async (task: TaskName): Promise<void> => {
      const id = idText(ids[task]);
      const may = reads.includes(task);
      expect([...all, ...deleted].includes(id), `list has ${task}`).toBe(may);
      expect((task.startsWith('own') ? ofMine : ofOther.flat()).includes(id), `list of the owner has ${task}`).toBe(may);
      expect(await world.get({ case: 'id', value: id }, call), `get ${task} by id`).toBe(may ? id : 'NotFound');
      const owner = task.startsWith('own') ? username : other;
      const byName = (name: string) => world.get({ case: 'name', value: { owner, name } }, call);
      // In either case. What is deleted has no name any more.
      const expected = may && task !== 'deleted' ? id : 'NotFound';
      expect(await byName(nameOf(task, username).toUpperCase()), `get ${task} by name`).toBe(expected);
      if (tasksAre === 'workspaces') return;
      const workspaceId = formatUuid(ids[task].workspaceId);
      expect(await world.get({ case: 'id', value: workspaceId }, call), `get ${task} by its workspace`).toBe('NotFound');
      expect(await byName(`w-${nameOf(task, username)}`), `get ${task} by its workspace's name`).toBe('NotFound');
      expect(await world.askJson(`/api/v2/tasks/me/${workspaceId}`, token), `JSON of ${task} by its workspace`).toBe(404);
    };
    await Promise.all(taskNames.map(checkTask));
    await checkJson({ username, other, ids }, token, reads, ofTest);
    await checkWatch(ids, token, reads, ofTest);
  }

  /** The same over Coder's endpoints, in both shapes. */
  async function checkJson(
    { username, ids }: Cast,
    token: string,
    reads: readonly TaskName[],
    ofTest: (some: Iterable<string>) => string[],
  ): Promise<void> {
    const alive = reads.filter((task) => task !== 'deleted').map((task) => idText(ids[task]));
    const checkList = async (path: string): Promise<void> => {
      expect(ofTest((await world.askJson(path, token)) as string[]), path).toEqual(alive.toSorted());
    };
    const checkTask = async (task: TaskName): Promise<void> => {
      const id = idText(ids[task]);
      const may = reads.includes(task);
      const alive = may && task !== 'deleted' ? id : 404;
      expect(await world.askJson(`/api/v2/tasks/me/${id}`, token), `JSON of ${task}`).toBe(alive);
      expect(await world.askJson(`/api/experimental/tasks/me/${id}`, token), `first JSON of ${task}`).toBe(may ? id : 404);
      if (!task.startsWith('own')) return;
      const path = `/api/v2/tasks/${username}/${encodeURIComponent(nameOf(task, username))}`;
      expect(await world.askJson(path, token), path).toBe(may ? id : 404);
    };
    await Promise.all([checkList('/api/v2/tasks'), checkList('/api/experimental/tasks'), ...taskNames.map(checkTask)]);
  }

  /** The same for a watch: its first tasks, and what it is told when all of them change. */
  async function checkWatch(
    ids: Cast['ids'],
    token: string,
    reads: readonly TaskName[],
    ofTest: (some: Iterable<string>) => string[],
  ): Promise<void> {
    const alive = reads
      .filter((task) => task !== 'deleted')
      .map((task) => idText(ids[task]))
      .toSorted();
    await using watch = world.watch(await world.callOf(token));
    await expect.poll(() => watch.synced, { interval: 5 }).toBe(true);
    expect(ofTest(watch.first)).toEqual(alive);
    await database('workspaces')
      .whereIn(
        'workspaces.id',
        Object.values(ids).map(({ workspaceId }) => workspaceId),
      )
      .update({ updated_at: database.raw('updated_at + interval 1 second') });
    await world.settle();
    await expect.poll(() => ofTest(watch.changed), { interval: 5 }).toEqual(alive);
    expect(ofTest(watch.removed)).toEqual([]);
  }

  describe('a change takes effect when the memory of the caller is over', () => {
    test('of a membership, a role, and an ACL', async () => {
      const userId = await insertUser(database, { username: 'mover', memberships: [] });
      const ownerId = await insertUser(database, { username: 'mover-x' });
      const task = await world.insertTask({ name: 'of-another', ownerId, organizationId: world.home });
      await world.settle();
      const token = await world.tokenOf('mover');
      const authenticate = createAuthenticate(world.keys, 1);
      const reads = async () => {
        const id = idText(task);
        return (await world.get({ case: 'id', value: id }, await world.callOf(token, authenticate))) === id;
      };
      const settled = async (expected: boolean) => {
        await new Promise((resolve) => setTimeout(resolve, 1050));
        expect(await reads()).toBe(expected);
      };
      expect(await reads()).toBe(false);
      await database('organization_members').insert({
        organization_id: world.home,
        user_id: userId,
        roles: '["organization-admin"]',
        created_at: now,
        updated_at: now,
      });
      expect(await reads()).toBe(false); // still remembered
      await settled(true);
      await database('organization_members').where('organization_members.user_id', userId).update({ roles: '[]' });
      await settled(false);
      // An ACL is part of the tasks, not of the caller: it counts as soon as it is projected.
      await database('workspaces')
        .where('workspaces.id', task.workspaceId)
        .update({ user_acl: JSON.stringify({ [formatUuid(userId)]: { permissions: ['read'] } }) });
      await world.settle();
      expect(await reads()).toBe(true);
    });
  });

  test('with sharing switched off, ACLs give nothing, in lists and gets', async () => {
    const userId = await insertUser(database, { username: 'shared-with', memberships: [[world.home]] });
    const ownerId = await insertUser(database, { username: 'sharer', memberships: [[world.home]] });
    const right = { permissions: ['read'] };
    const shared = idText(
      await world.insertTask({
        name: 'shared',
        ownerId,
        organizationId: world.home,
        userAcl: { [formatUuid(userId)]: right },
        groupAcl: { [formatUuid(world.home)]: right },
      }),
    );
    const mine = idText(await world.insertTask({ name: 'mine', ownerId: userId, organizationId: world.home }));
    await world.settle();
    const token = await world.tokenOf('shared-with');
    for (const [withoutSharing, expected] of [
      [false, [mine, shared]],
      [true, [mine]],
    ] as const) {
      const call = await world.callOf(token, createAuthenticate(world.keys, 0, { withoutSharing }));
      for (const query of ['owner:*', `owner:* id:${mine},${shared}`]) {
        const found = (await world.list(query, call)).filter((id) => [mine, shared].includes(id));
        expect(found.toSorted(), query).toEqual([...expected].toSorted());
      }
      expect(await world.list('owner:sharer', call)).toHaveLength(withoutSharing ? 0 : 1);
      expect(await world.get({ case: 'id', value: shared }, call)).toBe(withoutSharing ? 'NotFound' : shared);
    }
  });

  testWhere(tasksAre === 'workspaces')('tasks have rights of their own where they have a table of their own', async () => {
    const tasksHaveRights = createFindTasksHaveRights(database);
    expect(await tasksHaveRights()).toBe(false);
    await database('projector_state').update({ task_source: 'tasks' });
    expect(await tasksHaveRights()).toBe(true);
    await database('projector_state').update({ task_source: 'workspaces' });
  });

  describe('a token for some tasks', () => {
    const everything: readonly TaskName[] = ['own', 'own-dormant', 'home', 'home-dormant', 'deleted'];
    let cast: Cast;
    beforeAll(async () => {
      cast = await writeCast({ caller: 'restricted', home: ['organization-admin'], reads: everything }, world.home);
    });

    /** An entry of an allow list in which the name of a task stands for its id, or, behind `workspace`, for that of its workspace. */
    const entryOf = (text: string): string => {
      const [type = '', name = ''] = text.split(':');
      const task = taskNames.find((one) => one === name);
      if (task === undefined) return text;
      const { id, workspaceId } = cast.ids[task];
      return `${type.replace(/^\*.*/, '*')}:${formatUuid(type.endsWith('workspace') ? workspaceId : id)}`;
    };
    const narrow = (token: string, allowList: readonly string[]) =>
      database('api_keys')
        .where('api_keys.id', token.slice(0, 10))
        .update({ scopes: '["coder:all"]', allow_list: JSON.stringify(allowList.map(entryOf)) });

    test.each<[allowList: string[], withTable: readonly TaskName[], withoutTable: readonly TaskName[]]>([
      [['*:*'], everything, everything],
      [['task:*', 'workspace:*'], everything, everything],
      [['task:own', 'workspace:*'], ['own'], everything],
      [['task:*', 'workspace:own'], ['own'], ['own']],
      [['task:own', 'workspace:own'], ['own'], ['own']],
      [['task:own', 'workspace:home'], [], ['home']],
      [['task:own', 'task:home', 'workspace:home', 'workspace:own-dormant'], ['home'], ['home', 'own-dormant']],
      [
        ['task:deleted', 'task:own', 'workspace:deleted', 'workspace:own'],
        ['deleted', 'own'],
        ['deleted', 'own'],
      ],
      [['task:own'], [], []],
      [['workspace:own'], [], ['own']],
      [['*task:own', '*workspace:own'], ['own'], ['own']],
      [['*task:own', 'workspace:home'], [], ['own', 'home']],
      [['task:away', 'workspace:away'], [], []],
      [['template:*', 'task:*'], [], []],
      [[], [], []],
    ])('%j', async (allowList, withTable, withoutTable) => {
      const token = await world.tokenOf(cast.username);
      await narrow(token, allowList);
      await checkReads(cast, token, tasksAre === 'tasks' ? withTable : withoutTable);
    });

    testWhere(tasksAre === 'tasks')('must be for all workspaces where the task has none yet', async () => {
      const ownerId = await insertUser(database, { username: 'waiting', memberships: [[world.home]] });
      const pending = formatUuid(await world.insertPendingTask({ name: 'pending', ownerId, organizationId: world.home }));
      await world.settle();
      const token = await world.tokenOf('waiting');
      const listed = async (...allowList: string[]) => {
        await narrow(token, [`task:${pending}`, ...allowList]);
        return world.list('owner:*', await world.callOf(token));
      };
      expect(await listed('workspace:*')).toEqual([pending]);
      expect(await listed(`workspace:${pending}`, 'workspace:own')).toEqual([]);
    });
  });

  describeWhere(tasksAre === 'tasks')('in newer versions of Coder', () => {
    test.each(newerRightsMatrix)('$caller reads $reads', async (row) => {
      const { implied = [], impliedForServices = [], member = [], organization = [], defaults = [] } = row;
      const inOrganization = await insertOrganization(database, `home-${newId().toString('hex')}`);
      await database('organizations')
        .where('organizations.id', inOrganization)
        .update({ default_org_member_roles: JSON.stringify(defaults) });
      const permissions = (rights: readonly Right[]) =>
        JSON.stringify(
          rights.map((right) => {
            const [resource_type, action] = right.replace('!', '').split(':');
            return { negate: right.startsWith('!'), resource_type, action };
          }),
        );
      const role = (name: string, ofMember: readonly Right[], ofOrganization: readonly Right[]) => ({
        id: newId(),
        name,
        organization_id: inOrganization,
        is_system: name !== 'custom',
        site_permissions: '[]',
        org_permissions: permissions(ofOrganization),
        // This level does not count any more.
        user_permissions: permissions(['*:*']),
        member_permissions: permissions(ofMember),
        created_at: now,
        updated_at: now,
      });
      await database('custom_roles').insert([
        role('organization-member', implied, ['organization_member:read', '!workspace:share']),
        role('organization-service-account', impliedForServices, ['organization_member:read']),
        role('custom', member, organization),
      ]);
      const cast = await writeCast(row, inOrganization);
      await checkReads(cast, await world.tokenOf(cast.username), row.reads);
    });

    test('a token needs to be good for tasks and for workspaces', async () => {
      await insertUser(database, { username: 'narrow', memberships: [[world.home]] });
      const token = await world.tokenOf('narrow');
      const authenticate = createAuthenticate(world.keys, 0);
      const given = async (scopes: readonly string[], allowList: readonly string[] = ['*:*']) => {
        await database('api_keys')
          .where('api_keys.id', token.slice(0, 10))
          .update({ scopes: JSON.stringify(scopes), allow_list: JSON.stringify(allowList) });
        return (await world.callOf(token, authenticate)).caller;
      };
      expect(await given(['workspace:read'])).toMatchObject({ mayRead: false });
      expect(await given(['task:read'])).toMatchObject({ mayRead: false });
      expect(await given(['coder:workspaces.access'])).toMatchObject({ mayRead: false });
      expect(await given(['coder:workspaces.access', 'task:*'])).toMatchObject({ mayRead: true });
      const id = newId();
      const restricted = async (...allowList: string[]) => {
        const { onlyIds, onlyWorkspaces } = await given(['coder:all'], allowList);
        return { onlyIds, onlyWorkspaces };
      };
      expect(await restricted('workspace:*')).toEqual({ onlyIds: [] });
      expect(await restricted('workspace:*', 'task:*')).toEqual({});
      expect(await restricted(`task:${formatUuid(id)}`, 'workspace:*')).toEqual({ onlyIds: [id] });
      expect(await restricted('task:*', `workspace:${formatUuid(id)}`)).toEqual({ onlyWorkspaces: [id] });
    });
  });
}
