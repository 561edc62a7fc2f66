import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import type { Database } from '../../src/db/connection.ts';
import { createLog } from '../../src/platform/log.ts';
import { createProjector, type Projector } from '../../src/projection/projector.ts';
import { retryDeadLetters } from '../../src/projection/rebuild.ts';
import { verify } from '../../src/projection/verify.ts';
import { outboxLagMs } from '../../src/schema/outbox.ts';
import { projectedTables } from '../../src/schema/projected-tables.ts';
import { createTestDatabase, describeOnOneEngine, type TestDatabase } from '../support/database.ts';
import { insertRunningTask } from '../support/source-writer.ts';

// On MariaDB, which has a limit for statements that write. Where there is none, a write that takes too long ends as a lost
// connection: projector-bad-rows.test.ts.
describeOnOneEngine('a row for which the projector waits', (engine) => {
  let testDatabase: TestDatabase;
  let database: Database;
  let projector: Projector;

  beforeAll(async () => {
    testDatabase = await createTestDatabase(engine);
    database = testDatabase.database;
  });
  afterAll(() => testDatabase.drop());
  afterEach(async () => {
    await projector.stop();
    await database.raw('drop trigger if exists poison');
    const model = ['workspace_tasks', 'workspace_task_trigrams', 'task_events', 'workspace_changes_failed'];
    for (const table of [...Object.keys(projectedTables), ...model, 'workspace_changes']) await database(table).delete();
    await database('projector_state').update({ seq: 0, floor_seq: 0 });
  });

  function start(options: { readonly statementTimeoutMs?: number } = {}): void {
    projector = createProjector({
      address: testDatabase.address,
      log: createLog('silent'),
      sweepPassMs: Number.POSITIVE_INFINITY,
      ...options,
    });
    projector.start();
  }

  const patiently = { timeout: 40_000, interval: 20 };
  const insertTasks = (count: number) => Promise.all(Array.from({ length: count }, () => insertRunningTask(database)));
  const rowsOf = async (column: string, value: Buffer | number): Promise<number> =>
    (await database('workspace_tasks').where(column, value)).length;
  const settle = () => expect.poll(() => outboxLagMs(database), patiently).toBeUndefined();

  test('longer than a statement may take becomes a dead letter; the others are projected meanwhile', async () => {
    await database.raw(
      "create trigger poison before insert on workspace_tasks for each row if new.name = 'slow' then do sleep(60); end if",
    );
    const others = await insertTasks(20);
    const slow = await insertRunningTask(database, { name: 'slow' });
    start({ statementTimeoutMs: 1000 });
    await expect.poll(() => rowsOf('live', 1), patiently).toBe(others.length);
    const later = await insertRunningTask(database);
    await expect.poll(() => rowsOf('id', later.workspace), patiently).toBe(1);
    const error = expect.stringContaining('max_statement_time');
    const letters = [expect.objectContaining({ ref: slow.workspace, error })];
    await expect.poll(() => database('workspace_changes_failed').select(), patiently).toEqual(letters);
  }, 90_000);

  test('since somebody else holds it does not stop the others', async () => {
    const [held, ...others] = await insertTasks(10);
    start();
    await settle();
    const holder = await database.transaction();
    await holder('workspace_tasks')
      .where('id', held?.workspace ?? '')
      .forUpdate();
    await database('workspaces').update({ favorite: 1 });
    await expect.poll(() => rowsOf('favorite', 1), patiently).toBe(others.length);
    await holder.rollback();
    await settle();
    await retryDeadLetters(database);
    expect(await verify(database, () => {})).toBe(0);
  }, 90_000);
});
