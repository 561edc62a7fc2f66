import type { Database } from '../db/connection.ts';
import { type ChangeKind, changeKinds } from './projected-tables.ts';
import { kindOfTasks, readTaskSource, type TaskSourceName } from './task-source.ts';

/** A row of the outbox `workspace_changes`: a source row that a task may depend on has changed. */
export interface OutboxChange {
  readonly seq: number;
  readonly kind: ChangeKind;
  /** The id of a row of this kind. */
  readonly ref: Buffer;
}

/** Most rows of the outbox in one batch. */
export const outboxBatchSize = 500;

/**
 * Reads the next changes: up to 250 of the oldest and 250 of the newest, so that a change somebody waits for is not stuck behind
 * a bulk load of a million rows. A task depends on the source rows alone, not on the order of the changes.
 *
 * Sequence numbers are assigned when a row is written, not when it is committed: a lower one may become visible after a higher
 * one. So the reader keeps no position, and the rows it has read are deleted one by one.
 *
 *   select c.seq, c.kind, c.ref from workspace_changes as c order by c.seq limit 250
 */
export async function readOutbox(database: Database): Promise<OutboxChange[]> {
  const half = outboxBatchSize / 2;
  const read = async (direction: 'asc' | 'desc') => {
    const [rows] = (await database.raw(
      `select \`c\`.\`seq\`, \`c\`.\`kind\`, \`c\`.\`ref\` from \`workspace_changes\` as \`c\` order by \`c\`.\`seq\` ${direction} limit ${half}`,
    )) as [OutboxChange[]];
    return rows;
  };
  const oldest = await read('asc');
  if (oldest.length < half) return oldest;
  const last = oldest.at(-1)?.seq ?? 0;
  return [...oldest, ...(await read('desc')).filter(({ seq }) => seq > last)];
}

/**
 * The age of the oldest change in the outbox in milliseconds, by the database's clock; undefined when the outbox is empty.
 *
 * It is the lag of the read model. A change is as old as its statement, not as its commit.
 *
 *   select timestampdiff(microsecond, c.noted_at, utc_timestamp(6)) as age from workspace_changes as c order by c.seq limit 1
 */
export async function outboxLagMs(database: Database): Promise<number | undefined> {
  const [[oldest]] = (await database.raw(
    'select timestampdiff(microsecond, `c`.`noted_at`, utc_timestamp(6)) as `age` from `workspace_changes` as `c` order by `c`.`seq` limit 1',
  )) as [{ age: number }[]];
  return oldest === undefined ? undefined : Math.max(0, oldest.age / 1000);
}

/**
 * How long changes have been in the outbox without any being projected, in milliseconds by the database's clock; 0 when it is
 * empty.
 *
 *   select least(timestampdiff(microsecond, c.noted_at, utc_timestamp(6)),
 *                coalesce(timestampdiff(microsecond, p.projected_at, utc_timestamp(6)), …)) as stall
 *   from workspace_changes as c join projector_state as p on p.id = 1 order by c.seq limit 1
 */
export async function projectionStallMs(database: Database): Promise<number> {
  const [[row]] = (await database.raw(
    `select least(timestampdiff(microsecond, \`c\`.\`noted_at\`, utc_timestamp(6)),
       coalesce(timestampdiff(microsecond, \`p\`.\`projected_at\`, utc_timestamp(6)), 9223372036854775807)) as \`stall\`
     from \`workspace_changes\` as \`c\` join \`projector_state\` as \`p\` on \`p\`.\`id\` = 1
     order by \`c\`.\`seq\` limit 1`,
  )) as [[{ stall: number | string } | undefined]];
  return Math.max(0, Number(row?.stall ?? 0) / 1000);
}

/** The outbox is counted up to this number: counting all of a long one would be too expensive. */
export const maxWaiting = 10_000;

/** The lengths of the outbox and of the feed, and the number of dead letters. */
export interface Backlog {
  /** Rows of the outbox, {@link maxWaiting} at most. */
  readonly waiting: number;
  /** Changes in `workspace_changes_failed`. */
  readonly deadLetters: number;
  /** Sequence of the newest event of the feed. */
  readonly seq: number;
  /** Events of the feed that are kept. */
  readonly events: number;
}

