import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Connection, RowDataPacket } from 'mysql2';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { closeDatabase, type Database, openDatabase } from '../../src/db/connection.ts';
import { ConnectionPool, type ConnectionPoolOptions } from '../../src/db/connection-pool.ts';
import { blockFor } from '../support/block-for.ts';
import { createTestDatabase, describeOnEngines, type TestDatabase } from '../support/database.ts';
import { Network } from '../support/network.ts';

describeOnEngines('a pool', (engine) => {
  let testDatabase: TestDatabase;
  let network: Network;
  let driver: ConnectionPoolOptions['driver'];
  const pools: ConnectionPool[] = [];

  beforeAll(async () => {
    testDatabase = await createTestDatabase(engine, { migrate: false });
    network = new Network(testDatabase.address);
    const { host = '', port = 0, user, password = '' } = await network.open();
    driver = { host, port, user, password };
  });
  afterAll(async () => {
    for (const pool of pools) pool.cut();
    network.close();
    await testDatabase.drop();
  });

  function open(options: Partial<ConnectionPoolOptions> = {}): ConnectionPool {
    const pool = new ConnectionPool({ driver, prepare: run, size: 2, waitMs: 10_000, silenceMs: 10_000, ...options });
    pools.push(pool);
    return pool;
  }
  function run(connection: Connection, sql = 'do 0'): Promise<void> {
    return new Promise((resolve, reject) => {
      connection.query<RowDataPacket[]>(sql, (error) => (error ? reject(error) : resolve()));
    });
  }

  test('lends each connection to one at a time, the one that was used last first', async () => {
    const pool = open();
    const [first, second] = await Promise.all([pool.take(), pool.take()]);
    expect(first).not.toBe(second);
    expect([pool.numUsed(), pool.numFree(), pool.numPendingAcquires()]).toEqual([2, 0, 0]);
    const next = pool.take();
    const last = pool.take();
    await sleep(20);
    expect([pool.numUsed(), pool.numFree(), pool.numPendingAcquires()]).toEqual([2, 0, 2]);
    expect(pool.longestWaitMs).toBeGreaterThan(10);
    expect(pool.release(second)).toBe(true);
    expect(await next).toBe(second);
    expect(pool.release(first)).toBe(true);
    expect(await last).toBe(first);
    expect(pool.expectedWaitMs).toBe(0);
    for (const connection of [first, second]) pool.release(connection);
    expect(pool.release(second)).toBe(false);
    expect([pool.numUsed(), pool.numFree()]).toEqual([0, 2]);
    expect(await pool.take()).toBe(second);
    pool.release(second);
    await pool.destroy();
  });

  test('foretells a wait by how fast connections came free to those who waited, and by nobody else', async () => {
    const pool = open({ size: 1 });
    const wait = async (milliseconds: number): Promise<number> => {
      const connection = await pool.take();
      const next = pool.take();
      const foretold = pool.expectedWaitMs;
      await sleep(milliseconds);
      pool.release(connection);
      pool.release(await next);
      return foretold;
    };
    await wait(100);
    for (let i = 0; i < 500; i++) pool.release(await pool.take());
    expect(await wait(0)).toBeGreaterThan(1);
    await pool.destroy();
  });

  test('lets nobody wait longer than it may, and gives what comes free after that to the next', async () => {
    const pool = open({ size: 1, waitMs: 100 });
    const waits: number[] = [];
    pool.onWaited = (seconds) => waits.push(seconds);
    const connection = await pool.take();
    const began = performance.now();
    await expect(pool.take()).rejects.toMatchObject({ name: 'ConnectionWaitError' });
    expect(performance.now() - began).toBeGreaterThan(90);
    expect(pool.numPendingAcquires()).toBe(0);
    pool.release(connection);
    expect(await pool.take()).toBe(connection);
    pool.release(connection);
    expect(waits).toHaveLength(3);
    await pool.destroy();
  });

  test('lends no connection that could not be made ready, and says why', async () => {
    let isBroken = true;
    const prepare = (connection: Connection) => run(connection, isBroken ? 'set session no_such_variable = 1' : 'do 0');
    const pool = open({ size: 1, prepare });
    await expect(pool.take()).rejects.toMatchObject({ code: 'ER_UNKNOWN_SYSTEM_VARIABLE' });
    isBroken = false;
    pool.release(await pool.take());
    await pool.destroy();
  });

  test('opens each connection with the credentials of that moment, and says why there are none', async () => {
    const user = `rotated_${randomBytes(4).toString('hex')}`;
    await testDatabase.database.raw(`create user '${user}'@'%' identified by 'right'`);
    const given = [{ password: 'wrong' }, new Error('there is no password'), { password: 'right' }];
    const credentials = async () => {
      const next = given.shift();
      if (next === undefined || next instanceof Error) throw next ?? new Error('nobody shall ask');
      return next;
    };
    // Straight to the server: of one that is reached by a socket, MySQL takes no password that is encrypted for the network.
    const { password: _, ...address } = testDatabase.address;
    const pool = open({ driver: { ...address, user, database: '' }, credentials });
    await expect(pool.take()).rejects.toMatchObject({ code: 'ER_ACCESS_DENIED_ERROR' });
    await expect(pool.take()).rejects.toThrow('there is no password');
    const connection = await pool.take();
    pool.release(connection);
    expect(await pool.take()).toBe(connection);
    pool.release(connection);
    await pool.destroy();
    await testDatabase.database.raw(`drop user '${user}'@'%'`);
  });

  test('drops connections that break or fall silent, also when nobody uses them', async () => {
    const pool = open({ silenceMs: 600 });
    const use = async (): Promise<void> => {
      const [first, second] = await Promise.all([pool.take(), pool.take()]);
      const ended = await Promise.allSettled([run(first), run(second)]);
      for (const connection of [first, second]) pool.release(connection);
      for (const end of ended) if (end.status === 'rejected') throw end.reason;
    };
    await use();
    network.cut();
    await expect.poll(() => pool.numFree()).toBe(0);
    await use();
    network.failOver();
    await expect.poll(() => pool.numFree(), { timeout: 5000 }).toBe(0);
    await use();
    network.failOver();
    await expect(use()).rejects.toMatchObject({ code: 'PROTOCOL_CONNECTION_LOST', fatal: true });
    await use();
    await pool.destroy();
  });

  test('keeps connections that nobody uses', async () => {
    const pool = open({ silenceMs: 600 });
    const connection = await pool.take();
    pool.release(connection);
    await sleep(2000);
    expect(await pool.take()).toBe(connection);
    pool.release(connection);
    await pool.destroy();
  });

  test('lends no connection that the server has ended while nobody used it', async () => {
    const pool = open({ size: 1 });
    const first = await pool.take();
    await run(first, 'set session wait_timeout = 1');
    pool.release(first);
    blockFor(2500); // whatever the server says meanwhile has not been read when the connection is wanted
    const next = await pool.take();
    await run(next);
    expect(next).not.toBe(first);
    pool.release(next);
    await pool.destroy();
  });

  test('fails who waits when the server is away, and finds it when it is back', async () => {
    const pool = open();
    const { to } = network;
    network.to = { ...to, socketPath: '/nowhere' };
    await expect(pool.take()).rejects.toMatchObject({ fatal: true });
    network.to = to;
    pool.release(await pool.take());
    await pool.destroy();
  });

  test('that is closed refuses who waits, waits for what runs, and says goodbye', async () => {
    const pool = open({ size: 1 });
    const connection = await pool.take();
    const refused = pool.take().catch(String);
    const running = run(connection, 'do sleep(0.2)');
    const closing = pool.destroy();
    expect(await refused).toContain('closed');
    await expect(pool.take()).rejects.toThrow('closed');
    await running;
    pool.release(connection);
    await closing;
    await expect.poll(() => network.connections).toBe(0);
  });
});

