/**
 * Who could read a task through its workspace's ACL before the ACL changed: a watcher that resumes must be told that a task is gone
 * from what it may read, and nobody else may learn of the task.
 *
 * @param {import('knex').Knex} knex
 */
export async function up(knex) {
  if (await knex.schema.hasColumn('task_events', 'old_readers')) return;
  await knex.raw(
    "alter table `task_events` add column `old_readers` mediumblob null comment '17 bytes each: kind and id of subjects of the ACL before it changed'",
  );
}

/** @param {import('knex').Knex} knex */
export async function down(knex) {
  if (await knex.schema.hasColumn('task_events', 'old_readers'))
    await knex.raw('alter table `task_events` drop column `old_readers`');
}
