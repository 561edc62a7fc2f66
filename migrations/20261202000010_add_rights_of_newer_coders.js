// @ts-check

/** The version before can serve and project on it: it reads none of the columns, and each has a default. */
export const compatible = true;

/**
 * Who may read what in newer versions of Coder: there a membership implies a role that is a row of `custom_roles`, one for users
 * and one for service accounts, an organization has roles for all of its members, and roles have a level of what a member owns.
 *
 * @param {import('knex').Knex} knex
 */
export async function up(knex) {
  // NULL is what a version without the column is copied as.
  if (!(await knex.schema.hasColumn('users', 'is_service_account'))) {
    await knex.raw(
      "alter table `users` add column `is_service_account` boolean not null default false comment 'decides which role a membership implies'",
    );
  }
  if (!(await knex.schema.hasColumn('organizations', 'default_org_member_roles'))) {
    await knex.raw(
      "alter table `organizations` add column `default_org_member_roles` json null comment 'array of role names that every member has, beside the own ones'",
    );
  }
  if (!(await knex.schema.hasColumn('custom_roles', 'is_system'))) {
    await knex.raw(
      "alter table `custom_roles` add column `is_system` boolean not null default false comment 'kept by Coder: what a membership implies', " +
        "add column `member_permissions` json null comment 'what the role permits on what its holder owns in the organization', " +
        'add key `custom_roles_organization_id_name` (`organization_id`, `name`)',
    );
  }
}

/** @param {import('knex').Knex} knex */
export async function down(knex) {
  await knex.raw('alter table `users` drop column `is_service_account`');
  await knex.raw('alter table `organizations` drop column `default_org_member_roles`');
  await knex.raw(
    'alter table `custom_roles` drop key `custom_roles_organization_id_name`, drop column `is_system`, drop column `member_permissions`',
  );
}
