import type { Knex } from 'knex';
import type { Connection, RowDataPacket } from 'mysql2';

/** In what a session may differ from the others. */
export interface SessionOptions {
  /** The server ends a statement after this many milliseconds; 0 means no limit. */
  readonly statementTimeoutMs: number;
  /** Session variables with another value than usual, such as `wait_timeout`. */
  readonly session?: Readonly<Record<string, number>>;
}

/** How the server knows a connection: which server it is, and the connection's number there. */
export interface ConnectionIdentity {
  readonly server: string;
  readonly id: number | string;
}

/** The greatest value of a 64-bit variable, by which the engines say "no limit". */
const unlimited = '18446744073709551615';

/**
 * The session variables that a statement of ours relies on, as SQL. What a server's administrator has set for everybody, or
 * `init_connect` for one connection, is meant for other programs. The value is the one that the engines come with, or the comment
 * says why it is another. docs/session-variables.md says what would happen otherwise, and why the other variables are left alone.
 */
const variables: Readonly<Record<string, string>> = {
  // First: it also commits what init_connect may have begun, so that the rest applies to all transactions.
  autocommit: '1',
  // After CHAIN a commit begins another transaction, which nobody ends; after RELEASE it ends the connection.
  completion_type: "'NO_CHAIN'",
  // Quotes, backslashes and || have their usual meaning; what does not fit a column is an error; NULL and '' are two values.
  sql_mode:
    "'STRICT_TRANS_TABLES,ONLY_FULL_GROUP_BY,NO_ZERO_IN_DATE,NO_ZERO_DATE,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION'",
  // The tables have times in UTC; only a TIMESTAMP would depend on it, and what people compare by hand.
  time_zone: "'+00:00'",
  // Statements of the projector update and delete by joins, or by keys that the server does not count as such.
  sql_safe_updates: '0',
  sql_select_limit: unlimited,
  // In this order: a limit turns big selects off.
  max_join_size: unlimited,
  sql_big_selects: '1',
  // MariaDB cuts json_arrayagg to it, at 1 MiB by default: the groups of a user, and whom a task is shared with. 16 MiB are 480,000.
  group_concat_max_len: '16777216',
  // A row whose key is taken is never written twice.
  unique_checks: '1',
  foreign_key_checks: '1',
  // `is null` means that, also of a column that counts by itself.
  sql_auto_is_null: '0',
  // Bytes that count when rows are sorted: keys of lists have up to 100.
  max_sort_length: '1024',
  // Digits that a division adds.
  div_precision_increment: '4',
  // How long a lock of a row, and of a table, is waited for, in seconds. A day is the least that an engine comes with.
  innodb_lock_wait_timeout: '50',
  lock_wait_timeout: '86400',
  // How long the server waits for us, in seconds. The pool pings its idle connections more often.
  wait_timeout: '28800',
  net_read_timeout: '30',
  net_write_timeout: '60',
};

const ofMariadb: Readonly<Record<string, string>> = {
  // Regular expressions mean the same everywhere: none of them is extended, or free of case.
  default_regex_flags: "''",
  check_constraint_checks: '1',
  old_mode: "'UTF8_IS_UTF8MB3'",
};

/**
 * The statement that sets a session up: text is UTF-8 whatever the handshake said, since servers may ignore that, and then each
 * variable by name. READ COMMITTED, since a locking read of the default level would wait for writers.
 */
export function sessionStatement(version: string, { statementTimeoutMs, session = {} }: SessionOptions): string {
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
 * Sets the session of a new connection up, and returns how the server knows it.
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

/** Runs a statement without values on a connection, past Knex. */
export function runOn(connection: Connection, sql: string): Promise<unknown> {
  return new Promise((resolve, reject) => {
    connection.query<RowDataPacket[]>(sql, (error, rows) => (error ? reject(error) : resolve(rows)));
  });
}

/**
 * Why this program cannot write on a server, for a setting that no ordinary session may change; undefined when it can. Where
 * statements are logged as such, the server refuses each write at READ COMMITTED (error 1665).
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
