import { type Config, requireCoderDatabaseUrl } from '../config.ts';
import { openCoderDatabase } from '../sync/coder-database.ts';
import { dropReplication, grantStatements, replicationNames } from '../sync/publication.ts';
import { CommandError } from './command-error.ts';

/**
 * Prints the statements that let a role of PostgreSQL copy and follow Coder's tables, for the role and the database of
 * `CODER_DATABASE_URL`, or for usual ones.
 */
export function printSyncGrants(config: Config, options: { readonly poll: boolean; readonly withoutSessions: boolean }): void {
  const url = URL.parse(config.CODER_DATABASE_URL ?? 'postgres://tasks_reader@localhost/coder');
  const role = decodeURIComponent(url?.username ?? '') || 'tasks_reader';
  const database = decodeURIComponent(url?.pathname.slice(1) ?? '') || 'coder';
  const withoutSessions = options.withoutSessions || config.CODER_WITHOUT_SESSIONS;
  const names = options.poll ? undefined : replicationNames(config.CODER_SLOT);
  const lines = [
    `-- In the database ${database}, one by one (psql -f, and not in one transaction), by a superuser, or by the owner of Coder's`,
    '-- tables who may create roles.',
    ...(names === undefined
      ? []
      : [
          '-- First: wal_level = logical, which needs a restart; and max_slot_wal_keep_size, such as 50GB: without it, a slot that',
          "-- nobody reads fills PostgreSQL's disk.",
          `-- Where a role cannot be given "replication" (Amazon RDS), leave the word out, and: grant rds_replication to "${role}";`,
        ]),
    ...grantStatements({ role, database, names, withoutSessions }),
    `-- Then give the role a password, with psql: \\password ${role}`,
  ];
  for (const line of lines) console.log(line);
}

/**
 * Removes the slot and the publications from Coder's PostgreSQL.
 *
 * @throws {CommandError} when something is left to somebody with other rights; the statements are printed.
 */
export async function dropFromCoder(config: Config): Promise<void> {
  const names = replicationNames(config.CODER_SLOT);
  const coder = await openCoderDatabase(requireCoderDatabaseUrl(config));
  try {
    const { removed, left } = await dropReplication(coder, names);
    for (const what of removed) console.log(`removed ${what}`);
    for (const statement of left) console.log(statement);
    if (left.length > 0) throw new CommandError("the account may not do the rest: run it as the owner of Coder's tables");
    if (removed.length === 0) console.log(`there is no slot ${names.slot}, and no publication of it`);
  } finally {
    await coder.close();
  }
}
