/**
 * What an error of the database means for the call that met it: the database is away or refuses, for now or until an operator acts;
 * the statement reads too much; or too many calls wait for a connection.
 */
type DatabaseErrorKind = 'unavailable' | 'too-expensive' | 'busy';

/** Errors of the database with one cause. */
interface DatabaseErrors {
  /** The cause, in the words of the table in docs/errors.md. */
  readonly cause: string;
  readonly kind: DatabaseErrorKind;
  /**
   * Each by its number and its name in the server's list of errors; by the `code` of the driver or of Node; or by the `name` of an
   * error of ours.
   */
  readonly errors: readonly (readonly [number: number, name: string] | string)[];
}

const unreachable = 'it cannot be reached, or the connection is lost';

/** Causes in {@link databaseErrors}: it is not there for anybody; a lock or another transaction is in the way; it is read-only. */
export const noClientsCause = 'it shuts down, starts, or takes no clients, alone or as a member of a cluster';
export const lockCause = 'a lock is held, or two transactions wait for each other';
export const noWritesCause = 'it takes no writes';

/**
 * Every error by which a read or write of ours can fail without a mistake in its SQL, out of all that MariaDB (to 11.8) and MySQL
 * (to 9.7) have. Whatever is not in this table is a mistake of ours: an unknown column, a syntax error, a value that does not
 * fit.
 *
 * From 1900 on, the two servers number their errors on their own. Where a number is another error of the other server, that one
 * belongs to statements that we do not send.
 */
