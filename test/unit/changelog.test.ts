import { expect, test } from 'vitest';
import { newUnreleasedLines, unreleasedLines } from '../../tools/changelog.ts';

const changelog = (unreleased: string, released = '- Old.') =>
  `# Changelog\n\n## [Unreleased]\n${unreleased}\n## [0.1.0]\n\n${released}\n`;

test('the entries of Unreleased, and none of a release', () => {
  expect(unreleasedLines(changelog('\n### Added\n\n- One,\n  in two lines.\n* Two.\n'))).toEqual(['- One,', '* Two.']);
});

test.each([
  ['', []],
  ['# Changelog\n', []],
  ['## Unreleased\n- The last section.', ['- The last section.']],
])('of %j', (text, lines) => {
  expect(unreleasedLines(text)).toEqual(lines);
});

test('an entry is new when the changelog of before does not have it under Unreleased', () => {
  const before = changelog('- One.');
  expect(newUnreleasedLines(changelog('- One.\n- Two.'), before)).toEqual(['- Two.']);
  expect(newUnreleasedLines(changelog('', '- One.'), before)).toEqual([]);
  expect(newUnreleasedLines(before, '')).toEqual(['- One.']);
});
