import { create } from '@bufbuild/protobuf';
import { Code, ConnectError } from '@connectrpc/connect';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type ApiKeyRepository, createApiKeyRepository } from '../../src/auth/api-key-repository.ts';
import { createAuthenticate } from '../../src/auth/authenticate.ts';
import { createFindTasksHaveRights } from '../../src/auth/user-rights.ts';
import type { Call } from '../../src/call/call.ts';
import type { Database } from '../../src/db/connection.ts';
import { formatUuid } from '../../src/db/uuid.ts';
import {
  CountTasksRequestSchema,
  GetTaskRequestSchema,
  ListQueryValuesRequestSchema,
  ListTasksRequestSchema,
  QueryKey,
} from '../../src/gen/tasks/v1/tasks_pb.ts';
import { projectAll } from '../../src/projection/rebuild.ts';
import { createPageTokens } from '../../src/tasks/page-token.ts';
import { createResolveQuery } from '../../src/tasks/resolve-query.ts';
import { createNameLookup } from '../../src/tasks/store/name-lookup.ts';
import { createTaskRepository } from '../../src/tasks/store/task-repository.ts';
import { createTestDatabase, describeOnEngines, type TestDatabase } from '../support/database.ts';
import { insertOrganization, insertUser } from '../support/people.ts';
import { newId } from '../support/tasks.ts';
import { createTasksService, type TestTasksService } from '../support/tasks-service.ts';
import { testCall } from '../support/test-call.ts';

const now = '2026-01-01 00:00:00.000000';
const read = [{ negate: false, resource_type: 'workspace', action: 'read' }];

/** The tasks of the matrix. All but the caller's own are of somebody else, in `home` or in `away`. */
const tasks = ['own', 'own-dormant', 'own-left', 'home', 'home-dormant', 'away', 'deleted'] as const;
type TaskName = (typeof tasks)[number];

/** A caller of the matrix: roles on the site and in `home` (undefined: no member of it), and the tasks they read. */
interface Row {
  readonly caller: string;
  readonly site?: readonly string[];
  readonly home?: readonly string[];
  /** Whom `home`, `home-dormant` and `away` are shared with. */
  readonly share?: 'user' | 'group' | 'everyone' | 'nobody, by words that are no right';
  readonly reads: readonly TaskName[];
}

/** A permission of a role: `resource:action`, with a `!` in front to take it away. */
type Right = string;

/** A caller of the matrix for newer versions of Coder, where tasks have rights of their own and `home` says what its members may. */
interface NewerRow extends Row {
  readonly serviceAccount?: true;
  /** Roles that every member of `home` has. */
  readonly defaults?: readonly string[];
  /** What membership of `home` implies for users, and for service accounts: rights on what is one's own. */
  readonly implied?: readonly Right[];
  readonly impliedForServices?: readonly Right[];
  /** What the custom role `custom` of `home` permits on what is one's own, and in the organization. */
  readonly member?: readonly Right[];
  readonly organization?: readonly Right[];
}

const own: readonly TaskName[] = ['own', 'own-dormant'];
const inHome: readonly TaskName[] = ['own', 'own-dormant', 'home', 'home-dormant', 'deleted'];

