// @ts-check

/** A program without this migration can serve the database: columns are wider, and keys hold less than before. */
export const compatible = true;

/**
 * What lets the source tables be a copy of Coder's own, made and kept by `sync`.
 *
 * - `sync_state` says which database is copied, how far, and who may write.
 * - Texts that PostgreSQL does not limit are as long as ours can be: an error of a job of more than 64 KiB would lose its build.
 * - Names of parameters that differ in a trailing blank are two names, for which their collation must not pad.
 * - Keys that were unique beside the primary key are plain: Coder holds its own constraints, and ours could only make a change
 *   fail, or an upsert hit another row than that of its primary key.
 * - `api_keys`.`coder_expires_at` is what Coder says. `expires_at` may be later, by what we note of a token's use.
 *
 * Each statement can be repeated.
 *
 * @param {import('knex').Knex} knex
 */
export async function up(knex) {
  await knex.raw(`create table if not exists \`sync_state\` (
    \`id\` tinyint unsigned not null,
    \`epoch\` bigint unsigned not null default 0 comment 'the fence: raised by each takeover',
    \`phase\` varchar(16) not null default 'none' comment 'none, copying, or live: the copy is complete',
    \`mode\` varchar(16) not null default '' comment 'how changes come after the copy: once, replication or polling',
    \`source\` varchar(255) not null default '' comment 'the database that is copied: system identifier and name',
    \`coder_version\` varchar(64) not null default '' comment 'what was met there',
    \`slot\` varchar(63) not null default '' comment 'the replication slot that position belongs to',
    \`position\` bigint unsigned not null default 0 comment 'changes up to this LSN are applied',
    \`timeline\` int unsigned not null default 0 comment 'of the log that position is in',
    \`shape\` varchar(64) not null default '' comment 'a digest of the columns that are copied',
    \`publications\` text null comment 'which publications, with which tables, told of the changes',
    \`unreplicated\` text null comment 'JSON: what tells that tables which are not replicated have not changed',
    \`snapshot\` mediumtext null comment 'pg_current_snapshot() of the copy, while transactions that it has may still be sent',
    \`copied_at\` datetime(6) null comment 'when the last copy was complete',
    \`changed_at\` datetime(6) null comment 'when a change or a sign of life of the source was last written',
    \`error\` text null comment 'why it does not go on, if it does not',
    primary key (\`id\`)
  ) engine = InnoDB default character set utf8mb4 collate utf8mb4_bin comment 'one row: who may copy from Coder, and how far the copy is'`);
  await knex.raw('insert ignore into `sync_state` (`id`) values (1)');

  const [[{ version }]] = /** @type {[[{ version: string }]]} */ (await knex.raw('select version() as `version`'));
  const noPad = /MariaDB/i.test(version) ? 'utf8mb4_nopad_bin' : 'utf8mb4_0900_bin';
  await knex.raw(
    'alter table `workspace_build_parameters` modify column `name` varchar(700) character set utf8mb4 ' +
      `collate ${noPad} not null comment 'the prompt of a task is the one named exactly AI Prompt'`,
  );
  await knex.raw('alter table `provisioner_jobs` modify column `error` mediumtext null');
  await knex.raw(
    'alter table `workspace_app_statuses` modify column `message` mediumtext not null, modify column `uri` mediumtext null',
  );

  for (const [table, keys] of Object.entries(plainKeys)) {
    const changes = Object.entries(keys).map(
      ([name, columns]) => `drop key \`${name}\`, add key \`${name}\` (${columns.map((column) => `\`${column}\``).join(', ')})`,
    );
    await knex.raw(`alter table \`${table}\` ${changes.join(', ')}`);
  }

  if (!(await knex.schema.hasColumn('api_keys', 'coder_expires_at'))) {
    await knex.raw(
      "alter table `api_keys` modify column `id` varchar(191) not null, add column `coder_expires_at` datetime(6) null comment 'as Coder has it; NULL for a token that is not from Coder'",
    );
  }
}

/**
 * Columns stay as wide as they are and keys plain, since rows may need it; the version before works with both.
 *
 * @param {import('knex').Knex} knex
 */
export async function down(knex) {
  if (await knex.schema.hasColumn('api_keys', 'coder_expires_at'))
    await knex.raw('alter table `api_keys` drop column `coder_expires_at`');
  await knex.raw('drop table if exists `sync_state`');
}

/** @type {Readonly<Record<string, Readonly<Record<string, readonly string[]>>>>} */
const plainKeys = {
  users: { users_username_lower: ['username_lower'] },
  organizations: { organizations_name_lower: ['name_lower'] },
  groups: { groups_name_organization_id: ['name', 'organization_id'] },
  templates: { templates_name_lower_organization_id: ['name_lower', 'organization_id'] },
  workspaces: { workspaces_owner_id_name_lower: ['owner_id', 'name_lower'] },
  workspace_builds: {
    workspace_builds_workspace_id_build_number: ['workspace_id', 'build_number'],
    workspace_builds_job_id: ['job_id'],
  },
};
