import { afterAll, beforeAll, expect, test } from 'vitest';
import { createTestDatabase, describeOnEngines, type TestDatabase } from '../support/database.ts';

describeOnEngines('a test database', (engine) => {
  let database: TestDatabase;
  beforeAll(async () => {
    database = await createTestDatabase(engine);
  });
  afterAll(() => database.drop());

  test('is on the engine it was asked for, and migrated', async () => {
    const [[row]] = (await database.database.raw('select version() as version')) as [[{ version: string }]];
    expect(/MariaDB/.test(row.version)).toBe(engine === 'mariadb');
    expect(await database.database('workspace_tasks').select('*')).toEqual([]);
  });
});