// The table of who may read at the seed (coderd/rbac/roles_test.go ReadMyWorkspaceInOrg, WorkspaceDormant), with one rule for
// dormant workspaces: who may read one while it is active may read it dormant.
const matrix: readonly Row[] = [
  { caller: 'site owner', site: ['owner'], reads: tasks },
  { caller: 'site owner and member', site: ['owner'], home: [], reads: tasks },
  { caller: 'site template-admin', site: ['template-admin'], home: [], reads: tasks },
  { caller: 'site user-admin', site: ['user-admin'], home: [], reads: own },
  { caller: 'site auditor', site: ['auditor'], home: [], reads: own },
  { caller: 'member of nothing', reads: [] },
  { caller: 'member', home: [], reads: own },
  { caller: 'organization-admin', home: ['organization-admin'], reads: inHome },
  { caller: 'organization-template-admin', home: ['organization-template-admin'], reads: inHome },
  { caller: 'organization-auditor', home: ['organization-auditor'], reads: own },
  { caller: 'organization-user-admin', home: ['organization-user-admin'], reads: own },
  { caller: 'organization-workspace-creation-ban', home: ['organization-workspace-creation-ban'], reads: own },
  { caller: 'user of the ACL, and member', home: [], share: 'user', reads: [...own, 'home', 'home-dormant', 'away'] },
  { caller: 'user of the ACL, and no member', share: 'user', reads: ['home', 'home-dormant', 'away'] },
  { caller: 'in a group of the ACL, and member', home: [], share: 'group', reads: [...own, 'home', 'home-dormant'] },
  { caller: 'in a group of the ACL, and no member', share: 'group', reads: [] },
  { caller: 'member, shared with Everyone', home: [], share: 'everyone', reads: [...own, 'home', 'home-dormant'] },
  { caller: 'no member, shared with Everyone', share: 'everyone', reads: [] },
  { caller: 'in an ACL without the right to read', home: [], share: 'nobody, by words that are no right', reads: own },
  { caller: 'custom role on the site', site: ['site-reader'], reads: tasks },
  { caller: 'custom role in the organization', home: ['home-reader'], reads: inHome },
  { caller: 'custom role that denies the own', home: ['own-denier'], reads: [] },
  { caller: 'custom role that denies on the site', site: ['owner', 'site-denier'], home: ['organization-admin'], reads: [] },
];

const readsBoth: readonly Right[] = ['workspace:read', 'task:read'];
const access = 'organization-workspace-access';

// The same for newer versions of Coder (coderd/rbac/roles.go, policy.rego; coderd/rbac/roles_test.go Task, WorkspaceDormant).
const newerMatrix: readonly NewerRow[] = [
  { caller: 'site owner', site: ['owner'], reads: tasks },
  { caller: 'site template-admin', site: ['template-admin'], reads: [] },
  { caller: 'site template-admin, member', site: ['template-admin'], home: [], implied: readsBoth, reads: own },
  { caller: 'site user-admin', site: ['user-admin'], home: [], implied: readsBoth, reads: own },
  { caller: 'site auditor', site: ['auditor'], home: [], implied: readsBoth, reads: own },
  { caller: 'member of nothing', reads: [] },
  { caller: 'member', home: [], implied: readsBoth, reads: own },
  { caller: 'member, with all rights by words for all', home: [], implied: ['*:*'], reads: own },
  { caller: 'member without the implied rights', home: [], implied: [], reads: [] },
  { caller: 'member who may read workspaces alone', home: [], implied: ['workspace:read'], reads: [] },
  { caller: 'member who may read tasks alone', home: [], implied: ['task:*'], reads: [] },
  { caller: 'member by the default roles', home: [], implied: [], defaults: [access], reads: own },
  { caller: 'member by the own role', home: [access], implied: [], reads: own },
  { caller: 'member of default roles that are about chats', home: [], implied: [], defaults: ['agents-access'], reads: [] },
  { caller: 'member by a custom default role', home: [], implied: [], defaults: ['custom'], member: readsBoth, reads: own },
  { caller: 'all members read everything', home: [], implied: [], defaults: ['custom'], organization: readsBoth, reads: inHome },
  { caller: 'service account', serviceAccount: true, home: [], implied: [], impliedForServices: readsBoth, reads: own },
  {
    caller: 'service account without rights',
    serviceAccount: true,
    home: [],
    implied: readsBoth,
    impliedForServices: [],
    reads: [],
  },
  { caller: 'service account, and admin', serviceAccount: true, home: ['organization-admin'], implied: [], reads: inHome },
  { caller: 'organization-admin', home: ['organization-admin'], implied: [], reads: inHome },
  { caller: 'organization-template-admin', home: ['organization-template-admin'], implied: readsBoth, reads: own },
  { caller: 'organization-auditor', home: ['organization-auditor'], implied: readsBoth, reads: own },
  { caller: 'organization-user-admin', home: ['organization-user-admin'], implied: readsBoth, reads: own },
  { caller: 'creation ban', home: ['organization-workspace-creation-ban'], implied: readsBoth, reads: own },
  { caller: 'custom role for members', home: ['custom'], implied: [], member: readsBoth, reads: own },
  { caller: 'custom role that denies members', home: ['custom'], implied: readsBoth, member: ['!task:read'], reads: [] },
  { caller: 'custom role for the organization', home: ['custom'], implied: [], organization: readsBoth, reads: inHome },
  { caller: 'custom role for workspaces alone', home: ['custom'], implied: readsBoth, organization: ['workspace:*'], reads: own },
  { caller: 'custom role that denies all', home: ['custom'], implied: readsBoth, organization: ['!*:*'], reads: [] },
  { caller: 'user of the ACL', share: 'user', reads: ['home', 'home-dormant', 'away'] },
  { caller: 'in a group of the ACL', home: [], implied: [], share: 'group', reads: ['home', 'home-dormant'] },
  { caller: 'in a group of the ACL, no member', share: 'group', reads: [] },
  { caller: 'shared with Everyone', home: [], implied: [], share: 'everyone', reads: ['home', 'home-dormant'] },
];

