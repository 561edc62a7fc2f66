import { createHash } from 'node:crypto';
import type { Database } from '../../src/db/connection.ts';
import { formatUuid } from '../../src/db/uuid.ts';
import { projectAll } from '../../src/projection/rebuild.ts';
import { changesPerBatch, deleteChanges, noteWorkspaces, oldestChangeMs } from '../../src/schema/outbox.ts';
import { notesItself } from '../../src/schema/triggers.ts';
import { conditions, places, reports, situationShares, stateShares, subjects, verbs } from './generate-words.ts';
import { seededRandom } from './seeded-random.ts';
import { type Situation, type Step, situations } from './situations.ts';
import { insertRows, noRows, type SourceRows, sourceTables } from './source-rows.ts';
import { buildsOf, type ReportText } from './workspace-history.ts';
import { addWorkspace, datetime, type Micros, second } from './workspace-plan.ts';

/** What to generate. */
export interface GenerateOptions {
  /** How many tasks of this seed there should be, from 0 to 10,000,000. */
  readonly tasks: number;
  /** A whole number from 0 to 2,147,483,647. */
  readonly seed: number;
  /** Told about four times a second how many of the tasks are done, and once at the end. */
  readonly onProgress?: ((done: number, total: number) => void) | undefined;
}

/**
 * Makes tasks for benchmarks, any number, and leaves a complete read model. Returns how many tasks it added.
 *
 * Task number i of a seed is always the same, whatever the number of tasks: the same ids, texts and times. So a second call
 * adds what is missing, which is nothing for the same number, and an interrupted one is taken up where it ended. Times are those
 * of the half year before November 2026, and not of today, so that runs can be compared; agents count as disconnected.
 *
 * About every seventh task is of `user-00001`. The others are of one more owner for each dozen tasks: a few have many tasks and
 * most have few. Owners belong to the organizations `org-01` to `org-08`, nearly half of them to the first; `user-00002` to
 * `user-00009` are the admins of these. Nothing is in the way of the demo data, or of another seed, which shares the users.
 *
 * Rows are written in one transaction for each 500 tasks, on three connections of the pool.
 *
 * @throws {RangeError} for a number or a seed out of bounds.
 */
export async function generateTasks(database: Database, { tasks, seed, onProgress }: GenerateOptions): Promise<number> {
  wholeNumber('tasks', tasks, 10_000_000);
  wholeNumber('seed', seed, 2 ** 31 - 1);
  await writePeople(database, tasks);
  const show = progressOf(tasks, onProgress);
  const notes: number[] = [];
  let written = 0;
  let next = 0;
  const write = async (): Promise<void> => {
    for (let from = next; from < tasks; from = next) {
      next += tasksPerTransaction;
      const to = Math.min(next, tasks);
      notes.push(...(await writeTasks(database, seed, from, to)));
      written += to - from;
      show(writingShare * (written / tasks));
    }
  };
  const stop = (error: unknown): never => {
    next = tasks;
    throw error;
  };
  // An error is thrown once no connection writes any more.
  const ends = await Promise.allSettled(Array.from({ length: connections }, () => write().catch(stop)));
  for (const end of ends) if (end.status === 'rejected') throw end.reason;
  if (notes.length === 0 && (await oldestChangeMs(database)) === undefined) {
    onProgress?.(tasks, tasks); // nothing was added, and no earlier call ended before this
    return 0;
  }
  const onProject = (workspaces: number) => show(writingShare + (1 - writingShare) * Math.min(0.99, workspaces / tasks));
  await analyze(database, sourceTables);
  await projectAll(database, { onProgress: onProject });
  await analyze(database, ['workspace_tasks', 'workspace_task_acl']);
  await removeNotes(database, notes);
  onProgress?.(tasks, tasks);
  return notes.length;
}

/** Two keep a server busy on two cores; a third makes rows meanwhile. */
const connections = 3;

/** So many tasks are about 5,000 rows: enough to make commits cheap, few enough to be one short transaction. */
const tasksPerTransaction = 500;

/** The part of the time that goes into the source tables; the rest is the read model's. */
const writingShare = 0.35;

/** Milliseconds between two reports of progress. */
const progressIntervalMs = 250;

/** Returns what takes the share of the work that is done, and passes it on as a number of tasks from time to time. */
function progressOf(total: number, onProgress: GenerateOptions['onProgress']): (share: number) => void {
  let told = performance.now();
  return (share) => {
    if (performance.now() - told < progressIntervalMs) return;
    told = performance.now();
    onProgress?.(Math.floor(share * total), total);
  };
}

