import { create } from '@bufbuild/protobuf';
import { Code, ConnectError } from '@connectrpc/connect';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { loadDemo } from '../../dev/demo/demo.ts';
import type { Caller } from '../../src/call/caller.ts';
import type { Database } from '../../src/db/connection.ts';
import { formatUuid } from '../../src/db/uuid.ts';
import { CountTasksRequestSchema } from '../../src/gen/tasks/v1/tasks_pb.ts';
import { projectAll } from '../../src/projection/rebuild.ts';
import { createTestDatabase, describeOnEngines, type TestDatabase } from '../support/database.ts';
import { createTasksService, listAllTasks, type TestTasksService } from '../support/tasks-service.ts';
import { testCall } from '../support/test-call.ts';

/** What a filter looks at, read from the source tables and put together in memory. */
interface Facts {
  readonly id: string;
  readonly name: string;
  readonly createdAt: string;
  readonly lastUsedAt: string;
  readonly organizationId: string;
  readonly dormant: boolean;
  readonly userAcl: Record<string, unknown>;
  readonly groupAcl: Record<string, unknown>;
  readonly phase: number;
  readonly state: number;
  readonly outdated: boolean;
  readonly externalAgent: boolean | undefined;
  readonly agents: readonly string[];
  readonly parameters: ReadonlyMap<string, string>;
}

const hex = (id: unknown) => (id as Buffer).toString('hex');
const inactiveMs = 30_000;

