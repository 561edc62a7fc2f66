import { randomBytes } from 'node:crypto';
import { createServer } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Connection } from 'mysql2';
import type { DatabaseAddress } from '../../src/config.ts';
import { type Database, withConnection } from '../../src/db/connection.ts';
import { blockFor } from './block-for.ts';
import { freePort } from './free-port.ts';

/** What a provocation does its worst with. */
export interface Provoking {
  /** The database of the test, for root: one connection, which is set as ever. */
  readonly root: Database;
  /** Where it is. */
  readonly address: DatabaseAddress;
  /** The same over TCP, where it does not listen for anybody at all if the provocation does not make it. */
  readonly tcp: DatabaseAddress;
  /** Opens another pool of one connection, for root if not said. */
  open(address?: Partial<DatabaseAddress>): Database;
}

/** Number of the server, `code` of the driver, or some of them where chance decides. */
type Expected = number | string | readonly (number | string)[];

/** Something that makes the database answer with an error. */
export interface Provocation {
  readonly what: string;
  /** The errors of the engines; absent where an engine has none of the kind. */
  readonly error: { readonly mariadb?: Expected; readonly mysql?: Expected };
  /** Rejects with the error. */
  run(provoking: Provoking): Promise<unknown>;
}

const both = (error: Expected) => ({ mariadb: error, mysql: error });

/** The same provocation with a setting of the server that is put back. */
function withGlobal(
  variables: Readonly<Record<string, number | string>>,
  run: Provocation['run'],
): (provoking: Provoking) => Promise<unknown> {
  return async (provoking) => {
    const { root } = provoking;
    const names = Object.keys(variables);
    const [[before]] = (await root.raw(`select ${names.map((name) => `@@global.${name} as ${name}`).join(', ')}`)) as [
      [Record<string, number | string>],
    ];
    const set = (values: Readonly<Record<string, number | string>>) =>
      root.raw(`set ${names.map((name) => `global ${name} = ?`).join(', ')}`, Object.values(values));
    await set(variables);
    try {
      return await run(provoking);
    } finally {
      await set(before);
    }
  };
}

/** Waits for something that fails, and then puts right what made it fail. */
async function undone(failing: PromiseLike<unknown>, undo: () => PromiseLike<unknown>): Promise<unknown> {
  try {
    return await failing;
  } finally {
    await undo();
  }
}

/** Makes an account with a password, and returns how it logs in. */
async function account(
  root: Database,
  options = '',
  grants: readonly string[] = [],
  host = 'localhost',
): Promise<Pick<DatabaseAddress, 'user' | 'password'>> {
  const user = `u${randomBytes(6).toString('hex')}`;
  await root.raw(`create user ${user}@'${host}' identified by 'secret' ${options}`);
  for (const grant of grants) await root.raw(`grant ${grant} to ${user}@'${host}'`);
  return { user, password: 'secret' };
}

/** What is needed for most: the right to read and write. */
const allRights = ['select, insert, update, delete on tasks.*'];

async function connectionId(connection: Database): Promise<number> {
  const [[{ id }]] = (await connection.raw('select connection_id() as id')) as [[{ id: number }]];
  return id;
}

function query(connection: Connection, sql: string): Promise<void> {
  return new Promise((resolve, reject) => {
    connection.query(sql, (error) => (error ? reject(error) : resolve()));
  });
}

/** Runs a statement and, when it is under way, something else. */
async function meanwhile(connection: Database, sql: string, then: (id: number) => Promise<unknown>): Promise<unknown> {
  const id = await connectionId(connection);
  const running = Promise.resolve(connection.raw(sql)); // Knex sends it for each who waits for it
  running.catch(() => {});
  await sleep(200);
  await then(id);
  return running;
}

