import type { Database } from '../db/connection.ts';
import { promptParameter } from '../schema/noted-tables.ts';
import { trigramsOf } from '../tasks/store/name-trigrams.ts';
import { namedOnlyOffset } from '../tasks/store/tables.ts';
import { type ProjectedAcl, type ProjectedRow, type ProjectedTask, projectTask } from './project-task.ts';
import { promptFactBytes, readTaskFacts } from './task-facts.ts';

/** The columns of `workspace_tasks`, which are all of them: a column that is missing here would never be compared. */
export const taskColumns = [
  'id',
  'owner_id',
  'organization_id',
  'template_id',
  'template_version_id',
  'build_template_version_id',
  'build_id',
  'build_number',
  'job_id',
  'agent_id',
  'agent_lifecycle',
  'app_id',
  'name',
  'name_fold',
  'display_name',
  'prompt',
  'prompt_fold',
  'texts_bytes',
  'name_indexed',
  'live',
  'status',
  'list_status',
  'phase',
  'state',
  'state_at',
  'state_message',
  'state_uri',
  'favorite',
  'own_key',
  'run_key',
  'dormant_at',
  'created_at',
  'updated_at',
] as const satisfies readonly (keyof ProjectedRow)[];

/** The columns of `workspace_task_acl`. */
export const aclColumns = [
  'kind',
  'subject_id',
  'created_at',
  'task_id',
  'owner_id',
  'organization_id',
] as const satisfies readonly (keyof ProjectedAcl)[];

type Value = Buffer | string | number | null;

/** What the read model holds of a workspace, or should hold: no row when it is not a task. */
export interface ModelState {
  readonly row: ProjectedRow | undefined;
  readonly acl: readonly ProjectedAcl[];
}

/** Where the read model differs from what it should be, for one workspace. */
export interface TaskDifference {
  readonly id: Buffer;
  readonly stored: ModelState;
  readonly expected: ModelState;
  readonly rowDiffers: boolean;
  readonly aclDiffers: boolean;
}

/** A change of a task: whose it was before and is now, and where. One of the two is missing when it is new, or gone. */
export interface TaskChange {
  readonly id: Buffer;
  readonly old: TaskPlace | undefined;
  readonly now: TaskPlace | undefined;
  readonly aclChanged: boolean;
  /** If the ACL changed, the subjects who could read by it before: 17 bytes each, kind and id. */
  readonly oldReaders: Buffer | undefined;
}

/** What decides who may see a task. */
export type TaskPlace = Pick<ProjectedRow, 'owner_id' | 'organization_id'>;

/** Most workspaces that are compared at once, and most bytes of their texts, which are in memory together, more than once. */
const workspacesAtOnce = 100;
const bytesAtOnce = 8 * 1024 * 1024;

/**
 * Splits workspaces into parts that may be compared at once: of a hundred, or of fewer where their prompts, of up to 1 MiB each, are
 * long. What is longer than all of a part is a part of its own.
 */
export async function* partsOf(database: Database, ids: readonly Buffer[]): AsyncGenerator<Buffer[]> {
  for (let from = 0; from < ids.length; from += workspacesAtOnce) {
    const some = ids.slice(from, from + workspacesAtOnce);
    const sizes = some.length === 1 ? new Map<string, number>() : await readTextSizes(database, some);
    let part: Buffer[] = [];
    let bytes = 0;
    for (const id of some) {
      const size = sizes.get(hex(id)) ?? 0;
      if (part.length > 0 && bytes + size > bytesAtOnce) {
        yield part;
        part = [];
        bytes = 0;
      }
      part.push(id);
      bytes += size;
    }
    yield part;
  }
}

/**
 * Compares the read model of these workspaces, which are one of {@link partsOf}, with the source tables. It changes nothing and
 * waits for nobody: both sides are plain SELECTs, each of one snapshot.
 */
export async function compareWorkspaces(database: Database, ids: Buffer[]): Promise<TaskDifference[]> {
  if (ids.length === 0) return [];
  const expected = new Map<string, ProjectedTask>();
  for (const facts of await readTaskFacts(database, ids)) {
    const task = projectTask(facts);
    if (task !== undefined) expected.set(hex(facts.id), task);
  }
  const rows = new Map((await readRows(database, ids)).map((row) => [hex(row.id), row]));
  const acl = Map.groupBy(await readAcl(database, ids), ({ task_id }) => hex(task_id));
  return ids.flatMap((id) => {
    const key = hex(id);
    const stored = { row: rows.get(key), acl: acl.get(key) ?? [] };
    const should = expected.get(key) ?? { row: undefined, acl: [] };
    const rowDiffers = differingColumns(stored.row, should.row).length > 0;
    const aclDiffers = aclText(stored.acl) !== aclText(should.acl);
    return rowDiffers || aclDiffers ? [{ id, stored, expected: should, rowDiffers, aclDiffers }] : [];
  });
}