/**
 * Counts the rows of the outbox, of the feed, and the dead letters, in one statement: it runs each second, also when nothing happens.
 *
 *   select (select count(*) from (select 1 from workspace_changes limit 10000) as w) as waiting,
 *     (select count(*) from workspace_changes_failed) as deadLetters, p.seq, p.seq - p.floor_seq as events
 *   from projector_state as p where p.id = 1
 */
export async function readBacklog(database: Database): Promise<Backlog> {
  const [[row]] = (await database.raw(
    `select (select count(*) from (select 1 from \`workspace_changes\` limit ${maxWaiting}) as \`w\`) as \`waiting\`,
       (select count(*) from \`workspace_changes_failed\`) as \`deadLetters\`,
       \`p\`.\`seq\`, \`p\`.\`seq\` - \`p\`.\`floor_seq\` as \`events\` from \`projector_state\` as \`p\` where \`p\`.\`id\` = 1`,
  )) as [[Record<keyof Backlog, number | string>]];
  const { waiting, deadLetters, seq, events } = row;
  return { waiting: Number(waiting), deadLetters: Number(deadLetters), seq: Number(seq), events: Number(events) };
}

/**
 * Deletes exactly these rows.
 *
 * A join that starts from the numbers finds each row by its key. `in (…)` may scan the table, and then waits for the row locks of
 * other writers; a range would also delete rows that were committed after the read.
 *
 *   delete c from (select 1 as seq union all select 2 …) as taken straight_join workspace_changes as c on c.seq = taken.seq
 */
export async function deleteFromOutbox(database: Database, changes: readonly Pick<OutboxChange, 'seq'>[]): Promise<void> {
  if (changes.length === 0) return;
  const numbers = `select ? as \`seq\`${' union all select ?'.repeat(changes.length - 1)}`;
  await database.raw(
    `delete \`c\` from (${numbers}) as \`taken\` straight_join \`workspace_changes\` as \`c\` on \`c\`.\`seq\` = \`taken\`.\`seq\``,
    changes.map(({ seq }) => seq),
  );
}

/** For each kind that is linked to a workspace, the statement that finds the workspaces of changed rows. */
const owners = {
  [changeKinds.build]:
    'select `b`.`id` as `ref`, `b`.`workspace_id` as `id` from `workspace_builds` as `b` where `b`.`id` in (?)',
  [changeKinds.job]:
    'select `b`.`job_id` as `ref`, `b`.`workspace_id` as `id` from `workspace_builds` as `b` where `b`.`job_id` in (?)',
  [changeKinds.resource]:
    'select `r`.`id` as `ref`, `b`.`workspace_id` as `id` from `workspace_resources` as `r` ' +
    'inner join `workspace_builds` as `b` on `b`.`job_id` = `r`.`job_id` where `r`.`id` in (?)',
  [changeKinds.agent]:
    'select `a`.`id` as `ref`, `b`.`workspace_id` as `id` from `workspace_agents` as `a` ' +
    'inner join `workspace_resources` as `r` on `r`.`id` = `a`.`resource_id` ' +
    'inner join `workspace_builds` as `b` on `b`.`job_id` = `r`.`job_id` where `a`.`id` in (?)',
} as const;

/**
 * Finds the tasks that changes affect, each once: the ids of workspaces, or of rows of `tasks` where these are the tasks. A row that
 * belongs to no workspace yet affects none: linking it to one later is a change of its own.
 *
 * Where a task replaces the workspace that was one, or a workspace its task, both are found together, so that one goes as the other
 * comes.
 */
export async function tasksOf(database: Database, changes: readonly Pick<OutboxChange, 'kind' | 'ref'>[]): Promise<Buffer[]> {
  const found = new Map<string, Buffer>();
  for (const { id } of await taskLinks(database, changes)) found.set(id.toString('hex'), id);
  return [...found.values()];
}

