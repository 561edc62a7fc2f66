import { readFileSync } from 'node:fs';
import { create } from '@bufbuild/protobuf';
import { Code, ConnectError } from '@connectrpc/connect';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Call } from '../../src/call/call.ts';
import type { Caller, OrganizationMembership, RolePermissions } from '../../src/call/caller.ts';
import {
  databaseUnavailable,
  deadlineExceeded,
  internal,
  invalidArgument,
  queryTooExpensive,
  shuttingDown,
  taskNotFound,
  unauthenticated,
} from '../../src/call/errors.ts';
import {
  AgentLifecycle,
  type ListTasksRequest,
  ListTasksResponseSchema,
  TaskSchema,
  TaskState,
  WorkspaceStatus,
} from '../../src/gen/tasks/v1/tasks_pb.ts';
import type { TaskMessages } from '../../src/tasks/task-messages.ts';
import { toCoderError } from '../../src/transport/coder/coder-error.ts';
import { type CoderTask, formatTime, toCoderTask } from '../../src/transport/coder/coder-task.ts';
import { maxOffset, readListParameters } from '../../src/transport/coder/list-parameters.ts';
import { mayKnow } from '../../src/transport/coder/path-user.ts';
import { type ListShape, maxListBytes, readList } from '../../src/transport/coder/read-list.ts';
import { testCaller } from '../support/test-server.ts';

describe('the parameters of a list', () => {
  test.each<[string, ReturnType<typeof readListParameters>]>([
    ['', { query: '', limit: 0, offset: 0 }],
    ['limit=&offset=&after_id=&q=', { query: '', limit: 0, offset: 0 }],
    ['limit=0&offset=0', { query: '', limit: 0, offset: 0 }],
    ['limit=25&offset=50', { query: '', limit: 25, offset: 50 }],
    ['limit=2147483647', { query: '', limit: 2_147_483_647, offset: 0 }],
    [`offset=${maxOffset}`, { query: '', limit: 0, offset: maxOffset }],
    ['limit=%2B7&offset=-0', { query: '', limit: 7, offset: 0 }],
    ['limit=007', { query: '', limit: 7, offset: 0 }],
    ['limit=&limit=x', { query: '', limit: 0, offset: 0 }],
    ['q=a+b%3Ac%20%22d%22', { query: 'a b:c "d"', limit: 0, offset: 0 }],
    ['q=first&q=second', { query: 'first', limit: 0, offset: 0 }],
    ['q=100%', { query: '100%', limit: 0, offset: 0 }],
    ['after_id=a7a27450-ca16-4553-a6c5-9d6f04808569', { query: '', limit: 0, offset: 0 }],
    ['after_id=a7a27450ca164553a6c59d6f04808569', { query: '', limit: 0, offset: 0 }],
    ['Limit=x&colour=red&coder_session_token=t', { query: '', limit: 0, offset: 0 }],
  ])('%j', (search, parameters) => {
    expect(readListParameters(new URLSearchParams(search))).toEqual(parameters);
  });

  const number = (name: string) => ({
    field: name,
    detail: `Query param "${name}" must be a valid 32-bit positive integer`,
  });
  test.each<[string, { field: string; detail: string }[]]>([
    ['limit=-1', [number('limit')]],
    ['limit=2147483648', [number('limit')]],
    [`limit=${'9'.repeat(400)}`, [number('limit')]],
    ['limit=1.0', [number('limit')]],
    ['limit=1e3', [number('limit')]],
    ['limit=0x10', [number('limit')]],
    ['limit=1_000', [number('limit')]],
    ['limit=+1', [number('limit')]], // a plus in an address is a space
    ['limit=%201', [number('limit')]],
    ['limit=-', [number('limit')]],
    ['limit=٣', [number('limit')]],
    ['offset=ten', [number('offset')]],
    ['offset=10001', [{ field: 'offset', detail: 'Query param "offset" must be at most 10000' }]],
    ['limit=1&limit=1', [{ field: 'limit', detail: 'Query param "limit" provided more than once, found 2 times' }]],
    ['limit=1&limit=', [{ field: 'limit', detail: 'Query param "limit" provided more than once, found 2 times' }]],
    ['after_id=x', [{ field: 'after_id', detail: 'Query param "after_id" must be a valid uuid' }]],
    [
      'limit=-1&offset=x&after_id=1&q=:',
      [
        { field: 'after_id', detail: 'Query param "after_id" must be a valid uuid' },
        { field: 'limit', detail: 'Query param "limit" must be a valid 32-bit positive integer' },
        { field: 'offset', detail: 'Query param "offset" must be a valid 32-bit positive integer' },
      ],
    ],
  ])('refuses %j', (search, validations) => {
    const error = thrownBy(() => readListParameters(new URLSearchParams(search)));
    expect(toCoderError(error)).toEqual({
      status: 400,
      headers: {},
      body: { message: 'Query parameters have invalid values.', validations },
    });
  });
});