export const databaseErrors: readonly DatabaseErrors[] = [
  {
    cause: unreachable,
    kind: 'unavailable',
    errors: [
      'ECONNREFUSED',
      'ECONNRESET',
      'ECONNABORTED',
      'ENOENT', // no socket
      'EPIPE',
      'ETIMEDOUT',
      'EHOSTDOWN',
      'EHOSTUNREACH',
      'ENETDOWN',
      'ENETUNREACH',
      'ENOTFOUND',
      'EAI_AGAIN',
      'PROTOCOL_CONNECTION_LOST',
      [1042, 'ER_BAD_HOST_ERROR'],
      [1043, 'ER_HANDSHAKE_ERROR'],
      [1152, 'ER_ABORTING_CONNECTION'],
      [1154, 'ER_NET_READ_ERROR_FROM_PIPE'],
      [1155, 'ER_NET_FCNTL_ERROR'],
      [1156, 'ER_NET_PACKETS_OUT_OF_ORDER'],
      [1157, 'ER_NET_UNCOMPRESS_ERROR'],
      [1158, 'ER_NET_READ_ERROR'],
      [1159, 'ER_NET_READ_INTERRUPTED'],
      [1160, 'ER_NET_ERROR_ON_WRITE'],
      [1161, 'ER_NET_WRITE_INTERRUPTED'],
      [1184, 'ER_NEW_ABORTING_CONNECTION'],
      [1835, 'ER_MALFORMED_PACKET'],
      [4031, 'ER_CLIENT_INTERACTION_TIMEOUT'], // MySQL
      // Client errors that proxies report as errors of the server.
      [2002, 'CR_CONNECTION_ERROR'],
      [2003, 'CR_CONN_HOST_ERROR'],
      [2006, 'CR_SERVER_GONE_ERROR'],
      [2013, 'CR_SERVER_LOST'],
      [2055, 'CR_SERVER_LOST_EXTENDED'],
      [9001, 'ProxySQL: no server of the hostgroup can be reached'],
    ],
  },
  {
    cause: noClientsCause,
    kind: 'unavailable',
    errors: [
      [1047, 'ER_UNKNOWN_COM_ERROR'], // Galera: the node is not part of a quorum
      [1053, 'ER_SERVER_SHUTDOWN'],
      [3032, 'ER_SERVER_OFFLINE_MODE'],
      [3100, 'ER_RUN_HOOK_ERROR'],
      [3101, 'ER_TRANSACTION_ROLLBACK_DURING_COMMIT'],
      [3168, 'ER_SERVER_ISNT_AVAILABLE'],
      [3781, 'ER_GR_HOLD_WAIT_TIMEOUT'],
      [3782, 'ER_GR_HOLD_KILLED'],
      [3783, 'ER_GR_HOLD_MEMBER_STATUS_ERROR'],
      [3796, 'ER_GRP_TRX_CONSISTENCY_NOT_ALLOWED'],
      [3797, 'ER_GRP_TRX_CONSISTENCY_BEFORE'],
      [3798, 'ER_GRP_TRX_CONSISTENCY_AFTER_ON_TRX_BEGIN'],
      [4094, 'ER_OPERATION_NOT_ALLOWED_WHILE_PRIMARY_CHANGE_IS_RUNNING'], // MySQL
      [6141, 'ER_GRP_RPL_CONNECTION_HANDOFF_BUSY'],
      [6400, 'ER_SERVER_OFFLINE_MODE_REASON'],
    ],
  },
  {
    cause: 'somebody ended the statement or its connection',
    kind: 'unavailable',
    errors: [
      [1028, 'ER_FILSORT_ABORT'],
      [1317, 'ER_QUERY_INTERRUPTED'],
      [1927, 'ER_CONNECTION_KILLED'], // MariaDB
      [3169, 'ER_SESSION_WAS_KILLED'],
    ],
  },
  {
    cause: lockCause,
    kind: 'unavailable',
    errors: [
      [1020, 'ER_CHECKREAD'], // a row changed after the snapshot
      [1180, 'ER_ERROR_DURING_COMMIT'], // Galera: another node changed the same rows
      [1205, 'ER_LOCK_WAIT_TIMEOUT'],
      [1213, 'ER_LOCK_DEADLOCK'],
      [1412, 'ER_TABLE_DEF_CHANGED'],
      [1689, 'ER_LOCK_ABORTED'],
      [1964, 'ER_PRIOR_COMMIT_FAILED'], // MariaDB
      [3058, 'ER_USER_LOCK_DEADLOCK'],
      [3177, 'ER_LOCK_REFUSED_BY_ENGINE'],
    ],
  },
  {
    cause: noWritesCause,
    kind: 'unavailable',
    errors: [
      [1036, 'ER_OPEN_AS_READONLY'],
      [1290, 'ER_OPTION_PREVENTS_STATEMENT'],
      [1792, 'ER_CANT_EXECUTE_IN_READ_ONLY_TRANSACTION'],
      [1836, 'ER_READ_ONLY_MODE'],
      [1874, 'ER_INNODB_READ_ONLY'],
      [1950, 'ER_GTID_STRICT_OUT_OF_ORDER'], // MariaDB
      [3989, 'ER_SCHEMA_READ_ONLY'],
    ],
  },
  {
    cause: 'it has no connection, memory, disk, file or thread left, or a limit of the account is reached',
    kind: 'unavailable',
    errors: [
      [5, 'EE_OUTOFMEMORY'],
      [20, 'EE_DISK_FULL'],
      [23, 'EE_OUT_OF_FILERESOURCES'],
      [34, 'EE_CAPACITY_EXCEEDED'],
      [1021, 'ER_DISK_FULL'],
      [1037, 'ER_OUTOFMEMORY'],
      [1038, 'ER_OUT_OF_SORTMEMORY'],
      [1040, 'ER_CON_COUNT_ERROR'],
      [1041, 'ER_OUT_OF_RESOURCES'],
      [1114, 'ER_RECORD_FILE_FULL'],
      [1119, 'ER_STACK_OVERRUN'],
      [1135, 'ER_CANT_CREATE_THREAD'],
      [1197, 'ER_TRANS_CACHE_FULL'],
      [1203, 'ER_TOO_MANY_USER_CONNECTIONS'],
      [1206, 'ER_LOCK_TABLE_FULL'],
      [1226, 'ER_USER_LIMIT_REACHED'],
      [1436, 'ER_STACK_OVERRUN_NEED_MORE'],
      [1461, 'ER_MAX_PREPARED_STMT_COUNT_REACHED'],
      [1637, 'ER_TOO_MANY_CONCURRENT_TRXS'],
      [1705, 'ER_STMT_CACHE_FULL'],
      [1878, 'ER_TEMP_FILE_WRITE_FAILURE'],
      [3015, 'ER_ENGINE_OUT_OF_MEMORY'],
      [3019, 'ER_INNODB_UNDO_LOG_FULL'],
      [3170, 'ER_CAPACITY_EXCEEDED'],
      [3231, 'ER_WRITE_SET_EXCEEDS_LIMIT'],
      [3675, 'ER_DISK_FULL_NOWAIT'],
      [3884, 'ER_NO_SESSION_TEMP'],
      [3950, 'ER_DA_OOM'],
      [3985, 'ER_MDL_OUT_OF_RESOURCES'],
      [4081, 'ER_DA_GLOBAL_CONN_LIMIT'], // MySQL
      [4082, 'ER_DA_CONN_LIMIT'], // MySQL
      [4139, 'ER_INDEX_FILE_FULL'], // MariaDB
    ],
  },
  {
    cause: 'its files or its storage fail, or it has an error of its own',
    kind: 'unavailable',
    errors: [
      [1, 'EE_CANTCREATEFILE'],
      [2, 'EE_READ'],
      [3, 'EE_WRITE'],
      [4, 'EE_BADCLOSE'],
      [9, 'EE_EOFERR'],
      [10, 'EE_CANTLOCK'],
      [29, 'EE_FILENOTFOUND'],
      [1004, 'ER_CANT_CREATE_FILE'],
      [1015, 'ER_CANT_LOCK'],
      [1016, 'ER_CANT_OPEN_FILE'],
      [1017, 'ER_FILE_NOT_FOUND'],
      [1023, 'ER_ERROR_ON_CLOSE'],
      [1024, 'ER_ERROR_ON_READ'],
      [1026, 'ER_ERROR_ON_WRITE'],
      [1030, 'ER_GET_ERRNO'],
      [1032, 'ER_KEY_NOT_FOUND'],
      [1033, 'ER_NOT_FORM_FILE'],
      [1034, 'ER_NOT_KEYFILE'],
      [1035, 'ER_OLD_KEYFILE'],
      [1039, 'ER_UNEXPECTED_EOF'],
      [1105, 'ER_UNKNOWN_ERROR'],
      [1181, 'ER_ERROR_DURING_ROLLBACK'],
      [1194, 'ER_CRASHED_ON_USAGE'],
      [1195, 'ER_CRASHED_ON_REPAIR'],
      [1296, 'ER_GET_ERRMSG'],
      [1297, 'ER_GET_TEMPORARY_ERRMSG'],
      [1467, 'ER_AUTOINC_READ_FAILED'],
      [1534, 'ER_BINLOG_ROW_LOGGING_FAILED'],
      [1598, 'ER_BINLOG_LOGGING_IMPOSSIBLE'],
      [1712, 'ER_INDEX_CORRUPT'],
      [1810, 'ER_IO_READ_ERROR'],
      [1811, 'ER_IO_WRITE_ERROR'],
      [1812, 'ER_TABLESPACE_MISSING'],
      [1814, 'ER_TABLESPACE_DISCARDED'],
      [1815, 'ER_INTERNAL_ERROR'],
      [1817, 'ER_INNODB_INDEX_CORRUPT'],
      [1877, 'ER_TABLE_CORRUPT'],
      [1932, 'ER_NO_SUCH_TABLE_IN_ENGINE'], // MariaDB
      [1939, 'ER_SQL_DISCOVER_ERROR'], // MariaDB
      [3000, 'ER_FILE_CORRUPT'],
      [3185, 'ER_CANNOT_FIND_KEY_IN_KEYRING'],
    ],
  },
  {
    // Tried again without preparing (read-rows.ts); this is for when that fails, too.
    cause: 'a prepared statement is no longer known, or is made invalid again and again',
    kind: 'unavailable',
    errors: [
      [1243, 'ER_UNKNOWN_STMT_HANDLER'],
      [1615, 'ER_NEED_REPREPARE'],
    ],
  },
  {
    cause: 'it does not let the account in, or refuses it a right, or what the account signs in with cannot be read',
    kind: 'unavailable',
    errors: [
      'AUTH_SWITCH_PLUGIN_ERROR',
      'CredentialsError',
      [1044, 'ER_DBACCESS_DENIED_ERROR'],
      [1045, 'ER_ACCESS_DENIED_ERROR'],
      [1129, 'ER_HOST_IS_BLOCKED'],
      [1130, 'ER_HOST_NOT_PRIVILEGED'],
      [1142, 'ER_TABLEACCESS_DENIED_ERROR'],
      [1143, 'ER_COLUMNACCESS_DENIED_ERROR'],
      [1227, 'ER_SPECIFIC_ACCESS_DENIED_ERROR'],
      [1251, 'ER_NOT_SUPPORTED_AUTH_MODE'],
      [1275, 'ER_SERVER_IS_IN_SECURE_AUTH_MODE'],
      [1449, 'ER_NO_SUCH_USER'], // the definer of a trigger
      [1524, 'ER_PLUGIN_IS_NOT_LOADED'],
      [1698, 'ER_ACCESS_DENIED_NO_PASSWORD_ERROR'],
      [1820, 'ER_MUST_CHANGE_PASSWORD'],
      [1862, 'ER_MUST_CHANGE_PASSWORD_LOGIN'],
      [1873, 'ER_ACCESS_DENIED_CHANGE_USER_ERROR'],
      [3118, 'ER_ACCOUNT_HAS_BEEN_LOCKED'],
      [3159, 'ER_SECURE_TRANSPORT_REQUIRED'],
      [3164, 'ER_AUDIT_API_ABORT'],
      [3879, 'ER_DB_ACCESS_DENIED'],
      [3955, 'ER_USER_ACCESS_DENIED_FOR_USER_ACCOUNT_BLOCKED_BY_PASSWORD_LOCK'],
      [4150, 'ER_USER_IS_BLOCKED'], // MariaDB
      [4151, 'ER_ACCOUNT_HAS_BEEN_LOCKED'], // MariaDB
      [6038, 'ER_SPECIFIC_ACCESS_DENIED'],
      [6126, 'ER_ACCESS_DENIED_NO_PROXY_GRANT'],
      [6127, 'ER_ACCESS_DENIED_NO_PROXY'],
      [6444, 'ER_ACCESS_DENIED_FIREWALL'],
    ],
  },
  {
    cause: 'its schema is not migrated, or it is set up in a way that it refuses what the service needs',
    kind: 'unavailable',
    errors: [
      [1046, 'ER_NO_DB_ERROR'],
      [1049, 'ER_BAD_DB_ERROR'],
      [1104, 'ER_TOO_BIG_SELECT'],
      [1146, 'ER_NO_SUCH_TABLE'],
      [1153, 'ER_NET_PACKET_TOO_LARGE'],
      [1175, 'ER_UPDATE_WITHOUT_KEY_IN_SAFE_MODE'],
      [1176, 'ER_KEY_DOES_NOT_EXITS'],
      [1193, 'ER_UNKNOWN_SYSTEM_VARIABLE'],
      [1231, 'ER_WRONG_VALUE_FOR_VAR'],
      [1621, 'ER_VARIABLE_IS_READONLY'],
      [1665, 'ER_BINLOG_STMT_MODE_AND_ROW_ENGINE'],
      [3098, 'ER_BEFORE_DML_VALIDATION_ERROR'],
    ],
  },
  {
    cause: 'the statement took longer than `STATEMENT_TIMEOUT_MS`',
    kind: 'too-expensive',
    errors: [
      [1969, 'ER_STATEMENT_TIMEOUT'], // MariaDB
      [3024, 'ER_QUERY_TIMEOUT'],
    ],
  },
  { cause: 'no connection of the pool came free in time', kind: 'busy', errors: ['ConnectionWaitError'] },
];