/** Every error of `databaseErrors` that can be had of a server within reason. Those before `shutsDown` leave it as it was. */
export const provocations: readonly Provocation[] = [
  {
    what: 'no socket',
    error: both('ENOENT'),
    run: ({ open }) => open({ socketPath: '/nowhere/db.sock' }).raw('select 1'),
  },
  {
    what: 'nobody who listens',
    error: both('ECONNREFUSED'),
    run: async ({ open, tcp }) => open({ ...tcp, port: await freePort() }).raw('select 1'),
  },
  {
    what: 'a name that nobody knows',
    error: both(['ENOTFOUND', 'EAI_AGAIN']),
    run: ({ open, tcp }) => open({ ...tcp, host: 'nowhere.invalid' }).raw('select 1'),
  },
  {
    what: 'a port that says nothing',
    error: both('ETIMEDOUT'),
    async run({ open, tcp }) {
      const server = createServer();
      const port = await freePort();
      await new Promise<void>((resolve) => {
        server.listen(port, '127.0.0.1', resolve);
      });
      return open({ ...tcp, port })
        .raw('select 1')
        .finally(() => server.close());
    },
  },
  {
    what: 'a client from where no account may come',
    error: both(1130),
    run: ({ open, tcp }) => open(tcp).raw('select 1'),
  },
  {
    what: 'a wrong password',
    error: both(1045),
    run: async ({ open, root }) => open({ ...(await account(root)), password: 'wrong' }).raw('select 1'),
  },
  {
    what: 'an account that is locked',
    error: { mariadb: 4151, mysql: 3118 },
    run: async ({ open, root }) => open(await account(root, 'account lock')).raw('select 1'),
  },
  {
    what: 'an account that is blocked after wrong passwords',
    error: { mysql: 3955 },
    async run({ open, root }) {
      const login = await account(root, 'failed_login_attempts 1 password_lock_time 1', allRights);
      await open({ ...login, password: 'wrong' })
        .raw('select 1')
        .catch(() => {});
      return open(login).raw('select 1');
    },
  },
  {
    what: 'an account that is blocked after wrong passwords',
    error: { mariadb: 4150 },
    run: withGlobal({ max_password_errors: 1 }, async ({ open, root }) => {
      const login = await account(root, '', allRights);
      const attempt = (password: string) =>
        open({ ...login, password })
          .raw('select 1')
          .catch(() => {});
      await attempt('wrong');
      await attempt('wrong');
      return undone(open(login).raw('select 1'), () => root.raw('flush privileges'));
    }),
  },
  {
    what: 'a password that has expired',
    error: { mysql: 1862 },
    run: async ({ open, root }) => open(await account(root, 'password expire', allRights)).raw('select 1'),
  },
  {
    what: 'a password that has expired',
    error: { mariadb: 1820 },
    run: async ({ open, root }) => open(await account(root, 'password expire', allRights)).raw('select 1'),
  },
  {
    what: 'a plugin that the server does not have',
    error: both(1524),
    run: ({ root }) => root.raw("create user nobody@localhost identified with 'no_such_plugin'"),
  },
  {
    what: 'no right to the database',
    error: both(1044),
    run: async ({ open, root }) => open(await account(root)).raw('select 1'),
  },
  {
    what: 'no right to a table',
    error: both(1142),
    run: async ({ open, root }) =>
      open(await account(root, '', ['select on tasks.one']))
        .from('other')
        .select('other.id'),
  },
  {
    what: 'no right to a column',
    error: both(1143),
    run: async ({ open, root }) =>
      open(await account(root, '', ['select (id) on tasks.one']))
        .from('one')
        .select('one.value'),
  },
  {
    what: 'no right to a setting',
    error: both(1227),
    run: async ({ open, root }) => open(await account(root, '', allRights)).raw('set global max_connections = 10'),
  },
  {
    what: 'a trigger whose definer is gone',
    error: both(1449),
    async run({ root }) {
      const { user } = await account(root, '', allRights);
      await root.raw(`create definer = ${user}@localhost trigger orphan before insert on other for each row set new.value = 1`);
      await root.raw(`drop user ${user}@localhost`);
      return undone(root('other').insert({ id: 7 }), () => root.raw('drop trigger orphan'));
    },
  },
  {
    what: 'more statements than the account may send',
    error: both(1226),
    run: async ({ open, root }) => open(await account(root, 'with max_queries_per_hour 1', allRights)).raw('select 1'),
  },
  {
    what: 'more connections than an account may have',
    error: both(1203),
    run: async (provoking) => {
      const login = await account(provoking.root, '', allRights);
      await provoking.open(login).raw('select 1');
      return withGlobal({ max_user_connections: 1 }, ({ open }) => open(login).raw('select 1'))(provoking);
    },
  },
  {
    what: 'more connections than the server takes',
    error: both(1040),
    run: withGlobal({ max_connections: 10 }, async ({ open, root }) => {
      const login = await account(root, '', allRights);
      for (let connections = 0; connections < 12; connections++) await open(login).raw('select 1');
    }),
  },
  {
    what: 'a server that takes only administrators',
    error: { mysql: [3032, 6400] },
    run: withGlobal({ offline_mode: 1 }, async ({ open, root }) => open(await account(root, '', allRights)).raw('select 1')),
  },
  {
    what: 'no such database',
    error: both(1049),
    run: ({ open }) => open({ database: 'no_such_database' }).raw('select 1'),
  },
  {
    what: 'no database',
    error: both(1046),
    run: ({ open }) => open({ database: '' }).from('one').select('one.id'),
  },
  {
    what: 'no such table',
    error: both(1146),
    run: ({ root }) => root.from('no_such_table').select('no_such_table.id'),
  },
  {
    what: 'no such index',
    error: both(1176),
    run: ({ root }) => root.raw('select one.id from one force index (no_such_index)'),
  },
  {
    what: 'a setting that the server does not have',
    error: both(1193),
    run: ({ root }) => root.raw('set session no_such_variable = 1'),
  },
  {
    what: 'a value that a setting does not take',
    error: both(1231),
    run: ({ root }) => root.raw("set session sql_mode = 'NO_SUCH_MODE'"),
  },
  {
    what: 'a setting that a session may not have of its own',
    error: both(1621),
    run: ({ root }) => root.raw('set session max_allowed_packet = 16777216'),
  },
  {
    what: 'a limit of the rows of a join',
    error: both(1104),
    async run({ open }) {
      const one = open();
      await one.raw('set session sql_big_selects = 0, max_join_size = 1');
      return one.raw('select a.id from one as a, one as b, one as c');
    },
  },
  {
    what: 'updates that must be safe',
    error: both(1175),
    async run({ open }) {
      const one = open();
      await one.raw('set session sql_safe_updates = 1');
      return one.raw('update one set value = value');
    },
  },
  {
    what: 'a statement that is larger than a packet may be',
    error: both([1153, 'EPIPE', 'ECONNRESET', 'PROTOCOL_CONNECTION_LOST']),
    run: withGlobal({ max_allowed_packet: 1024 * 1024 }, ({ open }) => open().raw(`select '${'x'.repeat(2_000_000)}'`)),
  },
  {
    what: 'a row that somebody else holds',
    error: both(1205),
    async run({ open, root }) {
      const other = open();
      const holding = await other.transaction();
      await holding.raw('update one set value = value + 1');
      const waiting = open();
      await waiting.raw('set session innodb_lock_wait_timeout = 1');
      const failed = await waiting.raw('update one set value = value + 1').then(undefined, (error: unknown) => error);
      await holding.rollback();
      await root.raw('select 1');
      throw failed;
    },
  },
  {
    what: 'two transactions that wait for each other',
    error: both(1213),
    async run({ open }) {
      const [first, second] = await Promise.all([open().transaction(), open().transaction()]);
      const update = (transaction: typeof first, id: number) =>
        transaction.raw('update one set value = value + 1 where id = ?', [id]);
      await update(first, 1);
      await update(second, 2);
      const ends = await Promise.allSettled([update(first, 2), update(second, 1)]);
      await Promise.all([first.rollback(), second.rollback()]);
      throw (ends.find(({ status }) => status === 'rejected') as PromiseRejectedResult).reason;
    },
  },
  {
    what: 'two sessions that wait for each other with locks of theirs',
    error: { mysql: 3058 },
    async run({ open }) {
      const [first, second] = [open(), open()];
      const lock = (session: Database, name: string) => session.raw('select get_lock(?, 1)', [name]);
      await lock(first, 'a');
      await lock(second, 'b');
      const ends = await Promise.allSettled([lock(first, 'b'), lock(second, 'a')]);
      throw (ends.find(({ status }) => status === 'rejected') as PromiseRejectedResult).reason;
    },
  },
  {
    what: 'a row that has changed since the snapshot',
    error: { mariadb: 1020 },
    async run({ open, root }) {
      const one = open();
      await one.raw('set session innodb_snapshot_isolation = 1');
      await one.raw('set session transaction isolation level repeatable read');
      await one.raw('start transaction with consistent snapshot');
      await root.raw('update one set value = value + 1');
      return one.raw('update one set value = value + 1');
    },
  },
  {
    what: 'a table that has changed since the snapshot',
    error: both(1412),
    async run({ open, root }) {
      const one = open();
      await one.raw('set session transaction isolation level repeatable read');
      await one.raw('start transaction with consistent snapshot');
      await root.raw('alter table one engine = InnoDB');
      return one.raw('select one.id from one');
    },
  },
  {
    what: 'a server that takes no writes',
    error: both(1290),
    run: withGlobal({ read_only: 1 }, async ({ open, root }) =>
      open(await account(root, '', allRights)).raw('update one set value = 2'),
    ),
  },
  {
    what: 'a transaction that may not write',
    error: both(1792),
    async run({ open }) {
      const one = open();
      await one.raw('set session transaction read only');
      return one.raw('update one set value = 2');
    },
  },
  {
    what: 'a database that takes no writes',
    error: { mysql: 3989 },
    async run({ root }) {
      await root.raw('alter schema tasks read only = 1');
      return undone(root.raw('update one set value = 2'), () => root.raw('alter schema tasks read only = 0'));
    },
  },
  {
    what: 'a table that is full',
    error: both(1114),
    async run({ open }) {
      const one = open();
      await one.raw('set session max_heap_table_size = 16384');
      await one.raw('create temporary table small (text char(250)) engine = memory');
      for (let rows = 0; rows < 10_000; rows++) await one.raw("insert into small values ('x')");
    },
  },
  {
    what: 'no room for prepared statements',
    error: both(1461),
    run: withGlobal({ max_prepared_stmt_count: 0 }, ({ open }) => open().raw("prepare p from 'select 1'")),
  },
  {
    what: 'memory for a sort that is too little',
    error: { mysql: 1038 },
    async run({ open }) {
      const one = open();
      await one.raw('set session sort_buffer_size = 32768');
      await one.raw('create temporary table wide (id int, value json)');
      for (let id = 0; id < 20; id++) await one.raw("insert into wide values (?, json_array(repeat('x', 200000)))", [id]);
      return one.raw('select wide.value from wide order by wide.value');
    },
  },
  {
    what: 'a statement that is ended',
    error: both(1317),
    run: ({ open, root }) => meanwhile(open(), 'select one.id from one where sleep(20)', (id) => root.raw(`kill query ${id}`)),
  },
  {
    what: 'a connection that is ended',
    error: { mariadb: [1927, 1317, 'PROTOCOL_CONNECTION_LOST'], mysql: [3169, 1317, 'PROTOCOL_CONNECTION_LOST'] },
    run: ({ open, root }) => meanwhile(open(), 'select one.id from one where sleep(20)', (id) => root.raw(`kill ${id}`)),
  },
  {
    what: 'a connection that is ended while nobody looks',
    error: { mariadb: ['PROTOCOL_CONNECTION_LOST', 'EPIPE', 'ECONNRESET', 1927], mysql: 4031 },
    async run({ open, root, tcp }) {
      const one = open({ ...tcp, ...(await account(root, '', allRights, '127.0.0.1')) });
      return withConnection(one, undefined, async (connection) => {
        await query(connection, 'set session wait_timeout = 1');
        blockFor(2500); // so this process does not see it before it has sent the next statement
        await query(connection, 'select 1');
      });
    },
  },
  {
    what: 'a statement that takes too long',
    error: { mariadb: 1969, mysql: 3024 },
    async run({ open }) {
      const one = open();
      await one.raw('select 1');
      const [[{ version }]] = (await one.raw('select version() as version')) as [[{ version: string }]];
      await one.raw(`set session ${/MariaDB/.test(version) ? 'max_statement_time = 0.1' : 'max_execution_time = 100'}`);
      return one.raw('select a.id from one as a, one as b, one as c, one as d, one as e, one as f where sleep(0.01)');
    },
  },
];

/** What is provoked last of all, since it ends the server. */
export const shutsDown: Provocation = {
  what: 'a server that shuts down',
  error: both([1053, 1317, 1927, 'PROTOCOL_CONNECTION_LOST']),
  run: ({ open, root }) => meanwhile(open(), 'select one.id from one where sleep(20)', () => root.raw('shutdown')),
};