/** Finds those of the changes that affect one of these tasks. */
export async function changesOf(
  database: Database,
  changes: readonly OutboxChange[],
  tasks: readonly Buffer[],
): Promise<OutboxChange[]> {
  const wanted = new Set(tasks.map((id) => id.toString('hex')));
  const links = await taskLinks(database, changes);
  const affecting = new Set(links.filter(({ id }) => wanted.has(id.toString('hex'))).map(({ kind, ref }) => keyOf(kind, ref)));
  return changes.filter(({ kind, ref }) => affecting.has(keyOf(kind, ref)));
}

/** A changed row, and a task that it belongs to. */
interface TaskLink extends Pick<OutboxChange, 'kind' | 'ref'> {
  readonly id: Buffer;
}

async function taskLinks(database: Database, changes: readonly Pick<OutboxChange, 'kind' | 'ref'>[]): Promise<TaskLink[]> {
  const ofWorkspaces: TaskLink[] = [];
  const refsOf = (wanted: ChangeKind): Buffer[] => changes.flatMap(({ kind, ref }) => (kind === wanted ? [ref] : []));
  ofWorkspaces.push(...refsOf(changeKinds.workspace).map((ref) => ({ kind: changeKinds.workspace, ref, id: ref })));
  for (const kind of [changeKinds.build, changeKinds.job, changeKinds.resource, changeKinds.agent] as const) {
    const refs = refsOf(kind);
    if (refs.length === 0) continue;
    const [rows] = (await database.raw(owners[kind], [refs])) as [{ ref: Buffer; id: Buffer }[]];
    ofWorkspaces.push(...rows.map(({ ref, id }) => ({ kind, ref, id })));
  }
  if ((await readTaskSource(database)) === 'workspaces')
    return [...ofWorkspaces, ...(await replacedTasks(database, ofWorkspaces))];

  const kind = changeKinds.task;
  const refs = refsOf(kind);
  const tasks = await tasksOfWorkspaces(database, [...ofWorkspaces.map(({ id }) => id), ...refs]);
  const tasksOfId = (id: Buffer): readonly Buffer[] => tasks.get(id.toString('hex')) ?? [];
  const links = [
    ...ofWorkspaces.flatMap((link) => tasksOfId(link.id).map((id) => ({ ...link, id }))),
    // A row from when workspaces were the tasks has its workspace's id.
    ...refs.flatMap((ref) => [ref, ...tasksOfId(ref)].map((id) => ({ kind, ref, id }))),
  ];
  if (refs.length === 0) return links;
  const [replaced] = (await database.raw(
    'select `t`.`id` as `ref`, `r`.`id` from `tasks` as `t` inner join `workspace_tasks` as `r` on `r`.`id` = `t`.`workspace_id` where `t`.`id` in (?)',
    [refs],
  )) as [{ ref: Buffer; id: Buffer }[]];
  return [...links, ...replaced.map(({ ref, id }) => ({ kind, ref, id }))];
}

/**
 * Where workspaces are the tasks again: for each workspace the old row of its task, and for each old row its workspace.
 *
 *   select r.workspace_id as ref, r.id from workspace_tasks as r where r.workspace_id in (…) and r.id <> r.workspace_id
 *   union all select r.id as ref, r.workspace_id as id from workspace_tasks as r where r.id in (…) and r.id <> r.workspace_id
 */
async function replacedTasks(database: Database, links: readonly TaskLink[]): Promise<TaskLink[]> {
  const ids = [...new Map(links.map(({ id }) => [id.toString('hex'), id])).values()];
  if (ids.length === 0) return [];
  const [pairs] = (await database.raw(
    'select `r`.`workspace_id` as `ref`, `r`.`id` from `workspace_tasks` as `r` where `r`.`workspace_id` in (?) and `r`.`id` <> `r`.`workspace_id` ' +
      'union all select `r`.`id` as `ref`, `r`.`workspace_id` as `id` from `workspace_tasks` as `r` where `r`.`id` in (?) and `r`.`id` <> `r`.`workspace_id`',
    [ids as never, ids as never],
  )) as [{ ref: Buffer; id: Buffer }[]];
  const others = Map.groupBy(pairs, ({ ref }) => ref.toString('hex'));
  return links.flatMap((link) => (others.get(link.id.toString('hex')) ?? []).map(({ id }) => ({ ...link, id })));
}