describe('times are written as Go writes them', () => {
  test.each<[seconds: bigint, nanos: number, string]>([
    [1755857007n, 837_842_000, '2025-08-22T10:03:27.837842Z'],
    [1755857007n, 837_840_000, '2025-08-22T10:03:27.83784Z'],
    [1755857007n, 500_000_000, '2025-08-22T10:03:27.5Z'],
    [1755857007n, 1000, '2025-08-22T10:03:27.000001Z'],
    [1755857007n, 0, '2025-08-22T10:03:27Z'],
    [-62_135_596_800n, 0, '0001-01-01T00:00:00Z'],
    [-1n, 999_999_000, '1969-12-31T23:59:59.999999Z'],
    [253_402_300_799n, 999_999_000, '9999-12-31T23:59:59.999999Z'],
  ])('%d s and %d ns', (seconds, nanos, text) => {
    expect(formatTime({ seconds, nanos })).toBe(text);
  });

  test('no time is the zero time', () => {
    expect(formatTime(undefined)).toBe('0001-01-01T00:00:00Z');
  });

  test('for any time: no zero at the end, no bare point, and the same time when it is read', () => {
    fc.assert(
      fc.property(fc.bigInt(-62_135_596_800n, 253_402_300_799n), fc.integer({ min: 0, max: 999_999 }), (seconds, micros) => {
        const text = formatTime({ seconds, nanos: micros * 1000 });
        expect(text).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{0,5}[1-9])?Z$/);
        const [, second = '', fraction = ''] = /^([^.Z]+)(?:\.(\d+))?Z$/.exec(text) ?? [];
        expect(BigInt(Date.parse(`${second}Z`)) / 1000n).toBe(seconds);
        expect(Number(fraction.padEnd(6, '0'))).toBe(micros);
      }),
    );
  });
});

describe('a task', () => {
  const task = (init: Parameters<typeof create<typeof TaskSchema>>[1] = {}): CoderTask => toCoderTask(create(TaskSchema, init));

  test('with the least has every field that is never left out, null where Coder has null', () => {
    const { created_at, updated_at, ...rest } = task({ id: 'i', status: WorkspaceStatus.PENDING });
    expect([created_at, updated_at]).toEqual(['0001-01-01T00:00:00Z', '0001-01-01T00:00:00Z']);
    expect(rest).toEqual({
      id: 'i',
      organization_id: '',
      owner_id: '',
      name: '',
      template_id: '',
      workspace_id: null,
      initial_prompt: '',
      status: 'pending',
      current_state: null,
      owner_name: '',
      display_name: '',
      template_version_id: '',
      template_name: '',
      template_display_name: '',
      template_icon: '',
      workspace_name: '',
      workspace_status: 'pending',
      workspace_agent_id: null,
      workspace_agent_lifecycle: null,
      workspace_agent_health: null,
      workspace_app_id: null,
    });
  });

  test('with everything', () => {
    expect(
      task({
        status: WorkspaceStatus.RUNNING,
        ownerAvatarUrl: 'https://example.com/a.png',
        workspaceBuildNumber: 3,
        workspaceId: 'w',
        workspaceAgentId: 'a',
        workspaceAgentLifecycle: AgentLifecycle.START_TIMEOUT,
        workspaceAgentHealth: { healthy: false, reason: 'agent has lost connection' },
        workspaceAppId: 'p',
        currentState: { state: TaskState.IDLE, message: 'm', uri: 'u', timestamp: { seconds: 0n, nanos: 0 } },
      }),
    ).toMatchObject({
      owner_avatar_url: 'https://example.com/a.png',
      workspace_id: 'w',
      workspace_build_number: 3,
      workspace_agent_id: 'a',
      workspace_agent_lifecycle: 'start_timeout',
      workspace_agent_health: { healthy: false, reason: 'agent has lost connection' },
      workspace_app_id: 'p',
      current_state: { timestamp: '1970-01-01T00:00:00Z', state: 'idle', message: 'm', uri: 'u' },
    });
  });

  test('of a healthy agent has no reason', () => {
    expect(task({ workspaceAgentHealth: { healthy: true } }).workspace_agent_health).toEqual({ healthy: true });
  });

  test.each(['pending', 'starting', 'running', 'stopping', 'stopped', 'failed', 'canceling', 'canceled', 'deleting', 'deleted'])(
    'is %s',
    (word) => {
      const status = WorkspaceStatus[word.toUpperCase() as keyof typeof WorkspaceStatus];
      expect(task({ status })).toMatchObject({ status: word, workspace_status: word });
    },
  );

  test.each<[keyof typeof TaskState, string]>([
    ['WORKING', 'working'],
    ['IDLE', 'idle'],
    ['COMPLETE', 'complete'],
    ['FAILED', 'failure'],
  ])('whose state is %s says %s', (state, word) => {
    expect(task({ currentState: { state: TaskState[state] } }).current_state).toMatchObject({ state: word, uri: '' });
  });
});

