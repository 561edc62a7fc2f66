import { randomUUID } from 'node:crypto';
import { any, anyId, type CoderOperation, coderInserts, insert, removeJobs, removeWorkspace } from './coder-inserts.ts';
import type { CoderVersion } from './coder-schema.ts';
import type { Dice } from './dice.ts';

/** All operations for the tables of a version, with how often they happen. */
export function coderOperations(version: CoderVersion, dice: Dice): readonly (readonly [weight: number, CoderOperation])[] {
  const make = coderInserts(version, dice);
  const { word, long, acl } = make;
  const sets = (table: string, where: string, ...choices: (() => [assignment: string, value?: unknown])[]): CoderOperation => {
    const [first, ...more] = choices;
    if (first === undefined) throw new Error('nothing to set');
    return (run) => {
      const [assignment, value] = dice.pick([first, ...more])();
      return run(`update ${table} set ${assignment} where ${where}`, assignment.includes('$1') ? [value] : []);
    };
  };
  const one = (table: string, where?: string): string => `id = ${anyId(table, where)}`;
  const member =
    '(organization_id, user_id) = (select m.organization_id, m.user_id from organization_members m order by random() limit 1)';
  const inGroup = '(group_id, user_id) = (select m.group_id, m.user_id from group_members m order by random() limit 1)';
  const role = 'ctid = (select r.ctid from custom_roles r order by random() limit 1)';
  const time = (): string =>
    dice.pick([
      'clock_timestamp()',
      'clock_timestamp()',
      'null',
      "'-infinity'",
      "'infinity'",
      "'0001-01-01 00:00:00Z'",
      "'0044-03-15 BC'",
      "'20000-01-01'",
    ]);
  const solid = (): string => time().replace('null', 'clock_timestamp()');

  return [
    [5, make.newWorkspace],
    [8, make.newBuild],
    [10, make.endBuild],
    [
      14,
      (run) =>
        // Of an app that is there, with its agent and its workspace.
        run(
          `insert into workspace_app_statuses (id, created_at, agent_id, app_id, workspace_id, state, message, uri)
           select gen_random_uuid(), clock_timestamp(), p.agent_id, p.id, b.workspace_id, $1, $2, $3
           from workspace_apps p join workspace_agents a on a.id = p.agent_id join workspace_resources r on r.id = a.resource_id
             join workspace_builds b on b.job_id = r.job_id
           order by random() limit 1`,
          [
            dice.pick(['working', 'idle', 'complete', 'failure']),
            dice.chance(0.1) ? long() : word(),
            dice.pick([null, '', 'https://example.com']),
          ],
        ),
    ],
    [
      2,
      sets(
        'workspace_app_statuses',
        one('workspace_app_statuses'),
        () => ['message = $1', word()],
        () => ["state = 'idle'"],
        () => ['id = gen_random_uuid()'],
      ),
    ],
    [3, (run) => run(`delete from workspace_app_statuses where ${one('workspace_app_statuses')}`)],
    [
      6,
      sets(
        'provisioner_jobs',
        one('provisioner_jobs'),
        () => ['started_at = clock_timestamp()'],
        () => ['canceled_at = clock_timestamp()'],
        () => ['error = $1, completed_at = clock_timestamp()', dice.pick(['', null, 'broken', long()])],
        () => ['updated_at = clock_timestamp()'], // leaves a long error where it is
      ),
    ],
    [
      8,
      sets(
        'workspace_agents',
        one('workspace_agents'),
        () => ['lifecycle_state = $1', dice.pick(['created', 'starting', 'ready', 'off', 'start_error', 'start_timeout'])],
        () => [`last_connected_at = ${time()}, first_connected_at = coalesce(first_connected_at, clock_timestamp())`],
        () => ['disconnected_at = clock_timestamp()'],
        () => ['deleted = not deleted'],
        () => [`parent_id = ${anyId('workspace_agents')}`],
      ),
    ],
    [
      6,
      sets(
        'workspace_apps',
        one('workspace_apps'),
        () => ['health = $1', dice.pick(['healthy', 'unhealthy', 'initializing', 'disabled'])],
        () => ['display_name = $1', word()],
      ),
    ],
    [
      12,
      sets(
        'workspaces',
        one('workspaces'),
        () => ['name = $1', word()],
        () => ['favorite = not favorite'],
        () => ['user_acl = $1', acl()],
        () => ['group_acl = $1', acl()],
        () => [`dormant_at = ${time()}`],
        () => [`last_used_at = ${solid()}`],
        () => [`owner_id = ${anyId('users')}`],
        () => [`organization_id = ${anyId('organizations')}`],
        () => ['deleted = not deleted'],
        () => ['updated_at = clock_timestamp()'],
        () => ['name = name'],
      ),
    ],
    [
      3,
      sets(
        'workspace_builds',
        one('workspace_builds'),
        () => ['has_external_agent = $1', dice.pick([true, false, null])],
        () => ['transition = $1', dice.pick(['start', 'stop', 'delete'])],
        () => ['build_number = build_number + 1000'],
        () => [`template_version_id = ${anyId('template_versions')}`],
        () => ['provisioner_state = $1', Buffer.from(long())], // a column that nobody reads
      ),
    ],
    [
      3,
      sets(
        'workspace_build_parameters',
        `workspace_build_id = ${anyId('workspace_builds')}`,
        () => ['value = $1', word()],
        () => ['value = $1', long()],
        () => ['name = name || $1', dice.pick([' ', '\t', '.'])],
      ),
    ],
    [1, (run) => run(`delete from workspace_build_parameters where workspace_build_id = ${anyId('workspace_builds')}`)],
    [1, (run) => removeJobs(run, one('provisioner_jobs'))],
    [1, (run) => removeWorkspace(run)],
    [2, (run) => run(`delete from workspace_apps where ${one('workspace_apps')}`)],
    [1, (run) => run(`delete from workspace_agents where ${one('workspace_agents')}`)],
    [1, make.newUser],
    [
      4,
      sets(
        'users',
        one('users'),
        () => ['username = $1', `${word().trim()}${dice.below(1000)}`],
        () => ['name = $1, avatar_url = $1', word()],
        () => ['status = $1', dice.pick(['active', 'suspended', 'dormant'])],
        () => ['rbac_roles = $1', dice.pick([[], ['owner'], ['auditor', 'template-admin'], ['a "b", {c}', 'NULL', '']])],
        () => [`last_seen_at = ${solid()}`],
      ),
    ],
    [1, sets('users', one('users'), () => ['deleted = not deleted'])],
    [
      1,
      (run) => run(`delete from users where ${one('users', 'not exists (select 1 from workspaces w where w.owner_id = x.id)')}`),
    ],
    [4, make.join],
    [
      3,
      sets(
        'organization_members',
        member,
        () => ['roles = $1', dice.pick([[], ['organization-admin'], ['organization-auditor', 'x,y']])],
        () => [`user_id = ${anyId('users')}`],
      ),
    ],
    [2, (run) => run(`delete from organization_members where ${member}`)],
    [1, make.newOrganization],
    [
      2,
      sets(
        'organizations',
        one('organizations'),
        () => ['name = $1', word()],
        () => ['display_name = $1', word()],
        () => ['deleted = not deleted'],
      ),
    ],
    [1, (run) => run(`delete from organizations where ${one('organizations', 'not is_default')}`)],
    [2, make.newGroup],
    [4, (run) => insert(run, 'group_members', { user_id: any('users'), group_id: any('groups') })],
    [2, (run) => run(`update group_members set group_id = ${anyId('groups')} where ${inGroup}`)],
    [3, (run) => run(`delete from group_members where ${inGroup}`)],
    [1, sets('groups', one('groups'), () => ['name = $1', word()])],
    [1, (run) => run(`delete from groups where ${one('groups')}`)],
    [
      2,
      (run) =>
        insert(run, 'custom_roles', {
          name: `role-${word()}`,
          display_name: word(),
          organization_id: dice.chance(0.8) ? any('organizations') : null,
          org_permissions: permissions(),
          site_permissions: permissions(),
        }),
    ],
    [2, (run) => run(`update custom_roles set org_permissions = $1 where ${role}`, [permissions()])],
    [1, (run) => run(`delete from custom_roles where ${role}`)],
    [1, make.newTemplate],
    [2, make.newVersion],
    [
      3,
      sets(
        'templates',
        one('templates'),
        () => ['name = $1', word()],
        () => ['user_acl = $1', JSON.stringify({ [randomUUID()]: ['read', 'use'] })],
        () => [`active_version_id = ${anyId('template_versions')}`],
        () => ['deleted = not deleted'],
        () => ['description = $1', word()],
      ),
    ],
    [
      1,
      sets(
        'template_versions',
        one('template_versions'),
        () => ['has_ai_task = $1', dice.pick([true, false, null])],
        () => ['name = $1', word()],
      ),
    ],
    [3, make.newKey],
    [
      3,
      sets(
        'api_keys',
        one('api_keys'),
        () => [`last_used = ${solid()}, updated_at = clock_timestamp()`],
        () => [`expires_at = ${solid()}`],
      ),
    ],
    [1, (run) => run(`delete from api_keys where ${one('api_keys')}`)],
    ...(version === 'newest' ? taskOperations(dice, word, long) : []),
  ];

  function permissions(): string {
    return dice.pick(['[]', JSON.stringify([{ negate: false, resource_type: 'workspace', action: dice.pick(['read', '*']) }])]);
  }
}

