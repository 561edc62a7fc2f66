import fc from 'fast-check';
import knex from 'knex';
import { describe, expect, test } from 'vitest';
import { compileOnce } from '../../src/tasks/store/statement-shapes.ts';

const database = knex({ client: 'mysql2' }); // never connects

interface Question {
  readonly order: 'asc' | 'desc';
  readonly ids: readonly Buffer[];
  readonly owner: Buffer | string;
  readonly name?: string;
  readonly limit: number;
}

/** How often queries have been built. */
let built = 0;

function build({ order, ids, owner, name, limit }: Question) {
  built += 1;
  if (ids.length === 0) return undefined;
  const query = database.from({ t: 'tasks' }).whereIn('t.id', ids).orderBy('t.id', order).limit(limit);
  query.where(typeof owner === 'string' ? 't.owner' : 't.owner_id', owner).where('t.kind', 'word');
  if (typeof owner !== 'string' && ids[0]?.equals(owner) === true) query.where('t.same', 1);
  if (name !== undefined) query.where('t.name', name);
  return query;
}

/** The statement as it would be without any being kept. */
function fresh(question: Question): { sql: string; values: unknown[] } | undefined {
  const compiled = build(question)?.toSQL();
  if (compiled === undefined) return undefined;
  const { sql, bindings } = compiled;
  const parts = sql.split('?');
  const values: unknown[] = [];
  const text = parts.map((part, index) => {
    if (index === bindings.length) return part;
    if (typeof bindings[index] === 'number') return part + bindings[index];
    values.push(bindings[index]);
    return `${part}?`;
  });
  return { sql: text.join(''), values };
}

const bytes = fc.uint8Array({ maxLength: 3 }).map((array) => Buffer.from(array));
const questions: fc.Arbitrary<Question> = fc.record(
  {
    order: fc.constantFrom('asc', 'desc'),
    ids: fc.array(bytes, { maxLength: 3 }),
    owner: fc.oneof(bytes, fc.string({ maxLength: 3 })),
    name: fc.oneof(fc.string({ maxLength: 2 }), fc.constantFrom('a0', '?', 'word', 'aaaaaaaaaaaaaaaa')),
    limit: fc.integer({ min: 1, max: 3 }),
  },
  { requiredKeys: ['order', 'ids', 'owner', 'limit'] },
);

describe('a statement that is kept', () => {
  test('is with any values the one that is built for them', () => {
    const compile = compileOnce(build, ['owner', 'name']);
    fc.assert(
      fc.property(questions, (question) => {
        expect(compile(question)).toEqual(fresh(question));
      }),
      { numRuns: 2000 },
    );
  });

  test('is built once for all values', () => {
    const compile = compileOnce(build, ['owner', 'name']);
    const ask = (id: string, owner: string, name: string) =>
      compile({ order: 'asc', ids: [Buffer.from(id)], owner, name, limit: 2 });
    ask('1', 'anna', 'x');
    built = 0;
    expect(ask('2', 'berta', 'yy')?.values).toEqual([Buffer.from('2'), 'berta', 'word', 'yy']);
    expect(built).toBe(0);
  });

  test('is none where a value is made from one of the input', () => {
    const compile = compileOnce(({ name }: { name: string }) => database.from('t').where('t.n', `${name}!`), ['name']);
    expect(compile({ name: 'x' })?.values).toEqual(['x!']);
    expect(compile({ name: 'y' })?.values).toEqual(['y!']);
  });

  test('is none where the length of a value decides', () => {
    const compile = compileOnce(({ name }: { name: string }) => database.from('t').where('t.l', name.length), ['name']);
    expect(compile({ name: 'x' })?.sql).toContain('= 1');
    expect(compile({ name: 'xyz' })?.sql).toContain('= 3');
  });

  test('has texts that are not values as its own', () => {
    const compile = compileOnce(({ word }: { word: string }) => database.from('t').where('t.w', word));
    expect(compile({ word: 'x' })).toEqual({ sql: 'select * from `t` where `t`.`w` = ?', values: ['x'] });
    expect(compile({ word: 'y' })?.values).toEqual(['y']);
  });

  test('has no value but whole numbers, booleans, texts and bytes', () => {
    const compile = compileOnce(({ value }: { value: unknown }) => database.from('t').where('t.v', value as number));
    expect(() => compile({ value: 0.5 })).toThrow(TypeError);
    expect(compile({ value: true })?.sql).toContain('= true');
  });
});
