import { seededRandom } from '../../dev/demo/seeded-random.ts';
import { withNewerRights } from './newer-rights.ts';
import { type Acl, type AgentRow, type BuildRow, emptyWorld, type JobRow, type RolePermission, type World } from './world.ts';

/** How long an agent of a random world may be silent and still counts as connected: long, so that no test depends on its speed. */
export const inactiveSeconds = 3600;

/** Minutes and hours on either side of that. */
const recently = 600_000;
const longAgo = 3 * 3_600_000;

/** The user of each world who is a site owner. */
const readsAll = 'frank';
/** The user who is in every organization and group, of which there may be so many that lists are read in another way. */
const joiner = 'grace';

/** Agents of these lives, apps of this health, and so on: every word that the platform writes. */
const lifecycles =
  'created starting start_timeout start_error ready ready ready ready shutting_down shutdown_timeout shutdown_error off'.split(
    ' ',
  );
const healths = ['disabled', 'initializing', 'healthy', 'healthy', 'unhealthy'];
const states = ['working', 'idle', 'idle', 'complete', 'failure'] as const;

const workspaceNames = [
  ...[
    'fix-login',
    'Fix-Login-2',
    'write-tests',
    'write-docs',
    'ZETA',
    'alpha',
    'Alpha-2',
    'a',
    'log-in',
    'task-7',
    'task-70',
    'task_7',
  ],
  ...[
    '100%',
    'back\\slash',
    "quote's",
    'naïve',
    'NAÏVE-2',
    '日本',
    'emoji-🦊',
    'Ünder_score',
    'fix login',
    'fix/login',
    'semi;colon',
  ],
];
const prompts = [
  'Fix the login page',
  'FIX the tests, 100% of them',
  'Line one\n\tline two\r\nline three',
  'Räume auf — ÄPFEL und Birnen',
  `Explain ${'🦊'.repeat(60)} to me`,
  'exactly 64 characters, which is as much as a title can have, ok.',
  'exactly 65 characters, one more than what a title can ever have..',
  `${'long '.repeat(190)}the needle is within the first 1000 characters`,
  `${'long '.repeat(250)}the haystack is beyond the first 1000 characters`,
  "Robert'); DROP TABLE workspaces;--",
  ' ',
  '',
];
const roles: Readonly<Record<'site' | 'organization', readonly (readonly string[])[]>> = {
  site: [
    ...[[], [], [], [], [], ['member'], ['owner'], ['template-admin'], ['user-admin'], ['auditor'], ['user-admin', 'auditor']],
    ...[['site-role'], ['site-role', 'template-admin'], ['other-role'], ['no-such-role'], ['organization-role']],
  ],
  organization: [
    ...[
      [],
      [],
      [],
      [],
      [],
      [],
      ['organization-member'],
      ['organization-admin'],
      ['organization-template-admin'],
      ['organization-auditor'],
    ],
    ...[['organization-user-admin'], ['organization-workspace-creation-ban'], ['organization-role'], ['other-role']],
    ...[['organization-role', 'organization-admin'], ['organization-admin', 'organization-auditor'], ['site-role']],
  ],
};
const granted = [['read'], ['*'], ['application_connect', 'read', 'ssh', 'start', 'stop'], ['ssh'], []];

/**
 * Makes a world of a few organizations, people, roles, groups, templates, and workspaces with their whole history, many of them
 * odd. Every state that the platform's rules tell apart is likely to be in one of a few worlds. The same seed makes the same
 * world, but for the times of agents, which are relative to `now` and far from any limit.
 */
