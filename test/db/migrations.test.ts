import { afterAll, beforeAll, expect, test } from 'vitest';
import { migrateDown, migrateUp } from '../../src/db/migrations.ts';
import { createTestDatabase, describeOnEngines, type TestDatabase } from '../support/database.ts';

describeOnEngines('migrations', (engine) => {
  let test1: TestDatabase;
  beforeAll(async () => {
    test1 = await createTestDatabase(engine, { migrate: false });
  });
  afterAll(() => test1.drop());

  test('up, status, down', async () => {
    expect(await migrateUp(test1.database, { triggers: true })).toHaveLength(2);
    expect(await migrateUp(test1.database, { triggers: true })).toEqual([]);
    expect(await migrateDown(test1.database)).toHaveLength(1);
    expect(await migrateDown(test1.database, { all: true })).toHaveLength(1);
  });
});
