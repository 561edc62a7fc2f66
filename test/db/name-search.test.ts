import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Database } from '../../src/db/connection.ts';
import { projectAll } from '../../src/projection/rebuild.ts';
import type { Scope } from '../../src/tasks/scope.ts';
import { trigramsOf } from '../../src/tasks/store/name-trigrams.ts';
import { createTaskRepository, type TaskRepository } from '../../src/tasks/store/task-repository.ts';
import { createTestDatabase, describeOnEngines, type TestDatabase } from '../support/database.ts';
import { insertRunningTask } from '../support/source-writer.ts';

const everything: Scope = {
  userId: Buffer.alloc(16),
  everything: true,
  organizations: [],
  ownIn: [],
  memberOf: [],
  sharedWith: [],
};

const indexed = 'select `s`.`trigram` from `workspace_task_trigrams` as `s` where `s`.`task_id` = ?';

describeOnEngines('the search for names', (engine) => {
  let test_: TestDatabase;
  let database: Database;
  let tasks: TaskRepository;

  beforeAll(async () => {
    test_ = await createTestDatabase(engine);
    database = test_.database;
  });
  afterAll(() => test_.drop());

  const search = async (name: string) =>
    (await tasks.list(everything, { filter: { name }, order: 'created_at', limit: 100 })).rows.map((row) => row.name).toSorted();
  const rename = (id: Buffer, name: string) => database('workspaces').where('workspaces.id', id).update({ name });
  /** The trigrams of a task, as the table has them. */
  const trigrams = async (id: Buffer) => {
    const [rows] = (await database.raw(indexed, [id])) as [{ trigram: Buffer }[]];
    return rows.map(({ trigram }) => trigram.toString()).toSorted();
  };
  const expected = (name: string) => trigramsOf(Buffer.from(name)).map(String).toSorted();

  test('follows a task through its life', async () => {
    tasks = createTaskRepository(database, 30);
    const { workspace } = await insertRunningTask(database);
    await rename(workspace, 'Größe-ändern');
    await projectAll(database);
    expect(await trigrams(workspace)).toEqual(expected('größe-ändern'));
    expect(await search('ÖSSE')).toEqual([]);
    expect(await search('RÖß')).toEqual(['Größe-ändern']);

    await rename(workspace, 'tiny');
    await projectAll(database);
    expect(await trigrams(workspace)).toEqual(['iny', 'tin']);
    expect(await search('größe')).toEqual([]);
    expect(await search('tiny')).toEqual(['tiny']);

    await database('workspaces').where('workspaces.id', workspace).update({ deleted: true });
    await projectAll(database);
    expect(await trigrams(workspace)).toEqual([]);
    expect(await search('tiny')).toEqual([]);
    const deleted = await tasks.list(everything, { filter: { name: 'tiny', status: 10 }, order: 'created_at', limit: 100 });
    expect(deleted.rows).toHaveLength(1);

    await database('workspaces').where('workspaces.id', workspace).update({ deleted: false });
    await projectAll(database);
    expect(await trigrams(workspace)).toEqual(['iny', 'tin']);
    await database('workspaces').where('workspaces.id', workspace).delete();
    await projectAll(database);
    expect(await trigrams(workspace)).toEqual([]);
  });

  test('finds a task of another owner, and one whose name another version of the program wrote', async () => {
    tasks = createTaskRepository(database, 30);
    const owner = Buffer.alloc(16, 5);
    const { workspace } = await insertRunningTask(database, { owner_id: owner });
    await rename(workspace, 'wandering-quokka');
    await projectAll(database);
    const other = Buffer.alloc(16, 7);
    await database('workspaces').where('workspaces.id', workspace).update({ owner_id: other });
    await projectAll(database);
    expect(await search('quokka')).toEqual(['wandering-quokka']);
    const ofOwner = async (ownerId: Buffer) =>
      (await tasks.list(everything, { filter: { name: 'quokka', ownerId }, order: 'created_at', limit: 100 })).rows;
    expect(await ofOwner(other)).toHaveLength(1);
    expect(await ofOwner(owner)).toHaveLength(0);

    // As the version before writes a new name: it knows nothing of trigrams.
    await database('workspace_tasks')
      .where('workspace_tasks.id', workspace)
      .update({ name: 'resting-wombat', name_fold: Buffer.from('resting-wombat') });
    expect(await search('wombat')).toEqual(['resting-wombat']);
    expect(await search('quokka')).toEqual([]);
  });

  /** Searches before there is such a task, and after. */
  async function findsWhatIsNew(part: string, asked: string): Promise<void> {
    const fresh = createTaskRepository(database, 30);
    const list = async (name: string) =>
      (await fresh.list(everything, { filter: { name }, order: 'created_at desc', limit: 25 })).rows;
    expect(await list(part)).toEqual([]);
    const { workspace } = await insertRunningTask(database);
    await rename(workspace, `a-${part}`);
    await projectAll(database);
    expect((await list(asked)).map(({ id }) => id)).toEqual([workspace]);
    expect(await fresh.count(everything, { name: part }, 10)).toBe(1);
  }

  test('finds what is new, though it remembers how rare a part is', () => findsWhatIsNew('zyzzyva', 'zyzzyva'));

  test('finds what is new, though it remembers that nobody has frequent parts together', async () => {
    const rows = Array.from({ length: 8000 }, (_, i) => ({
      trigram: Buffer.from(i % 2 === 0 ? 'kkq' : 'kqq'),
      owner_id: Buffer.alloc(16, 9),
      task_id: randomBytes(16),
    }));
    await database.batchInsert('workspace_task_trigrams', rows, 1000);
    await findsWhatIsNew('kkqq', 'KKQQ');
  });
});

test('trigrams are of characters, each once', () => {
  expect(trigramsOf(Buffer.from('aaaa')).map(String)).toEqual(['aaa']);
  expect(trigramsOf(Buffer.from('ab')).map(String)).toEqual([]);
  expect(trigramsOf(Buffer.from('ä🚀é-')).map(String)).toEqual(['ä🚀é', '🚀é-']);
});
