// @ts-check

/** The version before can start on it: what it writes is as if nobody had indexed it yet. */
export const compatible = true;

/**
 * What makes parts of names fast to find, and pages of long prompts cheap to cut.
 *
 * - `texts_bytes` says how long the texts of a task are, so that a list reads the long ones of its page alone.
 * - `workspace_task_trigrams` has, for each task that is not deleted, all three characters in a row of its folded name.
 *   `name_indexed` is the name for which that was done; as long as it is another than the task's, which is so before the
 *   projector has come to a row, and when a version that knows nothing of it has written the row, `name_pending` is 1, and a
 *   search looks at the row itself.
 *
 * A version that does not know these columns writes rows as before; the columns have defaults.
 *
 * @param {import('knex').Knex} knex
 */
export async function up(knex) {
  await knex.raw(`create table if not exists \`workspace_task_trigrams\` (
    \`trigram\` varbinary(12) not null comment 'three characters of the folded name, UTF-8',
    \`owner_id\` binary(16) not null,
    \`task_id\` binary(16) not null,
    primary key (\`trigram\`, \`owner_id\`, \`task_id\`)
  ) engine = InnoDB default character set utf8mb4 collate utf8mb4_bin comment 'read model: which names have a part; rows of deleted tasks are left out'`);
  if (await knex.schema.hasColumn('workspace_tasks', 'texts_bytes')) return;
  // One statement, and so done as a whole or not at all.
  await knex.raw(`alter table \`workspace_tasks\`
    add column \`texts_bytes\` int unsigned not null default 0 comment 'of prompt, state_message and state_uri; 0 also when not known yet',
    add column \`name_indexed\` varbinary(256) not null default '' comment 'the folded name whose trigrams are in workspace_task_trigrams',
    add column \`name_pending\` tinyint unsigned generated always as (if(\`live\` = 1 and \`name_indexed\` <> \`name_fold\`, 1, 0)) virtual,
    add key \`name_pending\` (\`name_pending\`)`);
}

/** @param {import('knex').Knex} knex */
export async function down(knex) {
  if (await knex.schema.hasColumn('workspace_tasks', 'texts_bytes')) {
    await knex.raw(`alter table \`workspace_tasks\` drop key \`name_pending\`, drop column \`name_pending\`,
      drop column \`name_indexed\`, drop column \`texts_bytes\``);
  }
  await knex.raw('drop table if exists `workspace_task_trigrams`');
}
