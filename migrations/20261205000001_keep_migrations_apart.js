// @ts-check

/** The version before can serve it, and projects on it: it knows nothing of the table `leases`, and writes each name once. */
export const compatible = true;

/**
 * From this version on, a row of `leases` says which process migrates, projects or copies, on whatever server of a cluster.
 * `migrate up` makes that table before any migration, beside the ledger, which gets a unique name here: before, two processes on two
 * servers could both write it.
 *
 * @param {import('knex').Knex} knex
 */
export async function up(knex) {
  const [rows] = /** @type {[unknown[]]} */ (
    await knex.raw(
      "select 1 from `information_schema`.`statistics` as `s` where `s`.`table_schema` = database() and `s`.`table_name` = 'knex_migrations' and `s`.`index_name` = 'name'",
    )
  );
  if (rows.length > 0) return;
  await knex.raw(
    'delete `d` from `knex_migrations` as `d` inner join `knex_migrations` as `m` on `m`.`name` = `d`.`name` and `m`.`id` < `d`.`id`',
  );
  await knex.raw('alter table `knex_migrations` add unique key `name` (`name`)');
}

/** Both stay, as the ledger does: the version before is not in their way, and the process that reverts holds a lease. */
export async function down() {}