describeOnEngines('a pool that is larger than what the server grants', (engine) => {
  const user = `few_${randomBytes(4).toString('hex')}`;
  const granted = 3;
  let testDatabase: TestDatabase;
  let network: Network;
  let pool: Database;

  beforeAll(async () => {
    testDatabase = await createTestDatabase(engine);
    const { database, address } = testDatabase;
    await database.raw(`create user '${user}'@'%' with max_user_connections ${granted}`);
    await database.raw(`grant all on \`${address.database}\`.* to '${user}'@'%'`);
    network = new Network(address);
    const own = { ...(await network.open()), user };
    pool = openDatabase(own, { size: 10, statementTimeoutMs: 10_000, acquireTimeoutMs: 10_000 });
  });
  afterAll(async () => {
    await closeDatabase(pool);
    network.close();
    await testDatabase.database.raw(`drop user '${user}'@'%'`);
    await testDatabase.drop();
  });

  test('lends what there is to everybody, instead of failing those who wait', async () => {
    await Promise.all(Array.from({ length: granted }, () => pool.raw('do sleep(0.02)')));
    const openedBefore = network.opened;
    const statements = Array.from({ length: 50 }, () => pool.raw('select sleep(0.02)'));
    const outcomes = await Promise.allSettled(statements);
    expect(outcomes.filter(({ status }) => status === 'rejected')).toEqual([]);
    // It does not knock for each of them: some seven at once, and again a fifth of a second later.
    expect(network.opened - openedBefore).toBeLessThan(40);
  });
});
