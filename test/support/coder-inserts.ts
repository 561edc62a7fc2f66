import { createHash, randomUUID } from 'node:crypto';
import type { CoderVersion } from './coder-schema.ts';
import type { Dice } from './dice.ts';

/** Runs a statement in the transaction at hand, and gives its rows. */
export type Run = (sql: string, values?: readonly unknown[]) => Promise<Record<string, unknown>[]>;

/** Something that Coder's programs do, in one or several statements. */
export type CoderOperation = (run: Run) => Promise<unknown>;

/** An expression of SQL as a value. */
class Sql {
  readonly text: string;

  constructor(text: string) {
    this.text = text;
  }
}

/** The id of any row of a table, chosen by the server. */
export const anyId = (table: string, where = 'true') => `(select x.id from ${table} x where ${where} order by random() limit 1)`;
/** The same as a value. */
export const any = (table: string, where?: string): Sql => new Sql(anyId(table, where));
const now = new Sql('clock_timestamp()');

/** Inserts a row; what is not said has the default of its column. */
export async function insert(run: Run, table: string, values: Readonly<Record<string, unknown>>): Promise<void> {
  const bound: unknown[] = [];
  const places = Object.values(values).map((value) => (value instanceof Sql ? value.text : `$${bound.push(value)}`));
  const names = Object.keys(values).map((name) => `"${name}"`);
  // insert into t ("a", "b") values ($1, (select …))
  await run(`insert into ${table} (${names.join(', ')}) values (${places.join(', ')})`, bound);
}

/** Organizations, people and templates to begin with. */
export async function insertCoderWorld(run: Run, version: CoderVersion, dice: Dice): Promise<void> {
  const { newOrganization, newUser, newTemplate, join, newGroup } = coderInserts(version, dice);
  for (let i = 0; i < 2; i++) await newOrganization(run);
  for (let i = 0; i < 8; i++) await newUser(run);
  for (let i = 0; i < 8; i++) await join(run).catch(() => {}); // who is in the organization already
  for (let i = 0; i < 3; i++) await newTemplate(run);
  await newGroup(run);
}

/** Jobs with all that hangs from them; statuses have no cascade, and neither has a build whose sidebar's app goes. */
export async function removeJobs(run: Run, where: string): Promise<void> {
  const jobs = (await run(`select id from provisioner_jobs where ${where}`)).map(({ id }) => id);
  const ofThem = `select p.id from workspace_apps p join workspace_agents a on a.id = p.agent_id
    join workspace_resources r on r.id = a.resource_id where r.job_id = any($1)`;
  await run(`delete from workspace_app_statuses where app_id in (${ofThem})`, [jobs]);
  await run('delete from workspace_builds where job_id = any($1)', [jobs]);
  await run('delete from provisioner_jobs where id = any($1)', [jobs]);
}

/** A workspace with all its builds. */
export async function removeWorkspace(run: Run): Promise<void> {
  const [workspace] = await run(`select id from workspaces where id = ${anyId('workspaces')}`);
  if (workspace === undefined) return;
  await run('delete from workspace_app_statuses where workspace_id = $1', [workspace['id']]);
  await removeJobs(run, `id in (select b.job_id from workspace_builds b where b.workspace_id = '${String(workspace['id'])}')`);
  await run('delete from workspaces where id = $1', [workspace['id']]);
}

