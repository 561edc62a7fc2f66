import { pino } from 'pino';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import type { Database } from '../../src/db/connection.ts';
import { createLog } from '../../src/platform/log.ts';
import { createProjector, type Projector, type ProjectorOptions } from '../../src/projection/projector.ts';
import { retryDeadLetters } from '../../src/projection/rebuild.ts';
import { verify } from '../../src/projection/verify.ts';
import { outboxLagMs } from '../../src/schema/outbox.ts';
import { createTestDatabase, describeOnOneEngine, type TestDatabase } from '../support/database.ts';
import { emptyProjectedTables } from '../support/projected-tables.ts';
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
    await emptyProjectedTables(database);
  });

  function start(options: Partial<Pick<ProjectorOptions, 'statementTimeoutMs' | 'log'>> = {}): void {
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

  /** A log that counts the lines with an error that the tests raise. */
  function countingLog(): { readonly log: ProjectorOptions['log']; count(): number } {
    let count = 0;
    const write = (line: string): void => void (count += line.includes('raised here') ? 1 : 0);
    return { log: pino({ level: 'debug' }, { write }), count: () => count };
  }

  test.each<[errno: number, name: string]>([
    [1180, 'ER_ERROR_DURING_COMMIT'],
    [1205, 'ER_LOCK_WAIT_TIMEOUT'],
  ])('since it is refused by %i %s again and again is not held against it; the others are projected meanwhile', async (errno) => {
    await database.raw(
      `create trigger poison before insert on workspace_tasks for each row if new.name = 'refused' then signal sqlstate 'HY000' set mysql_errno = ${errno}, message_text = 'raised here'; end if`,
    );
    const { log, count } = countingLog();
    await insertTasks(10);
    await insertRunningTask(database, { name: 'refused' });
    start({ log });
    for (let round = 0; round < 12; round++) {
      const refusals = count();
      const { workspace } = await insertRunningTask(database);
      await expect.poll(() => rowsOf('id', workspace), patiently).toBe(1);
      await expect.poll(count, patiently).toBeGreaterThan(refusals);
    }
    expect(await rowsOf('live', 1)).toBe(22);
    expect(await database('workspace_changes_failed')).toEqual([]);
    await database.raw('drop trigger poison');
    await settle();
    expect(await rowsOf('live', 1)).toBe(23);
    expect(await database('workspace_changes_failed')).toEqual([]);
  });

  test.each<[errno: number, name: string]>([
    [1213, 'ER_LOCK_DEADLOCK'],
    [1290, 'ER_OPTION_PREVENTS_STATEMENT'],
    [1836, 'ER_READ_ONLY_MODE'],
    [3101, 'ER_TRANSACTION_ROLLBACK_DURING_COMMIT'],
  ])('since every write is refused by %i %s is not held against it', async (errno) => {
    await database.raw(
      `create trigger poison before insert on workspace_tasks for each row signal sqlstate 'HY000' set mysql_errno = ${errno}, message_text = 'raised here'`,
    );
    const { log, count } = countingLog();
    await insertTasks(3);
    start({ log });
    await expect.poll(count, patiently).toBeGreaterThan(6);
    expect(await database('workspace_changes_failed')).toEqual([]);
    await database.raw('drop trigger poison');
    await settle();
    expect(await rowsOf('live', 1)).toBe(3);
    expect(await database('workspace_changes_failed')).toEqual([]);
  });

  test.each<[errno: number, name: string]>([
    [1180, 'ER_ERROR_DURING_COMMIT'],
    [3100, 'ER_RUN_HOOK_ERROR'],
  ])('since a batch of it is too large for the cluster, by %i %s, is projected in a smaller one', async (errno) => {
    // `now` is the time of the statement: counts its rows.
    await database.raw(`create trigger poison before insert on workspace_tasks for each row begin
      set @rows_of_it = if(@statement_of_it <=> now(6), @rows_of_it + 1, 1), @statement_of_it = now(6);
      if @rows_of_it > 20 then signal sqlstate 'HY000' set mysql_errno = ${errno}, message_text = 'raised here'; end if;
    end`);
    const { log, count } = countingLog();
    await insertTasks(100);
    start({ log });
    await settle();
    expect(count()).toBeGreaterThan(0);
    expect(await rowsOf('live', 1)).toBe(100);
    expect(await database('workspace_changes_failed')).toEqual([]);
  });
});
