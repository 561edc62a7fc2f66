// @ts-check

/** The version before can serve it: it takes over without touching the columns, which is how the next one sees it. */
export const compatible = true;

/**
 * `projector_state` says which version projects. One of another version makes other rows of the same sources: when a newer one is
 * still to come, or has been before, what it takes from the outbox must be noted again.
 *
 * @param {import('knex').Knex} knex
 */
export async function up(knex) {
  if (await knex.schema.hasColumn('projector_state', 'version_epoch')) return;
  await knex.raw(`alter table \`projector_state\`
    add column \`version\` varchar(255) null comment 'the newest migration that the projector knows',
    add column \`version_epoch\` bigint unsigned not null default 0 comment 'the epoch that it is true of'`);
}

/** @param {import('knex').Knex} knex */
export async function down(knex) {
  if (!(await knex.schema.hasColumn('projector_state', 'version_epoch'))) return;
  await knex.raw('alter table `projector_state` drop column `version`, drop column `version_epoch`');
}
