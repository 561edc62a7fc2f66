// @ts-check

/**
 * The tables that the platform's programs, or a replication from Coder, write. Names and columns are Coder's
 * (coderd/database/dump.sql at 427b23f), so that rows can be copied in as they are; a Coder column that no read of ours needs
 * is left out.
 *
 * - Ids are BINARY(16) made by the application; everything textual is `utf8mb4_bin`, so that no two ids, names or tokens that
 *   differ only in case or accents are ever taken for one another.
 * - Times are DATETIME(6) in UTC. TIMESTAMP would end in 2038 and depend on the session's time zone.
 * - Enums are VARCHAR with Coder's words: a word of a newer Coder must not fail a replicated write.
 * - Coder's arrays (`rbac_roles`, `roles`) and JSON objects (`user_acl`, `group_acl`) are JSON.
 * - Unique-where-not-deleted is a generated column that is NULL for deleted rows.
 * - There are no foreign keys: a cascade fires no trigger, and a change would be lost to the read model.
 * - Each statement can be repeated: a schema change commits by itself, and a migration that died half-way is run again.
 *
 * @param {import('knex').Knex} knex
 */
export async function up(knex) {
  for (const statement of tables) await knex.raw(statement);
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
  `create table if not exists \`users\` (
    \`id\` binary(16) not null,
    \`username\` varchar(191) not null,
    \`name\` varchar(255) not null default '',
    \`email\` varchar(255) not null default '',
    \`avatar_url\` text not null,
    \`status\` varchar(16) not null default 'dormant' comment 'active, suspended or dormant',
    \`rbac_roles\` json not null comment 'array of site role names; member is implied',
    \`deleted\` boolean not null default false,
    \`last_seen_at\` datetime(6) null,
    \`created_at\` datetime(6) not null,
    \`updated_at\` datetime(6) not null,
    \`username_lower\` varchar(191) generated always as (if(\`deleted\`, null, lower(\`username\`))) stored,
    primary key (\`id\`),
    unique key \`users_username_lower\` (\`username_lower\`)
  ) ${options} comment 'Coder users'`,

  `create table if not exists \`organizations\` (
    \`id\` binary(16) not null,
    \`name\` varchar(191) not null,
    \`display_name\` varchar(255) not null default '',
    \`icon\` varchar(256) not null default '',
    \`is_default\` boolean not null default false,
    \`deleted\` boolean not null default false,
    \`created_at\` datetime(6) not null,
    \`updated_at\` datetime(6) not null,
    \`name_lower\` varchar(191) generated always as (if(\`deleted\`, null, lower(\`name\`))) stored,
    primary key (\`id\`),
    unique key \`organizations_name_lower\` (\`name_lower\`)
  ) ${options} comment 'Coder organizations'`,

  `create table if not exists \`organization_members\` (
    \`organization_id\` binary(16) not null,
    \`user_id\` binary(16) not null,
    \`roles\` json not null comment 'array of role names in this organization; organization-member is implied',
    \`created_at\` datetime(6) not null,
    \`updated_at\` datetime(6) not null,
    primary key (\`organization_id\`, \`user_id\`),
    key \`organization_members_user_id\` (\`user_id\`)
  ) ${options} comment 'who belongs to which organization'`,

  `create table if not exists \`groups\` (
    \`id\` binary(16) not null,
    \`organization_id\` binary(16) not null,
    \`name\` varchar(191) not null,
    \`display_name\` varchar(255) not null default '',
    \`avatar_url\` text not null,
    primary key (\`id\`),
    unique key \`groups_name_organization_id\` (\`name\`, \`organization_id\`)
  ) ${options} comment 'Coder groups; the group Everyone has the id of its organization'`,

  `create table if not exists \`group_members\` (
    \`user_id\` binary(16) not null,
    \`group_id\` binary(16) not null,
    primary key (\`user_id\`, \`group_id\`)
  ) ${options} comment 'who belongs to which group'`,

  `create table if not exists \`custom_roles\` (
    \`id\` binary(16) not null,
    \`name\` varchar(191) not null,
    \`display_name\` varchar(255) not null default '',
    \`organization_id\` binary(16) null comment 'set for a role of an organization',
    \`site_permissions\` json not null comment 'array of {negate, resource_type, action}, as the two below',
    \`org_permissions\` json not null,
    \`user_permissions\` json not null,
    \`created_at\` datetime(6) not null,
    \`updated_at\` datetime(6) not null,
    primary key (\`id\`),
    key \`custom_roles_name\` (\`name\`)
  ) ${options} comment 'roles beside the built-in ones'`,

  `create table if not exists \`templates\` (
    \`id\` binary(16) not null,
    \`organization_id\` binary(16) not null,
    \`name\` varchar(64) not null,
    \`display_name\` varchar(64) not null default '',
    \`icon\` varchar(256) not null default '',
    \`active_version_id\` binary(16) not null,
    \`deleted\` boolean not null default false,
    \`user_acl\` json not null comment 'object: user id to array of actions',
    \`group_acl\` json not null comment 'object: group id to array of actions',
    \`created_at\` datetime(6) not null,
    \`updated_at\` datetime(6) not null,
    \`name_lower\` varchar(64) generated always as (if(\`deleted\`, null, lower(\`name\`))) stored,
    primary key (\`id\`),
    unique key \`templates_name_lower_organization_id\` (\`name_lower\`, \`organization_id\`)
  ) ${options} comment 'Coder templates'`,

  `create table if not exists \`template_versions\` (
    \`id\` binary(16) not null,
    \`template_id\` binary(16) null,
    \`organization_id\` binary(16) not null,
    \`name\` varchar(64) not null,
    \`has_ai_task\` boolean null,
    \`has_external_agent\` boolean null,
    \`created_at\` datetime(6) not null,
    \`updated_at\` datetime(6) not null,
    primary key (\`id\`),
    key \`template_versions_template_id\` (\`template_id\`)
  ) ${options} comment 'Coder template versions'`,

  `create table if not exists \`workspaces\` (
    \`id\` binary(16) not null,
    \`owner_id\` binary(16) not null,
    \`organization_id\` binary(16) not null,
    \`template_id\` binary(16) not null,
    \`name\` varchar(64) not null,
    \`deleted\` boolean not null default false,
    \`favorite\` boolean not null default false comment 'set by the owner alone',
    \`user_acl\` json not null comment 'object: user id to {"permissions": [action]}',
    \`group_acl\` json not null comment 'object: group id to {"permissions": [action]}',
    \`last_used_at\` datetime(6) not null default '0001-01-01 00:00:00.000000',
    \`dormant_at\` datetime(6) null,
    \`created_at\` datetime(6) not null,
    \`updated_at\` datetime(6) not null,
    \`name_lower\` varchar(64) generated always as (if(\`deleted\`, null, lower(\`name\`))) stored,
    primary key (\`id\`),
    unique key \`workspaces_owner_id_name_lower\` (\`owner_id\`, \`name_lower\`),
    key \`workspaces_template_id\` (\`template_id\`),
    key \`workspaces_organization_id\` (\`organization_id\`)
  ) ${options} comment 'Coder workspaces'`,

  `create table if not exists \`workspace_builds\` (
    \`id\` binary(16) not null,
    \`workspace_id\` binary(16) not null,
    \`template_version_id\` binary(16) not null,
    \`build_number\` int not null,
    \`transition\` varchar(8) not null comment 'start, stop or delete',
    \`job_id\` binary(16) not null,
    \`has_ai_task\` boolean null comment 'unknown until the job has succeeded',
    \`ai_task_sidebar_app_id\` binary(16) null,
    \`has_external_agent\` boolean null,
    \`created_at\` datetime(6) not null,
    \`updated_at\` datetime(6) not null,
    primary key (\`id\`),
    unique key \`workspace_builds_workspace_id_build_number\` (\`workspace_id\`, \`build_number\`),
    unique key \`workspace_builds_job_id\` (\`job_id\`)
  ) ${options} comment 'each start, stop and deletion of a workspace; the latest has the greatest build_number'`,

  `create table if not exists \`workspace_build_parameters\` (
    \`workspace_build_id\` binary(16) not null,
    \`name\` varchar(191) not null comment 'the prompt of a task is the one named exactly AI Prompt',
    \`value\` mediumtext not null,
    primary key (\`workspace_build_id\`, \`name\`)
  ) ${options} comment 'what a build was started with'`,

  `create table if not exists \`provisioner_jobs\` (
    \`id\` binary(16) not null,
    \`organization_id\` binary(16) not null,
    \`started_at\` datetime(6) null,
    \`canceled_at\` datetime(6) null,
    \`completed_at\` datetime(6) null,
    \`error\` text null,
    \`created_at\` datetime(6) not null,
    \`updated_at\` datetime(6) not null comment 'the heartbeat of a running job',
    \`job_status\` varchar(16) generated always as (
      case
        when length(\`error\`) > 0 then 'failed'
        when \`completed_at\` is not null and \`canceled_at\` is not null then 'canceled'
        when \`completed_at\` is not null then 'succeeded'
        when \`canceled_at\` is not null then 'canceling'
        when \`started_at\` is null then 'pending'
        else 'running'
      end
    ) stored,
    primary key (\`id\`)
  ) ${options} comment 'the job of a build'`,

  `create table if not exists \`workspace_resources\` (
    \`id\` binary(16) not null,
    \`job_id\` binary(16) not null,
    \`transition\` varchar(8) not null,
    \`type\` varchar(192) not null,
    \`name\` varchar(64) not null,
    \`created_at\` datetime(6) not null,
    primary key (\`id\`),
    key \`workspace_resources_job_id\` (\`job_id\`)
  ) ${options} comment 'what a job made'`,

  `create table if not exists \`workspace_agents\` (
    \`id\` binary(16) not null,
    \`resource_id\` binary(16) not null,
    \`parent_id\` binary(16) null comment 'set for a sub-agent',
    \`name\` varchar(64) not null,
    \`deleted\` boolean not null default false,
    \`lifecycle_state\` varchar(32) not null default 'created',
    \`connection_timeout_seconds\` int not null default 0 comment '0 means none',
    \`first_connected_at\` datetime(6) null,
    \`last_connected_at\` datetime(6) null,
    \`disconnected_at\` datetime(6) null,
    \`created_at\` datetime(6) not null,
    \`updated_at\` datetime(6) not null,
    primary key (\`id\`),
    key \`workspace_agents_resource_id\` (\`resource_id\`)
  ) ${options} comment 'the agent that runs in a resource and reports'`,

  `create table if not exists \`workspace_apps\` (
    \`id\` binary(16) not null,
    \`agent_id\` binary(16) not null,
    \`slug\` varchar(191) not null,
    \`display_name\` varchar(64) not null default '',
    \`health\` varchar(16) not null default 'disabled' comment 'disabled, initializing, healthy or unhealthy',
    \`created_at\` datetime(6) not null,
    primary key (\`id\`),
    key \`workspace_apps_agent_id\` (\`agent_id\`)
  ) ${options} comment 'an app that an agent serves'`,

  `create table if not exists \`workspace_app_statuses\` (
    \`id\` binary(16) not null,
    \`workspace_id\` binary(16) not null,
    \`agent_id\` binary(16) not null,
    \`app_id\` binary(16) not null,
    \`state\` varchar(16) not null comment 'working, idle, complete or failure',
    \`message\` text not null,
    \`uri\` text null,
    \`created_at\` datetime(6) not null,
    primary key (\`id\`),
    key \`workspace_app_statuses_workspace_id_created_at\` (\`workspace_id\`, \`created_at\`, \`id\`)
  ) ${options} comment 'what an AI agent reported about its work'`,

  `create table if not exists \`api_keys\` (
    \`id\` varchar(10) not null,
    \`hashed_secret\` varbinary(32) not null comment 'SHA-256 of the secret',
    \`user_id\` binary(16) not null,
    \`token_name\` varchar(191) not null default '',
    \`login_type\` varchar(32) not null default 'token',
    \`scope\` varchar(64) not null default 'all' comment 'what the token is good for, before there were several',
    \`scopes\` json null comment 'array of scopes, in place of scope',
    \`allow_list\` json null comment 'array of type:id that the token is good for, * being any',
    \`lifetime_seconds\` bigint not null default 86400,
    \`last_used\` datetime(6) not null,
    \`expires_at\` datetime(6) not null,
    \`created_at\` datetime(6) not null,
    \`updated_at\` datetime(6) not null,
    primary key (\`id\`),
    key \`api_keys_user_id\` (\`user_id\`)
  ) ${options} comment 'Coder session tokens'`,
];
