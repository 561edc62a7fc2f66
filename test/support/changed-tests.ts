import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';

/** The files of a repository, from its root, such as `src/main.ts`, and those that each of them imports. */
export type ImportGraph = ReadonlyMap<string, readonly string[]>;

/** What {@link chooseTests} comes to. */
export interface ChosenTests {
  readonly chosen: readonly string[];
  /** Those that the change concerns as well, and that are left to the whole run. */
  readonly left: readonly string[];
}

/** How many files of tests that need a database or a browser are chosen: they take some seconds each. */
const mostSlowFiles = 6;

const root = resolve(import.meta.dirname, '../..');
const folders = ['bench', 'bin', 'dev', 'migrations', 'packages', 'src', 'test', 'tools', 'web'];
/** What reads a folder without importing its files. */
const readers = [
  ['migrations/', 'src/schema/migrations.ts'],
  ['web/', 'test/browser/browser.ts'],
] as const;
/** An import, or the program that a test starts in a process of its own. */
const imported = /(?:\bfrom|\bimport)\s*\(?\s*'(\.[^']+)'|'(src\/main\.ts)'/g;

/** The files that differ from a commit, and those that git does not know yet. @throws {Error} when there is no such commit. */
export function changedFiles(commit = 'HEAD'): string[] {
  const git = (...args: string[]): string[] =>
    execFileSync('git', [...args, '-z'], { cwd: root, encoding: 'utf8' })
      .split('\0')
      .filter(Boolean);
  return [...git('diff', '--name-only', '--no-ext-diff', commit), ...git('ls-files', '--others', '--exclude-standard')];
}

/** Reads which file imports which. */
export function importGraph(): ImportGraph {
  const graph = new Map<string, string[]>();
  for (const folder of folders) {
    const names = readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' });
    for (const file of names.map((name) => join(folder, name)).filter((name) => /\.(m?js|tsx?)$/.test(name))) {
      const text = readFileSync(join(root, file), 'utf8');
      const all = [...text.matchAll(imported)].map(([, path, program]) => program ?? join(dirname(file), path ?? ''));
      graph.set(file, [...new Set(all)]);
    }
  }
  return graph;
}

/**
 * Chooses the tests of a change: those that changed themselves, all unit tests that reach it by what they import, and of the other
 * tests the few that are nearest to it. Nearest are those that share a word of their name with a changed file or its folder, then
 * those that import it through the fewest files, and of these the ones that import the least besides.
 */
export function chooseTests(changed: readonly string[], graph: ImportGraph = importGraph()): ChosenTests {
  const importers = new Map<string, string[]>();
  for (const [file, imports] of graph) {
    for (const one of imports) importers.set(one, [...(importers.get(one) ?? []), file]);
  }
  const read = readers.filter(([folder]) => changed.some((file) => file.startsWith(folder))).map(([, reader]) => reader);
  const distances = new Map([...changed, ...read].map((file) => [file, 0]));
  for (const [file, distance] of distances) {
    for (const importer of importers.get(file) ?? []) {
      if (!distances.has(importer)) distances.set(importer, distance + 1);
    }
  }
  const words = new Set(changed.flatMap(wordsOf));
  const tests = [...distances].filter(([file]) => file.endsWith('.test.ts') && graph.has(file));
  const isQuick = ([file, distance]: readonly [string, number]): boolean => distance === 0 || file.startsWith('test/unit/');
  const slow = tests
    .filter((test) => !isQuick(test))
    .map(([file, distance]) => ({
      file,
      isNamed: wordsOf(file).some((word) => words.has(word)),
      distance,
      width: graph.get(file)?.length ?? 0,
    }))
    .sort((a, b) => Number(b.isNamed) - Number(a.isNamed) || a.distance - b.distance || a.width - b.width)
    .map(({ file }) => file);
  const quick = tests.filter(isQuick).map(([file]) => file);
  return { chosen: [...quick, ...slow.slice(0, mostSlowFiles)], left: slow.slice(mostSlowFiles) };
}

/** The words in the names of a file and of its folder, such as `page` and `token` of `src/tasks/page-token.ts`, and `tasks`. */
function wordsOf(path: string): string[] {
  const [file = '', folder = ''] = path.split('/').reverse();
  const name = file.replace(/\..*$/, '').split('-');
  return path.startsWith('test/') ? name : [...name, folder];
}