/** How rows are made that belong together, and the words in them. */
export function coderInserts(version: CoderVersion, dice: Dice) {
  const word = () =>
    `${dice.pick(['a', 'A', 'é', 'task-', "o'x", '\\', '"', '🙂'])}${dice.below(30)}${dice.pick(['', '', ' ', 'Z'])}`;
  /** So long, and so random, that PostgreSQL keeps it outside of its row. */
  const long = () => {
    let text = createHash('sha512').update(word()).digest('base64');
    while (text.length < 9000) text += createHash('sha512').update(text).digest('base64');
    return text;
  };
  const acl = () =>
    dice.pick([
      '{}',
      JSON.stringify({ [randomUUID()]: { permissions: [dice.pick(['read', 'ssh', '*'])] } }),
      JSON.stringify({ [randomUUID()]: { permissions: ['read'], note: long() } }),
    ]);
  const times = { created_at: now, updated_at: now };

  const newOrganization: CoderOperation = (run) =>
    insert(run, 'organizations', {
      ...{ id: randomUUID(), name: `org-${randomUUID().slice(0, 8)}`, display_name: word(), description: '', ...times },
      ...(version === 'newest' ? { default_org_member_roles: '{}' } : {}),
    });

  const newUser: CoderOperation = async (run) => {
    const username = `user-${randomUUID().slice(0, 8)}`;
    const id = randomUUID();
    await insert(run, 'users', {
      id,
      email: `${username}@example.com`,
      username,
      hashed_password: Buffer.from('x'),
      status: 'active',
      name: word(),
      ...times,
    });
    await insert(run, 'organization_members', { organization_id: any('organizations'), user_id: id, ...times });
  };

  const newVersion: CoderOperation = (run) =>
    insert(run, 'template_versions', {
      ...{
        id: randomUUID(),
        template_id: any('templates'),
        organization_id: any('organizations'),
        name: randomUUID(),
        readme: long(),
      },
      ...{ job_id: randomUUID(), created_by: any('users'), has_ai_task: dice.pick([true, false]), ...times },
    });

  const newTemplate: CoderOperation = async (run) => {
    const [id, active] = [randomUUID(), randomUUID()];
    await insert(run, 'templates', {
      ...{
        id,
        organization_id: any('organizations'),
        name: randomUUID().slice(0, 13),
        provisioner: 'terraform',
        display_name: word(),
      },
      ...{ active_version_id: active, created_by: any('users'), ...times },
    });
    await insert(run, 'template_versions', {
      ...{ id: active, template_id: id, organization_id: any('organizations'), name: 'first', readme: '' },
      ...{ job_id: randomUUID(), created_by: any('users'), has_ai_task: true, ...times },
    });
  };

  const join: CoderOperation = (run) =>
    insert(run, 'organization_members', {
      organization_id: any('organizations'),
      user_id: any('users'),
      roles: dice.pick([[], ['organization-admin']]),
      ...times,
    });

  const newGroup: CoderOperation = (run) =>
    insert(run, 'groups', { id: randomUUID(), name: `${word()}${dice.below(1000)}`, organization_id: any('organizations') });

  const newKey: CoderOperation = (run) =>
    insert(run, 'api_keys', {
      ...{
        id: randomUUID().slice(0, 10),
        hashed_secret: createHash('sha256').update(word()).digest(),
        user_id: any('users', 'not x.deleted'),
      },
      ...{ last_used: now, expires_at: new Sql("clock_timestamp() + interval '1 day'"), login_type: 'password', ...times },
      ...(version === 'newest'
        ? { scopes: '{coder:all}', allow_list: '{*:*}' }
        : { scope: dice.pick(['all', 'application_connect']) }),
    });

  /** A build that begins: its job waits, and nobody knows yet whether it is a task. */
  const buildOf = async (run: Run, workspace: unknown, number: number): Promise<void> => {
    const [id, job] = [randomUUID(), randomUUID()];
    await insert(run, 'provisioner_jobs', {
      ...{
        id: job,
        organization_id: any('organizations'),
        initiator_id: randomUUID(),
        provisioner: 'terraform',
        storage_method: 'file',
      },
      ...{
        type: 'workspace_build',
        input: { workspace_build_id: id },
        file_id: randomUUID(),
        started_at: dice.chance(0.5) ? now : null,
        ...times,
      },
    });
    await insert(run, 'workspace_builds', {
      ...{ id, workspace_id: workspace, template_version_id: any('template_versions'), build_number: number, job_id: job },
      ...{ transition: dice.pick(['start', 'start', 'start', 'stop', 'delete']), initiator_id: randomUUID(), ...times },
    });
    const parameters: readonly string[] = dice.pick([
      [],
      ['AI Prompt'],
      ['AI Prompt', 'Region'],
      ['AI Prompt', 'AI Prompt ', 'ai prompt'],
    ]);
    for (const name of parameters) {
      await insert(run, 'workspace_build_parameters', {
        workspace_build_id: id,
        name,
        value: dice.pick(['', word(), word(), long()]),
      });
    }
  };

  const newBuild: CoderOperation = async (run) => {
    const [workspace] = await run(
      `select w.id, coalesce((select max(b.build_number) from workspace_builds b where b.workspace_id = w.id), 0) + 1 as number
       from workspaces w order by random() limit 1`,
    );
    if (workspace !== undefined) await buildOf(run, workspace['id'], Number(workspace['number']));
  };

  const newWorkspace: CoderOperation = async (run) => {
    const [{ count } = {}] = await run('select count(*) from workspaces');
    if (Number(count) > 150) return removeWorkspace(run);
    const id = randomUUID();
    await insert(run, 'workspaces', {
      ...{ id, owner_id: any('users'), organization_id: any('organizations'), template_id: any('templates'), name: randomUUID() },
      ...{ user_acl: acl(), favorite: dice.chance(0.2), ...times },
    });
    return buildOf(run, id, 1);
  };

  /** A build ends: the job's times, then agents and apps, then whether it is a task, as Coder does in one transaction. */
  const endBuild: CoderOperation = async (run) => {
    const [build] = await run('select b.id, b.job_id, b.transition from workspace_builds b order by random() limit 1');
    if (build === undefined) return;
    await run('update provisioner_jobs set completed_at = clock_timestamp(), updated_at = clock_timestamp() where id = $1', [
      build['job_id'],
    ]);
    if (build['transition'] !== 'start') return;
    const [resource, agent, app] = [randomUUID(), randomUUID(), randomUUID()];
    await insert(run, 'workspace_resources', {
      id: resource,
      created_at: now,
      job_id: build['job_id'],
      transition: 'start',
      type: 'x',
      name: word(),
    });
    await insert(run, 'workspace_agents', {
      ...{
        id: agent,
        name: randomUUID(),
        resource_id: resource,
        auth_token: randomUUID(),
        architecture: 'amd64',
        operating_system: 'linux',
        ...times,
      },
    });
    await insert(run, 'workspace_apps', {
      id: app,
      created_at: now,
      agent_id: agent,
      display_name: word(),
      icon: '',
      slug: 'app',
      health: 'initializing',
    });
    const flag = version === 'seed' ? 'has_ai_task = true, ai_task_sidebar_app_id = $2' : 'has_ai_task = ($2 is not null)';
    await run(
      `update workspace_builds set ${flag.replace('$2 is', '$2::uuid is')}, updated_at = clock_timestamp() where id = $1`,
      [build['id'], app],
    );
  };

  return {
    newOrganization,
    newUser,
    newTemplate,
    newVersion,
    join,
    newGroup,
    newWorkspace,
    newBuild,
    endBuild,
    newKey,
    word,
    long,
    acl,
  };
}
