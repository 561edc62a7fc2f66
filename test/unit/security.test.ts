import { existsSync, globSync, readFileSync } from 'node:fs';
import { expect, test } from 'vitest';

const read = (name: string) => readFileSync(new URL(`../../${name}`, import.meta.url), 'utf8');
const document = read('docs/security.md');
const proofs = [...new Set([...document.matchAll(/`(test\/[\w./-]+)`/g)].map(([, file]) => file ?? ''))];

test('the threat model names its proofs, and each of them is there', () => {
  expect(proofs.length).toBeGreaterThan(20);
  for (const file of proofs) {
    expect(file).toMatch(/\.test\.ts$/);
    expect(existsSync(new URL(`../../${file}`, import.meta.url)), file).toBe(true);
    expect(read(file), file).toMatch(/\b(test|describeOnEngines)\b/);
  }
});

test('every row of its tables has a proof', () => {
  const rows = document.split('\n').filter((line) => /^\| (?!---|threat)/.test(line));
  expect(rows.length).toBeGreaterThan(20);
  for (const row of rows) expect(row).toMatch(/`test\/[^`]+\.test\.ts` \|$/);
});

test.each(['gRPC port', 'web port', 'page', 'operators’ port', 'database', 'Environment', 'socket', 'Logs'])(
  'it has a part for each entrance: %s',
  (entrance) => {
    const headings =
      document
        .match(/^### .*$/gm)
        ?.join('\n')
        .replaceAll("'", '’') ?? '';
    expect(headings).toContain(entrance);
  },
);

test('SECURITY.md says how to report, and its links lead somewhere', () => {
  const text = read('SECURITY.md');
  expect(text).toContain('Report a vulnerability');
  for (const [, target = ''] of text.matchAll(/\]\((?!https?:)([^)#]+)/g)) {
    expect(existsSync(new URL(`../../${target}`, import.meta.url)), target).toBe(true);
  }
});

test('the page has nothing that makes markup or code of a text', () => {
  const files = globSync('web/**/*.{ts,tsx,js,html}');
  expect(files.length).toBeGreaterThan(5);
  for (const file of files) {
    expect(read(file), file).not.toMatch(
      /\b(innerHTML|outerHTML|insertAdjacentHTML|dangerouslySetInnerHTML|document\.write|eval\(|new Function|DOMParser|srcdoc)/,
    );
  }
});
