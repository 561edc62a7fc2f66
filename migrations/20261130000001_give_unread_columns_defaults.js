// @ts-check

/** The version before can serve and project on it: it gives both columns a value in each row that it writes. */
export const compatible = true;

/**
 * The first of two steps to drop `workspace_tasks.job_id` and `task_events.acl_changed`, which nothing reads. With defaults, this
 * version can leave them out of what it writes, while the version before still writes them. The next release drops them: then no
 * version that writes them is left beside it.
 *
 * Nothing but metadata changes: no row is rewritten, however many there are.
 *
 * The projector of the version before compares `job_id`. When it takes over from one of this version, the column differs in each
 * task whose row this version has inserted, or of which it has projected a new build. It writes each of these once, with one event
 * that says nothing new. That is no repair by the sweep: a projector that takes over from another version first writes every
 * workspace to the outbox. This version neither compares the column nor writes it again, so the two do not undo each other's work.
 *
 * Two things show. Rows that `project --all` of this version writes beside an active projector of the version before may be
 * repaired by its sweep, once each, and counted in `tasks_projector_repairs_total`. And `project --verify` of the version before
 * names the column; that of this version does not.
 *
 * @param {import('knex').Knex} knex
 */
export async function up(knex) {
  await knex.raw(`alter table \`workspace_tasks\`
    modify column \`job_id\` binary(16) not null default '' comment 'unused: the version before writes it'`);
  await knex.raw(`alter table \`task_events\`
    modify column \`acl_changed\` boolean not null default 0 comment 'unused: the version before writes it'`);
}

/**
 * The rows stay as they are. The version before notes every workspace when it takes over, and its projector writes each `job_id`.
 *
 * @param {import('knex').Knex} knex
 */
export async function down(knex) {
  await knex.raw("alter table `workspace_tasks` modify column `job_id` binary(16) not null comment 'job of the latest build'");
  await knex.raw('alter table `task_events` modify column `acl_changed` boolean not null');
}