/**
 * Errors of a transaction that met another one, on its server or on another one of a cluster: nothing of it stays, and tried again
 * it may succeed.
 */
const conflicts: ReadonlySet<unknown> = new Set([
  1020, // a row changed after the snapshot
  1180, // Galera: an error at COMMIT
  1205, // a lock was waited for too long
  1213, // a deadlock; of a cluster, also a transaction of another server that was first
  3101, // Group Replication: a transaction of another server was first
]);

/** The server's number for an error; undefined for an error of anything else. */
export function errnoOf(error: unknown): unknown {
  return (Object(error) as { errno?: unknown }).errno;
}

/** Whether a transaction failed because of another one. */
export function isConflict(error: unknown): boolean {
  return conflicts.has(errnoOf(error));
}

/** Classes of SQLSTATE that are never caused by the SQL itself, for errors that newer servers may add. */
const unavailableClasses: ReadonlySet<string> = new Set([
  '08', // the connection
  '40', // the transaction was rolled back
  '70', // the statement was ended
]);

const kinds: ReadonlyMap<unknown, DatabaseErrorKind> = new Map(
  databaseErrors.flatMap(({ kind, errors }) =>
    errors.map((error) => [typeof error === 'string' ? error : error[0], kind] as const),
  ),
);

/** The errors with one cause of {@link databaseErrors}, each by its number, code or name. */
export function errorsOfCause(cause: string): (number | string)[] {
  return databaseErrors
    .filter((errors) => errors.cause === cause)
    .flatMap(({ errors }) => errors.map((error) => (typeof error === 'string' ? error : error[0])));
}

const awayErrors: ReadonlySet<unknown> = new Set([
  1040, // too many connections
  'ConnectionWaitError',
  ...errorsOfCause(unreachable),
  ...errorsOfCause(noClientsCause),
]);

/** Whether an error says that the database is away, and may come back by itself. */
export function isAway(error: unknown): boolean {
  const { errno, code, name } = Object(error) as Readonly<Record<string, unknown>>;
  return [errno, code, name].some((one) => awayErrors.has(one));
}

/** What an error means if it comes from the database, its driver or the network between; undefined for any other. */
export function databaseErrorKind(error: unknown): DatabaseErrorKind | undefined {
  const { errno, code, name, sqlState, fatal } = Object(error) as Readonly<Record<string, unknown>>;
  const known = kinds.get(errno) ?? kinds.get(code) ?? kinds.get(name);
  if (known !== undefined) return known;
  // mysql2 marks errors that ended the connection as fatal; some of them have no code.
  if (fatal === true) return 'unavailable';
  return typeof sqlState === 'string' && unavailableClasses.has(sqlState.slice(0, 2)) ? 'unavailable' : undefined;
}
