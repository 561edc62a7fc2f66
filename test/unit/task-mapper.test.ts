import { toJson } from '@bufbuild/protobuf';
import { describe, expect, test } from 'vitest';
import { AgentLifecycle, type Task, TaskPhase, TaskSchema, TaskState, WorkspaceStatus } from '../../src/gen/tasks/v1/tasks_pb.ts';
import type { AgentStatus } from '../../src/tasks/store/agent-status.ts';
import type { TaskRow } from '../../src/tasks/store/tables.ts';
import { toAgentHealth, toTask } from '../../src/tasks/task-mapper.ts';

const id = (digit: string) => Buffer.from(digit.repeat(32), 'hex');
const owner = id('b');

/** A task in the middle of its life; each test changes what it is about. */
const row: TaskRow = {
  id: Buffer.from('a7a27450ca164553a6c59d6f04808569', 'hex'),
  workspace_id: id('7'),
  workspace_name: 'Its-Workspace',
  owner_id: owner,
  organization_id: id('c'),
  template_id: id('d'),
  template_version_id: id('e'),
  build_number: 3,
  agent_id: id('1'),
  agent_lifecycle: AgentLifecycle.READY,
  app_id: id('2'),
  name: 'Fix-Login',
  display_name: 'Fix the login “redirect” 🚀',
  prompt: 'Fix the login\n“redirect” 🚀',
  status: WorkspaceStatus.RUNNING,
  phase: TaskPhase.ACTIVE,
  state: TaskState.WORKING,
  state_at: '2025-08-22 10:03:27.837842',
  state_message: 'Reading the code',
  state_uri: 'https://example.com/pull/1',
  texts_bytes: 100,
  favorite: 1,
  sort_key: null,
  dormant_at: '2025-08-23 00:00:00.000001',
  created_at: '2025-08-22 09:21:39.697094',
  updated_at: '2025-08-22 09:21:40.000000',
  owner_name: 'developer',
  owner_avatar_url: 'https://example.com/developer.png',
  organization_name: 'acme',
  template_name: 'typescript',
  template_display_name: 'TypeScript',
  template_icon: '/icon/typescript.svg',
  last_used_at: '2025-08-24 12:00:00.500000',
  agent_status: 'connected',
};

/** `npm test -- test/unit/task-mapper.test.ts -u` writes the golden files anew. */
async function expectGolden(task: Task, name: string): Promise<void> {
  await expect(`${JSON.stringify(toJson(TaskSchema, task), undefined, 2)}\n`).toMatchFileSnapshot(`golden/${name}.json`);
}

test('a task with everything', () => expectGolden(toTask(row, owner), 'task-with-everything'));

test('a task with only what it must have', () =>
  expectGolden(
    toTask(
      {
        ...row,
        workspace_id: null,
        workspace_name: null,
        build_number: 0,
        agent_id: null,
        agent_lifecycle: 0,
        agent_status: null,
        app_id: null,
        display_name: '',
        prompt: '',
        status: WorkspaceStatus.UNSPECIFIED,
        phase: TaskPhase.PENDING,
        state: 0,
        state_at: null,
        state_message: '',
        state_uri: '',
        favorite: 0,
        dormant_at: null,
        owner_name: null,
        owner_avatar_url: null,
        organization_name: null,
        template_name: null,
        template_display_name: null,
        template_icon: null,
        last_used_at: null,
      },
      owner,
    ),
    'task-with-the-least',
  ));

test.each([
  ['waits since its idle state', TaskPhase.ACTIVE, TaskState.IDLE, '2025-08-22T10:03:27.837842Z'],
  ['works', TaskPhase.ACTIVE, TaskState.WORKING, undefined],
  ['is stopped, and was idle before', TaskPhase.PAUSED, TaskState.IDLE, undefined],
  ['still starts', TaskPhase.INITIALIZING, TaskState.IDLE, undefined],
])('a task that %s says so', (_what, phase, state, since) => {
  const json = toJson(TaskSchema, toTask({ ...row, phase, state }, owner));
  expect(json).toHaveProperty('currentState.timestamp', '2025-08-22T10:03:27.837842Z');
  expect((json as { waitingSince?: string }).waitingSince).toBe(since);
});

test("a favorite is told to its owner and to nobody else: it is the owner's own mark", () => {
  expect(toTask(row, owner).favorite).toBe(true);
  expect(toTask(row, id('9')).favorite).toBe(false);
});

test('what was never used has no time of it', () => {
  expect(toTask({ ...row, last_used_at: '0001-01-01 00:00:00.000000' }, owner).lastUsedAt).toBeUndefined();
});

test('microseconds survive', () => {
  expect(toTask(row, owner).currentState?.timestamp).toMatchObject({ seconds: 1755857007n, nanos: 837842000 });
});

test.each(['0000-00-00 00:00:00.000000', '2026-00-10 00:00:00.000000', '0000-05-05 00:00:00.000000'])(
  'the invalid time %s is left out, and all else is there',
  (time) => {
    const { createdAt: _, ...others } = toJson(TaskSchema, toTask(row, owner)) as { createdAt: string; id: string };
    expect(toJson(TaskSchema, toTask({ ...row, created_at: time }, owner))).toEqual(others);
    const none = toJson(
      TaskSchema,
      toTask({ ...row, updated_at: time, state_at: time, dormant_at: time, last_used_at: time }, owner),
    );
    expect(none).toMatchObject({ id: others.id, currentState: { message: 'Reading the code' } });
  },
);

describe('agent health, the first rule that holds', () => {
  const notRunning = 'agent is not running';
  const shuttingDown = 'agent is shutting down';
  test.each<[AgentStatus, keyof typeof AgentLifecycle, string | undefined]>([
    ['connected', 'CREATED', undefined],
    ['connected', 'STARTING', undefined],
    ['connected', 'START_TIMEOUT', undefined],
    ['connected', 'START_ERROR', 'agent startup script exited with an error'],
    ['connected', 'READY', undefined],
    ['connected', 'SHUTTING_DOWN', shuttingDown],
    ['connected', 'SHUTDOWN_TIMEOUT', shuttingDown],
    ['connected', 'SHUTDOWN_ERROR', shuttingDown],
    ['connected', 'OFF', shuttingDown],
    ['connecting', 'CREATED', 'agent has not yet connected'],
    ['connecting', 'OFF', notRunning],
    ['timeout', 'CREATED', 'agent is taking too long to connect'],
    ['timeout', 'OFF', notRunning],
    ['disconnected', 'READY', 'agent has lost connection'],
    ['disconnected', 'START_ERROR', 'agent has lost connection'],
    ['disconnected', 'OFF', notRunning],
  ])('%s, %s', (status, lifecycle, reason) => {
    expect(toAgentHealth(status, AgentLifecycle[lifecycle])).toEqual(
      reason === undefined ? { healthy: true } : { healthy: false, reason },
    );
  });
});
