import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { AgentLifecycle, TaskPhase, TaskState, WorkspaceStatus } from '../../src/gen/tasks/v1/tasks_pb.ts';
import { type ProjectedRow, type ProjectedTask, projectTask as projectSourced } from '../../src/projection/project-task.ts';
import type { TaskFacts } from '../../src/projection/task-facts.ts';
import { taskOfWorkspace } from '../../src/projection/workspace-tasks.ts';
import { someFacts } from '../support/task-facts.ts';

/** The rows of a workspace that is a task. */
function projectTask(facts: TaskFacts): ProjectedTask | undefined {
  const task = taskOfWorkspace(facts);
  return task === undefined ? undefined : projectSourced(task);
}

function project(changes: Partial<TaskFacts> = {}): ProjectedTask {
  const task = projectTask(someFacts(changes));
  if (task === undefined) throw new Error('not a task');
  return task;
}

const rowOf = (changes: Partial<TaskFacts> = {}): ProjectedRow => project(changes).row;

const noApps = {
  sidebar_app_id: null,
  sidebar_app_health: null,
  sidebar_agent_id: null,
  sidebar_agent_lifecycle: null,
  app_id: null,
  app_health: null,
  app_agent_id: null,
  app_agent_lifecycle: null,
} satisfies Partial<TaskFacts>;

const noAgents = { ...noApps, agent_id: null, agent_lifecycle: null } satisfies Partial<TaskFacts>;

describe('what is a task', () => {
  // Flag of the latest build, flag of the latest start, bytes of the start's prompt; undefined: there is no start.
  test.each<[latest: number | null, start: number | null | undefined, prompt: number | null, expected: boolean]>([
    [1, 1, null, true],
    [1, 0, null, true],
    [1, null, null, true],
    [1, undefined, null, true],
    [0, 1, null, true],
    [null, 1, null, true],
    [null, null, 5, true],
    [0, null, 5, true],
    [null, null, 0, false],
    [null, null, null, false],
    [null, 0, 5, false],
    [0, 0, 5, false],
    [0, 0, null, false],
    [0, undefined, null, false],
    [null, undefined, null, false],
  ])('latest build flagged %s, latest start %s with a prompt of %s bytes: %s', (latest, start, prompt, expected) => {
    const facts = someFacts({
      build_has_ai_task: latest,
      start_has_ai_task: start ?? null,
      start_prompt_length: prompt,
      ...(start === undefined ? { start_id: null } : {}),
    });
    expect(projectTask(facts) !== undefined).toBe(expected);
  });

  test('a workspace without a build is not a task', () => {
    expect(projectTask(someFacts({ build_id: null, build_has_ai_task: null, start_id: null }))).toBeUndefined();
  });

  test('a failed first build, of which the flag is not known, is one', () => {
    const { row } = project({
      ...noAgents,
      build_has_ai_task: null,
      start_has_ai_task: null,
      job_status: 'failed',
      job_error: 1,
    });
    expect(row).toMatchObject({ status: WorkspaceStatus.FAILED, phase: TaskPhase.ERROR, prompt: 'Do something' });
  });
});

describe('status', () => {
  const S = WorkspaceStatus;
  test.each<[job: string | null, start: number, stop: number, remove: number]>([
    ['pending', S.PENDING, S.PENDING, S.PENDING],
    [null, S.PENDING, S.PENDING, S.PENDING],
    ['running', S.STARTING, S.STOPPING, S.DELETING],
    ['succeeded', S.RUNNING, S.STOPPED, S.DELETED],
    ['canceling', S.CANCELING, S.CANCELING, S.CANCELING],
    ['canceled', S.CANCELED, S.CANCELED, S.CANCELED],
    ['failed', S.FAILED, S.FAILED, S.FAILED],
    ['unknown', S.FAILED, S.FAILED, S.FAILED],
    ['constructor', S.FAILED, S.FAILED, S.FAILED],
  ])('job %s: start %d, stop %d, delete %d', (job_status, start, stop, remove) => {
    expect(rowOf({ job_status, build_transition: 'start' }).status).toBe(start);
    expect(rowOf({ job_status, build_transition: 'stop' }).status).toBe(stop);
    expect(rowOf({ job_status, build_transition: 'delete' }).status).toBe(remove);
  });

  test.each(['running', 'succeeded'])('an unknown transition of a job that is %s failed', (job_status) => {
    expect(rowOf({ job_status, build_transition: 'toString' }).status).toBe(S.FAILED);
  });

  test('a workspace that is marked deleted is deleted and paused, whatever its build says', () => {
    expect(rowOf({ deleted: 1 })).toMatchObject({ live: 0, status: S.DELETED, list_status: S.DELETED, phase: TaskPhase.PAUSED });
    expect(rowOf({ deleted: 0 }).live).toBe(1);
  });

  test('a delete that succeeded stays live until the workspace is marked', () => {
    expect(rowOf({ build_transition: 'delete' })).toMatchObject({ live: 1, status: S.DELETED, list_status: S.DELETED });
  });
});

