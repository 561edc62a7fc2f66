import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { closeDatabase, type Database, openDatabase } from '../../src/db/connection.ts';
import { createTestDatabase, describeOnEngines, type TestDatabase } from '../support/database.ts';

describeOnEngines('a pool that is larger than what the server grants', (engine) => {
  const user = `few_${randomBytes(4).toString('hex')}`;
  const granted = 3;
  let testDatabase: TestDatabase;
  let pool: Database;

  beforeAll(async () => {
    testDatabase = await createTestDatabase(engine);
    const { database, address } = testDatabase;
    await database.raw(`create user '${user}'@'%' identified by 'secret' with max_user_connections ${granted}`);
    await database.raw(`grant all on \`${address.database}\`.* to '${user}'@'%'`);
    const own = { ...address, user, password: 'secret' };
    pool = openDatabase(own, { size: 10, statementTimeoutMs: 10_000, acquireTimeoutMs: 10_000 });
  });
  afterAll(async () => {
    await closeDatabase(pool);
    await testDatabase.database.raw(`drop user '${user}'@'%'`);
    await testDatabase.drop();
  });

  test('lends what there is to everybody, instead of failing those who wait', async () => {
    await Promise.all(Array.from({ length: granted }, () => pool.raw('do sleep(0.02)')));
    const refusedBefore = await refusals();
    const statements = Array.from({ length: 50 }, () => pool.raw('select sleep(0.02)'));
    const outcomes = await Promise.allSettled(statements);
    expect(outcomes.filter(({ status }) => status === 'rejected')).toEqual([]);
    // It does not knock for each of them: some seven at once, and again a fifth of a second later.
    expect((await refusals()) - refusedBefore).toBeLessThan(40);
  });

  /** How often the server has refused a connection. */
  async function refusals(): Promise<number> {
    const [[row]] = (await testDatabase.database.raw("show global status like 'Aborted_connects'")) as [{ Value: string }[]];
    return Number(row?.Value);
  }
});