/**
 * Lets the server look at how the values are spread. It does so by itself only some time after a load, and until then it may
 * take a scan of a table for the best way to find one row.
 */
async function analyze(database: Database, tables: readonly string[]): Promise<void> {
  await database.raw('analyze table ??', [[...tables]]);
}

/** What times are relative to. */
const epoch: Micros = Date.parse('2026-11-01T00:00:00Z') * 1000;
const day = 86_400 * second;

const organizations = 8;

/** The users that may own the first `tasks` tasks: their numbers end before this one. */
function usersFor(tasks: number): number {
  return 2 + Math.ceil(50 + tasks / 12);
}

/** The owner of a task: one has a seventh of all, the others share the rest unevenly. Their number grows with the task's. */
function ownerOf(task: number, random: () => number): number {
  if (random() < 0.14) return 1;
  return 2 + Math.floor(random() ** 2 * (50 + task / 12));
}

/** The organization of a user, from 1 to 8. */
function organizationOf(user: number): number {
  if (user === 1) return 1;
  if (user <= 1 + organizations) return user - 1;
  return 1 + Math.floor(seededRandom(user, 1)() ** 2.4 * organizations);
}

const username = (user: number) => `user-${String(user).padStart(5, '0')}`;
const organizationName = (organization: number) => `org-${String(organization).padStart(2, '0')}`;

/** The templates of each organization. */
const templates = [
  { name: 'coding-agent', displayName: 'Coding Agent', icon: '/icon/tasks.svg' },
  { name: 'monorepo-agent', displayName: 'Agent on the Monorepo', icon: '/icon/git.svg' },
  { name: 'docs-agent', displayName: 'Documentation Writer', icon: '/emojis/1f4dd.png' },
] as const;

/** Versions of each template; the last is the active one. */
const versions = ['v1', 'v2'] as const;

/** The groups of each organization. */
const teams = ['team-a', 'team-b', 'team-c', 'team-d'] as const;

const cachedIds = new Map<string, Buffer>();

/** The id of a person or a thing that all tasks share, from what it is called. */
function sharedId(...path: readonly (string | number)[]): Buffer {
  const key = path.join('/');
  let id = cachedIds.get(key);
  if (id === undefined) {
    id = asUuid(createHash('sha256').update(`generated data: ${key}`).digest().subarray(0, 16), 4);
    cachedIds.set(key, id);
  }
  return id;
}

function asUuid(id: Buffer, version: 4 | 7): Buffer {
  id[6] = ((id[6] ?? 0) & 0x0f) | (version << 4);
  id[8] = ((id[8] ?? 0) & 0x3f) | 0x80;
  return id;
}

/** Writes the organizations, templates and users that are missing, in one transaction. */
async function writePeople(database: Database, tasks: number): Promise<void> {
  const rows = noRows();
  const made = datetime(epoch - 400 * day);
  const times = { created_at: made, updated_at: made };
  for (let number = 1; number <= organizations; number++) addOrganization(rows, number, times);
  for (let user = 1; user < usersFor(tasks); user++) {
    const organization = organizationOf(user);
    const id = sharedId('user', user);
    rows.users.push({
      id,
      username: username(user),
      name: `User ${user}`,
      email: `${username(user)}@example.com`,
      avatar_url: '',
      status: 'active',
      rbac_roles: '[]',
      deleted: false,
      last_seen_at: datetime(epoch),
      ...times,
    });
    const roles = user > 1 && user <= 1 + organizations ? '["organization-admin"]' : '[]';
    rows.organization_members.push({ organization_id: sharedId('organization', organization), user_id: id, roles, ...times });
    const team = teams[user % teams.length] ?? teams[0];
    rows.group_members.push({ user_id: id, group_id: sharedId('group', organization, team) });
  }
  await database.transaction(async (transaction) => {
    await insertRows(transaction, await missing(transaction, rows));
  });
}

