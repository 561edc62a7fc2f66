import { mkdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { generateTasks } from '../dev/demo/generate.ts';
import { startEngine } from '../dev/engine/engine.ts';
import { createApiKeyRepository } from '../src/auth/api-key-repository.ts';
import type { DatabaseAddress } from '../src/config.ts';
import { closeDatabase, type Database, openDatabase } from '../src/db/connection.ts';
import { formatUuid } from '../src/db/uuid.ts';
import { createLog, type Logger } from '../src/platform/log.ts';
import { createProjector } from '../src/projection/projector.ts';
import { migrateUp } from '../src/schema/migrations.ts';
import { outboxLagMs } from '../src/schema/outbox.ts';

/** The folder of the data sets, which are kept between runs. */
export const dataDir = resolve(import.meta.dirname, '..', process.env['DATA_DIR'] ?? '.data', 'bench');
export const cacheDir = resolve(import.meta.dirname, '..', process.env['CACHE_DIR'] ?? '.cache');

/** The callers of the benchmarks. */
export type Person = 'ordinary' | 'busiest' | 'organizationAdmin' | 'siteOwner' | 'inManyGroups';

/** A database with a number of tasks, on an engine of its own. */
export interface DataSet {
  readonly tasks: number;
  readonly address: DatabaseAddress;
  readonly database: Database;
  readonly engine: string;
  /** The seconds that it took to generate; 0 if it existed. */
  readonly madeIn: number;
  /** A session token of each person. */
  readonly tokens: Readonly<Record<Person, string>>;
  readonly people: Readonly<Record<Person, { readonly id: Buffer; readonly username: string }>>;
  /** Resolves when the outbox is empty. */
  projected(): Promise<void>;
  stop(): Promise<void>;
}

/** The size of the buffer pool, into which the working set of a million tasks fits; that of `npm start` is smaller. */
const bufferPoolBytes = 2 * 1024 ** 3;

/** A session token of a run is valid for a day. */
export const tokenSeconds = 86_400;

/** Users that the generator does not make: a site owner, and a user in many groups. */
const ownPeople = { siteOwner: 'bench-owner', inManyGroups: 'bench-reader' } as const;

/** The number of that user's groups, and the largest number of tasks that are shared with each. */
const groups = 50;
const sharedWithEach = 20;

/** The number of tasks of the template that hardly anybody uses. */
const rareTasks = 12;

/**
 * Opens the data set of a number of tasks, and generates it first if it does not exist: by the project's own generator with seed 1,
 * and some users, groups and a template that the generator does not make.
 */
export async function openDataSet(tasks: number): Promise<DataSet> {
  mkdirSync(dataDir, { recursive: true });
  const log = createLog('warn');
  const engine = await startEngine({ dataDir: join(dataDir, `tasks-${tasks}`), cacheDir, log });
  const database = openDatabase(engine.address, { size: 4, statementTimeoutMs: 0, acquireTimeoutMs: 60_000 });
  const stop = async (): Promise<void> => {
    await closeDatabase(database);
    await engine.stop();
  };
  const projected = async (): Promise<void> => {
    while ((await outboxLagMs(database)) !== undefined) await sleep(20);
  };
  try {
    await database.raw(`set global innodb_buffer_pool_size = ${bufferPoolBytes}`);
    await migrateUp(database, { triggers: true });
    const started = performance.now();
    const isMade = await hasPeople(database);
    if (!isMade) {
      await makeTasks(database, tasks);
      await addPeople(database);
    }
    await catchUp(engine.address, projected, log);
    const madeIn = isMade ? 0 : (performance.now() - started) / 1000;
    const people = await findPeople(database);
    return {
      tasks,
      address: engine.address,
      database,
      engine: engine.version,
      madeIn,
      people,
      tokens: await makeTokens(database, people),
      projected,
      stop,
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** Generates the tasks and prints the progress. Commits are not flushed: the data can be generated again after a power cut. */
async function makeTasks(database: Database, tasks: number): Promise<void> {
  await database.raw('set global innodb_flush_log_at_trx_commit = 0');
  let shown = performance.now();
  await generateTasks(database, {
    tasks,
    seed: 1,
    onProgress(done, total) {
      if (performance.now() - shown < 5000) return;
      shown = performance.now();
      console.error(`making ${total} tasks: ${Math.floor((100 * done) / total)} %`);
    },
  });
  await database.raw('set global innodb_flush_log_at_trx_commit = 1');
}

/** Projects what is in the outbox: what was just written, or everything after a new migration. */
async function catchUp(address: DatabaseAddress, projected: () => Promise<void>, log: Logger): Promise<void> {
  const projector = createProjector({ address, log });
  projector.start();
  await projected();
  await projector.stop();
}

/** Whether all source rows of the data set were written: these users are written last. */
async function hasPeople(database: Database): Promise<boolean> {
  const present = await database('users').where('users.username', ownPeople.siteOwner).select('users.id');
  return present.length > 0;
}

/** Adds what the generator does not make: a site owner, a user in many groups, a template that hardly anybody uses. */
async function addPeople(database: Database): Promise<void> {
  const [organization] = await database('organizations')
    .where('organizations.name', 'org-01')
    .select<{ id: Buffer }[]>('organizations.id');
  const [template] = await database('templates')
    .where({ 'templates.organization_id': organization?.id, 'templates.name': 'coding-agent' })
    .select<{ active_version_id: Buffer }[]>('templates.active_version_id');
  if (organization === undefined || template === undefined) throw new Error('the generator has changed: org-01 is not there');
  await database.transaction(async (transaction) => {
    const times = { created_at: '2026-11-01 00:00:00', updated_at: '2026-11-01 00:00:00' };
    const ids = { siteOwner: newId(), inManyGroups: newId() };
    const common = { avatar_url: '', status: 'active', ...times };
    await transaction('users').insert([
      { ...common, id: ids.siteOwner, username: ownPeople.siteOwner, rbac_roles: '["owner"]' },
      { ...common, id: ids.inManyGroups, username: ownPeople.inManyGroups, rbac_roles: '[]' },
    ]);
    await transaction('organization_members').insert(
      Object.values(ids).map((user_id) => ({ organization_id: organization.id, user_id, roles: '[]', ...times })),
    );
    const live = await transaction('workspaces')
      .where({ 'workspaces.organization_id': organization.id, 'workspaces.deleted': 0 })
      .orderBy('workspaces.id')
      .limit(groups * sharedWithEach + rareTasks)
      .select<{ id: Buffer }[]>('workspaces.id');
    const workspaces = live.map(({ id }) => id);
    const rareTemplate = newId();
    await transaction('templates').insert({
      id: rareTemplate,
      organization_id: organization.id,
      name: 'rare-agent',
      active_version_id: template.active_version_id,
      user_acl: '{}',
      group_acl: '{}',
      ...times,
    });
    await transaction('workspaces')
      .whereIn('workspaces.id', workspaces.splice(0, rareTasks))
      .update({ template_id: rareTemplate });
    for (let group = 0; group < groups; group++) {
      const id = newId();
      const name = `crowd-${group + 1}`;
      await transaction('groups').insert({ id, organization_id: organization.id, name, avatar_url: '' });
      await transaction('group_members').insert({ group_id: id, user_id: ids.inManyGroups });
      await transaction('workspaces')
        .whereIn('workspaces.id', workspaces.splice(0, sharedWithEach))
        .update({ group_acl: JSON.stringify({ [formatUuid(id)]: { permissions: ['read'] } }) });
    }
  });
}

/** Finds the callers. The ordinary one owns about 60 tasks, so that the default page is full and has a next one. */
async function findPeople(database: Database): Promise<DataSet['people']> {
  const [[ordinary]] = (await database.raw(
    `select \`u\`.\`id\`, \`u\`.\`username\`
     from (select \`t\`.\`owner_id\`, count(*) as \`tasks\` from \`workspace_tasks\` as \`t\` where \`t\`.\`live\` = 1 group by \`t\`.\`owner_id\`) as \`o\`
     join \`users\` as \`u\` on \`u\`.\`id\` = \`o\`.\`owner_id\`
     order by abs(cast(\`o\`.\`tasks\` as signed) - 60), \`u\`.\`username\` limit 1`,
  )) as [[{ id: Buffer; username: string } | undefined]];
  const byName = async (username: string) => {
    const [user] = await database('users')
      .where('users.username', username)
      .select<{ id: Buffer; username: string }[]>('users.id', 'users.username');
    if (user === undefined) throw new Error(`the generator has changed: ${username} is not there`);
    return user;
  };
  return {
    ordinary: ordinary ?? (await byName('user-00001')),
    busiest: await byName('user-00001'),
    organizationAdmin: await byName('user-00002'),
    siteOwner: await byName(ownPeople.siteOwner),
    inManyGroups: await byName(ownPeople.inManyGroups),
  };
}

async function makeTokens(database: Database, people: DataSet['people']): Promise<DataSet['tokens']> {
  await database('api_keys').where('api_keys.token_name', 'bench').delete();
  const keys = createApiKeyRepository(database);
  const tokens: [string, string | undefined][] = [];
  for (const [person, { username }] of Object.entries(people)) {
    tokens.push([person, await keys.create(username, { lifetimeSeconds: tokenSeconds, name: 'bench' })]);
  }
  return Object.fromEntries(tokens) as DataSet['tokens'];
}

function newId(): Buffer {
  return Buffer.from(crypto.getRandomValues(new Uint8Array(16)));
}