describe('errors', () => {
  test.each<[string, ConnectError, ReturnType<typeof toCoderError>]>([
    [
      'a bad query',
      invalidArgument(
        [
          { field: 'query', description: 'one' },
          { field: 'status', description: 'two' },
        ],
        'INVALID_QUERY',
      ),
      {
        status: 400,
        headers: {},
        body: {
          message: 'Invalid workspace search query.',
          validations: [
            { field: 'q', detail: 'one' },
            { field: 'status', detail: 'two' },
          ],
        },
      },
    ],
    [
      'a query that reads too much',
      queryTooExpensive(undefined),
      {
        status: 400,
        headers: {},
        body: {
          message: 'Invalid workspace search query.',
          validations: [
            { field: 'q', detail: 'the query reads too much: narrow it, for example with owner:, organization: or status:' },
          ],
        },
      },
    ],
    [
      'no good token',
      unauthenticated(),
      {
        status: 401,
        headers: {
          'www-authenticate':
            'Bearer realm="coder", error="invalid_token", error_description="The access token is missing, invalid or expired"',
        },
        body: { message: 'You are signed out, or your session has expired: send a valid session token.' },
      },
    ],
    ['no task', taskNotFound(), { status: 404, headers: {}, body: { message: 'No such task or user, or you may not read it.' } }],
    [
      'too many calls',
      new ConnectError('slow down', Code.ResourceExhausted),
      { status: 429, headers: {}, body: { message: 'Slow down.' } },
    ],
    [
      'no database',
      databaseUnavailable(undefined),
      { status: 503, headers: { 'retry-after': '1' }, body: { message: 'The database is unavailable, try again.' } },
    ],
    [
      'a server that stops',
      shuttingDown(),
      { status: 503, headers: { 'retry-after': '1' }, body: { message: 'The server is shutting down, try again.' } },
    ],
    [
      'a bug',
      internal('r-1', new Error('secret')),
      { status: 500, headers: {}, body: { message: 'An internal error occurred.', detail: 'internal error (request r-1)' } },
    ],
    [
      'any other',
      deadlineExceeded(),
      { status: 500, headers: {}, body: { message: 'An internal error occurred.', detail: 'the deadline has passed' } },
    ],
  ])('%s', (_case, error, expected) => {
    expect(toCoderError(error)).toEqual(expected);
  });
});

