// @ts-check

/**
 * What lets the projector take tasks from the table `tasks`, where a deployment has tasks of its own.
 *
 * - `workspace_tasks`.`id` is a task's id, which is its workspace's only where workspaces are the tasks. `workspace_id` says which
 *   workspace it has, if any.
 * - `projector_state`.`task_source` says which of the two the rows were made from. Only the projector writes it.
 * - `sync_state`.`has_tasks` says whether the Coder that was copied has tasks of its own.
 *
 * A program of before would show the task's id as its workspace's. Each statement can be repeated.
 *
 * @param {import('knex').Knex} knex
 */
export async function up(knex) {
  if (!(await knex.schema.hasColumn('workspace_tasks', 'workspace_id'))) {
    await knex.raw(`alter table \`workspace_tasks\`
      modify column \`id\` binary(16) not null comment 'the task: where workspaces are the tasks, the workspace',
      add column \`workspace_id\` binary(16) null comment 'NULL until the task has one'`);
  }
  await fillWorkspaceIds(knex);
  if (!(await knex.schema.hasColumn('projector_state', 'task_source'))) {
    await knex.raw(
      "alter table `projector_state` add column `task_source` varchar(16) not null default 'workspaces' comment 'what the tasks are: workspaces, or the rows of tasks'",
    );
  }
  if (!(await knex.schema.hasColumn('sync_state', 'has_tasks'))) {
    await knex.raw(
      "alter table `sync_state` add column `has_tasks` boolean not null default false comment 'whether the Coder of the last copy has a table of tasks'",
    );
  }
}

/** @param {import('knex').Knex} knex */
export async function down(knex) {
  for (const [table, column] of /** @type {const} */ ([
    ['sync_state', 'has_tasks'],
    ['projector_state', 'task_source'],
    ['workspace_tasks', 'workspace_id'],
  ])) {
    if (await knex.schema.hasColumn(table, column)) await knex.raw('alter table ?? drop column ??', [table, column]);
  }
}

/** Rows that are updated in one transaction. */
const rowsAtOnce = 5000;

/**
 * Each task was its workspace until now. In parts, so that a projector that still runs need not wait long.
 *
 * @param {import('knex').Knex} knex
 */
async function fillWorkspaceIds(knex) {
  /** @type {Buffer} */
  let after = Buffer.alloc(0);
  for (;;) {
    const [rows] = /** @type {[{ id: Buffer }[]]} */ (
      await knex.raw('select `t`.`id` from `workspace_tasks` as `t` where `t`.`id` > ? order by `t`.`id` limit ?', [
        after,
        rowsAtOnce,
      ])
    );
    const last = rows.at(-1);
    if (last === undefined) return;
    await knex.raw('update `workspace_tasks` set `workspace_id` = `id` where `id` > ? and `id` <= ? and `workspace_id` is null', [
      after,
      last.id,
    ]);
    after = last.id;
  }
}