/** The newest version's own tables. */
function taskOperations(dice: Dice, word: () => string, long: () => string): [number, CoderOperation][] {
  return [
    [
      4,
      async (run) => {
        const [task] = await run(
          `insert into tasks (id, organization_id, owner_id, name, workspace_id, template_version_id, prompt, created_at)
           select gen_random_uuid(), w.organization_id, w.owner_id, $1, w.id, ${anyId('template_versions')}, $2, clock_timestamp()
           from workspaces w order by random() limit 1 returning id, workspace_id`,
          [`${word()}${dice.below(1000)}`, dice.pick([word(), long()])],
        );
        await run(
          `insert into task_workspace_apps (task_id, workspace_build_number, workspace_agent_id, workspace_app_id)
           select $1, b.build_number, p.agent_id, p.id
           from workspace_builds b join workspace_resources r on r.job_id = b.job_id join workspace_agents a on a.resource_id = r.id
             join workspace_apps p on p.agent_id = a.id
           where b.workspace_id = $2 limit 1`,
          [task?.['id'], task?.['workspace_id']],
        );
      },
    ],
    [2, (run) => run(`update tasks set display_name = $1 where id = ${anyId('tasks')}`, [word()])],
    [1, (run) => run(`update tasks set deleted_at = clock_timestamp() where id = ${anyId('tasks')}`)],
    [1, (run) => run(`delete from tasks where id = ${anyId('tasks')}`)],
  ];
}
