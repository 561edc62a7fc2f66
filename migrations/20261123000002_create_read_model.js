// @ts-check

/**
 * The read model that lists and gets read, and what keeps it true:
 *
 *   source tables -> workspace_changes (outbox) -> the projector -> workspace_tasks, workspace_task_acl, task_events (feed)
 *
 * Index names say what they serve: the scope (`own`, `org`, `all`), `st` when `list_status` stands before the order, and the
 * order (`key` for favourites, running, name; `run` for running, name; `name`; `ct` for created_at). Each ends in the id, so
 * that a keyset page reads its rows and one more, and no other.
 *
 * @param {import('knex').Knex} knex
 */
export async function up(knex) {
  for (const statement of tables) await knex.raw(statement);
  await knex.raw('insert ignore into `projector_state` (`id`, `generation`) values (1, ?)', [crypto.randomUUID()]);
  // All replicas must accept each other's page tokens, so the key lives where they all look. PAGE_TOKEN_KEY overrides it.
  await knex.raw("insert ignore into `service_settings` (`name`, `value`) values ('page_token_key', ?)", [
    Buffer.from(crypto.getRandomValues(new Uint8Array(32))),
  ]);
}

/** @param {import('knex').Knex} knex */
export async function down(knex) {
  for (const statement of [...tables].reverse()) {
    const name = /create table if not exists `(\w+)`/.exec(statement)?.[1] ?? '';
    await knex.raw('drop table if exists ??', [name]);
  }
}

const options = 'engine = InnoDB default character set utf8mb4 collate utf8mb4_bin';