describeOnEngines('each filter', (engine) => {
  let testDatabase: TestDatabase;
  let database: Database;
  let service: TestTasksService;
  let admin: Caller;
  let everything: Facts[];
  const people = new Map<string, Buffer>();
  const groups = new Map<string, Buffer>();
  const organizations = new Map<string, Buffer>();

  const as = (username: string, memberOf: readonly Buffer[] = [], roles: readonly string[] = []): Caller => ({
    userId: people.get(username) as Buffer,
    username,
    roles,
    customRoles: [],
    memberships: memberOf.map((organizationId) => ({ organizationId, roles: [], customRoles: [] })),
    groupIds: [],
    mayRead: true,
  });
  const names = async (caller: Caller, query: string): Promise<string[]> => {
    const tasks = await listAllTasks(service, testCall(caller), { query });
    return tasks.map(({ name, id }) => `${name} ${id.slice(0, 8)}`).toSorted();
  };

  beforeAll(async () => {
    testDatabase = await createTestDatabase(engine);
    database = testDatabase.database;
    await loadDemo(database, { now: new Date() });
    await projectAll(database);
    // What the demo has none of.
    const [first, second, third] = (await database('workspace_tasks')
      .where('workspace_tasks.live', 1)
      .orderBy('workspace_tasks.id')
      .limit(3)
      .select('workspace_tasks.build_id')) as [{ build_id: Buffer }, { build_id: Buffer }, { build_id: Buffer }];
    await database('workspace_builds').where('workspace_builds.id', first.build_id).update({ has_external_agent: true });
    await database('workspace_builds').where('workspace_builds.id', second.build_id).update({ has_external_agent: false });
    await database('workspace_build_parameters').insert([
      { workspace_build_id: first.build_id, name: 'Zone', value: 'EU' },
      { workspace_build_id: second.build_id, name: 'zone', value: 'us%' },
      { workspace_build_id: third.build_id, name: 'zone ', value: 'EU ' },
    ]);
    for (const [table, column, into] of [
      ['users', 'username', people],
      ['groups', 'name', groups],
      ['organizations', 'name', organizations],
    ] as const) {
      for (const row of await database(table).select('id', { name: column })) into.set(row.name, row.id);
    }
    admin = as('admin', [], ['owner']);
    service = createTasksService(database, { agentInactiveSeconds: inactiveMs / 1000, cacheSeconds: 0 });
    everything = await readFacts(database);
  });
  afterAll(() => testDatabase.drop());

  /** The tasks of which something holds, by the facts in memory. */
  const where = (predicate: (facts: Facts) => boolean) =>
    everything
      .filter(predicate)
      .map(({ name, id }) => `${name} ${id.slice(0, 8)}`)
      .toSorted();

  const day = new Date(Date.now() - 86_400_000).toISOString().slice(0, 10);
  const filters: [string, (facts: Facts) => boolean, some?: boolean][] = [
    ['dormant:true', ({ dormant }) => dormant],
    ['dormant:false', () => true],
    ['outdated:true', ({ outdated }) => outdated],
    ['outdated:""', ({ outdated }) => outdated],
    ['outdated:false', ({ outdated }) => !outdated],
    ['has_external_agent:true', ({ externalAgent }) => externalAgent === true],
    ['has_external_agent:false', ({ externalAgent }) => externalAgent === false],
    ['shared:true', ({ userAcl, groupAcl }) => Object.keys({ ...userAcl, ...groupAcl }).length > 0],
    ['shared:false', ({ userAcl, groupAcl }) => Object.keys({ ...userAcl, ...groupAcl }).length === 0],
    ['has-ai-task:false', () => true],
    ['phase:active', ({ phase }) => phase === 3],
    ['phase:initializing', ({ phase }) => phase === 2],
    ['phase:error', ({ phase }) => phase === 6],
    ['state:working', ({ state }) => state === 1],
    ['state:idle', ({ state }) => state === 2],
    ['state:failed', ({ state }) => state === 4],
    ['state:failure', ({ state }) => state === 4],
    ['waiting:true', ({ phase, state }) => phase === 3 && state === 2],
    ['waiting:false', ({ phase, state }) => !(phase === 3 && state === 2)],
    ['status:running waiting:true', ({ phase, state }) => phase === 3 && state === 2],
    ['status:stopped waiting:true', () => false, false],
    ...['connecting', 'connected', 'disconnected', 'timeout'].map((word): [string, (facts: Facts) => boolean] => [
      `has-agent:${word}`,
      ({ agents }) => agents.includes(word),
    ]),
    ['has-agent:connected,timeout', ({ agents }) => agents.includes('connected') || agents.includes('timeout')],
    ['has-agent:odd', () => false, false],
    ['healthy:true', ({ agents }) => agents.includes('connected')],
    ['healthy:false', ({ agents }) => agents.includes('disconnected') || agents.includes('timeout')],
    [`created_after:${day}`, ({ createdAt }) => createdAt >= `${day} 00:00:00.000000`],
    [`created_before:${day}`, ({ createdAt }) => createdAt <= `${day} 00:00:00.000000`],
    [`last_used_after:${day}`, ({ lastUsedAt }) => lastUsedAt >= `${day} 00:00:00.000000`],
    [`last_used_before:${day}`, ({ lastUsedAt }) => lastUsedAt <= `${day} 00:00:00.000000`],
    [
      'created_after:2025-08-22T09:21:39.697094Z created_before:2025-08-22T09:21:39.697094Z',
      ({ createdAt }) => createdAt === '2025-08-22 09:21:39.697094',
    ],
    ['prompt:"WHAT is 1 +"', ({ parameters }) => parameters.get('ai prompt') === 'what is 1 + 1?'],
    ['prompt:%%%', () => false, false],
    ['param:"ai prompt"', ({ parameters }) => parameters.has('ai prompt')],
    ['param:ZONE', ({ parameters }) => parameters.has('zone')],
    ['param:zone=eu', ({ parameters }) => parameters.get('zone') === 'eu'],
    ['param:zone=us%', ({ parameters }) => parameters.get('zone') === 'us%'],
    ['param:zone=eu,zone=us%', ({ parameters }) => ['eu', 'us%'].includes(parameters.get('zone') ?? '')],
    ['param:zone=%', () => false, false],
    ['param:zon_', () => false, false],
    ['param:z%', () => false, false],
    ['param:"what is 1 + 1?"', () => false, false],
    ['param:"ai prompt=what is 1 + 1?"', ({ parameters }) => parameters.get('ai prompt') === 'what is 1 + 1?'],
    ['id:a7a27450-ca16-4553-a6c5-9d6f04808569,50f92138-f463-4f2b-abad-1816264b065f', ({ name }) => /herschel|dewdney/.test(name)],
  ];

  test.each(filters)('%s', async (query, predicate, some = true) => {
    const found = await names(admin, `owner:* ${query}`);
    expect(found).toEqual(where(predicate));
    const { total } = await service.countTasks(create(CountTasksRequestSchema, { query: `owner:* ${query}` }), testCall(admin));
    expect(total).toMatchObject({ count: found.length, capped: false });
    if (some) expect(found.length).toBeGreaterThan(0);
  });

  test('organization, by name and by id, with and without a right to know it', async () => {
    for (const [name, id] of organizations) {
      const expected = where(({ organizationId }) => organizationId === id.toString('hex'));
      expect(await names(admin, `organization:${name.toUpperCase()}`)).toEqual(expected);
      expect(await names(admin, `organization:${formatUuid(id)}`)).toEqual(expected);
      expect(await names(admin, `organization:${name} status:running`)).toEqual(
        await names(admin, `owner:* organization:${name} status:running`),
      );
    }
    const [one = '', other = ''] = organizations.keys();
    const member = as('developer', [organizations.get(one) as Buffer]);
    await expect(names(member, `organization:${one}`)).resolves.toBeDefined();
    const refused = await names(member, `organization:${other}`).catch((error: unknown) => ConnectError.from(error));
    const absent = await names(member, 'organization:nowhere').catch((error: unknown) => ConnectError.from(error));
    expect(refused).toMatchObject({ code: Code.InvalidArgument });
    expect(String(refused).replace(other, 'nowhere')).toBe(String(absent));
    expect(String(absent)).toContain('at position 0');
    // By id there is nothing to know: who may not read finds nothing.
    expect(await names(member, `organization:${formatUuid(organizations.get(other) as Buffer)} owner:*`)).toEqual(
      (await names(member, 'owner:*')).filter((name) =>
        where(({ organizationId }) => organizationId === hex(organizations.get(other))).includes(name),
      ),
    );
  });

  test('shared_with_user and shared_with_group', async () => {
    const shared = everything.flatMap(({ userAcl }) => Object.keys(userAcl));
    const [withUser = ''] = [...people].find(([, id]) => shared.includes(formatUuid(id))) ?? [];
    const id = formatUuid(people.get(withUser) as Buffer);
    const expected = where(({ userAcl }) => id in userAcl);
    expect(expected.length).toBeGreaterThan(0);
    expect(await names(admin, `shared_with_user:${withUser.toUpperCase()}`)).toEqual(expected);
    expect(await names(admin, `shared_with_user:${id}`)).toEqual(expected);
    expect((await names(as(withUser), 'shared_with_user:me')).length).toBeGreaterThan(0);

    const [withGroup = '', groupId] =
      [...groups].find(([, group]) => everything.some(({ groupAcl }) => formatUuid(group) in groupAcl)) ?? [];
    const [{ organization } = { organization: '' }] = await database
      .from({ g: 'groups' })
      .join({ o: 'organizations' }, 'o.id', 'g.organization_id')
      .where('g.name', withGroup)
      .select({ organization: 'o.name' });
    const toGroup = where(({ groupAcl }) => formatUuid(groupId as Buffer) in groupAcl);
    expect(await names(admin, `shared_with_group:${organization}/${withGroup.toUpperCase()}`)).toEqual(toGroup);
    expect(await names(admin, `shared_with_group:${formatUuid(groupId as Buffer)}`)).toEqual(toGroup);

    for (const query of [
      'shared_with_user:nobody',
      'shared_with_group:nothing',
      `shared_with_group:nowhere/${withGroup}`,
      `shared_with_group:"${organization}/${withGroup} "`,
      `shared_with_group:"${organization} /${withGroup}"`,
    ]) {
      await expect(names(admin, query)).rejects.toMatchObject({ code: Code.InvalidArgument });
    }
    const loner = as('outsider');
    await expect(names(loner, 'shared_with_user:developer')).rejects.toMatchObject({ code: Code.InvalidArgument });
    await expect(names(loner, `shared_with_group:${organization}/${withGroup}`)).rejects.toMatchObject({
      code: Code.InvalidArgument,
    });
  });
});

