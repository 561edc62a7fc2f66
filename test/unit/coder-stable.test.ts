import { create } from '@bufbuild/protobuf';
import { ConnectError } from '@connectrpc/connect';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { BadRequestSchema } from '../../src/gen/google/rpc/error_details_pb.ts';
import { AgentLifecycle, TaskPhase, TaskSchema, TaskState, WorkspaceStatus } from '../../src/gen/tasks/v1/tasks_pb.ts';
import { toCoderTask, toStableTask } from '../../src/transport/coder/coder-task.ts';
import { readTaskSearch } from '../../src/transport/coder/task-search.ts';
import { experimentalTask, stableTask } from '../support/coder-sdk.ts';

const wordsOf = (values: Readonly<Record<string, number | string>>) =>
  Object.values(values).filter((value): value is number => typeof value === 'number' && value !== 0);
const wordOf = (values: Readonly<Record<string, number | string>>, wanted: number) =>
  Object.entries(values)
    .find(([, value]) => value === wanted)?.[0]
    .toLowerCase();
const someOf = (values: Readonly<Record<string, number | string>>) => fc.constantFrom(...wordsOf(values));
const maybe = <T>(value: fc.Arbitrary<T>) => fc.option(value, { nil: undefined });
const time = fc.record({
  seconds: fc.integer({ min: 0, max: 4_102_444_800 }).map(BigInt),
  nanos: fc.integer({ min: 0, max: 999_999 }).map((microseconds) => microseconds * 1000),
});

/** Any task that the service can have: what is optional in the contract may be absent, what has no presence may be empty. */
const tasks = fc
  .record({
    id: fc.uuid(),
    organizationId: fc.uuid(),
    ownerId: fc.uuid(),
    ownerName: fc.string(),
    ownerAvatarUrl: fc.oneof(fc.constant(''), fc.webUrl()),
    name: fc.string(),
    displayName: fc.string({ unit: 'grapheme' }),
    templateId: fc.uuid(),
    templateVersionId: fc.uuid(),
    templateName: fc.string(),
    templateDisplayName: fc.string(),
    templateIcon: fc.string(),
    workspaceId: maybe(fc.uuid()),
    workspaceName: fc.string(),
    status: fc.oneof(fc.constant(WorkspaceStatus.UNSPECIFIED), someOf(WorkspaceStatus)),
    phase: someOf(TaskPhase),
    workspaceBuildNumber: fc.nat({ max: 2 ** 31 - 1 }),
    workspaceAgentId: maybe(fc.uuid()),
    workspaceAgentLifecycle: maybe(someOf(AgentLifecycle)),
    workspaceAgentHealth: maybe(fc.record({ healthy: fc.boolean(), reason: maybe(fc.string({ minLength: 1 })) })),
    workspaceAppId: maybe(fc.uuid()),
    initialPrompt: fc.string({ unit: 'grapheme' }),
    currentState: maybe(fc.record({ timestamp: time, state: someOf(TaskState), message: fc.string(), uri: fc.string() })),
    createdAt: time,
    updatedAt: time,
  })
  .map((init) => create(TaskSchema, init as Parameters<typeof create<typeof TaskSchema>>[1]));

describe('any task', () => {
  test('is read by a strict reader of the newest struct, in its order', () => {
    const order = Object.keys(stableTask.shape);
    fc.assert(
      fc.property(tasks, (task) => {
        const written: unknown = JSON.parse(JSON.stringify(toStableTask(task)));
        expect(stableTask.parse(written)).toEqual(written);
        expect(Object.keys(Object(written) as object)).toEqual(order.filter((key) => key in (written as object)));
      }),
    );
  });

  test('is read by a strict reader of the struct of the first version', () => {
    fc.assert(
      fc.property(tasks, (task) => {
        const written: unknown = JSON.parse(JSON.stringify(toCoderTask(task)));
        expect(experimentalTask.parse(written)).toEqual(written);
      }),
    );
  });

  test('has the same in both but for its status and a failed state', () => {
    fc.assert(
      fc.property(tasks, (task) => {
        const { status: first, current_state: firstState, ...others } = toCoderTask(task);
        const { status, current_state: state, ...same } = toStableTask(task);
        expect(same).toEqual(others);
        expect(first).toBe(task.status === WorkspaceStatus.UNSPECIFIED ? 'pending' : wordOf(WorkspaceStatus, task.status));
        expect(status).toBe(wordOf(TaskPhase, task.phase));
        expect({ ...state, state: state?.state.replace('failed', 'failure') }).toEqual({
          ...firstState,
          state: firstState?.state,
        });
      }),
    );
  });

  test('has null where Go has a pointer, and leaves out what is empty', () => {
    const empty = toStableTask(create(TaskSchema, { phase: TaskPhase.PENDING }));
    expect(empty).toMatchObject({
      workspace_id: null,
      workspace_agent_id: null,
      workspace_agent_lifecycle: null,
      workspace_agent_health: null,
      workspace_app_id: null,
      current_state: null,
      display_name: '',
      status: 'pending',
    });
    for (const key of ['owner_avatar_url', 'workspace_status', 'workspace_build_number']) expect(empty).not.toHaveProperty(key);
  });
});