/** The columns in which two rows differ; all of them when only one is there. */
export function differingColumns(a: ProjectedRow | undefined, b: ProjectedRow | undefined): (typeof taskColumns)[number][] {
  if (a === undefined && b === undefined) return [];
  return taskColumns.filter((column) => !isSame(a?.[column], b?.[column]));
}

/** A text that two sets of ACL rows have in common when they are the same, in whatever order. */
export function aclText(rows: readonly ProjectedAcl[]): string {
  return rows
    .map((row) => aclColumns.map((column) => text(row[column])).join(' '))
    .toSorted()
    .join('\n');
}

/**
 * Makes the read model what it should be, and returns the changes. Only who holds the lock of the projector's state may call it.
 */
export async function applyDifferences(database: Database, differences: readonly TaskDifference[]): Promise<TaskChange[]> {
  // The owner is part of the primary key, which clusters that shard by owner do not let an update change: delete, then insert.
  const gone = differences.filter(
    ({ stored: { row }, expected }) => row !== undefined && !isSame(row.owner_id, expected.row?.owner_id),
  );
  await removeRows(database, 'workspace_tasks', 'id', gone);
  const rows = differences.flatMap(({ rowDiffers, expected: { row } }) => (rowDiffers && row !== undefined ? [row] : []));
  await upsertRows(database, rows);
  await indexNames(database, differences);
  const shared = differences.filter(({ aclDiffers }) => aclDiffers);
  await removeRows(
    database,
    'workspace_task_acl',
    'task_id',
    shared.filter(({ stored }) => stored.acl.length > 0),
  );
  await insertAcl(
    database,
    shared.flatMap(({ expected }) => expected.acl),
  );
  return differences
    .filter(({ stored, expected }) => stored.row !== undefined || expected.row !== undefined)
    .map(({ id, stored, expected, aclDiffers }) => ({
      id,
      old: placeOf(stored.row),
      now: placeOf(expected.row),
      aclChanged: aclDiffers,
      oldReaders: aclDiffers
        ? Buffer.concat(
            stored.acl.flatMap(({ kind, subject_id }) => (kind < namedOnlyOffset ? [Buffer.of(kind), subject_id] : [])),
          )
        : undefined,
    }));
}

/** Makes the read model of any number of workspaces what it should be, part by part, and returns the changes. */
export async function projectWorkspaces(database: Database, ids: readonly Buffer[]): Promise<TaskChange[]> {
  const changes: TaskChange[] = [];
  for await (const part of partsOf(database, ids)) {
    changes.push(...(await applyDifferences(database, await compareWorkspaces(database, part))));
  }
  return changes;
}

/** Makes the trigrams those of the names that rows say are indexed. */
async function indexNames(database: Database, differences: readonly TaskDifference[]): Promise<void> {
  const renamed = differences.filter(
    ({ stored: { row: a }, expected: { row: b } }) =>
      !isSame(a?.name_indexed, b?.name_indexed) || !isSame(a?.owner_id, b?.owner_id),
  );
  await removeTrigrams(
    database,
    renamed.flatMap(({ stored: { row } }) => trigramRows(row)),
  );
  await insertTrigrams(
    database,
    renamed.flatMap(({ expected: { row } }) => trigramRows(row)),
  );
}

type TrigramRow = readonly [trigram: Buffer, ownerId: Buffer, taskId: Buffer];

function trigramRows(row: ProjectedRow | undefined): TrigramRow[] {
  return row === undefined ? [] : trigramsOf(row.name_indexed).map((trigram) => [trigram, row.owner_id, row.id]);
}

/** A copy: the whole row would keep its prompt in memory. */
function placeOf(row: ProjectedRow | undefined): TaskPlace | undefined {
  return row === undefined ? undefined : { owner_id: row.owner_id, organization_id: row.organization_id };
}

/** How many bytes the texts of each workspace have that a comparison reads: its longest prompt, and what the read model holds. */
async function readTextSizes(database: Database, ids: readonly Buffer[]): Promise<Map<string, number>> {
  const [rows] = (await database.raw(
    `select \`b\`.\`workspace_id\` as \`id\`, max(least(length(\`p\`.\`value\`), ?)) as \`bytes\`
     from \`workspace_builds\` as \`b\` inner join \`workspace_build_parameters\` as \`p\` on \`p\`.\`workspace_build_id\` = \`b\`.\`id\`
     where \`b\`.\`workspace_id\` in (?) and \`p\`.\`name\` = ? group by \`b\`.\`workspace_id\`
     union all
     select \`t\`.\`id\`, \`t\`.\`texts_bytes\` from \`workspace_tasks\` as \`t\` where \`t\`.\`id\` in (?)`,
    [promptFactBytes, ids as never, promptParameter, ids as never],
  )) as [{ id: Buffer; bytes: number | string | null }[]];
  const sizes = new Map<string, number>();
  for (const { id, bytes } of rows) sizes.set(hex(id), (sizes.get(hex(id)) ?? 0) + Number(bytes));
  return sizes;
}