/** The facts of all tasks that are not deleted. */
async function readFacts(database: Database): Promise<Facts[]> {
  const [tasks, workspaces, builds, parameters, resources, agents, templates] = (await Promise.all(
    [
      'workspace_tasks',
      'workspaces',
      'workspace_builds',
      'workspace_build_parameters',
      'workspace_resources',
      'workspace_agents',
      'templates',
    ].map((table) => database(table)),
  )) as Record<string, never>[][] as [never[], never[], never[], never[], never[], never[], never[]] as unknown as Record<
    string,
    unknown
  >[][];
  const json = (value: unknown) => (typeof value === 'string' ? JSON.parse(value) : value) as Record<string, unknown>;
  const at = (text: unknown) => Date.parse(`${String(text).replace(' ', 'T')}Z`);
  const agentStatus = (agent: Record<string, unknown>): string => {
    const { first_connected_at: first, last_connected_at: last, disconnected_at: disconnected } = agent;
    const timeout = Number(agent['connection_timeout_seconds']) * 1000;
    if (first === null) return timeout > 0 && Date.now() - at(agent['created_at']) > timeout ? 'timeout' : 'connecting';
    if (disconnected !== null && String(disconnected) > String(last)) return 'disconnected';
    return Date.now() - at(last) > inactiveMs ? 'disconnected' : 'connected';
  };
  return (tasks ?? [])
    .filter((task) => task['live'] === 1)
    .map((task) => {
      const workspace = (workspaces ?? []).find(({ id }) => hex(id) === hex(task['id'])) ?? {};
      const [latest = {}] = (builds ?? [])
        .filter((build) => hex(build['workspace_id']) === hex(task['id']))
        .toSorted((a, b) => Number(b['build_number']) - Number(a['build_number']));
      const template = (templates ?? []).find(({ id }) => hex(id) === hex(task['template_id'])) ?? {};
      const mine = (resources ?? [])
        .filter((resource) => hex(resource['job_id']) === hex(latest['job_id']))
        .map(({ id }) => hex(id));
      return {
        id: formatUuid(task['id'] as Buffer),
        name: String(workspace['name']),
        createdAt: String(workspace['created_at']),
        lastUsedAt: String(workspace['last_used_at']),
        organizationId: hex(workspace['organization_id']),
        dormant: workspace['dormant_at'] !== null,
        userAcl: json(workspace['user_acl']),
        groupAcl: json(workspace['group_acl']),
        phase: Number(task['phase']),
        state: Number(task['state']),
        outdated: hex(template['active_version_id']) !== hex(latest['template_version_id']),
        externalAgent: latest['has_external_agent'] === null ? undefined : latest['has_external_agent'] === 1,
        agents:
          latest['transition'] === 'start'
            ? (agents ?? [])
                .filter((agent) => agent['deleted'] === 0 && mine.includes(hex(agent['resource_id'])))
                .map(agentStatus)
            : [],
        parameters: new Map(
          (parameters ?? [])
            .filter((parameter) => hex(parameter['workspace_build_id']) === hex(latest['id']))
            .map(({ name, value }) => [String(name).toLowerCase(), String(value).toLowerCase()]),
        ),
      };
    });
}
