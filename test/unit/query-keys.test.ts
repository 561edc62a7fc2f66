import { create } from '@bufbuild/protobuf';
import { ConnectError } from '@connectrpc/connect';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { BadRequestSchema } from '../../src/gen/google/rpc/error_details_pb.ts';
import { ListTasksRequestSchema, TaskPhase, TaskState } from '../../src/gen/tasks/v1/tasks_pb.ts';
import { maxListSize, queryKeys } from '../../src/tasks/query-keys.ts';
import type { TaskFilter } from '../../src/tasks/store/task-filter.ts';
import { checkTaskQuery, readTaskQuery, type TaskQuery } from '../../src/tasks/task-query.ts';

const read = (query: string): TaskQuery => checkTaskQuery(readTaskQuery(create(ListTasksRequestSchema, { query })));

/** The keys that a query is refused for. */
function refused(query: string): string[] {
  try {
    read(query);
  } catch (error) {
    return (
      ConnectError.from(error)
        .findDetails(BadRequestSchema)[0]
        ?.fieldViolations.map(({ field }) => field) ?? []
    );
  }
  throw new Error(`was not refused: ${query}`);
}

const id = 'a7a27450-ca16-4553-a6c5-9d6f04808569';
const bytes = Buffer.from(id.replaceAll('-', ''), 'hex');

describe('booleans, as Go reads them', () => {
  const keys: [string, keyof TaskFilter][] = [
    ['waiting', 'waiting'],
    ['outdated', 'outdated'],
    ['has_external_agent', 'externalAgent'],
    ['shared', 'shared'],
  ];
  test.each(keys)('%s', (key, term) => {
    for (const word of ['1', 't', 'true', 'T', 'TRUE']) expect(read(`${key}:${word}`).filter[term], word).toBe(true);
    for (const word of ['0', 'f', 'false', 'F', 'FALSE']) expect(read(`${key}:${word}`).filter[term], word).toBe(false);
    for (const word of ['yes', 'on', '2', 'tr', 'null']) expect(refused(`${key}:${word}`), word).toEqual([key]);
    expect(refused(`${key}:true ${key}:true`)).toEqual([key]);
  });

  test('dormant:false is no filter', () => {
    expect(read('dormant:true').filter.dormant).toBe(true);
    expect(read('dormant:false').filter).not.toHaveProperty('dormant');
  });

  test('has-ai-task is checked and then ignored: everything listed is a task', () => {
    expect(read('has-ai-task:false')).toEqual(read(''));
    expect(refused('has-ai-task:perhaps')).toEqual(['has-ai-task']);
  });

  test('outdated without a value means true, and other keys nothing', () => {
    expect(read('outdated:""').filter.outdated).toBe(true);
    expect(read('shared:"" waiting:"" dormant:"" id:"" created_after:""')).toEqual(read(''));
  });
});

describe('has-agent and healthy', () => {
  test.each<[string, string[]]>([
    ['has-agent:connected', ['connected']],
    ['has-agent:connected,timeout', ['connected', 'timeout']],
    ['has-agent:connected has-agent:timeout', ['connected', 'timeout']],
    ['has-agent:" connected , timeout "', ['connected', 'timeout']],
    ['has-agent:odd', ['odd']],
    ['healthy:true', ['connected']],
    ['healthy:false', ['disconnected', 'timeout']],
    ['healthy:true has-agent:connecting', ['connected', 'connecting']],
  ])('%s', (query, statuses) => {
    expect(read(query).filter.agentStatuses?.toSorted()).toEqual(statuses.toSorted());
  });
});

describe('ids', () => {
  test.each([id, id.toUpperCase(), id.replaceAll('-', ''), `{${id}}`, `"urn:uuid:${id}"`])('%s', (text) => {
    expect(read(`id:${text}`).filter.ids).toEqual([bytes]);
  });

  test('several, by repetition or with commas, spaces around them', () => {
    expect(read(`id:"${id}, ${id}" id:${id}`).filter.ids).toEqual([bytes, bytes, bytes]);
  });

  test.each(['x', `${id},x`, `${id}0`, id.slice(1)])('%s is refused', (text) => {
    expect(refused(`id:${text}`)).toEqual(['id']);
  });

  test(`more than ${maxListSize} are refused, wherever they stand`, () => {
    const short = (count: number) => `has-agent:${Array.from({ length: count }, () => 'a').join(',')}`;
    expect(read(short(maxListSize)).filter.agentStatuses).toHaveLength(maxListSize);
    expect(refused(short(maxListSize + 1))).toEqual(['has-agent']);
  });

  test('mean everyone, as an organization does, unless an owner is named', () => {
    expect(read(`id:${id}`).owner).toEqual({ kind: 'everyone' });
    expect(read('organization:acme').owner).toEqual({ kind: 'everyone' });
    expect(read(`id:${id} owner:me`).owner).toEqual({ kind: 'me' });
    expect(read('status:running').owner).toEqual({ kind: 'me' });
  });
});

describe('organization', () => {
  test('by name, or by id', () => {
    expect(read('organization:Acme').names).toEqual({ organization: 'acme' });
    expect(read(`organization:${id}`).filter).toEqual({ organizationId: bytes });
  });
});