describe('a list is read page by page', () => {
  const shape: ListShape = { toTask: toCoderTask, tooLong: ['limit', 'narrow it'] };
  const call = { signal: new AbortController().signal } as Call;

  /** A ListTasks over so many tasks, with the position as token, which notes what it was asked. */
  function listOf(total: number, { prompt = '', moving = false } = {}) {
    const asked: ListTasksRequest[] = [];
    const listTasks: TaskMessages['listTasks'] = (request) => {
      asked.push(request);
      // While it is read, the list grows in front: each page begins with the last task of the one before.
      const from = Number(request.pageToken) - (moving && request.pageToken !== '' ? 1 : 0);
      const to = Math.min(from + request.pageSize, total);
      const tasks = Array.from({ length: to - from }, (_, at) => ({ id: String(from + at), initialPrompt: prompt }));
      return Promise.resolve(
        create(ListTasksResponseSchema, {
          tasks,
          nextPageToken: to < total ? String(to) : '',
          ...(request.includeTotalSize ? { totalSize: Math.min(total, 10_000), totalSizeCapped: total > 10_000 } : {}),
        }),
      );
    };
    const read = async (limit: number, offset = 0): Promise<{ tasks: CoderTask[]; count: number }> => {
      const parts = await readList(listTasks, { query: 'q', limit, offset }, call, {}, shape);
      return JSON.parse(Buffer.concat(parts).toString()) as { tasks: CoderTask[]; count: number };
    };
    return { asked, read };
  }

  test.each<[total: number, limit: number, offset: number, count: number]>([
    [0, 0, 0, 0],
    [1, 0, 0, 1],
    [199, 0, 0, 199],
    [200, 0, 0, 200],
    [201, 0, 0, 201],
    [1000, 0, 0, 1000],
    [1000, 0, 999, 1],
    [1000, 0, 1000, 0],
    [1000, 0, 10_000, 0],
    [1000, 1, 0, 1],
    [1000, 250, 250, 250],
    [1000, 500, 600, 400],
    [1000, 20_000, 0, 1000],
    [10_000, 0, 0, 10_000],
    [10_001, 10_000, 0, 10_000],
    [10_001, 0, 1, 10_000],
    [20_000, 0, 10_000, 10_000],
    [30_000, 5, 10_000, 5],
  ])('of %d tasks, limit %d, offset %d: %d', async (total, limit, offset, count) => {
    const { read } = listOf(total);
    const { tasks, ...rest } = await read(limit, offset);
    expect(rest).toEqual({ count });
    expect(tasks.map(({ id }) => Number(id))).toEqual(Array.from({ length: count }, (_, at) => offset + at));
  });

  test.each<[total: number, limit: number, offset: number, pages: number]>([
    [10_001, 0, 0, 2],
    [1_000_000, 0, 0, 2],
    [10_001, 10_001, 0, 2],
    [20_001, 0, 10_000, 100],
  ])('of %d tasks, limit %d, offset %d: refused, never short, after %d pages', async (total, limit, offset, pages) => {
    const { read, asked } = listOf(total);
    const error = await read(limit, offset).catch((thrown: unknown) => thrown as ConnectError);
    expect(toCoderError(error as ConnectError)).toMatchObject({
      status: 400,
      body: { validations: [{ field: 'limit', detail: expect.stringContaining('more than 10000 tasks') }] },
    });
    expect(asked).toHaveLength(pages);
  });

  test('no page is larger than what is left, and a total is asked for when there is a second page without a limit', async () => {
    const limited = listOf(1000);
    await limited.read(250);
    expect(limited.asked.map(({ pageSize, includeTotalSize }) => [pageSize, includeTotalSize])).toEqual([
      [200, false],
      [50, false],
    ]);
    const all = listOf(500);
    await all.read(0);
    expect(all.asked.map(({ includeTotalSize }) => includeTotalSize)).toEqual([false, true, false]);
  });

  test('a task that comes twice while the list moves is in the answer once', async () => {
    const { read } = listOf(700, { moving: true });
    const { tasks, count } = await read(0);
    expect(new Set(tasks.map(({ id }) => id)).size).toBe(count);
    expect(count).toBe(700);
  });

  test('a list of more bytes than fit is refused', async () => {
    const { read, asked } = listOf(1000, { prompt: 'p'.repeat(maxListBytes / 400) });
    const error = await read(0).catch((thrown: unknown) => thrown as ConnectError);
    expect(toCoderError(error as ConnectError)).toMatchObject({
      status: 400,
      body: { validations: [{ field: 'limit', detail: expect.stringContaining('larger than 33554432 bytes') }] },
    });
    expect(asked).toHaveLength(2);
    expect((await read(100)).count).toBe(100);
  });

  test('nothing more is read when the call is aborted', async () => {
    const gone = new AbortController();
    let pages = 0;
    const listTasks: TaskMessages['listTasks'] = () => {
      if (++pages === 3) gone.abort(shuttingDown());
      return Promise.resolve(create(ListTasksResponseSchema, { tasks: [{ id: String(pages) }], nextPageToken: 'more' }));
    };
    const reading = readList(listTasks, { query: '', limit: 0, offset: 0 }, { signal: gone.signal } as Call, {}, shape);
    await expect(reading).rejects.toMatchObject({ code: Code.Unavailable });
    expect(pages).toBe(3);
  });
});