describe('what is searched', () => {
  test.each<[string, ReturnType<typeof readTaskSearch>]>([
    ['', {}],
    ['   ', {}],
    ['owner:me', { owner: 'me' }],
    ['owner:"Alice" organization:"Acme" status:"ACTIVE"', { owner: 'alice', organization: 'acme', status: 'active' }],
    ['alice', { owner: 'alice' }],
    ['"Alice"', { owner: 'alice' }],
    ['alice status:paused', { owner: 'alice', status: 'paused' }],
    ['alice in wonderland', { owner: 'alice in wonderland' }],
    ['"OWNER":alice', { owner: 'alice' }],
    ['owner:"" organization:"" status:""', {}],
    ['owner:"a:b"', { owner: 'a:b' }],
    ['owner:al"ic"e', { owner: 'al"ic"e' }],
    ['owner:*', { owner: '*' }],
    ...(['pending', 'initializing', 'active', 'paused', 'error', 'unknown'] as const).map(
      (status): [string, { status: string }] => [`status:${status}`, { status }],
    ),
  ])('by %j', (query, search) => {
    expect(readTaskSearch(query)).toEqual(search);
  });

  const twice = (key: string) =>
    `Query param "${key}" provided more than once, found 2 times. Only provide 1 instance of this query param.`;
  test.each<[string, { field: string; description: string }[]]>([
    [':x', [{ field: 'q', description: 'Query element ":x" cannot start or end with \':\'' }]],
    ['owner:', [{ field: 'q', description: 'Query element "owner:" cannot start or end with \':\'' }]],
    ['a:b:c', [{ field: 'q', description: 'Query element "a:b:c" can only contain 1 \':\'' }]],
    ['name:x', [{ field: 'name', description: '"name" is not a valid query param' }]],
    [
      'has-ai-task:true owner:me template:x',
      [
        { field: 'has-ai-task', description: '"has-ai-task" is not a valid query param' },
        { field: 'template', description: '"template" is not a valid query param' },
      ],
    ],
    ['owner:a owner:b', [{ field: 'owner', description: twice('owner') }]],
    ['owner:a b', [{ field: 'owner', description: twice('owner') }]],
    ['status:active status:paused', [{ field: 'status', description: twice('status') }]],
    [
      'status:running',
      [
        {
          field: 'status',
          description: 'Query param "status" has invalid value: use pending, initializing, active, paused, unknown, error',
        },
      ],
    ],
    ['x'.repeat(4097), [{ field: 'q', description: 'must be at most 4096 bytes long' }]],
    ['x '.repeat(65), [{ field: 'q', description: 'must have at most 64 terms, has 65' }]],
  ])('%j is refused', (query, violations) => {
    let error: unknown;
    try {
      readTaskSearch(query);
    } catch (thrown) {
      error = thrown;
    }
    const [details] = ConnectError.from(error).findDetails(BadRequestSchema);
    expect(details?.fieldViolations.map(({ field, description }) => ({ field, description }))).toEqual(violations);
  });

  test('what the SDK sends means what it was given, whatever it is', () => {
    // Go's %q, for texts without controls.
    const quoted = (text: string) => `"${text.replaceAll(/["\\]/g, String.raw`\$&`)}"`;
    const text = fc.string({ unit: 'grapheme-ascii', maxLength: 30 }).filter((value) => !/["\\]/.test(value));
    fc.assert(
      fc.property(text, text, (owner, organization) => {
        const given = { owner, organization };
        const sent = Object.entries(given)
          .filter(([, value]) => value !== '')
          .map(([key, value]) => `${key}:${quoted(value)}`)
          .join(' ');
        const wanted = Object.entries(given).flatMap(([key, value]) => (value === '' ? [] : [[key, value.toLowerCase()]]));
        expect(readTaskSearch(sent)).toEqual(Object.fromEntries(wanted));
      }),
    );
  });
});
