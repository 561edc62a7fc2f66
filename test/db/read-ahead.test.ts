import { afterAll, beforeAll, expect, test } from 'vitest';
import { openAheadReader, type ReadAhead, serverOf } from '../../src/projection/read-ahead.ts';
import { projectTasks } from '../../src/projection/read-model.ts';
import { readTasks } from '../../src/projection/task-source.ts';
import { verify } from '../../src/projection/verify.ts';
import { createTestDatabase, describeOnOneEngine, type TestDatabase } from '../support/database.ts';
import { insertRunningTask } from '../support/source-writer.ts';

describeOnOneEngine('reading ahead', (engine) => {
  let target: TestDatabase;
  const ids: Buffer[] = [];
  beforeAll(async () => {
    target = await createTestDatabase(engine);
    for (let i = 0; i < 230; i++) ids.push((await insertRunningTask(target.database)).workspace);
    ids.sort((a, b) => a.compare(b));
  }, 60_000);
  afterAll(() => target.drop());

  test('gives what is read otherwise, from the same server alone', async () => {
    const { address, database } = target;
    const some = ids.slice(0, 3);
    const reader = openAheadReader(address, await serverOf(database), 5000);
    const elsewhere = openAheadReader(address, 'another 3306 2', 5000);
    try {
      expect(await reader.read('workspaces', some)).toEqual(await readTasks(database, 'workspaces', some));
      expect(await elsewhere.read('workspaces', some)).toBeUndefined();
    } finally {
      await reader.close(1000);
      await elsewhere.close(1000);
    }
    expect(await reader.read('workspaces', some)).toBeUndefined(); // closed
  });

  test('the next workspaces are read while some are written, and again where that failed', async () => {
    const { address, database } = target;
    const reader = openAheadReader(address, await serverOf(database), 5000);
    const read: Buffer[][] = [];
    const half: ReadAhead = (source, some) => {
      read.push(some);
      return read.length === 1 ? reader.read(source, some) : Promise.resolve(undefined);
    };
    try {
      expect(await projectTasks(database, ids, half)).toHaveLength(230);
    } finally {
      await reader.close(1000);
    }
    expect(read).toEqual([ids.slice(100, 200), ids.slice(200)]);
    await database('workspace_changes').delete();
    const columns: string[] = [];
    await verify(database, ({ column }) => columns.push(column));
    // Without a projector there are no events.
    expect(new Set(columns)).toEqual(new Set(['feed']));
  });
});
