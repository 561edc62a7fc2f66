import mysql from 'mysql2/promise';
import type { TestServer } from './engines.ts';

/** Whether all private servers of this run are hostile ones: `TEST_HOSTILE=true`. */
export const areAllHostile: boolean = process.env['TEST_HOSTILE'] === 'true';

/** The settings that a database server may have for other programs, and that must change nothing for this one. */
const everywhere = [
  '--autocommit=OFF',
  '--transaction-isolation=SERIALIZABLE',
  '--transaction-read-only=ON',
  '--completion-type=CHAIN',
  '--default-time-zone=+05:45',
  '--auto-increment-increment=3',
  '--group-concat-max-len=4',
  '--max-join-size=50',
  '--max-error-count=0',
  '--lock-wait-timeout=1',
  '--innodb-lock-wait-timeout=1',
  '--net-read-timeout=1',
  '--net-write-timeout=1',
  '--default-storage-engine=MyISAM',
  '--default-tmp-storage-engine=MyISAM',
  '--explicit-defaults-for-timestamp=OFF',
  '--default-week-format=3',
  '--div-precision-increment=0',
  '--lc-time-names=ja_JP',
  '--low-priority-updates=ON',
  '--session-track-schema=ON',
  '--session-track-state-change=ON',
  '--session-track-system-variables=*',
];

/** The least buffers that there are. They change nothing but the time that statements take. */
export const leastBuffers: readonly string[] = [
  '--sort-buffer-size=32768',
  '--join-buffer-size=128',
  '--tmp-table-size=1024',
  '--max-heap-table-size=16384',
];

/** Statements of `init_connect`, which run in each session of an account that is no administrator's. */
const atEachConnection = [
  'set names latin1',
  'set sql_safe_updates = 1, sql_select_limit = 0, sql_big_selects = 0',
  'set foreign_key_checks = 0, unique_checks = 0, sql_auto_is_null = 1, sql_notes = 0',
];

/** The options that make a server hostile, as far as it has them. */
export function hostileOptions(kind: 'mariadb' | 'mysql'): string[] {
  const words = 'ANSI,NO_BACKSLASH_ESCAPES,PIPES_AS_CONCAT,HIGH_NOT_PRECEDENCE,PAD_CHAR_TO_FULL_LENGTH,NO_AUTO_VALUE_ON_ZERO';
  if (kind === 'mysql') {
    return [
      ...everywhere,
      '--character-set-server=latin1',
      '--collation-server=latin1_swedish_ci',
      `--sql-mode=${words}`,
      '--max-sort-length=4',
      '--max-execution-time=1000',
      '--sql-require-primary-key=ON',
      '--sql-generate-invisible-primary-key=ON',
      `--init-connect=${atEachConnection.join('; ')}`,
    ];
  }
  return [
    ...everywhere,
    '--skip-character-set-client-handshake',
    '--character-set-server=utf8mb3',
    '--collation-server=utf8mb3_general_ci',
    `--sql-mode=ORACLE,${words}`,
    '--max-sort-length=64',
    '--max-statement-time=1',
    '--default-regex-flags=EXTENDED,UNGREEDY',
    '--old-mode=NO_PROGRESS_INFO,ZERO_DATE_TIME_CAST',
    '--innodb-force-primary-key=ON',
    '--lower-case-table-names=1',
    `--init-connect=${[...atEachConnection, 'set check_constraint_checks = 0'].join('; ')}`,
  ];
}

/** Makes an account that may do all that tests do, and for which `init_connect` runs all the same. Returns its address. */
export async function makeOrdinaryAccount({ address, version }: TestServer): Promise<TestServer['address']> {
  const { socketPath = '' } = address;
  const connection = await mysql.createConnection({ socketPath, user: 'root' });
  try {
    await connection.query('set session transaction read write');
    await connection.query("set session autocommit = 1, sql_mode = ''");
    await connection.query('create user tester@localhost');
    await connection.query('grant all on *.* to tester@localhost with grant option');
    const administration = /MariaDB/.test(version) ? 'connection admin' : 'connection_admin, super';
    await connection.query(`revoke ${administration} on *.* from tester@localhost`);
  } finally {
    await connection.end();
  }
  return { socketPath, user: 'tester' };
}
