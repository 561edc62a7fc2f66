/** The entries of a changelog's Unreleased section, a line each, as they stand. */
export function unreleasedLines(changelog: string): string[] {
  const lines = changelog.split('\n');
  const start = lines.findIndex((line) => /^## \[?unreleased\b/i.test(line));
  if (start === -1) return [];
  const length = lines.slice(start + 1).findIndex((line) => line.startsWith('## '));
  const section = lines.slice(start + 1, length === -1 ? undefined : start + 1 + length);
  return section.filter((line) => /^\s*[-*] \S/.test(line)).map((line) => line.trim());
}

/** The Unreleased entries of `now` that `before` does not have. */
export function newUnreleasedLines(now: string, before: string): string[] {
  const known = new Set(unreleasedLines(before));
  return unreleasedLines(now).filter((line) => !known.has(line));
}
