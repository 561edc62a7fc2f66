// @ts-check

/** The version before can serve it: it neither reads nor names the index. */
export const compatible = true;

/**
 * The tasks of a workspace: for a token that is good for some workspaces, and for a deployment that goes back from a table of tasks to
 * workspaces, where the one row goes as the other comes. A task gets its workspace once.
 *
 * Servers build indexes while rows are read and written; for a million tasks that takes some seconds.
 *
 * @param {import('knex').Knex} knex
 */
export async function up(knex) {
  if (await isIndexed(knex)) return;
  await knex.raw('alter table `workspace_tasks` add key `workspace` (`workspace_id`)');
}

/** @param {import('knex').Knex} knex */
export async function down(knex) {
  if (await isIndexed(knex)) await knex.raw('alter table `workspace_tasks` drop key `workspace`');
}

/**
 * Whether the table has the key.
 *
 * @param {import('knex').Knex} knex
 */
async function isIndexed(knex) {
  const [rows] = /** @type {[unknown[]]} */ (
    await knex.raw(
      "select `s`.`index_name` from `information_schema`.`statistics` as `s` where `s`.`table_schema` = database() and `s`.`table_name` = 'workspace_tasks' and `s`.`index_name` = 'workspace'",
    )
  );
  return rows.length > 0;
}