describe('phase', () => {
  const P = TaskPhase;
  const agentStates = [
    undefined,
    'created',
    'starting',
    'ready',
    'start_timeout',
    'start_error',
    'shutting_down',
    'off',
  ] as const;

  test.each<[transition: string, job: string | null, expected: number]>([
    ['start', null, P.PENDING],
    ['stop', null, P.PENDING],
    ['start', 'pending', P.PENDING],
    ['start', 'running', P.ACTIVE],
    ['start', 'succeeded', P.ACTIVE],
    ['start', 'failed', P.ERROR],
    ['start', 'canceling', P.ERROR],
    ['start', 'canceled', P.ERROR],
    ['stop', 'failed', P.ERROR],
    ['delete', 'canceled', P.ERROR],
    ['stop', 'succeeded', P.PAUSED],
    ['delete', 'succeeded', P.PAUSED],
    ['stop', 'pending', P.UNKNOWN],
    ['stop', 'running', P.UNKNOWN],
    ['delete', 'pending', P.UNKNOWN],
    ['delete', 'running', P.UNKNOWN],
    ['start', 'unknown', P.UNKNOWN],
    ['other', 'succeeded', P.UNKNOWN],
  ])('%s and %s: %d with a healthy app', (build_transition, job_status, expected) => {
    expect(rowOf({ build_transition, job_status }).phase).toBe(expected);
  });

  test.each<[lifecycle: string | undefined, health: string | undefined, expected: number]>([
    ...agentStates
      .slice(0, 3)
      .flatMap((life) =>
        (life === undefined ? [undefined] : [undefined, 'initializing', 'healthy', 'unhealthy']).map(
          (health): [string | undefined, string | undefined, number] => [life, health, P.INITIALIZING],
        ),
      ),
    ...(['ready', 'start_timeout', 'start_error'] as const).flatMap(
      (life): [string | undefined, string | undefined, number][] => [
        [life, 'initializing', P.INITIALIZING],
        [life, 'healthy', P.ACTIVE],
        [life, 'disabled', P.ACTIVE],
        [life, 'unhealthy', P.ERROR],
        [life, undefined, P.UNKNOWN],
        [life, 'other', P.UNKNOWN],
      ],
    ),
    ['shutting_down', 'healthy', P.UNKNOWN],
    ['shutdown_timeout', 'healthy', P.UNKNOWN],
    ['shutdown_error', 'initializing', P.UNKNOWN],
    ['off', 'unhealthy', P.UNKNOWN],
    ['other', 'healthy', P.UNKNOWN],
  ])('started, agent %s, app %s: %d', (lifecycle, health, expected) => {
    for (const job_status of ['running', 'succeeded']) {
      const facts =
        lifecycle === undefined
          ? noAgents
          : health === undefined
            ? { ...noApps, agent_lifecycle: lifecycle }
            : { sidebar_agent_lifecycle: lifecycle, sidebar_app_health: health };
      expect(rowOf({ job_status, ...facts }).phase).toBe(expected);
    }
  });
});

