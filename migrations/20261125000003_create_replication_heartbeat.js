// @ts-check

/** A program without this migration can serve the database: it knows nothing of the table. */
export const compatible = true;

/**
 * One row, in which processes that read from a replica write the primary's time twice a second: what the replica shows of it is
 * how old the rest is that it shows.
 *
 * @param {import('knex').Knex} knex
 */
export async function up(knex) {
  await knex.raw(`create table if not exists \`replication_heartbeat\` (
    \`id\` tinyint unsigned not null,
    \`beat_at\` datetime(6) not null comment 'by the clock of the primary',
    primary key (\`id\`)
  ) engine = InnoDB default character set utf8mb4 collate utf8mb4_bin comment 'one row: how far replicas are'`);
  await knex.raw('insert ignore into `replication_heartbeat` (`id`, `beat_at`) values (1, utc_timestamp(6))');
}

/** @param {import('knex').Knex} knex */
export async function down(knex) {
  await knex.raw('drop table if exists `replication_heartbeat`');
}
