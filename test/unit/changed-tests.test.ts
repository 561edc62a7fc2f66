import { expect, test } from 'vitest';
import { chooseTests, type ImportGraph, importGraph } from '../support/changed-tests.ts';

const tests = (folder: string, count: number, imports: readonly string[]): (readonly [string, readonly string[]])[] =>
  Array.from({ length: count }, (_, i) => [`test/${folder}/${folder}-${i}.test.ts`, imports] as const);

const graph: ImportGraph = new Map([
  ['src/base.ts', []],
  ['src/middle.ts', ['src/base.ts']],
  ['test/support/help.ts', ['src/middle.ts']],
  ['test/unit/far.test.ts', ['test/support/help.ts']],
  ['test/unit/other.test.ts', ['src/elsewhere.ts']],
  ['test/db/focused.test.ts', ['src/base.ts']],
  ['test/db/broad.test.ts', ['src/base.ts', 'src/elsewhere.ts']],
  ...tests('wire', 20, ['src/middle.ts']),
]);

test('a change is tested by all unit tests that reach it, and by the nearest of the others', () => {
  const { chosen, left } = chooseTests(['src/base.ts'], graph);
  expect(chosen.slice(0, 3)).toEqual(['test/unit/far.test.ts', 'test/db/focused.test.ts', 'test/db/broad.test.ts']);
  expect(chosen).toHaveLength(1 + 6);
  expect(left).toHaveLength(2 + 20 - 6);
  expect(chosen).not.toContain('test/unit/other.test.ts');
});

test('those named like what changed are the nearest', () => {
  const named = new Map([...graph, ['test/db/middle-things.test.ts', ['test/support/help.ts']]]);
  expect(chooseTests(['src/middle.ts'], named).chosen.slice(0, 2)).toEqual([
    'test/unit/far.test.ts',
    'test/db/middle-things.test.ts',
  ]);
});

test.each(['migrations/20991231000001_x.js', 'web/app.tsx'])('%s is read by what imports nothing of it', (file) => {
  expect(chooseTests([file]).chosen).not.toEqual([]);
});

test('tests that changed are run, however many', () => {
  const changed = tests('wire', 20, []).map(([file]) => file);
  expect(chooseTests([...changed, 'README.md', 'test/db/deleted.test.ts'], graph)).toEqual({ chosen: changed, left: [] });
});

test('the program that a test starts is one of its files', () => {
  const real = importGraph();
  expect(real.get('test/support/service.ts')).toContain('src/main.ts');
  expect(chooseTests(['src/main.ts'], real).chosen.length).toBeGreaterThan(0);
});
