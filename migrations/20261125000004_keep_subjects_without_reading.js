// @ts-check

/** The version before can serve it: it asks for kinds 1 and 2 alone. */
export const compatible = true;

/**
 * `workspace_task_acl` has all whom ACLs name, so that `shared_with_user` and `shared_with_group` are one range of it: also those
 * who are not given the right to read, under kinds of their own. The projector writes them when it comes to a task again, for
 * which every workspace is noted after a migration.
 *
 * @param {import('knex').Knex} knex
 */
export async function up(knex) {
  await knex.raw(`alter table \`workspace_task_acl\`
    modify column \`kind\` tinyint unsigned not null comment '1 user, 2 group; 11 user, 12 group without the right to read',
    comment = 'read model: whom the workspace of a task is shared with; rows of deleted ones are left out'`);
}

/** @param {import('knex').Knex} knex */
export async function down(knex) {
  await knex.raw('delete from `workspace_task_acl` where `workspace_task_acl`.`kind` > 10');
  await knex.raw(`alter table \`workspace_task_acl\`
    modify column \`kind\` tinyint unsigned not null comment '1 user, 2 group',
    comment = 'read model: who may read a task because its workspace is shared; rows of deleted ones are left out'`);
}
