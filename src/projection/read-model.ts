import type { Database } from '../db/connection.ts';
import {
  appendInPieces,
  bytesInStatement,
  type PacketLimit,
  partsOf,
  readPacketLimit,
  type TextValue,
} from '../db/packet-limit.ts';
import { readTaskSource } from '../schema/task-source.ts';
import { trigramsOf } from '../tasks/store/name-trigrams.ts';
import { namedOnlyOffset } from '../tasks/store/tables.ts';
import { activityOf } from '../tasks/store/task-activity.ts';
import { type ProjectedAcl, type ProjectedRow, type ProjectedTask, projectTask } from './project-task.ts';
import type { ReadAhead } from './read-ahead.ts';
import type { SourcedTask } from './sourced-task.ts';
import { readTasks } from './task-source.ts';
import { readTextSizes } from './text-sizes.ts';

/**
 * All columns of `workspace_tasks` but the generated ones and `job_id`, which is unused: one that is missing here would never be
 * compared.
 */
export const taskColumns = [
  'id',
  'workspace_id',
  'owner_id',
  'organization_id',
  'template_id',
  'template_version_id',
  'build_template_version_id',
  'build_id',
  'build_number',
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
const aclColumns = [
  'kind',
  'subject_id',
  'created_at',
  'task_id',
  'owner_id',
  'organization_id',
] as const satisfies readonly (keyof ProjectedAcl)[];

/** The rows of the read model for an id, stored or expected: no row when it is no task. */
interface ModelState {
  readonly row: ProjectedRow | undefined;
  readonly acl: readonly ProjectedAcl[];
}

/** What the read model holds of a task, and what its sources say, where the two differ. */
interface ModelDifference {
  readonly id: Buffer;
  readonly stored: ModelState;
  readonly expected: ModelState;
  readonly rowDiffers: boolean;
  readonly aclDiffers: boolean;
}

/** A change that was applied to a task. `old` is undefined for a new task, `now` for a removed one. */
export interface ModelChange {
  readonly id: Buffer;
  readonly old: TaskPlace | undefined;
  readonly now: TaskPlace | undefined;
  /** If the ACL changed, the subjects who could read the task before: 17 bytes each, kind and id. */
  readonly oldReaders: Buffer | undefined;
}

/** The owner and the organization of a task, which decide who may read it, and what it is, as `activityOf` says. */
interface TaskPlace extends Pick<ProjectedRow, 'owner_id' | 'organization_id'> {
  readonly activity: number;
}

/** The limits of a batch: its texts are in memory together, several times over. */
const tasksAtOnce = 100;
const bytesAtOnce = 8 * 1024 * 1024;

/**
 * Splits tasks into batches that are compared at once: a hundred, or fewer when their texts exceed 8 MiB together. A task with
 * longer texts is a batch of its own.
 */
export async function* batchesOf(database: Database, ids: readonly Buffer[]): AsyncGenerator<Buffer[]> {
  const source = await readTaskSource(database);
  for (let from = 0; from < ids.length; from += tasksAtOnce) {
    const some = ids.slice(from, from + tasksAtOnce);
    const sizes = some.length === 1 ? new Map<string, number>() : await readTextSizes(database, source, some);
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
 * Compares the read model of a batch of {@link batchesOf} with the source tables. It changes nothing and takes no locks: it reads
 * both sides by plain SELECTs, each in a snapshot of its own.
 *
 * @param read the tasks as their source has them, if they have been read.
 */
export async function compareTasks(database: Database, ids: Buffer[], read?: readonly SourcedTask[]): Promise<ModelDifference[]> {
  if (ids.length === 0) return [];
  const expected = new Map<string, ProjectedTask>();
  const tasks = read ?? (await readTasks(database, await readTaskSource(database), ids));
  for (const task of tasks) expected.set(hex(task.id), projectTask(task));
  const rows = new Map((await readTaskRows(database, ids)).map((row) => [hex(row.id), row]));
  const acl = Map.groupBy(await readAclRows(database, ids), ({ task_id }) => hex(task_id));
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

/** ACL rows as a text that does not depend on their order. */
export function aclText(rows: readonly ProjectedAcl[]): string {
  return rows
    .map((row) => aclColumns.map((column) => text(row[column])).join(' '))
    .toSorted()
    .join('\n');
}

/**
 * Writes the expected rows to the read model, and returns the changes. The caller must hold the lock on `projector_state`.
 */
export async function applyDifferences(database: Database, differences: readonly ModelDifference[]): Promise<ModelChange[]> {
  if (differences.length === 0) return [];
  const limit = await readPacketLimit(database);
  // The owner is part of the primary key, and clusters that shard by owner do not update it: delete, then insert.
  const gone = differences.filter(
    ({ stored: { row }, expected }) => row !== undefined && !isSame(row.owner_id, expected.row?.owner_id),
  );
  await removeRows(database, 'workspace_tasks', 'id', gone);
  const rows = differences.flatMap(({ rowDiffers, expected: { row } }) => (rowDiffers && row !== undefined ? [row] : []));
  await upsertRows(database, rows, limit);
  await indexNames(database, differences, limit);
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
    limit,
  );
  return differences
    .filter(({ stored, expected }) => stored.row !== undefined || expected.row !== undefined)
    .map(({ id, stored, expected, aclDiffers }) => ({
      id,
      old: placeOf(stored.row),
      now: placeOf(expected.row),
      oldReaders: aclDiffers
        ? Buffer.concat(
            stored.acl.flatMap(({ kind, subject_id }) => (kind < namedOnlyOffset ? [Buffer.of(kind), subject_id] : [])),
          )
        : undefined,
    }));
}

/**
 * Projects any number of tasks, batch by batch, and returns the changes.
 *
 * @param readAhead reads the next batch from its source while one is written. The batches have different tasks, so that none
 *   depends on what the one before writes.
 */
export async function projectTasks(database: Database, ids: readonly Buffer[], readAhead?: ReadAhead): Promise<ModelChange[]> {
  const changes: ModelChange[] = [];
  const parts: Buffer[][] = [];
  for await (const part of batchesOf(database, ids)) parts.push(part);
  const source = await readTaskSource(database);
  let ahead: ReturnType<ReadAhead> | undefined;
  for (const [index, part] of parts.entries()) {
    const tasks = (await ahead) ?? (await readTasks(database, source, part));
    const next = parts[index + 1];
    ahead = next === undefined ? undefined : readAhead?.(source, next);
    changes.push(...(await applyDifferences(database, await compareTasks(database, part, tasks))));
  }
  return changes;
}

/** Replaces the trigrams of tasks whose indexed name or owner changed. */
async function indexNames(database: Database, differences: readonly ModelDifference[], limit: PacketLimit): Promise<void> {
  const renamed = differences.filter(
    ({ stored: { row: a }, expected: { row: b } }) =>
      !isSame(a?.name_indexed, b?.name_indexed) || !isSame(a?.owner_id, b?.owner_id),
  );
  await removeTrigrams(
    database,
    renamed.flatMap(({ stored: { row } }) => trigramRows(row)),
    limit,
  );
  await insertTrigrams(
    database,
    renamed.flatMap(({ expected: { row } }) => trigramRows(row)),
    limit,
  );
}

type TrigramRow = readonly [trigram: Buffer, ownerId: Buffer, taskId: Buffer];

function trigramRows(row: ProjectedRow | undefined): TrigramRow[] {
  return row === undefined ? [] : trigramsOf(row.name_indexed).map((trigram) => [trigram, row.owner_id, row.id]);
}

/** Copies what is needed: a reference to the row would keep its prompt in memory. */
function placeOf(row: ProjectedRow | undefined): TaskPlace | undefined {
  if (row === undefined) return undefined;
  return { owner_id: row.owner_id, organization_id: row.organization_id, activity: activityOf(row) };
}

async function readTaskRows(database: Database, ids: Buffer[]): Promise<ProjectedRow[]> {
  const columns = taskColumns.map((column) => `\`t\`.\`${column}\``).join(', ');
  const [rows] = (await database.raw(`select ${columns} from \`workspace_tasks\` as \`t\` where \`t\`.\`id\` in (?)`, [ids])) as [
    ProjectedRow[],
  ];
  return rows;
}

async function readAclRows(database: Database, ids: Buffer[]): Promise<ProjectedAcl[]> {
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
  differences: readonly ModelDifference[],
): Promise<void> {
  if (differences.length === 0) return;
  await database(table)
    .whereIn(
      `${table}.${column}`,
      differences.map(({ id }) => id),
    )
    .delete();
}

/** The columns whose texts may be too long for a statement together with the others. */
const longColumns = ['prompt', 'state_message', 'state_uri'] as const satisfies readonly (keyof ProjectedRow)[];

/**
 * Inserts or updates rows. Of a row that is too large for a statement the texts are appended afterwards: a prompt of quotes, which
 * are escaped, takes twice as many bytes as where it comes from.
 *
 *   insert into workspace_tasks (…) values (…), (…) on duplicate key update name = values(name), …
 *   update workspace_tasks set prompt = concat(prompt, ?) where id = ?
 */
async function upsertRows(database: Database, rows: readonly ProjectedRow[], limit: PacketLimit): Promise<void> {
  const updates = taskColumns.map((column) => `\`${column}\` = values(\`${column}\`)`).join(', ');
  const valuesOf = (row: ProjectedRow): TextValue[] => taskColumns.map((column) => row[column]);
  const bytesOf = (row: ProjectedRow) => bytesInStatement(valuesOf(row));
  const large = new Set(rows.filter((row) => bytesOf(row) > limit.valueBytes));
  const inserted = rows.map((row) => (large.has(row) ? { ...row, prompt: '', state_message: '', state_uri: '' } : row));
  for (const part of partsOf(inserted, bytesOf, limit)) {
    await database.raw(
      `insert into \`workspace_tasks\` (${taskColumns.map((column) => `\`${column}\``).join(', ')}) values ? on duplicate key update ${updates}`,
      [part.map(valuesOf) as never],
    );
  }
  for (const row of large) {
    for (const column of longColumns) {
      const update = `update \`workspace_tasks\` set \`${column}\` = concat(\`${column}\`, ?) where \`id\` = ?`;
      await appendInPieces(database, update, row[column], [row.id], limit);
    }
  }
}

