import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { RowDataPacket } from 'mysql2';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { reasonOf, toConnectError } from '../../src/call/errors.ts';
import type { DatabaseAddress } from '../../src/config.ts';
import { closeDatabase, type Database, openDatabase, withConnection } from '../../src/db/connection.ts';
import { databaseErrors } from '../../src/db/database-errors.ts';
import { readRows } from '../../src/db/read-rows.ts';
import { describeOnEngines } from '../support/database.ts';
import { type Provocation, provocations, shutsDown } from '../support/database-provocations.ts';
import { type Engine, type PrivateServer, startEngineServer } from '../support/engines.ts';
import { freePort } from '../support/free-port.ts';
import { describeWhere, testWhere } from '../support/test-where.ts';

const call = { requestId: 'the-id', signal: new AbortController().signal };
const reasons = { unavailable: 'DATABASE_UNAVAILABLE', 'too-expensive': 'QUERY_TOO_EXPENSIVE', busy: 'OVERLOADED' };

describeOnEngines(
  'an error of the database is the database\u2019s',
  (engine) => {
    const family = engine === 'mysql' ? 'mysql' : 'mariadb';
    const folder = mkdtempSync(join(tmpdir(), 'tasks-errors-'));
    const opened: Database[] = [];
    let server: PrivateServer;
    let address: DatabaseAddress;
    let tcp: DatabaseAddress;
    let root: Database;

    beforeAll(async () => {
      const port = await freePort();
      const listening = ['--skip-networking=0', '--bind-address=127.0.0.1', `--port=${port}`];
      // MariaDB takes another number later only where there was one.
      server = await startEngineServer(engine, folder, [...listening, '--max-user-connections=500']);
      address = { ...server.address, database: 'tasks' };
      tcp = { host: '127.0.0.1', port, user: 'root', database: 'tasks' };
      const first = openDatabase({ ...address, database: '' }, { size: 1, statementTimeoutMs: 30_000 });
      await first.raw('create database tasks character set utf8mb4 collate utf8mb4_bin');
      await closeDatabase(first);
      root = openDatabase(address, { size: 1, statementTimeoutMs: 30_000 });
      await root.raw('create table one (id int not null primary key, value int not null) engine = InnoDB');
      await root.raw('create table other (id int not null primary key, value int) engine = InnoDB');
      await root.raw('insert into one values (1, 1), (2, 2), (3, 3)');
    });
    afterEach(async () => {
      for (const database of opened.splice(0)) await closeDatabase(database, 0);
    });
    afterAll(async () => {
      await closeDatabase(root, 0);
      await server.stop();
      rmSync(folder, { recursive: true });
    });

    function open(other: Partial<DatabaseAddress> = {}): Database {
      const { socketPath, ...rest } = address;
      const at = { ...(other.host === undefined && socketPath !== undefined ? { socketPath } : {}), ...rest, ...other };
      const database = openDatabase(at, { size: 1, statementTimeoutMs: 30_000, acquireTimeoutMs: 10_000 });
      opened.push(database);
      return database;
    }

    function failureOf(sql: string): Promise<unknown> {
      return root.raw(sql).then(
        () => undefined,
        (error: unknown) => error,
      );
    }

    async function provoke({ error, run }: Provocation): Promise<void> {
      const thrown: unknown = await run({ root, address, tcp, open }).then(
        () => 'no error',
        (reason: unknown) => reason,
      );
      const { errno, code, message } = thrown as { errno?: number; code?: string; message?: string };
      const key = errno !== undefined && errno > 0 ? errno : code;
      expect([error[family]].flat(), message).toContainEqual(key);
      const row = databaseErrors.find(({ errors }) => errors.some((one) => (typeof one === 'string' ? one : one[0]) === key));
      expect(row, `${key} is in the table`).toBeDefined();
      expect(reasonOf(toConnectError(thrown, call))).toBe(row && reasons[row.kind]);
    }

    test.each(provocations.filter(({ error }) => error[family] !== undefined))('$what', provoke);

    test.each([
      [1054, 'select one.no_such_column from one'],
      [1062, 'insert into one values (1, 1)'],
      [1064, 'selekt 1'],
      [1048, 'insert into one values (9, null)'],
      [1264, 'insert into one values (9, 99999999999)'],
    ])('but %d is ours: %s', async (errno, sql) => {
      const thrown = await failureOf(sql);
      expect(thrown).toMatchObject({ errno });
      expect(reasonOf(toConnectError(thrown, call))).toBe('INTERNAL');
    });

    testWhere(engine === 'mysql')('who watches the server by information_schema.processlist is failed by it', async () => {
      const running = readRows(open(), { sql: 'select sleep(2), ?', values: [Buffer.from('ff00fe8095c3a1', 'hex')] });
      await expect.poll(() => failureOf('select p.id from information_schema.processlist as p')).toMatchObject({ errno: 3854 });
      for (const sql of ['show processlist', 'select p.id from performance_schema.processlist as p']) {
        expect(await failureOf(sql)).toBeUndefined();
      }
      await running;
    });

    // MariaDB has not been seen to give up.
    describeWhere(engine === 'mysql')('while tables change', () => {
      test('reads go on, though their prepared statements become invalid again and again', async () => {
        const statement = { sql: 'select one.id from one where one.id = ?', values: [3] };
        const enough = new AbortController();
        let changes = 0;
        let invalid = 0;
        let reads = 0;
        const until = async (work: () => Promise<unknown>): Promise<void> => {
          while (!enough.signal.aborted) await work();
        };
        // Each waits for the table, and so changes it between the preparing of a statement and its execution.
        const changing = [open(), open(), open()].map((database) =>
          until(() => database.raw(`alter table one comment = 'number ${changes++}'`)),
        );
        const bare = open();
        const preparing = until(() =>
          withConnection(
            bare,
            undefined,
            (connection) =>
              new Promise<void>((resolve, reject) => {
                connection.execute<RowDataPacket[]>(statement.sql, [3], (error) => {
                  if (error === null) return resolve();
                  if (error.errno !== 1615) return reject(error);
                  invalid += 1;
                  resolve();
                });
              }),
          ),
        );
        const database = open();
        const reading = until(async () => {
          expect(await readRows(database, statement)).toEqual([[3]]);
          reads += 1;
        });
        for (const one of [...changing, preparing, reading]) one.catch(() => enough.abort());
        const isShown = (): boolean => invalid > 5 && reads > 10;
        await expect.poll(() => enough.signal.aborted || isShown(), { timeout: 30_000 }).toBe(true);
        enough.abort();
        await Promise.all([...changing, preparing, reading]);
      });
    });

    test(shutsDown.what, () => provoke(shutsDown));
  },
  ['mariadb', 'mysql'] satisfies Engine[],
);
