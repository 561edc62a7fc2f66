// @ts-check

/** The version before can serve and project on it: it knows neither table. */
export const compatible = true;

/**
 * The tasks of Coder since October 2025, which has a table for them. Until then a task was a workspace.
 *
 * Both are source tables like the others: see the first migration. Each statement can be repeated.
 *
 * @param {import('knex').Knex} knex
 */
export async function up(knex) {
  for (const statement of tables) await knex.raw(statement);
}

/** @param {import('knex').Knex} knex */
export async function down(knex) {
  await knex.raw('drop table if exists `task_workspace_apps`');
  await knex.raw('drop table if exists `tasks`');
}

const options = 'engine = InnoDB default character set utf8mb4 collate utf8mb4_bin';

const tables = [
  `create table if not exists \`tasks\` (
    \`id\` binary(16) not null,
    \`organization_id\` binary(16) not null,
    \`owner_id\` binary(16) not null,
    \`name\` varchar(64) not null,
    \`display_name\` varchar(255) null comment 'NULL from a Coder that has none: then it is made of the prompt',
    \`workspace_id\` binary(16) null comment 'NULL until it is made',
    \`template_version_id\` binary(16) not null,
    \`prompt\` mediumtext not null,
    \`created_at\` datetime(6) not null,
    \`deleted_at\` datetime(6) null,
    primary key (\`id\`),
    key \`tasks_workspace_id\` (\`workspace_id\`)
  ) ${options} comment 'Coder tasks; empty where workspaces are the tasks'`,

  `create table if not exists \`task_workspace_apps\` (
    \`task_id\` binary(16) not null,
    \`workspace_build_number\` int not null,
    \`workspace_agent_id\` binary(16) null,
    \`workspace_app_id\` binary(16) null,
    primary key (\`task_id\`, \`workspace_build_number\`)
  ) ${options} comment 'in which build a task runs, by which agent and app; that of the greatest number counts'`,
];
