// @ts-check

/** The version before can serve it, and projects on it: the history begins anew when a projector takes over that keeps it. */
export const compatible = true;

/**
 * When tasks began or ceased to wait, to work and to be failed, kept for a day: from these and from the present counts, earlier ones are
 * worked out. `projector_state` says since when all of them are there.
 *
 * It has the task's owner and organization, which its indexes begin with as those of `workspace_tasks` do. A task that gets others
 * begins anew.
 *
 * @param {import('knex').Knex} knex
 */
export async function up(knex) {
  await knex.raw(`create table if not exists \`task_transitions\` (
    \`changed_at\` datetime(6) not null comment 'when it was projected',
    \`seq\` bigint unsigned not null comment 'of its event in the feed',
    \`task_id\` binary(16) not null,
    \`owner_id\` binary(16) not null,
    \`organization_id\` binary(16) not null,
    \`was\` tinyint unsigned not null comment '1 waiting, 2 working, 3 failed, 0 none of these',
    \`became\` tinyint unsigned not null,
    primary key (\`changed_at\`, \`seq\`),
    key \`own\` (\`owner_id\`, \`changed_at\`),
    key \`org\` (\`organization_id\`, \`changed_at\`),
    key \`task\` (\`task_id\`, \`changed_at\`)
  ) engine = InnoDB default character set utf8mb4 collate utf8mb4_bin comment 'when tasks began or ceased to wait, to work and to be failed'`);
  if (await knex.schema.hasColumn('projector_state', 'transitions_since')) return;
  await knex.raw(
    "alter table `projector_state` add column `transitions_since` datetime(6) null comment 'from then on task_transitions has all'",
  );
}

/** @param {import('knex').Knex} knex */
export async function down(knex) {
  if (await knex.schema.hasColumn('projector_state', 'transitions_since')) {
    await knex.raw('alter table `projector_state` drop column `transitions_since`');
  }
  await knex.raw('drop table if exists `task_transitions`');
}
