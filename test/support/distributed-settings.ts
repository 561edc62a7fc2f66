import mysql from 'mysql2/promise';
import type { DatabaseAddress } from '../../src/config.ts';
import { closeDatabase, type Database, openDatabase } from '../../src/db/connection.ts';
import { triggers } from '../../src/schema/triggers.ts';
import type { TestServer } from './engines.ts';

/**
 * Whether this run forbids what distributed engines lack: `TEST_DISTRIBUTED=true`, on MariaDB 10.11.
 *
 * - Nothing has the service's triggers: the databases of tests are migrated as with `MIGRATE_TRIGGERS=false`. What a test writes as
 *   the platform would is noted by the platform, in the same transaction, as docs/database.md asks of writers. For that stand
 *   triggers under other names, which act for the account `writer` alone: the one of a test's own pool. The service's pools,
 *   processes and commands sign in with another account, and must note by themselves what they write.
 * - AUTO_INCREMENT of the outbox goes as on TiDB: each connection has a range of its own, so that numbers have gaps, and later ones
 *   may be lower.
 * - What was sent to the server is read at the end of the run, see `forbidden-statements.ts`.
 */
export const isDistributed: boolean = process.env['TEST_DISTRIBUTED'] === 'true';

/** The account of the pools with which tests write as the platform does. */
const writer = 'writer';

/** The prefix of the triggers that stand for the writers' code. */
export const standInPrefix = 'writers_code_';

/** The options of a server of such a run, with a log of all that is sent to it. */
export const distributedOptions = (logFile: string): string[] => ['--general-log=ON', `--general-log-file=${logFile}`];

/** Makes the account of writers. */
export async function makeWriter({ address: { socketPath = '', user } }: Pick<TestServer, 'address'>): Promise<void> {
  const connection = await mysql.createConnection({ socketPath, user });
  try {
    await connection.query(`create user ${writer}@localhost`);
    await connection.query(`grant all on *.* to ${writer}@localhost with grant option`);
  } finally {
    await connection.end();
  }
}

/** The address that a test's own pool has, by that of the service. */
export function asWriter<T extends Omit<DatabaseAddress, 'database'>>(address: T): T {
  return isDistributed ? { ...address, user: writer } : address;
}

/** Makes the triggers that stand for the code of the platform's writers, and those that number the outbox as TiDB does. */
export async function addStandIns(address: DatabaseAddress): Promise<void> {
  const database = openDatabase(address, { size: 1, statementTimeoutMs: 30_000 });
  try {
    for (const statement of standIns()) await database.raw(statement);
  } finally {
    await closeDatabase(database);
  }
}

/** Drops them, for a test that migrates down to nothing. */
export async function dropStandIns(database: Database): Promise<void> {
  const [rows] = (await database.raw(
    'select `t`.`trigger_name` as `name` from `information_schema`.`triggers` as `t` where `t`.`trigger_schema` = database()',
  )) as [{ name: string }[]];
  for (const { name } of rows) if (name.startsWith(standInPrefix)) await database.raw('drop trigger ??', [name]);
}

function standIns(): string[] {
  const notes = triggers.map(({ name, statement }) => {
    const [head = '', body = ''] = statement.split(/(?<= for each row) /);
    const own = name.replace(/^tasks_note_/, standInPrefix).replace(/_[0-9a-f]{8}$/, '');
    return `${head.replace(name, own)} if user() like '${writer}@%' then ${body}; end if`;
  });
  // 64 ranges of 2^40: what is numbered together with another connection lies far from it.
  const numbers =
    'before insert on `workspace_changes` for each row ' +
    'set new.`seq` = (connection_id() % 64) * 1099511627776 + uuid_short() % 1099511627776';
  return [...notes, `create trigger \`${standInPrefix}numbers\` ${numbers}`];
}
