/**
 * Reads what PostgreSQL's `COPY … WITH (FORMAT csv)` writes: a field without quotes that is empty is NULL, `""` an empty text. The
 * first line, of names, is a line like the others.
 */
export function parseCsv(text: string): (string | null)[][] {
  const lines: (string | null)[][] = [];
  let line: (string | null)[] = [];
  const field = /(?:"((?:[^"]|"")*)"|([^",\n]*))(,|\n|$)/gy;
  while (field.lastIndex < text.length) {
    const [whole, quoted, bare = '', end] = field.exec(text) ?? [];
    if (whole === undefined) throw new Error(`the CSV is broken at its line ${lines.length + 1}`);
    line.push(quoted === undefined ? (bare === '' ? null : bare) : quoted.replaceAll('""', '"'));
    if (end === ',') continue;
    lines.push(line);
    line = [];
  }
  return lines;
}
