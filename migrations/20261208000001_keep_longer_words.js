// @ts-check

/** A program without this migration can serve the database: columns are wider than it needs. */
export const compatible = true;

/**
 * Words of Coder's enums, such as `start`, as long as PostgreSQL lets them be: one that a newer Coder has added is kept as it is, and
 * not cut. 63 characters take less than 256 bytes, so that engines change no row.
 *
 * Each statement can be repeated.
 *
 * @param {import('knex').Knex} knex
 */
export async function up(knex) {
  await knex.raw(
    "alter table `users` modify column `status` varchar(63) not null default 'dormant' comment 'active, suspended or dormant'",
  );
  await knex.raw(
    "alter table `workspace_builds` modify column `transition` varchar(63) not null comment 'start, stop or delete'",
  );
  await knex.raw('alter table `workspace_resources` modify column `transition` varchar(63) not null');
  await knex.raw("alter table `workspace_agents` modify column `lifecycle_state` varchar(63) not null default 'created'");
  await knex.raw(
    "alter table `workspace_apps` modify column `health` varchar(63) not null default 'disabled' " +
      "comment 'disabled, initializing, healthy or unhealthy'",
  );
  await knex.raw(
    "alter table `workspace_app_statuses` modify column `state` varchar(63) not null comment 'working, idle, complete or failure'",
  );
  await knex.raw("alter table `api_keys` modify column `login_type` varchar(63) not null default 'token'");
}

/** Columns stay as wide as they are, since rows may need it; the version before works with both. */
export async function down() {}
