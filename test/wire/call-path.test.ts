import { expect, test } from 'vitest';
import { startScript } from '../support/child-script.ts';
import { createTestDatabase, describeOnEngines } from '../support/database.ts';
import { freePort } from '../support/free-port.ts';
import { insertOwnerWithTasks } from '../support/owner-with-tasks.ts';
import { databaseUrl } from '../support/service.ts';

/** Most files of src that a call enters whose caller and statement are known, from the wire to SQL and back. */
const mostFiles = { list: 32, get: 30 };

describeOnEngines(
  'the way of a call',
  (engine) => {
    test('has few stations', async () => {
      const testDatabase = await createTestDatabase(engine);
      const { token } = await insertOwnerWithTasks(testDatabase.database, { tasks: 5 });
      const script = startScript('files-of-a-call', {
        token,
        port: await freePort(),
        database: databaseUrl(testDatabase.address),
      });
      const files = JSON.parse((await script.line('files ')).slice('files '.length)) as Record<'list' | 'get', string[]>;
      expect(await script.ended).toBe(0);
      await testDatabase.drop();
      expect(files.list).toContain('src/tasks/list-tasks.ts');
      expect(files.list.length).toBeLessThanOrEqual(mostFiles.list);
      expect(files.get.length).toBeLessThanOrEqual(mostFiles.get);
    });
  },
  ['mariadb'],
);