describe('agent and app', () => {
  test('the app that the build names, and its agent, though there are others', () => {
    const facts = someFacts({ agent_id: Buffer.alloc(16, 1), app_id: Buffer.alloc(16, 2) });
    const row = projectTask(facts)?.row;
    expect(row).toMatchObject({ app_id: facts.sidebar_app_id, agent_id: facts.sidebar_agent_id });
  });

  const unnamed = { sidebar_app_id: null, sidebar_agent_id: null, sidebar_app_health: null, sidebar_agent_lifecycle: null };
  test.each<[only: 'app' | 'agent' | 'none', agent: boolean, app: boolean]>([
    ['app', true, true], // it says which agent, of however many
    ['agent', true, false],
    ['none', false, false],
  ])('none is named, and there is one %s', (only, agent, app) => {
    const facts = someFacts({
      ...unnamed,
      ...(only === 'app' ? {} : { app_id: null }),
      ...(only === 'none' ? { agent_id: null } : {}),
    });
    const row = projectTask(facts)?.row;
    expect(row?.agent_id).toEqual(agent ? facts.agent_id : null);
    expect(row?.app_id).toEqual(app ? facts.app_id : null);
  });

  test.each(Object.entries(AgentLifecycle).filter(([, value]) => value !== AgentLifecycle.UNSPECIFIED))(
    'lifecycle %s is %d',
    (word, value) => {
      expect(rowOf({ sidebar_agent_lifecycle: word.toLowerCase() }).agent_lifecycle).toBe(value);
    },
  );

  test.each(['', 'paused', '__proto__', 'valueOf'])('an unknown lifecycle %j is 0, and the agent stays', (word) => {
    const row = rowOf({ sidebar_agent_lifecycle: word });
    expect(row.agent_lifecycle).toBe(0);
    expect(row.agent_id).not.toBeNull();
  });
});

describe('current state', () => {
  const built = '2026-11-01 10:00:00.000003';
  const earlier = '2026-11-01 09:59:59.999999';
  const later = '2026-11-01 10:00:00.000004';
  const status = (status_created_at: string) => ({
    status_state: 'working',
    status_message: 'On it',
    status_uri: 'https://example.com/1',
    status_created_at,
  });
  const shown = { state: TaskState.WORKING, state_message: 'On it', state_uri: 'https://example.com/1' };
  const none = { state: 0, state_at: null, state_message: '', state_uri: '' };

  test.each<[transition: string, at: string, expected: object]>([
    ['start', later, { ...shown, state_at: later }],
    ['start', built, none],
    ['start', earlier, none],
    ['stop', earlier, { ...shown, state_at: earlier }],
    ['stop', later, { ...shown, state_at: later }],
    ['delete', earlier, { ...shown, state_at: earlier }],
  ])('%s at 10:00:00.000003, reported at %s', (build_transition, at, expected) => {
    expect(rowOf({ build_transition, build_created_at: built, ...status(at) })).toMatchObject(expected);
  });

  test.each<[word: string, state: number]>([
    ['working', TaskState.WORKING],
    ['idle', TaskState.IDLE],
    ['complete', TaskState.COMPLETE],
    ['failure', TaskState.FAILED],
  ])('%s is %d', (status_state, state) => {
    expect(rowOf({ ...status(later), status_state }).state).toBe(state);
  });

  test.each(['failed', 'completed', '', 'hasOwnProperty'])('the unknown word %j is no report', (status_state) => {
    expect(rowOf({ ...status(later), status_state })).toMatchObject(none);
  });

  test('without an address it is empty', () => {
    expect(rowOf({ ...status(later), status_uri: null })).toMatchObject({ ...shown, state_uri: '', state_at: later });
  });

  const derived = (state_message: string) => ({ state: TaskState.WORKING, state_at: built, state_message, state_uri: '' });
  const life = (sidebar_agent_lifecycle: string, sidebar_app_health: string) => ({ sidebar_agent_lifecycle, sidebar_app_health });
  test.each<[message: string, facts: Partial<TaskFacts>]>([
    ['Workspace is starting', { job_status: 'running', ...noAgents }],
    ['Workspace is starting', { job_status: 'running', ...life('created', 'initializing') }],
    ['Initializing workspace', noAgents],
    ['Agent is connecting', life('created', 'healthy')],
    ['Agent is starting', life('starting', 'initializing')],
    ['App is initializing', life('ready', 'initializing')],
    ['Initializing workspace agent', life('start_timeout', 'initializing')],
    ['Initializing workspace agent', life('start_error', 'initializing')],
  ])('while initializing: %s', (message, facts) => {
    expect(rowOf({ ...facts, build_created_at: built })).toMatchObject({ phase: TaskPhase.INITIALIZING, ...derived(message) });
    const stale = { ...facts, ...status(earlier) };
    expect(rowOf({ ...stale, build_created_at: built })).toMatchObject(derived(message));
    const fresh = { ...facts, ...status(later) };
    expect(rowOf({ ...fresh, build_created_at: built })).toMatchObject({ ...shown, state_at: later });
  });

  test('a task that is not initializing gets no derived state', () => {
    expect(rowOf({ job_status: 'pending' })).toMatchObject({ phase: TaskPhase.PENDING, ...none });
    expect(rowOf()).toMatchObject({ phase: TaskPhase.ACTIVE, ...none });
  });
});