/**
 * The tasks of workspaces, by the workspace's id in hexadecimal, and the old rows that have these ids, from when workspaces were the
 * tasks.
 */
async function tasksOfWorkspaces(database: Database, ids: readonly Buffer[]): Promise<Map<string, Buffer[]>> {
  const found = new Map<string, Buffer[]>();
  if (ids.length === 0) return found;
  const [rows] = (await database.raw(
    'select `t`.`workspace_id` as `workspace`, `t`.`id` from `tasks` as `t` where `t`.`workspace_id` in (?) union all ' +
      'select `r`.`id` as `workspace`, `r`.`id` from `workspace_tasks` as `r` where `r`.`id` in (?)',
    [ids as never, ids as never],
  )) as [{ workspace: Buffer; id: Buffer }[]];
  for (const { workspace, id } of rows) {
    const key = workspace.toString('hex');
    found.set(key, [...(found.get(key) ?? []), id]);
  }
  return found;
}

function keyOf(kind: ChangeKind, ref: Buffer): string {
  return `${kind} ${ref.toString('hex')}`;
}

/** Ids in one statement. A workspace may have thousands of builds, with an agent each. */
const refsPerStatement = 1000;

/** Finds which of these tasks have a change in the outbox; returns their ids in hexadecimal. */
export async function pendingTasks(database: Database, ids: Buffer[]): Promise<Set<string>> {
  const waiting = new Set<string>();
  if (ids.length === 0) return waiting;
  const tasks = new Map<string, string[]>();
  const refs = new Map<string, Buffer>();
  const add = (kind: ChangeKind, ref: Buffer | null, owners: readonly string[]) => {
    if (ref === null) return;
    const key = keyOf(kind, ref);
    tasks.set(key, [...(tasks.get(key) ?? []), ...owners]);
    refs.set(ref.toString('hex'), ref);
  };
  const [linked] = (await database.raw(
    'select `t`.`id`, `t`.`workspace_id` as `workspace` from `tasks` as `t` where `t`.`id` in (?) and `t`.`workspace_id` is not null',
    [ids],
  )) as [{ id: Buffer; workspace: Buffer }[]];
  const workspaces = Map.groupBy([...linked, ...ids.map((id) => ({ id, workspace: id }))], ({ workspace }) =>
    workspace.toString('hex'),
  );
  const tasksOfWorkspace = (workspace: Buffer): string[] =>
    (workspaces.get(workspace.toString('hex')) ?? []).map(({ id }) => id.toString('hex'));
  for (const id of ids) add(changeKinds.task, id, [id.toString('hex')]);
  for (const { workspace } of linked) add(changeKinds.workspace, workspace, tasksOfWorkspace(workspace));
  for (const id of ids) add(changeKinds.workspace, id, tasksOfWorkspace(id));
  const [links] = (await database.raw(
    'select `b`.`workspace_id` as `workspace`, `b`.`id` as `build`, `b`.`job_id` as `job`, `r`.`id` as `resource`, `a`.`id` as `agent` ' +
      'from `workspace_builds` as `b` left join `workspace_resources` as `r` on `r`.`job_id` = `b`.`job_id` ' +
      'left join `workspace_agents` as `a` on `a`.`resource_id` = `r`.`id` where `b`.`workspace_id` in (?)',
    [[...ids, ...linked.map(({ workspace }) => workspace)]],
  )) as [({ workspace: Buffer } & Record<'build' | 'job' | 'resource' | 'agent', Buffer | null>)[]];
  for (const { workspace, build, job, resource, agent } of links) {
    const owners = tasksOfWorkspace(workspace);
    add(changeKinds.build, build, owners);
    add(changeKinds.job, job, owners);
    add(changeKinds.resource, resource, owners);
    add(changeKinds.agent, agent, owners);
  }
  const all = [...refs.values()];
  for (let from = 0; from < all.length; from += refsPerStatement) {
    const [changes] = (await database.raw(
      'select distinct `c`.`kind`, `c`.`ref` from `workspace_changes` as `c` where `c`.`ref` in (?)',
      [all.slice(from, from + refsPerStatement)],
    )) as [Pick<OutboxChange, 'kind' | 'ref'>[]];
    for (const { kind, ref } of changes) for (const id of tasks.get(keyOf(kind, ref)) ?? []) waiting.add(id);
  }
  return waiting;
}

