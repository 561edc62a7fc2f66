// @ts-check

/** The version before can serve it: it neither reads nor names the index. */
export const compatible = true;

/**
 * Whether somebody has a task in an organization: for the owners that its readers are shown when they choose one (ListQueryValues).
 * None of its columns changes but `live`, once.
 *
 * Servers build indexes while rows are read and written; for a million tasks that takes some seconds.
 *
 * @param {import('knex').Knex} knex
 */
export async function up(knex) {
  if (await isIndexed(knex)) return;
  await knex.raw('alter table `workspace_tasks` add key `org_own` (`organization_id`, `live`, `owner_id`)');
}

/** @param {import('knex').Knex} knex */
export async function down(knex) {
  if (await isIndexed(knex)) await knex.raw('alter table `workspace_tasks` drop key `org_own`');
}

/**
 * Whether the table has the key.
 *
 * @param {import('knex').Knex} knex
 */
async function isIndexed(knex) {
  const [rows] = /** @type {[unknown[]]} */ (
    await knex.raw(
      "select `s`.`index_name` from `information_schema`.`statistics` as `s` where `s`.`table_schema` = database() and `s`.`table_name` = 'workspace_tasks' and `s`.`index_name` = 'org_own'",
    )
  );
  return rows.length > 0;
}
