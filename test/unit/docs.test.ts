import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { readConfig, variables } from '../../src/config.ts';
import { syncedTables } from '../../src/sync/synced-tables.ts';
import { phaseWords, queryKeys, stateWords, statusWords } from '../../src/tasks/query-keys.ts';

const read = (name: string) => readFileSync(new URL(`../../${name}`, import.meta.url), 'utf8');

describe('docs/configuration.md', () => {
  const rows = new Map(
    [...read('docs/configuration.md').matchAll(/^\| `(\w+)`( †)? \| (.*?) \| /gm)].map(([, name, secret, byDefault]) => [
      name ?? '',
      { secret: secret !== undefined, byDefault: byDefault ?? '' },
    ]),
  );

  test('has a row for each variable, in the order of the code, and no other', () => {
    expect([...rows.keys()]).toEqual(variables);
  });

  test.each(Object.entries(readConfig({})))('%s has the default of the code', (name, value) => {
    const text = rows.get(name)?.byDefault;
    if (value === undefined) expect(text).not.toMatch(/^`/);
    else expect(text).toBe(Array.isArray(value) ? 'none' : `\`${String(value)}\``);
  });

  test('marks what can be given as a file', () => {
    for (const [name, { secret }] of rows) {
      const asFile = () => readConfig({ [`${name}_FILE`]: '/nowhere' });
      if (secret) expect(asFile, name).toThrow(`${name}_FILE`);
      else expect(asFile, name).not.toThrow();
    }
  });
});

describe('every key of the query, and every word of theirs, is', () => {
  test('in docs/query.md', () => {
    const text = read('docs/query.md');
    for (const word of [...queryKeys.keys(), ...statusWords.keys(), ...phaseWords.keys(), ...stateWords.keys()]) {
      expect(text).toContain(`\`${word}\``);
    }
  });

  test('in the comment of the proto', () => {
    const text = read('proto/tasks/v1/tasks.proto');
    for (const key of queryKeys.keys()) expect(text).toContain(`\`${key}\``);
  });
});

test('docs/coder.md says which columns of Coder are copied', () => {
  const rows = [...read('docs/coder.md').matchAll(/^\| `(\w+)` \| ((?:`\w+`(?:, )?)+) \|$/gm)].map(
    ([, table = '', columns = '']) => [table, columns.replaceAll('`', '').split(', ')],
  );
  const copied = syncedTables.map(({ name, columns }) => [
    name,
    [...new Set(Object.entries(columns).map(([column, { source = column }]) => source))],
  ]);
  expect(rows).toEqual(copied);
});

const pages = [
  ...['README.md', 'CONTRIBUTING.md', 'CHANGELOG.md', 'SECURITY.md', 'packages/client/README.md', 'packages/cli/README.md'],
  ...readdirSync(new URL('../../docs', import.meta.url), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.md'))
    .map((name) => `docs/${name}`),
  ...['go', 'java', 'python'].map((language) => `examples/${language}/README.md`),
];

test.each(pages)('every link of %s within the project leads somewhere', (name) => {
  const anchors = (page: string): string[] =>
    [...page.matchAll(/^#+ (.+)$/gm)].map(([, title = '']) =>
      title
        .toLowerCase()
        .replaceAll(/[^\w -]/g, '')
        .replaceAll(' ', '-'),
    );
  for (const [, target = '', anchor] of read(name).matchAll(/\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)/g)) {
    const file = target === '' ? name : path.posix.join(path.posix.dirname(name), target);
    expect(existsSync(new URL(`../../${file}`, import.meta.url)), target).toBe(true);
    if (anchor !== undefined) expect(anchors(read(file)), file).toContain(anchor);
  }
});

describe('every file that a page names is there', () => {
  const sources = readdirSync(new URL('../..', import.meta.url), { withFileTypes: true })
    .filter((entry) => entry.isDirectory() && ['bench', 'bin', 'dev', 'packages', 'src', 'tools', 'web'].includes(entry.name))
    .flatMap(({ name: folder }) =>
      readdirSync(new URL(`../../${folder}`, import.meta.url), { recursive: true, encoding: 'utf8' }).map(
        (file) => `/${folder}/${file.replaceAll(path.sep, '/')}`,
      ),
    );

  test.each(pages.filter((name) => name !== 'CHANGELOG.md'))('%s', (name) => {
    const named = [...read(name).matchAll(/`([\w./-]+\.(?:ts|mjs))`/g)].map(([, file = '']) => file);
    for (const file of named.filter((each) => !/(?:^|\/)test\/|\.test\.ts$|\.config\.ts$|^main\.ts$/.test(each))) {
      expect(
        sources.some((source) => source.endsWith(`/${file}`)),
        file,
      ).toBe(true);
    }
  });
});

test.each(pages.filter((name) => name !== 'CONTRIBUTING.md'))('the prose of %s is wrapped at 120 columns', (name) => {
  const prose = read(name).replaceAll(/^```.*?^```$|^<.*?^$/gms, '');
  expect(prose.split('\n').filter((line) => line.length > 120 && !line.startsWith('|'))).toEqual([]);
});