describe('waiting for input', () => {
  const idle = { status_state: 'idle', status_message: '', status_created_at: '2027-01-01 00:00:00.000000' };
  test.each<[what: string, facts: Partial<TaskFacts>, listStatus: number]>([
    ['active and idle', idle, WorkspaceStatus.RUNNING + 16],
    ['active and working', { ...idle, status_state: 'working' }, WorkspaceStatus.RUNNING],
    ['starting, active and idle', { ...idle, job_status: 'running' }, WorkspaceStatus.STARTING + 16],
    ['idle with an app that is not healthy', { ...idle, sidebar_app_health: 'unhealthy' }, WorkspaceStatus.RUNNING],
    ['idle and stopped', { ...idle, build_transition: 'stop' }, WorkspaceStatus.STOPPED],
    ['idle and deleted', { ...idle, deleted: 1 }, WorkspaceStatus.DELETED],
    ['idle before the start', { ...idle, status_created_at: '2020-01-01 00:00:00.000000' }, WorkspaceStatus.RUNNING],
  ])('%s', (_what, facts, listStatus) => {
    expect(rowOf(facts).list_status).toBe(listStatus);
  });
});

describe('order keys', () => {
  test.each<[completed: number, canceled: number, error: number, transition: string, running: boolean]>([
    [1, 0, 0, 'start', true],
    [0, 0, 0, 'start', false],
    [1, 1, 0, 'start', false],
    [1, 0, 1, 'start', false], // also when the error is empty: the order asks for NULL
    [1, 0, 0, 'stop', false],
    [1, 0, 0, 'delete', false],
  ])(
    'completed %d, canceled %d, error %d, %s: running %s',
    (job_completed, job_canceled, job_error, build_transition, running) => {
      const row = rowOf({ job_completed, job_canceled, job_error, build_transition });
      expect(row.run_key[0]).toBe(running ? 0 : 1);
      expect(row.own_key[1]).toBe(running ? 0 : 1);
    },
  );

  test('favorites, then running ones, then by the folded name, then by id', () => {
    const row = rowOf({ favorite: 1, name: 'ÄB-c' });
    const rest = Buffer.concat([Buffer.from('äb-c'), Buffer.of(0), row.id]);
    expect(row.own_key).toEqual(Buffer.concat([Buffer.of(0, 0), rest]));
    expect(row.run_key).toEqual(Buffer.concat([Buffer.of(0), rest]));
    expect(rowOf({ favorite: 0 }).own_key[0]).toBe(1);
    expect(row).toMatchObject({ favorite: 1, name_fold: Buffer.from('äb-c'), name: 'ÄB-c' });
  });

  test('keys fit their columns whatever the name, and end in the id', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme-composite', maxLength: 64 }), (text) => {
        const name = [...text].slice(0, 64).join('');
        const row = rowOf({ name });
        expect(row.own_key.length).toBeLessThanOrEqual(100);
        expect(row.run_key.length).toBeLessThanOrEqual(99);
        expect(row.name_fold.length).toBeLessThanOrEqual(256);
        expect(row.own_key.subarray(-16)).toEqual(row.id);
        expect(row.run_key.subarray(-17)).toEqual(Buffer.concat([Buffer.of(0), row.id]));
        // No half characters.
        for (const bytes of [row.name_fold, row.run_key.subarray(1, -17)]) {
          expect(Buffer.from(bytes.toString())).toEqual(Buffer.from(bytes));
        }
      }),
    );
  });

  test('a name of 64 characters of four bytes is cut in the keys alone', () => {
    const row = rowOf({ name: '🙂'.repeat(64) });
    expect(row.name_fold).toEqual(Buffer.from('🙂'.repeat(64)));
    expect(row.run_key).toEqual(Buffer.concat([Buffer.of(0), Buffer.from('🙂'.repeat(20)), Buffer.of(0), row.id]));
  });
});

