import { create } from '@bufbuild/protobuf';
import { timestampFromDate } from '@bufbuild/protobuf/wkt';
import { expect, test } from 'vitest';
import { taskTable } from '../../src/commands/task-table.ts';
import { TaskPhase, TaskSchema, TaskState, WorkspaceStatus } from '../../src/gen/tasks/v1/tasks_pb.ts';

const at = (minute: number) => timestampFromDate(new Date(Date.UTC(2026, 0, 1, 12, minute)));
const tasks = Array.from({ length: 5 }, (_, i) =>
  create(TaskSchema, {
    id: `${i}`,
    name: `task-${i}`,
    ownerName: 'developer',
    status: WorkspaceStatus.RUNNING,
    phase: TaskPhase.ACTIVE,
    createdAt: at(i),
    currentState: { state: TaskState.IDLE, timestamp: at(30 + i), message: i === 4 ? 'What next?\nTell me \u001b[31mmore' : '' },
  }),
);

test('newest first, aligned, and nothing that steers a terminal', () => {
  expect(taskTable(tasks, { rows: 24, columns: 200 }).split('\n').slice(0, 3)).toEqual([
    'TASK    OWNER      STATUS   PHASE   STATE  CHANGED         MESSAGE',
    'task-4  developer  running  active  idle   01-01 12:34:00  What next? Tell me [31mmore',
    'task-3  developer  running  active  idle   01-01 12:33:00',
  ]);
});

test('never larger than the terminal', () => {
  const lines = taskTable(tasks, { rows: 5, columns: 30 }).split('\n');
  expect(lines).toHaveLength(5);
  expect(lines.at(-1)).toBe('and 2 more');
  expect(lines.every((line) => line.length <= 30)).toBe(true);
  expect(lines[1]).toBe('task-4  running  idle   What …');
});

test.each([
  [74, 'TASK    OWNER      STATUS   PHASE   STATE  CHANGED         MESSAGE'],
  [73, 'TASK    OWNER      STATUS   STATE  CHANGED         MESSAGE'],
  [66, 'TASK    OWNER      STATUS   STATE  CHANGED         MESSAGE'],
  [65, 'TASK    STATUS   STATE  CHANGED         MESSAGE'],
  [54, 'TASK    STATUS   STATE  MESSAGE'],
])('%i columns do without what says least', (columns, heading) => {
  const [first, second] = taskTable(tasks, { rows: 24, columns }).split('\n');
  expect(first).toBe(heading);
  expect(second).toContain('What next?');
});

test('no tasks', () => {
  expect(taskTable([], { rows: 24, columns: 80 })).toBe('TASK  OWNER  STATUS  PHASE  STATE  CHANGED  MESSAGE');
});