/** Rows of small tables in one statement. */
const rowsPerStatement = 1000;

/** `insert into workspace_task_acl (…) values (…), (…)`. */
async function insertAcl(database: Database, rows: readonly ProjectedAcl[], limit: PacketLimit): Promise<void> {
  const values = rows.map((row) => aclColumns.map((column) => row[column]));
  for (const part of partsOf(values, bytesInStatement, limit, rowsPerStatement)) {
    await database.raw(
      `insert into \`workspace_task_acl\` (${aclColumns.map((column) => `\`${column}\``).join(', ')}) values ?`,
      [part as never],
    );
  }
}

/**
 * `insert into workspace_task_trigrams (…) values (…), … on duplicate key update …`: another version may have left rows behind. A
 * name has some twelve.
 */
async function insertTrigrams(database: Database, rows: readonly TrigramRow[], limit: PacketLimit): Promise<void> {
  for (const part of partsOf(rows, bytesInStatement, limit, rowsPerStatement)) {
    await database.raw(
      'insert into `workspace_task_trigrams` (`trigram`, `owner_id`, `task_id`) values ? on duplicate key update `trigram` = values(`trigram`)',
      [part as never],
    );
  }
}

/**
 * Deletes each row by its primary key:
 *
 *   delete s from (select ? as trigram, ? as owner_id, ? as task_id union all …) as gone
 *   straight_join workspace_task_trigrams as s on s.trigram = gone.trigram and …
 */
async function removeTrigrams(database: Database, rows: readonly TrigramRow[], limit: PacketLimit): Promise<void> {
  const more = ' union all select ?, ?, ?';
  for (const part of partsOf(rows, (row) => more.length + bytesInStatement(row), limit, rowsPerStatement)) {
    const gone = `select ? as \`trigram\`, ? as \`owner_id\`, ? as \`task_id\`${more.repeat(part.length - 1)}`;
    await database.raw(
      `delete \`s\` from (${gone}) as \`gone\` straight_join \`workspace_task_trigrams\` as \`s\` ` +
        'on `s`.`trigram` = `gone`.`trigram` and `s`.`owner_id` = `gone`.`owner_id` and `s`.`task_id` = `gone`.`task_id`',
      part.flat(),
    );
  }
}

function isSame(a: TextValue | undefined, b: TextValue | undefined): boolean {
  return Buffer.isBuffer(a) && Buffer.isBuffer(b) ? a.equals(b) : a === b;
}

function text(value: TextValue): string {
  return Buffer.isBuffer(value) ? hex(value) : String(value);
}

function hex(id: Buffer): string {
  return id.toString('hex');
}