/** Writes changes of rows of a kind to the outbox, so that their tasks are projected again. */
export async function enqueueChanges(database: Database, kind: ChangeKind, ids: readonly Buffer[]): Promise<void> {
  if (ids.length === 0) return;
  const rows: readonly unknown[] = ids.map((id) => [kind, id]);
  await database.raw('insert into `workspace_changes` (`kind`, `ref`) values ?', [rows as never]);
}

/** Writes these workspaces to the outbox. */
export function enqueueWorkspaces(database: Database, ids: readonly Buffer[]): Promise<void> {
  return enqueueChanges(database, changeKinds.workspace, ids);
}

/** Writes these tasks to the outbox, to be projected again. */
export async function enqueueTasks(database: Database, ids: readonly Buffer[]): Promise<void> {
  if (ids.length > 0) await enqueueChanges(database, kindOfTasks[await readTaskSource(database)], ids);
}

/**
 * Reads the next ids, in order, of all that may be tasks, workspaces or rows of `tasks`, and of all rows of the read model. Pass the
 * last id of one call to the next, until the result is empty.
 */
export async function taskIdsAfter(database: Database, after: Buffer | undefined, limit: number): Promise<Buffer[]> {
  return idsAfter(database, await readTaskSource(database), after, limit);
}

async function idsAfter(database: Database, table: TaskSourceName, after: Buffer | undefined, limit: number): Promise<Buffer[]> {
  const start = after ?? Buffer.alloc(0); // sorts before every id
  const [rows] = (await database.raw(
    `(select \`w\`.\`id\` from \`${table}\` as \`w\` where \`w\`.\`id\` > ? order by \`w\`.\`id\` limit ?) union ` +
      '(select `t`.`id` from `workspace_tasks` as `t` where `t`.`id` > ? order by `t`.`id` limit ?) union ' +
      '(select distinct `a`.`task_id` from `workspace_task_acl` as `a` where `a`.`task_id` > ? order by `a`.`task_id` limit ?) ' +
      'order by `id` limit ?',
    [start, limit, start, limit, start, limit, limit],
  )) as [{ id: Buffer }[]];
  return rows.map(({ id }) => id);
}

/**
 * Writes everything that may be a task to the outbox, after all rows were inserted. It is ordered by owner, as the rows of the read
 * model and most of its keys are, so that the projector writes many rows of a batch into the same pages.
 *
 *   insert into workspace_changes (kind, ref) select 1, w.id from workspaces as w order by w.owner_id, w.name_lower, w.id
 *   insert into workspace_changes (kind, ref) select 6, t.id from tasks as t order by t.owner_id, t.id
 */
export async function enqueueInserted(database: Database, source: TaskSourceName): Promise<void> {
  if (source === 'tasks') {
    await database.raw(
      'insert into `workspace_changes` (`kind`, `ref`) select ?, `t`.`id` from `tasks` as `t` order by `t`.`owner_id`, `t`.`id`',
      [changeKinds.task],
    );
    return;
  }
  await database.raw(
    `insert into \`workspace_changes\` (\`kind\`, \`ref\`) select ?, \`w\`.\`id\`
     from \`workspaces\` as \`w\` force index (\`workspaces_owner_id_name_lower\`)
     order by \`w\`.\`owner_id\`, \`w\`.\`name_lower\`, \`w\`.\`id\``,
    [changeKinds.workspace],
  );
}

/** Ids written to the outbox in one statement. */
const idsPerStatement = 1000;

/**
 * Writes everything that may be a task to the outbox, after a time in which changes may not have been, or when the tasks are others
 * than before. It locks no row of a source table.
 */
export async function enqueueAll(database: Database): Promise<void> {
  const source = await readTaskSource(database);
  let after: Buffer | undefined;
  for (;;) {
    const ids = await idsAfter(database, source, after, idsPerStatement);
    await enqueueChanges(database, kindOfTasks[source], ids);
    after = ids.at(-1);
    if (after === undefined) return;
  }
}