async function readRows(database: Database, ids: Buffer[]): Promise<ProjectedRow[]> {
  const columns = taskColumns.map((column) => `\`t\`.\`${column}\``).join(', ');
  const [rows] = (await database.raw(`select ${columns} from \`workspace_tasks\` as \`t\` where \`t\`.\`id\` in (?)`, [ids])) as [
    ProjectedRow[],
  ];
  return rows;
}

async function readAcl(database: Database, ids: Buffer[]): Promise<ProjectedAcl[]> {
  const columns = aclColumns.map((column) => `\`a\`.\`${column}\``).join(', ');
  const [rows] = (await database.raw(
    `select ${columns} from \`workspace_task_acl\` as \`a\` force index (\`task\`) where \`a\`.\`task_id\` in (?)`,
    [ids],
  )) as [ProjectedAcl[]];
  return rows;
}

/** `delete from workspace_tasks where id in (…)`. */
async function removeRows(
  database: Database,
  table: string,
  column: string,
  differences: readonly TaskDifference[],
): Promise<void> {
  if (differences.length === 0) return;
  await database(table)
    .whereIn(
      `${table}.${column}`,
      differences.map(({ id }) => id),
    )
    .delete();
}

/** Characters of prompts and messages in one statement: with all of them escaped and of several bytes, it is far below 16 MiB. */
const charactersPerStatement = 1_000_000;

/** `insert into workspace_tasks (…) values (…), (…) on duplicate key update name = values(name), …`. */
async function upsertRows(database: Database, rows: readonly ProjectedRow[]): Promise<void> {
  const updates = taskColumns.map((column) => `\`${column}\` = values(\`${column}\`)`).join(', ');
  let part: ProjectedRow[] = [];
  let characters = 0;
  const write = async () => {
    if (part.length === 0) return;
    const values: readonly unknown[] = part.map((row) => taskColumns.map((column) => row[column]));
    await database.raw(
      `insert into \`workspace_tasks\` (${taskColumns.map((column) => `\`${column}\``).join(', ')}) values ? on duplicate key update ${updates}`,
      [values as never],
    );
    part = [];
    characters = 0;
  };
  for (const row of rows) {
    const length = row.prompt.length + row.state_message.length + row.state_uri.length;
    if (characters + length > charactersPerStatement) await write();
    part.push(row);
    characters += length;
  }
  await write();
}

/** ACL rows in one statement. */
const aclRowsPerStatement = 1000;

/** `insert into workspace_task_acl (…) values (…), (…)`. */
async function insertAcl(database: Database, rows: readonly ProjectedAcl[]): Promise<void> {
  for (let from = 0; from < rows.length; from += aclRowsPerStatement) {
    const values: readonly unknown[] = rows
      .slice(from, from + aclRowsPerStatement)
      .map((row) => aclColumns.map((column) => row[column]));
    await database.raw(
      `insert into \`workspace_task_acl\` (${aclColumns.map((column) => `\`${column}\``).join(', ')}) values ?`,
      [values as never],
    );
  }
}

/** Trigrams in one statement. A name has some twelve. */
const trigramsPerStatement = 1000;

/** `insert into workspace_task_trigrams (…) values (…), … on duplicate key update …`: another version may have left some behind. */
async function insertTrigrams(database: Database, rows: readonly TrigramRow[]): Promise<void> {
  for (let from = 0; from < rows.length; from += trigramsPerStatement) {
    await database.raw(
      'insert into `workspace_task_trigrams` (`trigram`, `owner_id`, `task_id`) values ? on duplicate key update `trigram` = values(`trigram`)',
      [rows.slice(from, from + trigramsPerStatement) as never],
    );
  }
}

/**
 * Deletes each by its key:
 *
 *   delete s from (select ? as trigram, ? as owner_id, ? as task_id union all …) as gone
 *   straight_join workspace_task_trigrams as s on s.trigram = gone.trigram and …
 */
async function removeTrigrams(database: Database, rows: readonly TrigramRow[]): Promise<void> {
  for (let from = 0; from < rows.length; from += trigramsPerStatement) {
    const part = rows.slice(from, from + trigramsPerStatement);
    const gone = `select ? as \`trigram\`, ? as \`owner_id\`, ? as \`task_id\`${' union all select ?, ?, ?'.repeat(part.length - 1)}`;
    await database.raw(
      `delete \`s\` from (${gone}) as \`gone\` straight_join \`workspace_task_trigrams\` as \`s\` ` +
        'on `s`.`trigram` = `gone`.`trigram` and `s`.`owner_id` = `gone`.`owner_id` and `s`.`task_id` = `gone`.`task_id`',
      part.flat(),
    );
  }
}

function isSame(a: Value | undefined, b: Value | undefined): boolean {
  return Buffer.isBuffer(a) && Buffer.isBuffer(b) ? a.equals(b) : a === b;
}

function text(value: Value): string {
  return Buffer.isBuffer(value) ? hex(value) : String(value);
}

function hex(id: Buffer): string {
  return id.toString('hex');
}
