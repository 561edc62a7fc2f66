// @ts-check

/** The version before can serve it, and writes rows as before: all is in columns that it knows. */
export const compatible = true;

/**
 * What lists by the time of the state, and counts by phase, state and status, are read from.
 *
 * - `st_sa` is the order by `state_at`, for each scope. A task without a state has NULL there, which comes before all times. A list
 *   without a status is the union of all statuses: an index without `list_status` in front, as the other orders have it, would be
 *   three more keys that each report of an agent moves. `live` tells a task whose workspace is still there from a deleted one.
 * - `kind` has what tasks are counted by: each count is some ranges of it. An owner's have the organization behind, as `own_st_sa`
 *   has it: it decides whether an owner may still read a task, and counting must not look up each row for it.
 *
 * Servers build indexes while rows are read and written; for a million tasks that takes half a minute or more.
 *
 * @param {import('knex').Knex} knex
 */
export async function up(knex) {
  if (await isIndexed(knex)) return;
  // One statement: it reads the table once for all keys, and is done as a whole or not at all.
  await knex.raw(`alter table \`workspace_tasks\`
    add key \`own_st_sa\` (\`owner_id\`, \`list_status\`, \`live\`, \`state_at\`, \`id\`, \`organization_id\`),
    add key \`org_st_sa\` (\`organization_id\`, \`list_status\`, \`live\`, \`state_at\`, \`id\`),
    add key \`all_st_sa\` (\`list_status\`, \`live\`, \`state_at\`, \`id\`),
    add key \`own_kind\` (\`owner_id\`, \`live\`, \`phase\`, \`state\`, \`list_status\`, \`organization_id\`),
    add key \`org_kind\` (\`organization_id\`, \`live\`, \`phase\`, \`state\`, \`list_status\`),
    add key \`all_kind\` (\`live\`, \`phase\`, \`state\`, \`list_status\`)`);
}

/** @param {import('knex').Knex} knex */
export async function down(knex) {
  if (!(await isIndexed(knex))) return;
  await knex.raw(`alter table \`workspace_tasks\` drop key \`own_st_sa\`, drop key \`org_st_sa\`, drop key \`all_st_sa\`,
    drop key \`own_kind\`, drop key \`org_kind\`, drop key \`all_kind\``);
}

/**
 * Whether the table has the keys.
 *
 * @param {import('knex').Knex} knex
 */
async function isIndexed(knex) {
  const [rows] = /** @type {[unknown[]]} */ (
    await knex.raw(
      "select `s`.`index_name` from `information_schema`.`statistics` as `s` where `s`.`table_schema` = database() and `s`.`table_name` = 'workspace_tasks' and `s`.`index_name` = 'all_kind'",
    )
  );
  return rows.length > 0;
}