describe('who may know of a user', () => {
  const home = Buffer.alloc(16, 1);
  const away = Buffer.alloc(16, 2);
  const other = { id: Buffer.alloc(16, 9), organizationIds: [home] };
  const loner = { id: Buffer.alloc(16, 8), organizationIds: [] };
  const none: RolePermissions = { site: [], organization: [], user: [], member: [] };
  const permission = (resource: string, negate = false) => ({ negate, resource, action: 'read' });
  const membership = (
    organizationId: Buffer,
    roles: readonly string[],
    customRoles: readonly RolePermissions[] = [],
  ): OrganizationMembership => ({
    organizationId,
    roles,
    customRoles,
  });
  const caller = (init: Partial<Caller>): Caller => ({ ...testCaller, ...init });

  test.each<[string, Partial<Caller>, ofOther: boolean, ofLoner: boolean]>([
    ['a site owner', { roles: ['owner'] }, true, true],
    ['a site template-admin', { roles: ['template-admin'] }, true, true],
    ['a site user-admin', { roles: ['user-admin'] }, true, true],
    ['a site auditor', { roles: ['auditor'] }, true, true],
    ['a member of nothing', {}, false, false],
    ['a member of the same organization', { memberships: [membership(home, [])] }, false, false],
    [
      'a member whose implied role reads the members, as it does where workspaces can be shared',
      { memberships: [membership(home, [], [{ ...none, organization: [permission('organization_member')] }])] },
      true,
      false,
    ],
    ["the organization's admin", { memberships: [membership(home, ['organization-admin'])] }, true, true],
    ["another organization's admin", { memberships: [membership(away, ['organization-admin'])] }, true, true],
    ["another organization's user-admin", { memberships: [membership(away, ['organization-user-admin'])] }, true, true],
    ["the organization's auditor", { memberships: [membership(home, ['organization-auditor'])] }, true, false],
    ["another organization's auditor", { memberships: [membership(away, ['organization-auditor'])] }, false, false],
    ["the organization's template-admin", { memberships: [membership(home, ['organization-template-admin'])] }, true, false],
    ['a custom site role that reads users', { customRoles: [{ ...none, site: [permission('user')] }] }, true, true],
    [
      'a custom site role that reads members',
      { customRoles: [{ ...none, site: [permission('organization_member')] }] },
      true,
      false,
    ],
    [
      'a custom organization role that reads members',
      { memberships: [membership(home, [], [{ ...none, organization: [permission('organization_member')] }])] },
      true,
      false,
    ],
    [
      'a custom role of another organization that reads members',
      { memberships: [membership(away, [], [{ ...none, organization: [permission('*')] }])] },
      false,
      false,
    ],
    ['a custom role that reads workspaces', { customRoles: [{ ...none, site: [permission('workspace')] }] }, false, false],
    [
      'a custom role that is denied again',
      { customRoles: [{ ...none, site: [permission('user'), permission('*', true)] }] },
      false,
      false,
    ],
  ])('%s', (_who, init, ofOther, ofLoner) => {
    expect(mayKnow(caller(init), other)).toBe(ofOther);
    expect(mayKnow(caller(init), loner)).toBe(ofLoner);
    expect(mayKnow(caller(init), { id: testCaller.userId, organizationIds: [] })).toBe(true);
  });
});

test('the example of docs/coder-json.md is what the service answers', () => {
  const read = (name: string) => readFileSync(new URL(`../../${name}`, import.meta.url), 'utf8');
  expect(read('docs/coder-json.md')).toContain(`\`\`\`json\n${read('test/wire/golden/coder-task.json')}\`\`\`\n`);
});

function thrownBy(work: () => unknown): ConnectError {
  try {
    work();
  } catch (error) {
    return ConnectError.from(error);
  }
  return expect.unreachable('nothing was thrown');
}
