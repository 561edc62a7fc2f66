import fc from 'fast-check';
import knex from 'knex';
import { describe, expect, test } from 'vitest';
import type { Scope } from '../../src/tasks/scope.ts';
import { type ListOrder, listOrders, type Position } from '../../src/tasks/store/list-order.ts';
import { Bindings, createStatementTemplate, repeatLast, type Slot } from '../../src/tasks/store/statement-template.ts';
import type { TaskFilter } from '../../src/tasks/store/task-filter.ts';
import { createTaskStatements } from '../../src/tasks/store/task-statements.ts';

const database = knex({ client: 'mysql2' }); // never connects

interface Structure {
  readonly order: 'asc' | 'desc';
  readonly ids: readonly Slot[];
  readonly limit: number;
}

describe('a statement template', () => {
  let built = 0;
  const create = () =>
    createStatementTemplate(({ order, ids, limit }: Structure) => {
      built += 1;
      return database.from({ t: 'tasks' }).where('t.kind', 'word').whereIn('t.id', ids).orderBy('t.id', order).limit(limit);
    });
  const ask = (template: ReturnType<typeof create>, order: 'asc' | 'desc', ids: string[], limit = 2) => {
    const bindings = new Bindings();
    return template({ order, ids: bindings.bindList(ids.map((id) => Buffer.from(id))), limit }, bindings);
  };

  test('is built once for a structure, whatever the values', () => {
    const template = create();
    built = 0;
    expect(ask(template, 'asc', ['1', '?'])).toEqual({
      sql: 'select * from `tasks` as `t` where `t`.`kind` = ? and `t`.`id` in (?, ?) order by `t`.`id` asc limit 2',
      values: ['word', Buffer.from('1'), Buffer.from('?')],
    });
    expect(ask(template, 'asc', ['22', "'"]).values).toEqual(['word', Buffer.from('22'), Buffer.from("'")]);
    expect(built).toBe(1);
  });

  test('is another one for another structure', () => {
    const template = create();
    const texts = [ask(template, 'asc', ['1']), ask(template, 'desc', ['1']), ask(template, 'asc', ['1', '2'])];
    expect(new Set([...texts, ask(template, 'asc', ['1'], 3)].map(({ sql }) => sql)).size).toBe(4);
  });

  test('has lists of few lengths, the last value repeated', () => {
    expect(repeatLast([])).toEqual([]);
    expect(repeatLast([1])).toEqual([1]);
    expect(repeatLast([1, 2, 3, 4, 5])).toEqual([1, 2, 3, 4, 5, 5, 5, 5]);
    const lengths = Array.from({ length: 256 }, (_, i) => repeatLast(Array(i + 1).fill(0)).length);
    expect([...new Set(lengths)]).toEqual([1, 2, 4, 8, 16, 32, 64, 128, 256]);
  });

  test('has no constants but whole numbers, booleans and texts', () => {
    const of = (value: unknown) =>
      createStatementTemplate(() => database.from('t').where('t.v', value as number))({}, new Bindings());
    expect(() => of(0.5)).toThrow(TypeError);
    expect(() => of(Buffer.from('x'))).toThrow(TypeError);
    expect(of(true).sql).toContain('= true');
  });
});

const id = fc.uint8Array({ minLength: 16, maxLength: 16 }).map((bytes) => Buffer.from(bytes));
const ids = fc.array(id, { maxLength: 5 });
/** A text with a word that no statement has of its own. */
const word = fc.string({ maxLength: 700 }).map((text) => `MARKED?${text}`);
const filters: fc.Arbitrary<TaskFilter> = fc.record(
  {
    ownerId: id,
    organizationId: id,
    ids,
    templateIds: ids,
    name: word,
    prompt: word,
    status: fc.integer({ min: 1, max: 10 }),
    phase: fc.integer({ min: 1, max: 6 }),
    state: fc.integer({ min: 1, max: 4 }),
    waiting: fc.boolean(),
    agentStatuses: fc.array(fc.oneof(fc.constantFrom('connected', 'timeout'), word), { maxLength: 3 }),
    dormant: fc.constant(true as const),
    outdated: fc.boolean(),
    externalAgent: fc.boolean(),
    shared: fc.boolean(),
    sharedWithUserId: id,
    sharedWithGroupId: id,
    parameterNames: fc.array(word, { maxLength: 3 }),
    parameterValues: fc.array(fc.tuple(word, word), { maxLength: 3 }),
    createdAfter: word,
    createdBefore: word,
    lastUsedAfter: word,
    lastUsedBefore: word,
  },
  { requiredKeys: [] },
);
const scopes: fc.Arbitrary<Scope> = fc.record(
  {
    userId: id,
    everything: fc.boolean(),
    organizations: ids,
    ownIn: ids,
    memberOf: ids,
    sharedWith: fc.array(fc.record({ kind: fc.constantFrom('user', 'group'), id }), { maxLength: 70 }),
    onlyIds: ids,
    onlyWorkspaces: ids,
  },
  { requiredKeys: ['userId', 'everything', 'organizations', 'ownIn', 'memberOf', 'sharedWith'] },
);
const questions = fc.record({
  scope: scopes,
  filter: filters,
  order: fc.constantFrom(...(Object.keys(listOrders) as ListOrder[])),
  after: fc.option(fc.oneof(fc.tuple(id, id), fc.tuple(word, id)) as fc.Arbitrary<Position>, { nil: undefined }),
  nameTrigrams: fc.option(fc.array(id, { minLength: 1, maxLength: 16 }), { nil: undefined }),
  rows: fc.integer({ min: 1, max: 201 }),
});

describe('the statements that read tasks', () => {
  const kept = createTaskStatements(database, 30);

  test('are with any values what they are without any template being kept, and have no value in their texts', () => {
    fc.assert(
      fc.property(questions, ({ rows, ...question }) => {
        const fresh = createTaskStatements(database, 30);
        const all = (statements: typeof kept) => [
          statements.list(question, rows),
          statements.count(question, rows),
          statements.ids(question, rows),
          statements.byIds(question.scope, [question.scope.userId, ...(question.filter.ids ?? [])]),
          statements.byName(question.scope, question.scope.userId, question.filter.name ?? ''),
          statements.byName(question.scope, question.filter.name ?? '', ''),
        ];
        const made = all(kept);
        expect(made).toEqual(all(fresh));
        for (const statement of made) {
          if (statement === undefined) continue;
          expect(statement.values).toHaveLength(statement.sql.split('?').length - 1);
          expect(statement.sql).not.toMatch(/marked/i);
        }
      }),
      { numRuns: 300 },
    );
  });

  test('have a limit that is one of a few', () => {
    const scope: Scope = {
      userId: Buffer.alloc(16),
      everything: true,
      organizations: [],
      ownIn: [],
      memberOf: [],
      sharedWith: [],
    };
    const ask = (rows: number) => kept.list({ scope, filter: {}, order: 'created_at' }, rows)?.sql;
    const texts = Array.from({ length: 200 }, (_, pageSize) => ask(pageSize + 2));
    expect(new Set(texts).size).toBe(5);
    expect(ask(26)).toMatch(/limit 26$/);
    expect(ask(27)).toMatch(/limit 51$/);
    expect(() => ask(10_002)).toThrow(RangeError);
  });
});