const tables = [
  `create table if not exists \`workspace_tasks\` (
    \`id\` binary(16) not null comment 'the workspace id',
    \`owner_id\` binary(16) not null,
    \`organization_id\` binary(16) not null,
    \`template_id\` binary(16) not null,
    \`template_version_id\` binary(16) not null comment 'of the first build: the version the task was created with',
    \`build_template_version_id\` binary(16) not null comment 'of the latest build',
    \`build_id\` binary(16) not null comment 'the latest build',
    \`build_number\` int not null,
    \`job_id\` binary(16) not null comment 'job of the latest build',
    \`agent_id\` binary(16) null,
    \`agent_lifecycle\` tinyint unsigned not null comment 'AgentLifecycle, 0 without an agent',
    \`app_id\` binary(16) null,
    \`name\` varchar(64) not null,
    \`name_fold\` varbinary(256) not null comment 'lower-cased by the application, UTF-8',
    \`display_name\` varchar(255) not null comment 'the prompt on one line, cut to 64 characters',
    \`prompt\` mediumtext not null comment 'at most 1 MiB, then cut with an ellipsis',
    \`prompt_fold\` varbinary(4096) not null comment 'the first 1,000 characters of the prompt, lower-cased by the application, UTF-8',
    \`live\` tinyint unsigned not null comment '0 when the workspace is deleted, else 1',
    \`status\` tinyint unsigned not null comment 'WorkspaceStatus',
    \`list_status\` tinyint unsigned not null comment 'status, plus 16 when waiting for input; 10 when deleted',
    \`phase\` tinyint unsigned not null comment 'TaskPhase',
    \`state\` tinyint unsigned not null comment 'TaskState of the current state, 0 without one',
    \`state_at\` datetime(6) null,
    \`state_message\` mediumtext not null,
    \`state_uri\` mediumtext not null,
    \`favorite\` boolean not null,
    \`own_key\` varbinary(100) not null comment '(1 - favorite)(1 - running) name_fold 0x00 id',
    \`run_key\` varbinary(99) not null comment '(1 - running) name_fold 0x00 id',
    \`dormant_at\` datetime(6) null,
    \`created_at\` datetime(6) not null,
    \`updated_at\` datetime(6) not null,
    primary key (\`owner_id\`, \`id\`),
    unique key \`uq_id\` (\`id\`),
    key \`own_name\` (\`owner_id\`, \`live\`, \`name_fold\`, \`id\`),
    key \`own_key\` (\`owner_id\`, \`live\`, \`own_key\`),
    key \`own_st_key\` (\`owner_id\`, \`list_status\`, \`own_key\`),
    key \`own_run\` (\`owner_id\`, \`live\`, \`run_key\`),
    key \`own_st_run\` (\`owner_id\`, \`list_status\`, \`run_key\`),
    key \`own_ct\` (\`owner_id\`, \`live\`, \`created_at\`, \`id\`),
    key \`own_st_ct\` (\`owner_id\`, \`list_status\`, \`created_at\`, \`id\`),
    key \`org_ct\` (\`organization_id\`, \`live\`, \`created_at\`, \`id\`),
    key \`org_st_ct\` (\`organization_id\`, \`list_status\`, \`created_at\`, \`id\`),
    key \`tpl_ct\` (\`template_id\`, \`live\`, \`created_at\`, \`id\`),
    key \`all_ct\` (\`live\`, \`created_at\`, \`id\`),
    key \`all_st_ct\` (\`list_status\`, \`created_at\`, \`id\`)
  ) ${options} comment 'read model: one row a task, written by the projector alone'`,

  `create table if not exists \`workspace_task_acl\` (
    \`subject_id\` binary(16) not null comment 'a user, a group, or an organization (its group Everyone)',
    \`created_at\` datetime(6) not null,
    \`task_id\` binary(16) not null,
    \`owner_id\` binary(16) not null,
    \`organization_id\` binary(16) not null,
    \`kind\` tinyint unsigned not null comment '1 user, 2 group',
    primary key (\`kind\`, \`subject_id\`, \`created_at\`, \`task_id\`),
    key \`task\` (\`task_id\`)
  ) ${options} comment 'read model: who may read a task because its workspace is shared; rows of deleted ones are left out'`,

  `create table if not exists \`workspace_changes\` (
    \`seq\` bigint unsigned not null auto_increment,
    \`kind\` tinyint unsigned not null comment '1 workspace, 2 build, 3 job, 4 resource, 5 agent',
    \`ref\` binary(16) not null,
    \`noted_at\` datetime(6) not null default (utc_timestamp(6)),
    primary key (\`seq\`)
  ) ${options} comment 'outbox: which workspace changed; written by triggers or by writers, emptied by the projector'`,

  `create table if not exists \`workspace_changes_failed\` (
    \`kind\` tinyint unsigned not null,
    \`ref\` binary(16) not null,
    \`error\` text not null,
    \`failed_at\` datetime(6) not null default (utc_timestamp(6)),
    primary key (\`kind\`, \`ref\`)
  ) ${options} comment 'changes that could not be projected: parked and reported, not retried for ever'`,

  `create table if not exists \`projector_state\` (
    \`id\` tinyint unsigned not null,
    \`epoch\` bigint unsigned not null default 0 comment 'the fence: raised by each takeover',
    \`seq\` bigint unsigned not null default 0 comment 'sequence of the newest event of the feed',
    \`floor_seq\` bigint unsigned not null default 0 comment 'events up to this one are pruned',
    \`generation\` varchar(36) not null comment 'changes when the feed cannot be continued',
    \`projected_at\` datetime(6) null comment 'when the projector last committed',
    primary key (\`id\`)
  ) ${options} comment 'one row: who may write the read model, and how far the feed is'`,

  `create table if not exists \`task_events\` (
    \`seq\` bigint unsigned not null comment 'from projector_state: commit order, without holes',
    \`task_id\` binary(16) not null,
    \`kind\` tinyint unsigned not null comment '1 upserted, 2 removed',
    \`owner_id\` binary(16) null,
    \`organization_id\` binary(16) null,
    \`old_owner_id\` binary(16) null,
    \`old_organization_id\` binary(16) null,
    \`acl_changed\` boolean not null,
    \`created_at\` datetime(6) not null default (utc_timestamp(6)),
    primary key (\`seq\`)
  ) ${options} comment 'feed: which task changed, in commit order'`,

  `create table if not exists \`service_settings\` (
    \`name\` varchar(64) not null,
    \`value\` varbinary(1024) not null,
    primary key (\`name\`)
  ) ${options} comment 'what all processes of the service must agree on'`,
];