function addOrganization(rows: SourceRows, number: number, times: { created_at: string; updated_at: string }): void {
  const id = sharedId('organization', number);
  const name = organizationName(number);
  rows.organizations.push({
    id,
    name,
    display_name: `Organization ${number}`,
    icon: '',
    is_default: false,
    deleted: false,
    ...times,
  });
  rows.groups.push({ id, organization_id: id, name: 'Everyone', display_name: '', avatar_url: '' });
  for (const team of teams) {
    rows.groups.push({ id: sharedId('group', number, team), organization_id: id, name: team, display_name: '', avatar_url: '' });
  }
  for (const { name: template, displayName, icon } of templates) {
    const templateId = sharedId('template', number, template);
    rows.templates.push({
      id: templateId,
      organization_id: id,
      name: template,
      display_name: displayName,
      icon,
      active_version_id: sharedId('version', number, template, versions.at(-1) ?? ''),
      deleted: false,
      user_acl: '{}',
      group_acl: JSON.stringify({ [formatUuid(id)]: ['read', 'use'] }),
      ...times,
    });
    for (const version of versions) {
      rows.template_versions.push({
        id: sharedId('version', number, template, version),
        template_id: templateId,
        organization_id: id,
        name: version,
        has_ai_task: true,
        ...times,
      });
    }
  }
}

/** The rows whose person or thing is not there yet. A user's memberships are written with the user. */
async function missing(database: Database, rows: SourceRows): Promise<SourceRows> {
  const users = await presentIds(
    database,
    'users',
    rows.users.map(({ id }) => id as Buffer),
  );
  const others = await presentIds(
    database,
    'organizations',
    rows.organizations.map(({ id }) => id as Buffer),
  );
  const isNew = (id: unknown) => !users.has((id as Buffer).toString('hex'));
  const ofNew = (id: unknown) => !others.has((id as Buffer).toString('hex'));
  return {
    ...rows,
    users: rows.users.filter(({ id }) => isNew(id)),
    organization_members: rows.organization_members.filter(({ user_id }) => isNew(user_id)),
    group_members: rows.group_members.filter(({ user_id }) => isNew(user_id)),
    organizations: rows.organizations.filter(({ id }) => ofNew(id)),
    groups: rows.groups.filter(({ organization_id }) => ofNew(organization_id)),
    templates: rows.templates.filter(({ organization_id }) => ofNew(organization_id)),
    template_versions: rows.template_versions.filter(({ organization_id }) => ofNew(organization_id)),
  };
}

/** Ids in one look-up. */
const idsPerSelect = 5000;

async function presentIds(database: Database, table: 'users' | 'organizations' | 'workspaces', ids: readonly Buffer[]) {
  const present = new Set<string>();
  for (let from = 0; from < ids.length; from += idsPerSelect) {
    const rows = await database(table)
      .whereIn(`${table}.id`, ids.slice(from, from + idsPerSelect))
      .select<{ id: Buffer }[]>(`${table}.id`);
    for (const { id } of rows) present.add(id.toString('hex'));
  }
  return present;
}

/**
 * Writes the tasks of a range that are missing, in one transaction, and returns the numbers of their notes in the outbox.
 *
 * The triggers would note each task ten times, and the projector would be busy for minutes with what is projected already. So
 * the session notes each workspace itself, once: if this ends before the read model is complete, a projector completes it.
 */
async function writeTasks(database: Database, seed: number, from: number, to: number): Promise<number[]> {
  const numbers = Array.from({ length: to - from }, (_, index) => from + index);
  const ids = numbers.map((task) => taskIds(seed, task)());
  const present = await presentIds(database, 'workspaces', ids);
  const rows = noRows();
  for (const [index, task] of numbers.entries()) {
    if (!present.has(ids[index]?.toString('hex') ?? '')) addTask(rows, seed, task);
  }
  if (rows.workspaces.length === 0) return [];
  return await database.transaction(async (transaction) => {
    await transaction.raw(`set @${notesItself} = 1`);
    try {
      await insertRows(transaction, rows);
      return await noteOnce(
        transaction,
        rows.workspaces.map(({ id }) => id as Buffer),
      );
    } finally {
      await transaction.raw(`set @${notesItself} = null`);
    }
  });
}

/** Notes workspaces that nobody else knows of yet, and returns the numbers of the notes. */
async function noteOnce(transaction: Database, ids: readonly Buffer[]): Promise<number[]> {
  const [newest] = await transaction('workspace_changes').max<{ seq: number | null }[]>({ seq: 'workspace_changes.seq' });
  await noteWorkspaces(transaction, ids);
  const notes = await transaction('workspace_changes')
    .where('workspace_changes.seq', '>', newest?.seq ?? 0)
    .whereIn('workspace_changes.ref', ids)
    .select<{ seq: number }[]>('workspace_changes.seq');
  return notes.map(({ seq }) => seq);
}