describe('shared_with_user and shared_with_group', () => {
  test.each<[string, object]>([
    ['shared_with_user:me', { names: { sharedWithUser: 'me' } }],
    ['shared_with_user:Alice', { names: { sharedWithUser: 'alice' } }],
    [`shared_with_user:${id}`, { filter: { sharedWithUserId: bytes } }],
    ['shared_with_group:Devs', { names: { sharedWithGroup: { name: 'devs' } } }],
    ['shared_with_group:acme/Devs', { names: { sharedWithGroup: { organization: 'acme', name: 'devs' } } }],
    [`shared_with_group:${id}`, { filter: { sharedWithGroupId: bytes } }],
  ])('%s', (query, terms) => {
    expect(read(query)).toMatchObject({ ...terms, owner: { kind: 'everyone' } });
  });

  test.each(['a/b/c', '/a', 'a/'])('a group cannot be %s', (group) => {
    expect(refused(`shared_with_group:${group}`)).toEqual(['shared_with_group']);
  });
});

describe('param', () => {
  test.each<[string, object]>([
    ['param:Region', { parameterNames: ['region'] }],
    ['param:region=EU', { parameterValues: [['region', 'eu']] }],
    ['param:a,b=1 param:c', { parameterNames: ['a', 'c'], parameterValues: [['b', '1']] }],
    ['param:"AI Prompt=fix it"', { parameterValues: [['ai prompt', 'fix it']] }],
  ])('%s', (query, terms) => {
    expect(read(query).filter).toEqual(terms);
  });

  test.each(['a=b=c', 'a='])('%s is refused', (text) => {
    expect(refused(`param:${text}`)).toEqual(['param']);
  });
});

describe('prompt', () => {
  test('is literal and lower-cased, of at least 3 characters', () => {
    expect(read('prompt:"50% of_IT"').filter.prompt).toBe('50% of_it');
    expect(read('prompt:äöü').filter.prompt).toBe('äöü');
    for (const text of ['a', 'ab', '🚀🚀']) expect(refused(`prompt:${text}`)).toEqual(['prompt']);
  });
});

describe('phase and state', () => {
  test('have a word for each value', () => {
    for (const [name, value] of Object.entries(TaskPhase)) if (value > 0) expect(read(`phase:${name}`).filter.phase).toBe(value);
    for (const [name, value] of Object.entries(TaskState)) if (value > 0) expect(read(`state:${name}`).filter.state).toBe(value);
  });

  test("Coder's word for a failed state is one too", () => {
    expect(read('state:failure').filter.state).toBe(TaskState.FAILED);
  });

  test.each(['phase:unspecified', 'state:unspecified', 'phase:3', 'state:completed'])('%s is refused', (query) => {
    expect(refused(query)).toHaveLength(1);
  });
});

describe('times', () => {
  const keys = ['created_after', 'created_before', 'last_used_after', 'last_used_before'] as const;
  const terms = {
    created_after: 'createdAfter',
    created_before: 'createdBefore',
    last_used_after: 'lastUsedAfter',
    last_used_before: 'lastUsedBefore',
  } as const;
  test.each<[string, string]>([
    ['2026-11-23', '2026-11-23 00:00:00.000000'],
    ['2026-11-23T10:20:30Z', '2026-11-23 10:20:30.000000'],
    ['"2026-11-23T10:20:30Z"', '2026-11-23 10:20:30.000000'],
    ['2026-11-23t10:20:30z', '2026-11-23 10:20:30.000000'],
    ['2026-11-23T10:20:30.123456789Z', '2026-11-23 10:20:30.123456'],
    ['2026-11-23T10:20:30.5+02:00', '2026-11-23 08:20:30.500000'],
    ['2026-01-01T00:30:00+01:00', '2025-12-31 23:30:00.000000'],
    ['2024-02-29', '2024-02-29 00:00:00.000000'],
  ])('%s', (text, expected) => {
    for (const key of keys) expect(read(`${key}:${text}`).filter[terms[key]]).toBe(expected);
  });

  test.each([
    'yesterday',
    '2026-11-23T10:20:30',
    '2026-11-23T10:20Z',
    '"2026-11-23 10:20:30Z"',
    '2026-02-30',
    '2025-02-29',
    '2026-13-01',
    '2026-11-23T24:00:00Z',
    '2026-11-23T10:60:00Z',
    '2026-11-23T10:20:30+25:00',
    '2026-11-23T10:20:30.Z',
    '0000-01-01',
    '0001-01-01T00:00:00+01:00',
    '20261123',
    '1763892000',
  ])('%s is refused', (text) => {
    for (const key of keys) expect(refused(`${key}:${text}`)).toEqual([key]);
  });

  test("Coder's zero time is as if it were not there", () => {
    expect(read('last_used_after:0001-01-01T00:00:00Z')).toEqual(read(''));
  });

  test('any time comes back as it is meant, to the microsecond', () => {
    fc.assert(
      fc.property(
        fc.date({ min: new Date('0001-01-02'), max: new Date('9999-12-30'), noInvalidDate: true }),
        fc.nat(999_999),
        (date, micros) => {
          const text = date.toISOString().slice(0, 19);
          const fraction = String(micros).padStart(6, '0');
          expect(read(`created_after:${text}.${fraction}Z`).filter.createdAfter).toBe(`${text.replace('T', ' ')}.${fraction}`);
        },
      ),
    );
  });
});

test('any query is read, or refused with INVALID_ARGUMENT that names keys', () => {
  const word = fc.oneof(
    fc.constantFrom(...queryKeys.keys(), '"', ':', '/', ',', ' ', 'true', '*', id),
    fc.string({ unit: 'binary', maxLength: 8 }),
  );
  fc.assert(
    fc.property(fc.array(word, { maxLength: 30 }), (words) => {
      const query = words.join('');
      try {
        const { owner, pageSize } = read(query);
        expect(owner).toBeDefined();
        expect(pageSize).toBe(25);
      } catch (error) {
        expect(ConnectError.from(error).rawMessage).toBeTruthy();
        expect(refused(query).length).toBeGreaterThan(0);
      }
    }),
    { numRuns: 3000 },
  );
});
