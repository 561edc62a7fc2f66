import { afterAll, beforeAll, expect, test } from 'vitest';
import { loadDemo } from '../../dev/demo/demo.ts';
import { generateTasks } from '../../dev/demo/generate.ts';
import { formatUuid } from '../../src/db/uuid.ts';
import { TaskPhase, TaskState, WorkspaceStatus } from '../../src/gen/tasks/v1/tasks_pb.ts';
import type { ProjectedRow } from '../../src/projection/project-task.ts';
import { projectAll } from '../../src/projection/rebuild.ts';
import { verify } from '../../src/projection/verify.ts';
import { createTestDatabase, describeOnEngines, type TestDatabase } from '../support/database.ts';
import { readTasks } from '../support/source-tasks.ts';

/** The lower-case word of an enum's number. */
function wordOf(values: object, number: number): string {
  return (Object.entries(values).find(([, value]) => value === number)?.[0] ?? '').toLowerCase();
}

describeOnEngines('demo and generated data, projected', (engine) => {
  let test_: TestDatabase;
  const rows = new Map<string, ProjectedRow>();
  beforeAll(async () => {
    test_ = await createTestDatabase(engine);
    await loadDemo(test_.database, { now: new Date() });
    await generateTasks(test_.database, { tasks: 700, seed: 5 });
    await projectAll(test_.database);
    for (const row of (await test_.database('workspace_tasks')) as ProjectedRow[]) rows.set(formatUuid(row.id), row);
  });
  afterAll(() => test_.drop());

  test('are what another derivation of the same rules makes of them, task by task', async () => {
    const tasks = await readTasks(test_.database);
    expect(tasks.length).toBeGreaterThan(800);
    expect([...rows.keys()].sort()).toEqual(tasks.map(({ id }) => formatUuid(id)).sort());
    for (const task of tasks) {
      const row = rows.get(formatUuid(task.id));
      if (row === undefined) throw new Error('no row');
      const { owner_id, organization_id, template_id, name, favorite, dormant_at, created_at, updated_at, prompt } = task;
      expect(row).toMatchObject({
        owner_id,
        organization_id,
        template_id,
        name,
        favorite,
        dormant_at,
        created_at,
        updated_at,
        prompt,
      });
      expect(row.live).toBe(task.deleted === 1 ? 0 : 1);
      expect(wordOf(WorkspaceStatus, row.status)).toBe(task.status);
      expect(wordOf(TaskPhase, row.phase)).toBe(task.phase);
      if (task.state === null) {
        // What is derived while a task initializes is the projection's own; its tests are elsewhere.
        if (row.state !== 0) expect(task.phase).toBe('initializing');
      } else {
        const { state, message, uri, created_at: at } = task.state;
        expect(wordOf(TaskState, row.state)).toBe(state === 'failure' ? 'failed' : state);
        expect(row).toMatchObject({ state_message: message, state_uri: uri ?? '', state_at: at });
      }
    }
  });

  test("hold the two tasks of Coder's example, to the microsecond", () => {
    expect(rows.get('a7a27450-ca16-4553-a6c5-9d6f04808569')).toMatchObject({
      name: 'task-hardcore-herschel-bd08',
      prompt: 'What directory are you in?',
      display_name: 'What directory are you in?',
      status: WorkspaceStatus.RUNNING,
      state: TaskState.WORKING,
      state_message: 'Listed root directory contents, working directory reset',
      state_at: '2025-08-22 10:03:27.837842',
      created_at: '2025-08-22 09:21:39.697094',
      updated_at: '2025-08-22 09:21:39.697094',
    });
    expect(rows.get('50f92138-f463-4f2b-abad-1816264b065f')).toMatchObject({
      name: 'task-musing-dewdney-f058',
      prompt: 'What is 1 + 1?',
      status: WorkspaceStatus.RUNNING,
      state: TaskState.IDLE,
      list_status: WorkspaceStatus.RUNNING + 16,
      state_message: 'Completed arithmetic calculation',
      state_at: '2025-08-22 09:22:33.810707',
      created_at: '2025-08-22 09:18:28.027378',
    });
  });

  test('leave no difference', async () => {
    expect(await verify(test_.database, () => {})).toBe(0);
  });
});