describeOnEngines('who may read', (engine) => {
  let testDatabase: TestDatabase;
  let database: Database;
  let keys: ApiKeyRepository;
  let service: TestTasksService;
  let home: Buffer;
  let away: Buffer;
  let template: Buffer;

  const tokenOf = async (username: string) => (await keys.create(username, { lifetimeSeconds: 3600, name: 'test' })) ?? '';
  const callOf = async (token: string, authenticate = createAuthenticate(keys, 0)): Promise<Call> =>
    testCall(await authenticate((name) => (name === 'coder-session-token' ? token : undefined)));

  /** Writes a workspace that is a task, in the source tables. */
  async function insertWorkspace(init: {
    name: string;
    ownerId: Buffer;
    organizationId: Buffer;
    dormant?: boolean;
    deleted?: boolean;
    userAcl?: object;
    groupAcl?: object;
  }): Promise<Buffer> {
    const [id, build, job] = [newId(), newId(), newId()];
    await database('provisioner_jobs').insert({
      id: job,
      organization_id: init.organizationId,
      started_at: now,
      completed_at: now,
      created_at: now,
      updated_at: now,
    });
    await database('workspaces').insert({
      id,
      owner_id: init.ownerId,
      organization_id: init.organizationId,
      template_id: template,
      name: init.name,
      deleted: init.deleted ?? false,
      dormant_at: init.dormant === true ? now : null,
      user_acl: JSON.stringify(init.userAcl ?? {}),
      group_acl: JSON.stringify(init.groupAcl ?? {}),
      created_at: now,
      updated_at: now,
    });
    await database('workspace_builds').insert({
      id: build,
      workspace_id: id,
      template_version_id: newId(),
      build_number: 1,
      transition: init.deleted === true ? 'delete' : 'start',
      job_id: job,
      has_ai_task: true,
      created_at: now,
      updated_at: now,
    });
    return id;
  }

  beforeAll(async () => {
    testDatabase = await createTestDatabase(engine);
    database = testDatabase.database;
    keys = createApiKeyRepository(database);
    home = await insertOrganization(database, 'home');
    away = await insertOrganization(database, 'away');
    template = newId();
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
      role('home-reader', home, 'org', read),
      role('own-denier', home, 'user', deny),
      role('site-denier', null, 'site', deny),
    ]);
    service = createTasksService({
      tasks: createTaskRepository(database, 30),
      resolveQuery: createResolveQuery(createNameLookup(database, 0)),
      pageTokens: createPageTokens([Buffer.alloc(32)]),
    });
  });
  afterAll(() => testDatabase.drop());

  test.each(matrix)('$caller reads $reads', (row) => checkReads(row, home));

  /** Whether the caller of a row lists and gets exactly the tasks that the row says, with `home` being an organization. */
  async function checkReads({ caller, site = [], home: roles, share, reads, serviceAccount }: NewerRow, home: Buffer) {
    const username = `${caller.replaceAll(/[^a-z]+/g, '-').slice(0, 26)}-${newId().toString('hex').slice(0, 4)}`;
    const callerId = await insertUser(database, {
      username,
      roles: site,
      serviceAccount: serviceAccount ?? false,
      memberships: roles === undefined ? [] : [[home, ...roles]],
    });
    const other = `${username}-x`;
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
    const names = (task: TaskName) => `${task}-${username}`.slice(0, 60);
    const ids: Record<TaskName, Buffer> = {
      own: await insertWorkspace({ name: names('own'), ownerId: callerId, organizationId: home }),
      'own-dormant': await insertWorkspace({
        name: names('own-dormant'),
        ownerId: callerId,
        organizationId: home,
        dormant: true,
      }),
      'own-left': await insertWorkspace({ name: names('own-left'), ownerId: callerId, organizationId: away }),
      home: await insertWorkspace({ name: names('home'), ownerId, organizationId: home, ...acl }),
      'home-dormant': await insertWorkspace({
        name: names('home-dormant'),
        ownerId,
        organizationId: home,
        dormant: true,
        ...acl,
      }),
      away: await insertWorkspace({ name: names('away'), ownerId, organizationId: away, ...acl }),
      deleted: await insertWorkspace({ name: names('deleted'), ownerId, organizationId: home, deleted: true }),
    };
    await projectAll(database);
    const call = await callOf(await tokenOf(username));

    const list = async (query: string): Promise<string[]> => {
      const found: string[] = [];
      let pageToken = '';
      do {
        const page = await service.listTasks(create(ListTasksRequestSchema, { query, pageToken, pageSize: 200 }), call);
        found.push(...page.tasks.map(({ id }) => id));
        pageToken = page.nextPageToken;
      } while (pageToken !== '');
      return found;
    };
    const listed = new Set([...(await list('owner:*')), ...(await list('owner:* status:deleted'))]);
    const ofMine = await list('owner:me');
    const mine = new Set(Object.values(ids).map((id) => formatUuid(id)));
    for (const query of ['owner:*', 'owner:* status:deleted', 'owner:me', `owner:${other}`, `owner:${other} status:deleted`]) {
      const { total, statuses } = await service.countTasks(create(CountTasksRequestSchema, { query }), call);
      const found = await list(query);
      expect(total, query).toMatchObject({ count: found.length, capped: false });
      expect(
        statuses.reduce((sum, { count }) => sum + count, 0),
        query,
      ).toBe(found.length);
      if (query.includes(other)) expect(found.every((id) => mine.has(id))).toBe(true);
    }
    const { values } = await service.listQueryValues(
      create(ListQueryValuesRequestSchema, { key: QueryKey.OWNER, prefix: username }),
      call,
    );
    expect(
      values.map(({ value }) => value),
      'owners to choose from',
    ).toEqual([
      ...(reads.some((task) => task.startsWith('own')) ? [username] : []),
      ...(reads.some((task) => ['home', 'home-dormant', 'away'].includes(task)) ? [other] : []),
    ]);
    const ofOther = new Set([...(await list(`owner:${other}`)), ...(await list(`owner:${other} status:deleted`))]);
    for (const task of tasks) {
      const id = formatUuid(ids[task]);
      const may = reads.includes(task);
      expect(listed.has(id), `list has ${task}`).toBe(may);
      expect(task.startsWith('own') ? ofMine.includes(id) : ofOther.has(id), `list of the owner has ${task}`).toBe(may);
      const get = (identifier: { case: 'id'; value: string } | { case: 'name'; value: { owner: string; name: string } }) =>
        service.getTask(create(GetTaskRequestSchema, { identifier }), call).then(
          (answer) => answer.task?.id,
          (error: unknown) => Code[ConnectError.from(error).code],
        );
      expect(await get({ case: 'id', value: id }), `get ${task} by id`).toBe(may ? id : 'NotFound');
      const owner = task.startsWith('own') ? username : other;
      // What is deleted has no name any more.
      expect(await get({ case: 'name', value: { owner, name: names(task) } }), `get ${task} by name`).toBe(
        may && task !== 'deleted' ? id : 'NotFound',
      );
    }
  }

  describe('a change takes effect when the memory of the caller is over', () => {
    test('of a membership, a role, and an ACL', async () => {
      const userId = await insertUser(database, { username: 'mover', memberships: [] });
      const ownerId = await insertUser(database, { username: 'mover-x' });
      const id = await insertWorkspace({ name: 'of-another', ownerId, organizationId: home });
      await projectAll(database);
      const token = await tokenOf('mover');
      const authenticate = createAuthenticate(keys, 1);
      const reads = async () =>
        service
          .getTask(
            create(GetTaskRequestSchema, { identifier: { case: 'id', value: formatUuid(id) } }),
            await callOf(token, authenticate),
          )
          .then(
            () => true,
            () => false,
          );
      const settled = async (expected: boolean) => {
        await new Promise((resolve) => setTimeout(resolve, 1050));
        expect(await reads()).toBe(expected);
      };
      expect(await reads()).toBe(false);
      await database('organization_members').insert({
        organization_id: home,
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
        .where('workspaces.id', id)
        .update({ user_acl: JSON.stringify({ [formatUuid(userId)]: { permissions: ['read'] } }) });
      await projectAll(database);
      expect(await reads()).toBe(true);
    });
  });

  test('with sharing switched off, ACLs give nothing, in lists and gets', async () => {
    const userId = await insertUser(database, { username: 'shared-with', memberships: [[home]] });
    const ownerId = await insertUser(database, { username: 'sharer', memberships: [[home]] });
    const right = { permissions: ['read'] };
    const shared = await insertWorkspace({
      name: 'shared',
      ownerId,
      organizationId: home,
      userAcl: { [formatUuid(userId)]: right },
      groupAcl: { [formatUuid(home)]: right },
    });
    const mine = await insertWorkspace({ name: 'mine', ownerId: userId, organizationId: home });
    await projectAll(database);
    const token = await tokenOf('shared-with');
    for (const [withoutSharing, expected] of [
      [false, [mine, shared]],
      [true, [mine]],
    ] as const) {
      const call = await callOf(token, createAuthenticate(keys, 0, { withoutSharing }));
      for (const query of ['owner:*', `owner:* id:${formatUuid(mine)},${formatUuid(shared)}`]) {
        const { tasks: found } = await service.listTasks(create(ListTasksRequestSchema, { query, pageSize: 200 }), call);
        const ofTest = found.map(({ id }) => id).filter((id) => [mine, shared].map(formatUuid).includes(id));
        expect(ofTest.toSorted(), query).toEqual(expected.map(formatUuid).toSorted());
      }
      const ofSharer = await service.listTasks(create(ListTasksRequestSchema, { query: 'owner:sharer' }), call);
      expect(ofSharer.tasks).toHaveLength(withoutSharing ? 0 : 1);
      const identifier = { case: 'id', value: formatUuid(shared) } as const;
      const got = await service.getTask(create(GetTaskRequestSchema, { identifier }), call).then(
        ({ task }) => task?.id,
        (error: unknown) => ConnectError.from(error).code,
      );
      expect(got).toBe(withoutSharing ? Code.NotFound : formatUuid(shared));
    }
  });

  test('tasks have rights of their own where they have a table of their own', async () => {
    const tasksHaveRights = createFindTasksHaveRights(database);
    expect(await tasksHaveRights()).toBe(false);
    await database('projector_state').update({ task_source: 'tasks' });
    expect(await tasksHaveRights()).toBe(true);
    await database('projector_state').update({ task_source: 'workspaces' });
  });

  describe('in newer versions of Coder', () => {
    test.each(newerMatrix)('$caller reads $reads', async (row) => {
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
      await checkReads(row, inOrganization);
    });

    test('a token needs to be good for tasks and for workspaces', async () => {
      await insertUser(database, { username: 'narrow', memberships: [[home]] });
      const token = await tokenOf('narrow');
      const authenticate = createAuthenticate(keys, 0);
      const given = async (scopes: readonly string[], allowList: readonly string[] = ['*:*']) => {
        await database('api_keys')
          .where('api_keys.id', token.slice(0, 10))
          .update({ scopes: JSON.stringify(scopes), allow_list: JSON.stringify(allowList) });
        return (await callOf(token, authenticate)).caller;
      };
      expect(await given(['workspace:read'])).toMatchObject({ mayRead: false });
      expect(await given(['task:read'])).toMatchObject({ mayRead: false });
      expect(await given(['coder:workspaces.access'])).toMatchObject({ mayRead: false });
      expect(await given(['coder:workspaces.access', 'task:*'])).toMatchObject({ mayRead: true });
      const id = formatUuid(newId());
      expect((await given(['coder:all'], ['workspace:*'])).onlyIds).toEqual([]);
      expect((await given(['coder:all'], ['workspace:*', 'task:*'])).onlyIds).toBeUndefined();
      expect((await given(['coder:all'], [`task:${id}`, 'workspace:*'])).onlyIds?.map(formatUuid)).toEqual([id]);
    });
  });
});
