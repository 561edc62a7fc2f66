import fc from 'fast-check';
import type { World } from './world.ts';

/** A list that somebody asks for. */
export interface Question {
  readonly callerId: string;
  readonly query: string;
  readonly orderBy: string;
  /** Sizes of the pages, used in turn. */
  readonly pageSizes: readonly number[];
  readonly includeTotalSize: boolean;
}

type Term = readonly [key: string, value: string];

const statuses = [
  'pending',
  'starting',
  'running',
  'running',
  'stopping',
  'stopped',
  'failed',
  'canceling',
  'canceled',
  'deleting',
  'deleted',
];
const yesNo = ['true', 'false', 'TRUE', 't', '0', '1', 'f'];
const days = [
  ...[
    '2026-03-01',
    '2026-03-02',
    '2026-03-02T10:00:00Z',
    '2026-03-02T10:00:00.000001Z',
    '2026-03-02t11:00:00+01:00',
    '2026-03-03',
  ],
  ...['2026-03-10T10:00:00.123456789Z', '2026-03-11', '2026-03-11T10:00:00z', '2026-03-12T05:30:00.123456-04:30', '0001-01-01'],
];

/** Random questions about a world: by anybody in it, mostly with values that are in it, sometimes wrong in every way. */
export function questionsAbout(world: World): fc.Arbitrary<Question> {
  const ids = (rows: readonly { readonly id: string }[]) => rows.map(({ id }) => id);
  const callers = world.users.filter(({ deleted }) => !deleted);
  const users = world.users.map(({ username }) => username);
  const organizations = world.organizations.map(({ name }) => name);
  const groups = world.groups.flatMap(({ organization_id, name }) => [
    name,
    `${world.organizations.find(({ id }) => id === organization_id)?.name}/${name}`,
  ]);
  const pairs = world.workspace_build_parameters.filter(({ value }) => value !== '' && !/[,="]/.test(value)).slice(0, 30);
  const none = '00000000-0000-4000-8000-000000000000';

  const owner = fc.oneof(
    { weight: 5, arbitrary: fc.constant('*') },
    { weight: 4, arbitrary: fc.constantFrom('me', ...users, ...ids(world.users).slice(0, 3), 'nobody', none, '') },
  );
  const values: Readonly<Record<string, readonly string[]>> = {
    name: ['login', 'a', 'task', 'TASK-7', '_', '%', '\\', 'ü', '2', 'fix login', 'no such name', '🦊', ''],
    prompt: [
      'login',
      'the tests, 100%',
      'ÄPFEL',
      'needle',
      'haystack',
      'line two',
      'drop table',
      '🦊🦊🦊',
      'prompt that is not there',
    ],
    template: [...world.templates.map(({ name }) => name), 'typescript', 'no-such-template'],
    organization: [...organizations, ...ids(world.organizations), 'nowhere', none],
    status: statuses,
    phase: ['pending', 'initializing', 'active', 'active', 'paused', 'unknown', 'error'],
    state: ['working', 'idle', 'complete', 'failed', 'failure'],
    waiting: ['true', 'true', ...yesNo],
    healthy: yesNo,
    dormant: yesNo,
    outdated: [...yesNo, ''],
    has_external_agent: yesNo,
    'has-ai-task': yesNo,
    shared: yesNo,
    shared_with_user: ['me', 'me', 'me', 'me', ...users, ...ids(world.users), 'nobody', none],
    shared_with_group: [...groups, ...ids(world.groups), ...ids(world.organizations), 'nothing', 'nowhere/dev'],
    created_after: days,
    created_before: days,
    last_used_after: days,
    last_used_before: days,
  };
  const lists: Readonly<Record<string, readonly string[]>> = {
    id: [...ids(world.workspaces), none],
    'has-agent': ['connecting', 'connected', 'connected', 'disconnected', 'timeout', 'odd'],
    param: [
      'AI Prompt',
      'region',
      'größe',
      'zone%',
      ...pairs.map(({ name, value }) => `${name}=${value}`),
      'region=eu',
      'region=none',
    ],
  };
  const one = (key: string, from: readonly string[]): fc.Arbitrary<Term[]> =>
    fc.constantFrom(...from).map((value): Term[] => [[key, value]]);
  const several = (key: string, from: readonly string[]): fc.Arbitrary<Term[]> =>
    fc
      .tuple(fc.array(fc.constantFrom(...from), { minLength: 1, maxLength: 4 }), fc.boolean())
      .map(([some, joined]): Term[] => (joined ? [[key, some.join(', ')]] : some.map((value) => [key, value])));
  // These two have one index between them.
  const both = fc.record({ status: fc.constantFrom(...statuses), waiting: fc.constantFrom('true', 'false') });
  const keyed = fc.oneof(
    { arbitrary: both.map((terms): Term[] => Object.entries(terms)), weight: 3 },
    ...Object.entries(values).map(([key, from]) => ({
      arbitrary: one(key, from),
      weight: ({ status: 5, phase: 2, state: 2, waiting: 2 } as Record<string, number>)[key] ?? 1,
    })),
    ...Object.entries(lists).map(([key, from]) => ({ arbitrary: several(key, from), weight: 1 })),
  );
  const free = fc.constantFrom(
    'login',
    'fix',
    'FIX login',
    '"fix login"',
    'alice/log',
    `${users[1]}/"a"`,
    '"fix/login"',
    'a_b',
    'task-7',
    '""',
  );
  const wrong = fc.constantFrom(
    ...[
      'colour:red',
      'status:started',
      'status:""',
      'id:none',
      'waiting:yes',
      'created_after:2026-02-31',
      'created_before:now',
      'a:b:c',
    ],
    ...[
      'last_used_after:2026-03-01T25:00:00Z',
      'name:',
      ':name',
      'a/b/c',
      '/',
      'param:a=',
      'param:a=b=c',
      'prompt:ab',
      '"":x',
      'phase:none',
    ],
    ...[
      'shared_with_group:a/b/c',
      'healthy:2',
      'owner:alice owner:bob',
      'state:done',
      'name:"x',
      'name:"" name:fix',
      '"open ended',
    ],
  );

  const query = fc
    .record({
      owner: fc.option(owner, { freq: 4, nil: undefined }),
      keyed: fc.oneof(
        { weight: 3, arbitrary: fc.constant<Term[][]>([]) },
        { weight: 12, arbitrary: keyed.map((terms) => [terms]) },
        { weight: 4, arbitrary: fc.uniqueArray(keyed, { minLength: 2, maxLength: 3, selector: ([term]) => term?.[0] }) },
        { weight: 1, arbitrary: fc.array(keyed, { minLength: 2, maxLength: 4 }) },
      ),
      free: fc.oneof({ weight: 9, arbitrary: fc.constant(undefined) }, { weight: 1, arbitrary: free }),
      wrong: fc.oneof({ weight: 15, arbitrary: fc.constant(undefined) }, { weight: 1, arbitrary: wrong }),
      style: fc.nat(5),
    })
    .map(({ owner: whose, keyed: terms, free: words, wrong: mistake, style }) =>
      [
        ...(whose === undefined ? [] : [print(['owner', whose], style)]),
        ...(words === undefined ? [] : [words]),
        ...terms.flat().map((term) => print(term, style)),
        ...(mistake === undefined ? [] : [mistake]),
      ].join(style === 5 ? '   ' : ' '),
    );
  return fc.record({
    callerId: fc.oneof(
      { weight: 2, arbitrary: fc.constantFrom(...ids(callers)) },
      // Who reads everything, since most find little.
      { weight: 1, arbitrary: fc.constantFrom(...ids(callers.filter(({ rbac_roles }) => rbac_roles.includes('owner')))) },
    ),
    query,
    orderBy: fc.oneof(
      { weight: 9, arbitrary: fc.constant('') },
      { weight: 6, arbitrary: fc.constantFrom('created_at', 'created_at desc', ' created_at   desc ') },
      { weight: 6, arbitrary: fc.constantFrom('current_state.timestamp', 'current_state.timestamp desc') },
      { weight: 2, arbitrary: fc.constantFrom('name', 'name desc', ' name  desc') },
      { weight: 1, arbitrary: fc.constantFrom('id', 'NAME', 'created_at asc', 'state_at', 'name, id') },
    ),
    pageSizes: fc.array(
      fc.oneof(
        { weight: 9, arbitrary: fc.integer({ min: 3, max: 15 }) },
        { weight: 2, arbitrary: fc.constantFrom(0, 1, 200, 2 ** 31 - 1) },
      ),
      {
        minLength: 1,
        maxLength: 4,
      },
    ),
    includeTotalSize: fc.boolean(),
  });
}

/** Writes a term in one of the ways that mean the same. */
function print([key, value]: Term, style: number): string {
  const isTime = /_(after|before)$/.test(key);
  const quoted = value === '' || value.includes(' ') || (value.includes(':') && !isTime) || style === 1;
  const text = quoted ? `"${value}"` : value;
  if (style === 2) return `${key.toUpperCase()}:${text.toUpperCase()}`;
  return style === 3 ? `"${key}":"${value}"` : `${key}:${text}`;
}
