import type { Knex } from 'knex';
import type { Connection, RowDataPacket } from 'mysql2';

/** The options of a session. */
export interface SessionOptions {
  /** The server ends a statement after this many milliseconds; 0 means no limit. */
  readonly statementTimeoutMs: number;
  /** Session variables whose value differs from the list below, such as `wait_timeout`. */
  readonly session?: Readonly<Record<string, number>>;
}

/** Identifies a connection: the server, and the connection's number there. */
export interface ConnectionIdentity {
  readonly server: string;
  readonly id: number | string;
}

/** The greatest value of a 64-bit variable, by which the engines say "no limit". */
const unlimited = '18446744073709551615';

/**
 * The session variables that a statement of ours relies on, as SQL: what an administrator has set globally, or by `init_connect`,
 * is meant for other programs. Each value is the engines' default unless a comment says why not. docs/session-variables.md says
 * what would happen otherwise, and why the other variables are left alone.
 */
const variables: Readonly<Record<string, string>> = {
  // First: it also commits a transaction that init_connect may have begun, so that the rest applies to all transactions.
  autocommit: '1',
  // With CHAIN a commit begins another transaction, which is never ended; with RELEASE it ends the connection.
  completion_type: "'NO_CHAIN'",
  // Quotes, backslashes and || have their usual meaning; what does not fit a column is an error; NULL and '' are two values.
  sql_mode:
    "'STRICT_TRANS_TABLES,ONLY_FULL_GROUP_BY,NO_ZERO_IN_DATE,NO_ZERO_DATE,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION'",
  // The tables have times in UTC; only a TIMESTAMP would depend on it, and what people compare by hand.
  time_zone: "'+00:00'",
  // The projector's statements update and delete by joins, or by keys that safe updates do not accept.
  sql_safe_updates: '0',
  sql_select_limit: unlimited,
  // In this order: a limit turns big selects off.
  max_join_size: unlimited,
  sql_big_selects: '1',
  // MariaDB cuts json_arrayagg to it, at 1 MiB by default: the groups of a user, and whom a task is shared with. 16 MiB are
  // 480,000.
  group_concat_max_len: '16777216',
  // A duplicate key is an error.
  unique_checks: '1',
  foreign_key_checks: '1',
  // `is null` never means "the last inserted id".
  sql_auto_is_null: '0',
  // Bytes that count when rows are sorted: keys of lists have up to 100.
  max_sort_length: '1024',
  // Digits that a division adds.
  div_precision_increment: '4',
  // How long to wait for a lock of a row, and of a table, in seconds. A day is the smallest default of the engines.
  innodb_lock_wait_timeout: '50',
  lock_wait_timeout: '86400',
  // How long the server waits for us, in seconds. The pool pings its idle connections more often.
  wait_timeout: '28800',
  net_read_timeout: '30',
  net_write_timeout: '60',
};

const ofMariadb: Readonly<Record<string, string>> = {
  // Regular expressions mean the same on every server: no flag is on by default.
  default_regex_flags: "''",
  check_constraint_checks: '1',
  old_mode: "'UTF8_IS_UTF8MB3'",
};

/**
 * The statement that sets a session up: text is UTF-8 whatever the handshake said, since servers may ignore that, and then each
 * variable by name. READ COMMITTED, since a locking read of the default level would wait for writers.
 */
function sessionStatement(version: string, { statementTimeoutMs, session = {} }: SessionOptions): string {
  const isMariadb = /MariaDB/i.test(version);
  const [major = 0, minor = 0] = version.split('.').map(Number);
  // MariaDB has had MySQL's names since 11.1.
  const transaction = isMariadb && (major < 11 || (major === 11 && minor < 1)) ? 'tx' : 'transaction';
  const all: Readonly<Record<string, string | number>> = {
    ...variables,
    ...(isMariadb ? ofMariadb : {}),
    [`${transaction}_isolation`]: "'READ-COMMITTED'",
    [`${transaction}_read_only`]: 0,
    ...(isMariadb ? { max_statement_time: statementTimeoutMs / 1000 } : { max_execution_time: statementTimeoutMs }),
    ...session,
  };
  const values = Object.entries(all).map(([name, value]) => `${name} = ${value}`);
  return `set names utf8mb4 collate utf8mb4_bin, session ${values.join(', ')}`;
}

/**
 * Sets up the session of a new connection, and returns what identifies it.
 *
 *   select version() as version, … limit 1         (sql_select_limit does not count where there is a limit)
 *   set names utf8mb4 collate utf8mb4_bin, session autocommit = 1, …
 */
export async function setUpSession(connection: Connection, options: SessionOptions): Promise<ConnectionIdentity> {
  const [row] = (await runOn(
    connection,
    "select version() as version, connection_id() as id, concat_ws(' ', @@hostname, @@port, @@server_id) as server limit 1",
  )) as [{ version: string } & ConnectionIdentity];
  await runOn(connection, sessionStatement(row.version, options));
  return { server: row.server, id: row.id };
}

/** Runs a statement without values on a connection, directly by the driver. */
export function runOn(connection: Connection, sql: string): Promise<unknown> {
  return new Promise((resolve, reject) => {
    connection.query<RowDataPacket[]>(sql, (error, rows) => (error ? reject(error) : resolve(rows)));
  });
}

/**
 * Why this program cannot write to a server because of a setting that an ordinary session cannot change; undefined when it can.
 * With `binlog_format=STATEMENT` the server refuses each write at READ COMMITTED (error 1665).
 */
export async function whyNotWritable(database: Knex): Promise<string | undefined> {
  const [rows] = (await database.raw(
    "show session variables where variable_name in ('log_bin', 'sql_log_bin', 'binlog_format')",
  )) as [{ Variable_name: string; Value: string }[]];
  const values = new Map(rows.map((row) => [row.Variable_name, row.Value]));
  if (values.get('log_bin') !== 'ON' || values.get('sql_log_bin') === 'OFF' || values.get('binlog_format') !== 'STATEMENT')
    return undefined;
  return 'its binlog_format is STATEMENT, with which it refuses every write at READ COMMITTED (error 1665): set binlog_format=ROW or MIXED there';
}