/** Removes notes of workspaces that have been projected since: exactly these, see `deleteChanges`. */
async function removeNotes(database: Database, notes: readonly number[]): Promise<void> {
  for (let from = 0; from < notes.length; from += changesPerBatch) {
    await deleteChanges(
      database,
      notes.slice(from, from + changesPerBatch).map((seq) => ({ seq })),
    );
  }
}

/**
 * Makes the ids of a task, the workspace's first. They begin with the task's number, as ids of version 7 do with the time, so
 * that a database whose tables are larger than its memory still writes them quickly.
 */
function taskIds(seed: number, task: number): () => Buffer {
  const random = seededRandom(seed, task, 2);
  return () => {
    const id = Buffer.allocUnsafe(16);
    id.writeUIntBE(epoch / 1000 + task, 0, 6);
    for (const at of [6, 10, 12]) id.writeUInt32BE(Math.floor(random() * 2 ** 32), at);
    return asUuid(id, 7);
  };
}

function addTask(rows: SourceRows, seed: number, task: number): void {
  const random = seededRandom(seed, task, 3);
  const pick = <Item>(items: readonly Item[]): Item => items[Math.floor(random() * items.length)] as Item;
  const partId = taskIds(seed, task);
  const id = partId();
  const owner = ownerOf(task, random);
  const organization = organizationOf(owner);
  const template = pick(templates).name;
  const situation = pickShare<Situation>(situationShares, random());
  const steps: readonly Step[] = situations[situation];
  const verb = pick(verbs);
  const subject = pick(subjects);
  // At least two minutes: agents need a while before they can speak.
  const latest = epoch - 120 * second - Math.floor(random() ** 1.5 * 180 * day);
  const builds = buildsOf({
    steps,
    latest,
    now: epoch,
    random,
    task: true,
    versionId: sharedId('version', organization, template, random() < 0.1 ? versions[0] : versions[1]),
    prompt: `${verb[0]} ${subject[0]} ${pick(places)}. ${pick(conditions)}`,
    says: saysOf(random, pick),
  });
  const last = steps.at(-1);
  const shared = random() < 0.04 ? shareOf(task, organization, random) : {};
  addWorkspace(rows, {
    id,
    ownerId: sharedId('user', owner),
    organizationId: sharedId('organization', organization),
    templateId: sharedId('template', organization, template),
    name: `${verb[1]}-${subject[1]}-${seed.toString(36)}-${task.toString(36)}`,
    createdAt: builds[0]?.at ?? latest,
    lastUsedAt: latest,
    dormantAt: last?.transition === 'stop' && random() < 0.04 ? epoch : undefined,
    favorite: random() < 0.02,
    deleted: situation === 'deleted',
    ...shared,
    builds,
    resource: ['docker_container', 'workspace'],
    partId,
  });
}

/** Up to three reports, of which the last says how the task stands. */
function saysOf(random: () => number, pick: (texts: readonly ReportText[]) => ReportText): ReportText[] {
  const before = Math.floor(random() ** 2 * 3);
  const state = pickShare(stateShares, random());
  return [...Array.from({ length: before }, () => pick(reports.working)), pick(reports[state])];
}

/** Shares a task with a user, a team or everyone of the organization. */
function shareOf(task: number, organization: number, random: () => number) {
  const permissions = ['application_connect', 'read', 'ssh', 'start', 'stop'];
  const kind = random();
  if (kind < 0.6) return { userAcl: { [formatUuid(sharedId('user', ownerOf(task, random)))]: permissions } };
  const team = teams[Math.floor(random() * teams.length)] ?? teams[0];
  const subject = kind < 0.9 ? sharedId('group', organization, team) : sharedId('organization', organization);
  return { groupAcl: { [formatUuid(subject)]: permissions } };
}

function pickShare<Key extends string>(shares: Readonly<Partial<Record<Key, number>>>, random: number): Key {
  const entries = Object.entries(shares) as [Key, number][];
  let left = random * entries.reduce((sum, [, share]) => sum + share, 0);
  for (const [key, share] of entries) {
    left -= share;
    if (left < 0) return key;
  }
  return (entries[0] as [Key, number])[0];
}

function wholeNumber(name: string, value: number, most: number): void {
  if (Number.isInteger(value) && value >= 0 && value <= most) return;
  throw new RangeError(`${name} must be a whole number from 0 to ${most}`);
}
