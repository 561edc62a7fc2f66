import { afterAll, beforeAll, expect, test } from 'vitest';
import { anyCaseText, equalsInAnyCase, foldCase } from '../../src/db/letter-case.ts';
import { createTestDatabase, describeOnEngines, type TestDatabase } from '../support/database.ts';

/** Every character with two cases, and some with a meaning in SQL or in a regular expression. */
const characters = [
  ...new Set(
    Array.from({ length: 0x20000 }, (_, code) => String.fromCodePoint(code))
      .filter((character) => foldCase(character) !== character)
      .flatMap((character) => [character, foldCase(character)]),
  ),
  ...' .*+?^$|()[]{}\\/-%_\'"`\0\n\t:#&~日🙂',
];

const texts = [
  'us-west-2',
  'US-West-2',
  'us-west-2 ',
  'us-west-2\n',
  'ΟΔΟΣ',
  'οδοσ',
  'οδος',
  'e\u0301',
  '(?i)x',
  '[a-z]',
  '\\d',
  'a.c',
  'k'.repeat(511),
  'K'.repeat(512),
  'k'.repeat(513),
  `${'K'.repeat(2000)}!`,
  'İ🙂'.repeat(500),
];

describeOnEngines('a comparison in any case', (engine) => {
  let db: TestDatabase;
  beforeAll(async () => {
    db = await createTestDatabase(engine, { migrate: false });
    await db.database.raw(
      'create table texts (id int primary key, name mediumtext not null) engine = InnoDB default charset = utf8mb4 collate = utf8mb4_bin',
    );
    await db.database('texts').insert([...characters, ...texts].map((name, id) => ({ id, name })));
  });
  afterAll(() => db.drop());

  /** The rows that are equal to one of some texts. */
  const equalTo = (...some: string[]): Promise<string[]> => equalInPieces(0, ...some);

  /** The same, compared in at least so many pieces. */
  async function equalInPieces(pieces: number, ...some: string[]): Promise<string[]> {
    const query = db.database.from({ f: 'texts' }).orderBy('f.id').select('f.name');
    for (const text of some) query.orWhere(equalsInAnyCase(db.database, 'f.name', anyCaseText(text, pieces)));
    return ((await query) as { name: string }[]).map(({ name }) => name);
  }

  test('of every character that has case or a meaning elsewhere', async () => {
    const folds = [...Map.groupBy(characters, foldCase)];
    expect(folds.length).toBeGreaterThan(1400);
    for (let start = 0; start < folds.length; start += 30) {
      const some = folds.slice(start, start + 30);
      const expected = new Set(some.flatMap(([, all]) => all));
      expect(await equalTo(...some.map(([fold, all]) => all.at(-1) ?? fold))).toEqual(
        characters.filter((character) => expected.has(character)),
      );
    }
  });

  test.each([...texts, 'absent', 'us-west', '.*', ''].map((text) => [text.slice(0, 20), text]))('of %j', async (_name, text) => {
    const expected = [...characters, ...texts].filter((each) => foldCase(each) === foldCase(text));
    expect(await equalTo(text)).toEqual(expected);
    expect(await equalInPieces(8, text)).toEqual(expected);
  });
});