describe('prompt and display name', () => {
  test.each<[what: string, prompt: string | null, display: string]>([
    ['none', null, ''],
    ['empty', '', ''],
    ['short', 'Fix the bug', 'Fix the bug'],
    ['lines', 'Fix\nthe\r\n\r\n\tbug', 'Fix the bug'],
    ['a line break at both ends', '\nFix\n', ' Fix '],
    ['spaces stay', 'a  b', 'a  b'],
    ['64 characters', 'x'.repeat(64), 'x'.repeat(64)],
    ['65 characters', 'x'.repeat(65), `${'x'.repeat(63)}…`],
    ['64 characters of two bytes', 'ä'.repeat(64), 'ä'.repeat(64)],
    ['65 characters of two bytes', 'ä'.repeat(65), `${'ä'.repeat(63)}…`],
    ['64 characters of four bytes', '🙂'.repeat(64), '🙂'.repeat(64)],
    ['65 characters of four bytes', '🙂'.repeat(65), `${'🙂'.repeat(63)}…`],
    ['65 after its lines are joined', `${'\n'.repeat(500)}${'x'.repeat(64)}`, ` ${'x'.repeat(62)}…`],
    ['64 after its lines are joined', `${'\n'.repeat(500)}${'x'.repeat(63)}`, ` ${'x'.repeat(63)}`],
  ])('%s', (_what, prompt, display) => {
    const row = rowOf({ prompt: prompt === null ? null : Buffer.from(prompt) });
    expect(row.prompt).toBe(prompt ?? '');
    expect(row.display_name).toBe(display);
  });

  test.each<[what: string, prompt: string, fold: string]>([
    ['none', '', ''],
    ['lower-cased', 'FIX Ä ẞ', 'fix ä ß'],
    ['lines as they are', 'A\n\tB', 'a\n\tb'],
    ['1,000 characters', 'X'.repeat(1000), 'x'.repeat(1000)],
    ['1,001 characters', 'X'.repeat(1001), 'x'.repeat(1000)],
    ['1,001 characters of four bytes', '🙂'.repeat(1001), '🙂'.repeat(1000)],
    ['one byte, then four', `X${'🙂'.repeat(1000)}`, `x${'🙂'.repeat(999)}`],
  ])('what is searched: %s', (_what, prompt, fold) => {
    expect(rowOf({ prompt: Buffer.from(prompt) }).prompt_fold).toEqual(Buffer.from(fold));
  });

  const mebibyte = 1_048_576;
  test.each<[what: string, prompt: string, bytes: number]>([
    ['exactly 1 MiB', 'x'.repeat(mebibyte), mebibyte],
    ['one byte more', 'x'.repeat(mebibyte + 1), mebibyte],
    ['two bytes a character', 'ä'.repeat(mebibyte), mebibyte - 1],
    ['three bytes a character', '…'.repeat(mebibyte), mebibyte - 1],
    ['four bytes a character', '🙂'.repeat(mebibyte), mebibyte - 1],
    ['four bytes a character, moved by one', `x${'🙂'.repeat(mebibyte)}`, mebibyte],
  ])('%s', (_what, prompt, bytes) => {
    const whole = Buffer.from(prompt);
    const row = rowOf({ prompt: whole.subarray(0, mebibyte + 1) }); // as the statement reads it
    expect(Buffer.byteLength(row.prompt)).toBe(bytes);
    expect(row.prompt.includes('\u{fffd}')).toBe(false);
    if (whole.length > mebibyte) {
      expect(row.prompt.endsWith('…')).toBe(true);
      expect(prompt.startsWith(row.prompt.slice(0, -1))).toBe(true);
    } else expect(row.prompt).toBe(prompt);
  });
});

