import { afterAll, beforeAll, expect, test } from 'vitest';
import { createTestDatabase, describeOnEngines, type TestDatabase } from '../support/database.ts';

describeOnEngines('a test database', (engine) => {
  let migrated: TestDatabase;
  beforeAll(async () => {
    migrated = await createTestDatabase(engine);
  });
  afterAll(() => migrated.drop());

  test('is on the engine it was asked for, and migrated', async () => {
    const [[row]] = (await migrated.database.raw('select version() as version')) as [[{ version: string }]];
    expect(/MariaDB/.test(row.version)).toBe(engine !== 'mysql');
    expect(await migrated.database('workspace_tasks').select('workspace_tasks.id')).toEqual([]);
  });

  test('can be empty, is its own, and is gone after it was dropped', async () => {
    const empty = await createTestDatabase(engine, { migrate: false });
    const tables = (): Promise<unknown[]> =>
      migrated
        .database('information_schema.tables')
        .where('tables.table_schema', empty.address.database)
        .select('tables.table_name');
    expect(empty.address.database).not.toBe(migrated.address.database);
    expect(await tables()).toEqual([]);
    await empty.database.raw('create table own (id int primary key)');
    expect(await tables()).toHaveLength(1);
    await empty.drop();
    expect(await tables()).toEqual([]);
  });
});