export function randomWorld(seed: number, now: Date): World {
  const random = seededRandom(seed, 0x57041d);
  const below = (limit: number): number => Math.floor(random() * limit);
  const chance = (probability: number): boolean => random() < probability;
  const pick = <Value>(values: readonly Value[]): Value => values[below(values.length)] as Value;
  const some = <Value>(values: readonly Value[], probability: number): Value[] => values.filter(() => chance(probability));
  const id = (): string => {
    const digits = Array.from({ length: 32 }, () => below(16).toString(16)).join('');
    return digits.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
  };
  const world = emptyWorld();

  for (const [name, isDefault, deleted] of [
    ['acme', true, false],
    ['Beta-2', false, false],
    ['gamma', false, false],
    ['delta', false, false],
    ['Acme', false, true],
  ] as const) {
    if (isDefault || chance(0.8)) world.organizations.push({ id: id(), name, is_default: isDefault, deleted });
  }
  for (const [name, deleted] of [
    ['alice', false],
    ['Bob', false],
    ['carol', false],
    ['dave', false],
    ['Eve', false],
    ['frank', false],
    ['grace', false],
    ['Alice', true],
  ] as const) {
    const userRoles = name === readsAll ? ['owner'] : name === joiner ? [] : pick(roles.site);
    const avatar = chance(0.5) ? `https://images.test/${name}.png` : '';
    world.users.push({ id: id(), username: name, avatar_url: avatar, status: 'active', rbac_roles: userRoles, deleted });
  }
  for (const user of world.users) {
    const everywhere = user.username === joiner || chance(0.3);
    for (const organization of world.organizations) {
      if (!everywhere && chance(0.5)) continue;
      world.organization_members.push({ organization_id: organization.id, user_id: user.id, roles: pick(roles.organization) });
    }
  }

  const permissions = (): RolePermission[] =>
    Array.from({ length: below(3) }, () => ({
      negate: chance(0.35),
      resource_type: pick(['workspace', 'workspace', 'workspace', '*', 'template']),
      action: pick(['read', 'read', 'read', '*', 'update']),
    }));
  for (const name of ['site-role', 'other-role']) {
    world.custom_roles.push({
      id: id(),
      name,
      organization_id: null,
      site_permissions: permissions(),
      org_permissions: [],
      user_permissions: permissions(),
    });
  }
  for (const { id: organization_id } of world.organizations) {
    for (const name of some(['organization-role', 'other-role'], 0.8)) {
      world.custom_roles.push({
        id: id(),
        name,
        organization_id,
        site_permissions: [],
        org_permissions: permissions(),
        user_permissions: permissions(),
      });
    }
  }

  for (const { id: organization_id } of world.organizations) {
    if (chance(0.7)) world.groups.push({ id: organization_id, organization_id, name: 'Everyone', avatar_url: '' });
    for (const name of some(['dev', 'Ops', 'on call'], 0.8))
      world.groups.push({ id: id(), organization_id, name, avatar_url: '' });
  }
  for (let team = pick([0, 0, 25, 100]); team > 0; team--) {
    world.groups.push({ id: id(), organization_id: pick(world.organizations).id, name: `team-${team}`, avatar_url: '' });
  }
  for (const group of world.groups) {
    if (group.name === 'Everyone') continue;
    for (const user of world.users) {
      if (user.username === joiner || chance(0.45)) world.group_members.push({ user_id: user.id, group_id: group.id });
    }
  }

  for (const [name, deleted] of [
    ['typescript', false],
    ['Go', false],
    ['python', false],
    ['TypeScript', false],
    ['typescript', true],
    ['rust', true],
  ] as const) {
    const { id: organization_id } = pick(world.organizations);
    const taken = world.templates.some(
      (other) => other.organization_id === organization_id && other.name.toLowerCase() === name.toLowerCase() && !other.deleted,
    );
    if (taken && !deleted) continue;
    world.templates.push({
      id: id(),
      organization_id,
      name,
      display_name: chance(0.5) ? `${name} 🦊` : '',
      icon: chance(0.5) ? `/icon/${name}.svg` : '',
      active_version_id: id(),
      deleted,
      user_acl: {},
      group_acl: {},
    });
  }

  const acl = (subjects: readonly string[]): Acl => {
    if (!chance(0.35)) return {};
    return Object.fromEntries(Array.from({ length: 1 + below(2) }, () => [pick(subjects), { permissions: pick(granted) }]));
  };
  const at = (day: number, micros: number): string =>
    `2026-03-${String(day).padStart(2, '0')} 10:00:00.${String(micros).padStart(6, '0')}`;
  const ago = (milliseconds: number): string =>
    `${new Date(now.getTime() - milliseconds).toISOString().slice(0, -1)}000`.replace('T', ' ');
  const owners = world.users.filter((_, index) => index < 4 || chance(0.5));
  const workspaces = chance(0.1) ? below(4) : 20 + below(60);

  for (let number = 0; number < workspaces; number++) {
    const { id: owner_id } = pick(owners);
    const home = world.organization_members.filter(({ user_id }) => user_id === owner_id);
    const { organization_id } = home.length > 0 && chance(0.8) ? pick(home) : { organization_id: pick(world.organizations).id };
    const deleted = chance(0.12);
    const taken = (name: string) =>
      world.workspaces.some(
        (other) => other.owner_id === owner_id && !other.deleted && other.name.toLowerCase() === name.toLowerCase(),
      );
    const wanted = pick(workspaceNames);
    const name = !deleted && taken(wanted) ? `${wanted}-${number}` : wanted;
    const template = chance(0.03) ? undefined : pick(world.templates);
    const created_at = at(1 + below(3), pick([0, 1, 999_999]));
    const workspace = {
      id: id(),
      owner_id,
      organization_id,
      template_id: template?.id ?? id(),
      name,
      deleted,
      favorite: chance(0.3),
      user_acl: acl(world.users.map((user) => user.id)),
      group_acl: acl(
        chance(0.9)
          ? [
              organization_id,
              ...world.groups.filter((group) => group.organization_id === organization_id).map((group) => group.id),
            ]
          : [...world.groups, ...world.organizations].map((group) => group.id),
      ),
      last_used_at: chance(0.1) ? '0001-01-01 00:00:00.000000' : at(10 + below(3), pick([0, 123_456])),
      dormant_at: chance(0.15) ? at(20, 5) : null,
      created_at,
      updated_at: chance(0.5) ? created_at : at(9, 7),
    };
    world.workspaces.push(workspace);

    let appsBefore: string[] = [];
    let buildNumber = 0;
    const builds = chance(0.04) ? 0 : 1 + below(4);
    const isTask = chance(0.85);
    // Where everything is left to chance, hardly any task is active.
    const isWell = chance(0.4);
    for (let index = 0; index < builds; index++) {
      const last = index === builds - 1;
      buildNumber += chance(0.1) ? 2 : 1;
      const transition: BuildRow['transition'] =
        deleted && last && chance(0.9)
          ? 'delete'
          : chance(index === 0 || isWell ? 0.9 : 0)
            ? 'start'
            : pick(['start', 'start', 'start', 'stop', 'stop', 'delete', 'delete']);
      const buildAt = at(4 + index, below(1_000_000));
      const job: JobRow = { id: id(), organization_id, ...jobTimes(buildAt, isWell) };
      if (!chance(0.03)) world.provisioner_jobs.push(job);

      const apps: string[] = [];
      for (let resource = transition === 'start' ? (isWell ? 1 : below(3)) : chance(0.2) ? 1 : 0; resource > 0; resource--) {
        const resourceId = id();
        world.workspace_resources.push({ id: resourceId, job_id: job.id, transition, type: 'docker', name: 'main' });
        let parent: string | null = null;
        for (let agent = isWell ? 1 : pick([0, 1, 1, 1, 1, 2]); agent > 0; agent--) {
          const row: AgentRow = {
            id: id(),
            resource_id: resourceId,
            parent_id: parent !== null && chance(0.6) ? parent : null,
            name: 'main',
            deleted: chance(0.1),
            lifecycle_state: isWell && chance(0.8) ? 'ready' : pick(lifecycles),
            ...connection(),
          };
          world.workspace_agents.push(row);
          parent = row.id;
          for (let app = isWell ? 1 : pick([0, 1, 1, 1, 2]); app > 0; app--) {
            const appId = id();
            world.workspace_apps.push({
              id: appId,
              agent_id: row.id,
              slug: 'chat',
              health: isWell && chance(0.8) ? 'healthy' : pick(healths),
            });
            apps.push(appId);
          }
        }
      }
      const named = random();
      const build: BuildRow = {
        id: id(),
        workspace_id: workspace.id,
        template_version_id: template !== undefined && chance(0.6) ? template.active_version_id : id(),
        build_number: buildNumber,
        transition,
        job_id: job.id,
        has_ai_task: isTask ? pick([true, true, true, null, null, false]) : pick([false, false, null]),
        ai_task_sidebar_app_id:
          named < 0.55 && apps.length > 0
            ? pick(apps)
            : named < 0.7 && appsBefore.length > 0
              ? pick(appsBefore)
              : named > 0.96
                ? pick([id(), ...world.workspace_apps.map((app) => app.id)])
                : null,
        has_external_agent: pick([null, true, false]),
        created_at: buildAt,
      };
      world.workspace_builds.push(build);
      appsBefore = apps;
      const parameters = new Map<string, string>();
      if (isTask && chance(transition === 'start' ? 0.75 : 0.15)) parameters.set('AI Prompt', pick(prompts));
      else if (chance(0.1)) parameters.set(pick(['ai prompt', 'AI  Prompt', 'AI_Prompt']), 'not a prompt');
      for (const name of some(['region', 'Region', 'zone%', 'größe'], 0.3))
        parameters.set(name, pick(['eu', 'EU', 'us_1', '100%', '', 'ÄÖ']));
      for (const [name, value] of parameters)
        world.workspace_build_parameters.push({ workspace_build_id: build.id, name, value });
    }

    const latest = world.workspace_builds.at(-1);
    const reportedAt = new Set<string>();
    for (let report = below(4); report > 0; report--) {
      const when = isWell
        ? at(9, report)
        : chance(0.15) && latest !== undefined
          ? latest.created_at
          : at(4 + below(5), below(1_000_000));
      if (reportedAt.has(when)) continue; // which of two at once counts is not said
      reportedAt.add(when);
      world.workspace_app_statuses.push({
        id: id(),
        workspace_id: workspace.id,
        agent_id: id(),
        app_id: id(),
        state: pick(states),
        message: pick(['On it', 'Done: 100%', 'Ähm… 🦊', '']),
        uri: pick([null, '', 'https://example.test/pull/1']),
        created_at: when,
      });
    }
  }

  const unlimited = world.users.filter(({ username }) => [readsAll, joiner].includes(username)).map((user) => user.id);
  for (const { id: user_id } of world.users) {
    const token = { user_id, scope: 'all', scopes: null, allow_list: null };
    const some = (types = ['workspace', 'task']) =>
      Array.from({ length: below(8) }, () => `${pick(types)}:${pick(world.workspaces)?.id}`);
    world.api_keys.push(
      pick([
        // Most tokens are good for everything.
        ...Array.from({ length: unlimited.includes(user_id) ? 60 : 20 }, () => token),
        { ...token, scope: 'application_connect' },
        { ...token, scopes: ['workspace:read'], allow_list: [...some(), `template:${id()}`] },
        { ...token, scopes: ['template:read', 'task:read'], allow_list: ['*:*'] },
        { ...token, scopes: ['coder:all'], allow_list: ['workspace:*'] },
        { ...token, scopes: ['coder:all'], allow_list: [...some(['workspace']), 'task:*'] },
        { ...token, scopes: ['coder:all'], allow_list: [...some(['task']), 'workspace:*'] },
        {
          ...token,
          scopes: ['coder:all'],
          allow_list: some(['task']).flatMap((entry) => [entry, entry.replace('task', 'workspace')]),
        },
      ]),
    );
  }
  return seed % 2 === 0 ? world : withNewerRights(world, seed);

  /** Any of the states of a job, some of them in columns that the platform would not leave together. */
  function jobTimes(from: string, isWell: boolean): Omit<JobRow, 'id' | 'organization_id'> {
    const pending = { started_at: null, canceled_at: null, completed_at: null, error: null };
    const succeeded = { ...pending, started_at: from, completed_at: from };
    if (isWell && chance(0.9)) return succeeded;
    const error = pick([null, null, null, '']);
    return pick([
      succeeded,
      { ...succeeded, started_at: null },
      { ...succeeded, error: '' },
      { ...succeeded, error: 'boom' },
      { ...succeeded, canceled_at: from, error },
      { ...succeeded, canceled_at: from, error: 'boom' },
      { ...pending, error },
      { ...pending, error: 'boom' },
      { ...pending, canceled_at: from, error },
      { ...pending, started_at: from, error },
      { ...pending, started_at: from, error },
      { ...pending, started_at: from, canceled_at: from, error },
    ]);
  }

  /** Any of the states of an agent's connection. */
  function connection(): Omit<AgentRow, 'id' | 'resource_id' | 'parent_id' | 'name' | 'deleted' | 'lifecycle_state'> {
    const never = { first_connected_at: null, last_connected_at: null, disconnected_at: null };
    const connectedFor = (last: number, disconnected: number | undefined) => ({
      first_connected_at: ago(longAgo),
      last_connected_at: ago(last),
      disconnected_at: disconnected === undefined ? null : ago(disconnected),
    });
    const times = pick([
      never,
      never,
      connectedFor(recently, undefined),
      connectedFor(recently, undefined),
      connectedFor(recently, recently + 60_000), // has come back
      connectedFor(recently, recently - 60_000), // has left
      connectedFor(recently, recently), // at the same time: still connected
      connectedFor(longAgo, undefined),
    ]);
    return { ...times, connection_timeout_seconds: pick([0, inactiveSeconds]), created_at: ago(pick([recently, longAgo])) };
  }
}