describe('who a workspace is shared with', () => {
  const a = 'a7a27450-ca16-4553-a6c5-9d6f04808569';
  const b = '50f92138-f463-4f2b-abad-1816264b065f';
  /** The subjects of a kind: 1 may read, 11 are named without that. */
  const subjects = (json: string | null, wanted: 1 | 11): string[] =>
    project({ user_acl: json }).acl.flatMap(({ kind, subject_id }) => (kind === wanted ? [subject_id.toString('hex')] : []));
  const hex = (id: string) => id.replaceAll('-', '');
  const entry = (id: string, permissions: unknown) => ({ [id]: { permissions } });

  test.each<[what: string, json: unknown, readers: string[], others?: string[]]>([
    ['read', entry(a, ['read']), [a]],
    ['everything', entry(a, ['*']), [a]],
    ['read among others', entry(a, ['ssh', 'read', 'start']), [a]],
    ['two subjects', { ...entry(a, ['read']), ...entry(b, ['*']) }, [a, b]],
    ['other rights', entry(a, ['ssh']), [], [a]],
    ['no rights', entry(a, []), [], [a]],
    ['one of two', { ...entry(a, ['ssh']), ...entry(b, ['read']) }, [b], [a]],
    ['rights that are a word', entry(a, 'read'), [], [a]],
    ['rights that are words in a list', entry(a, [['read']]), [], [a]],
    ['an entry that is a list, as for templates', { [a]: ['read'] }, [], [a]],
    ['an entry that is null', { [a]: null }, [], [a]],
    ['an entry that is a number', { [a]: 7 }, [], [a]],
    ['a subject that is no UUID', { ...entry('everyone', ['read']), ...entry(b, ['read']) }, [b]],
    ['a subject in upper case, which Coder does not find either', entry(a.toUpperCase(), ['read']), []],
    ['nobody', {}, []],
    ['a list', [entry(a, ['read'])], []],
    ['null', null, []],
    ['a text', 'read', []],
  ])('%s', (_what, json, readers, others = []) => {
    expect(subjects(JSON.stringify(json), 1).toSorted()).toEqual(readers.map(hex).toSorted());
    expect(subjects(JSON.stringify(json), 11)).toEqual(others.map(hex));
  });

  test.each([null, '', '{', 'null', '{"a":', '\u0000', '{"__proto__":{"permissions":["read"]}}'])(
    '%j gives no one a right',
    (json) => {
      expect(project({ user_acl: json }).acl).toEqual([]);
    },
  );

  test('rows carry the order and the place of the task, and the kind of the subject', () => {
    const facts = someFacts({ user_acl: JSON.stringify(entry(a, ['read'])), group_acl: JSON.stringify(entry(b, ['*'])) });
    const { id: task_id, owner_id, organization_id, created_at } = facts;
    expect(projectTask(facts)?.acl).toEqual([
      { kind: 1, subject_id: Buffer.from(hex(a), 'hex'), created_at, task_id, owner_id, organization_id },
      { kind: 2, subject_id: Buffer.from(hex(b), 'hex'), created_at, task_id, owner_id, organization_id },
    ]);
  });

  test('a dormant workspace stays shared, a deleted one does not', () => {
    const user_acl = JSON.stringify(entry(a, ['read']));
    expect(project({ user_acl, dormant_at: '2026-11-01 00:00:00.000000' }).acl).toHaveLength(1);
    expect(project({ user_acl, deleted: 1 }).acl).toEqual([]);
  });
});

describe('the rest', () => {
  test('comes from the workspace, its first and its latest build', () => {
    const first = Buffer.alloc(16, 7);
    const facts = someFacts({ build_number: 12, first_template_version_id: first, dormant_at: '2026-11-02 00:00:00.000000' });
    expect(projectTask(facts)?.row).toMatchObject({
      id: facts.id,
      owner_id: facts.owner_id,
      organization_id: facts.organization_id,
      template_id: facts.template_id,
      template_version_id: first,
      build_template_version_id: facts.build_template_version_id,
      build_id: facts.build_id,
      build_number: 12,
      dormant_at: '2026-11-02 00:00:00.000000',
      created_at: facts.created_at,
      updated_at: facts.updated_at,
    });
  });

  test('the same facts make the same row', () => {
    const facts = someFacts();
    expect(projectTask(facts)).toEqual(projectTask({ ...facts }));
  });
});
