import { stripVTControlCharacters } from 'node:util';
import { create } from '@bufbuild/protobuf';
import { timestampFromDate } from '@bufbuild/protobuf/wkt';
import { expect, test } from 'vitest';
import { ago, printableLines, taskTable, waitingFirst } from '../../packages/cli/src/task-table.ts';
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

const now = Date.UTC(2026, 0, 1, 12, 36);

test('aligned, and nothing that steers a terminal', () => {
  expect(taskTable(waitingFirst(tasks), { rows: 24, columns: 200, now }).split('\n').slice(0, 3)).toEqual([
    'TASK    OWNER      STATUS   PHASE   STATE  CHANGED    MESSAGE',
    'task-4  developer  running  active  idle   2 min ago  What next? Tell me [31mmore',
    'task-3  developer  running  active  idle   3 min ago',
  ]);
});

test('a task without a workspace has no status', () => {
  const [, line] = taskTable([create(TaskSchema, { name: 'new', phase: TaskPhase.PENDING })], {
    rows: 24,
    columns: 80,
    now,
  }).split('\n');
  expect(line).toMatch(/^new +- +pending/);
});

test('what waits comes first, the longest before all, and then the newest', () => {
  const waiting = tasks.map((task, i) => (i === 1 || i === 3 ? { ...task, waitingSince: at(50 - i) } : task));
  expect(waitingFirst(waiting).map(({ name }) => name)).toEqual(['task-3', 'task-1', 'task-4', 'task-2', 'task-0']);
});

test('what waits says so, and what is idle without waiting does not', () => {
  const [, waits, idles] = taskTable(
    [
      { ...(tasks[0] as (typeof tasks)[0]), waitingSince: at(30) },
      { ...(tasks[1] as (typeof tasks)[0]), phase: TaskPhase.PAUSED },
    ],
    { rows: 24, columns: 80, now },
  ).split('\n');
  expect([waits, idles]).toEqual([expect.stringContaining('  waiting  '), expect.stringContaining('  idle  ')]);
});

test('a text keeps its lines and nothing that steers a terminal', () => {
  expect(printableLines('a \u001b[31mb\r\n\n\t- c\u202e\rd\n\n')).toEqual(['a [31mb', '', '  - c', 'd']);
});

test('colors say what waits and what has failed, and take no room', () => {
  const [, waiting, failed, other] = taskTable(
    [
      { ...(tasks[0] as (typeof tasks)[0]), waitingSince: at(30) },
      { ...(tasks[1] as (typeof tasks)[0]), status: WorkspaceStatus.FAILED },
      tasks[2] as (typeof tasks)[0],
    ],
    { rows: 24, columns: 20, now, colors: true },
  ).split('\n');
  const texts = [waiting, failed, other].map((line) => stripVTControlCharacters(line ?? ''));
  for (const text of texts) expect(text.length).toBeLessThanOrEqual(20);
  expect([waiting, failed, other]).toEqual([`\u001b[33m${texts[0]}\u001b[39m`, `\u001b[31m${texts[1]}\u001b[39m`, texts[2]]);
});

test.each([
  [-5, '0 s ago'],
  [59, '59 s ago'],
  [60, '1 min ago'],
  [3599, '59 min ago'],
  [7300, '2 h ago'],
  [200_000, '2 d ago'],
])('%i seconds are %s', (seconds, text) => {
  expect(ago(timestampFromDate(new Date(now - seconds * 1000)), now)).toBe(text);
});

test('never larger than the terminal', () => {
  const lines = taskTable(waitingFirst(tasks), { rows: 5, columns: 30 }).split('\n');
  expect(lines).toHaveLength(5);
  expect(lines.at(-1)).toBe('and 2 more');
  expect(lines.every((line) => line.length <= 30)).toBe(true);
  expect(lines[1]).toBe('task-4  running  idle   What …');
});

test.each([
  [69, 'TASK    OWNER      STATUS   PHASE   STATE  CHANGED    MESSAGE'],
  [68, 'TASK    OWNER      STATUS   STATE  CHANGED    MESSAGE'],
  [61, 'TASK    OWNER      STATUS   STATE  CHANGED    MESSAGE'],
  [60, 'TASK    STATUS   STATE  CHANGED    MESSAGE'],
  [49, 'TASK    STATUS   STATE  MESSAGE'],
])('%i columns do without what says least', (columns, heading) => {
  const [first, second] = taskTable(waitingFirst(tasks), { rows: 24, columns, now }).split('\n');
  expect(first).toBe(heading);
  expect(second).toContain('What next?');
});

test('no tasks', () => {
  expect(taskTable([], { rows: 24, columns: 80 })).toBe('TASK  OWNER  STATUS  PHASE  STATE  CHANGED  MESSAGE');
});
